# SPDX-License-Identifier: Apache-2.0
"""The most guests of a cluster that can have queues at the same time, exactly, by OR-tools' CP-SAT."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from ortools.sat.python import cp_model

from apvfio.cluster.classes import QueueClass, classes_of
from apvfio.cluster.keys import read_keys
from benchmarks.placement.clusters import all_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from benchmarks.placement.clusters import Cluster
    from memory_host import Machine

_SECONDS = 60.0


def most_guests(cluster: Cluster) -> int:
    """Return how many guests can have queues at once; RuntimeError if that cannot be proven."""
    model = cp_model.CpModel()
    users: dict[tuple[str, Apqn], list[cp_model.IntVar]] = defaultdict(list)
    everything = []
    for request in all_requests(cluster.guests):
        choices = []
        for name, machine in cluster.hosts.items():
            for number, rectangle in enumerate(rectangles(request, machine)):
                chosen = model.new_bool_var(f"{request.guest} {name} {number}")
                choices.append(chosen)
                for queue in rectangle:
                    users[name, queue].append(chosen)
        model.add_at_most_one(choices)
        everything += choices
    for competing in users.values():
        model.add_at_most_one(competing)
    model.maximize(sum(everything))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = _SECONDS
    solver.parameters.num_workers = 2
    if solver.solve(model) != cp_model.OPTIMAL:
        raise RuntimeError("the optimum is not proven")
    placed: int = round(solver.objective_value)
    return placed


def rectangles(request: Request, machine: Machine) -> Iterator[list[Apqn]]:
    """All rectangles of queues on a host, on which no guest runs, that satisfy the request."""
    criteria = request.criteria
    assert criteria
    host = machine.host
    known = read_keys(machine, host)
    own = [one for one in classes_of(request) if isinstance(one, QueueClass)]
    usable = {queue for queue in host.drivers if all(one.holds(queue, known) for one in own)}
    for adapters in combinations(host.adapters, criteria.adapters):
        for domains in combinations(host.domains, criteria.domains):
            found = [q for q in usable if q.adapter in adapters and q.domain in domains]
            if len(found) == len(adapters) * len(domains):
                yield found
