# SPDX-License-Identifier: Apache-2.0
"""Clusters at random, the same for each seed: hosts in memory, and guests that request queues by criteria."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cluster.guest_files import GuestFile
from apvfio.cluster.offer import read_offer
from apvfio.model.criteria import ANY_REGISTER, CardCriteria, Criteria
from apvfio.model.ids import IdSet
from apvfio.model.master_keys import MasterKey
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from hosts import guest, mdev
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.cluster.offer import Offer

KEYS = ("a1" * 16, "b2" * 16)
_MODES = ("ep11", "ep11", "cca", "accel")
_SIZES = ((1, 1), (1, 1), (1, 2), (2, 1), (2, 2))


class Cluster(NamedTuple):
    """Hosts on which no guest runs yet, and the guests."""

    hosts: dict[str, Machine]
    guests: list[GuestFile]

    def offers(self) -> dict[str, Offer]:
        """Return what each host publishes."""
        return {name: read_offer(machine, self.guests) for name, machine in self.hosts.items()}


def invent(hosts: int, guests: int, seed: int) -> Cluster:
    """Return a cluster in which most guests find a host, and some compete."""
    chance = random.Random(seed)
    machines = {f"n{number}": _host(chance) for number in range(1, hosts + 1)}
    return Cluster(machines, [_guest(chance, number) for number in range(1, guests + 1)])


def all_requests(guests: Sequence[GuestFile]) -> list[Request]:
    """Return what the guests request."""
    return [one.request for one in guests if one.request]


def _host(chance: random.Random) -> Machine:
    adapters = {number: chance.choice(_MODES) for number in range(chance.randint(3, 5))}
    domains = IdSet(range(chance.randint(2, 3)))
    kernel = SimKernel.new(adapters=adapters, domains=domains)
    # All adapters of a domain have the same master key, as redundancy takes it.
    keys = {domain: chance.choice(KEYS) for domain in domains}
    for queue, state in kernel.state.queues.items():
        key = keys[queue.domain]
        if adapters[queue.adapter] == "ep11":
            state.mkvps = f"WK CUR: valid 0x{key}{'00' * 16}\nWK NEW: empty -"
        elif adapters[queue.adapter] == "cca":
            state.mkvps = f"AES CUR: valid 0x{key[:16]}\nAES NEW: empty 0x{'0' * 16}"
    return Machine(kernel)


def _guest(chance: random.Random, number: int) -> GuestFile:
    mode = chance.choice(_MODES)
    adapters, domains = chance.choice(_SIZES)
    key = chance.choice((*KEYS, "", "")) if mode != "accel" else ""
    keys = (MasterKey(ANY_REGISTER, key[:16] if mode == "cca" else key),) if key else ()
    criteria = Criteria((CardCriteria(mode, adapters, keys=keys),), domains)
    request = Request(f"g{number}", guest(number), mdev(number), Matrix(), criteria=criteria)
    return GuestFile(request.guest, f"/{request.guest}.xml", request)
