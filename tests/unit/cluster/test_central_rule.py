# SPDX-License-Identifier: Apache-2.0
"""The central rule: what a host publishes is the same whatever the guests of its cluster hold.

Looked at after each start and stop, and before and after each write of one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apvfio.cluster.guest_files import GuestFile
from apvfio.cluster.keys import read_keys
from apvfio.cluster.offer import bare_state, read_offer
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.state import read_state
from apvfio.engine.stop import release_guest
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError
from apvfio.model.host import BUS, MASKS, OVERRIDES
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import guest, mdev
from memory_host import Machine

MECHANISMS = [
    (name, mechanism)
    for name, profile in PROFILES.items()
    for mechanism in (MASKS, OVERRIDES)
    if profile.overrides or mechanism == MASKS
]
KEYS = ("a1" * 16, "b2" * 16)
EXAMPLES = 25 * int(os.environ.get("APVFIO_HOSTILE", "1"))
STRANGERS = 100
"""Added to the number of a guest that is not the cluster's."""


class Scene(NamedTuple):
    """A host, the guests of its cluster and what happens to them."""

    adapters: dict[int, str]
    domains: int
    keys: list[int]
    policy: str
    strangers: list[Criteria]
    guests: list[Criteria | Matrix]
    offline: list[int]
    """Numbers of queues that the administrator has set offline."""
    deeds: list[tuple[str, int]]


def criteria() -> st.SearchStrategy[Criteria]:
    def of_mode(mode: str) -> st.SearchStrategy[Criteria]:
        keys = st.just("") if mode == "accel" else st.sampled_from(["", *KEYS])
        sizes = st.integers(1, 2)
        drawn = st.tuples(sizes, sizes, st.sampled_from([0, 0, 7, 9]), keys)
        return drawn.map(lambda parts: a_criteria(mode, *parts))

    alone = st.sampled_from(["accel", "cca", "ep11"]).flatmap(of_mode)
    kinds = st.builds(lambda one, other: one._replace(cards=one.cards + other.cards), alone, alone)
    return st.one_of(alone, alone, kinds)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    count = draw(st.integers(2, 4))
    modes = draw(st.lists(st.sampled_from(["cca", "ep11", "accel"]), min_size=count, max_size=count))
    domains = draw(st.integers(1, 3))
    ids = st.integers(0, count - 1)
    matrices = st.builds(lambda a, d: Matrix(IdSet([a]), IdSet([d])), ids, st.integers(0, domains - 1))
    guests = draw(st.lists(st.one_of(criteria(), criteria(), matrices), min_size=1, max_size=4))
    lines = [
        *(["prefer = 'domains'"] if draw(st.booleans()) else []),
        *(["[reserve]", f"adapters = '{draw(ids)}'"] if draw(st.integers(0, 3)) == 0 else []),
        *(["[keep]", "ep11 = 1", "cca = 1"] if draw(st.booleans()) else []),
    ]
    deed = st.tuples(
        st.sampled_from(["start", "start", "stop", "reconcile"]), st.integers(0, len(guests) - 1)
    )
    return Scene(
        adapters=dict(enumerate(modes)),
        domains=domains,
        keys=draw(st.lists(st.integers(0, 2), min_size=count * domains, max_size=count * domains)),
        policy="\n".join(lines),
        strangers=draw(st.lists(criteria(), max_size=1)),
        guests=guests,
        offline=draw(st.lists(st.integers(0, count * domains - 1), max_size=2)),
        deeds=draw(st.lists(deed, min_size=1, max_size=8)),
    )


def request(asked: Criteria | Matrix, n: int) -> Request:
    matrix, wanted = (asked, None) if isinstance(asked, Matrix) else (Matrix(), asked)
    return Request(f"g{n}", guest(n), mdev(n), matrix, criteria=wanted)


def machine_of(scene: Scene, profile: str, mechanism: str) -> Machine:
    kernel = SimKernel.new(profile, adapters=scene.adapters, domains=IdSet(range(scene.domains)))
    for key, queue in zip(scene.keys, sorted(kernel.state.queues)):
        if key and scene.adapters[queue.adapter] == "ep11":
            kernel.state.queues[queue].mkvps = f"WK CUR: valid 0x{KEYS[key - 1]}{'00' * 16}\nWK NEW: empty -"
        elif key and scene.adapters[queue.adapter] == "cca":
            kernel.state.queues[queue].mkvps = f"AES CUR: valid 0x{KEYS[key - 1][:16]}\nASYM CUR: invalid 0x0"
    machine = Machine(kernel)
    for number in scene.offline:
        kernel.write(f"{BUS}/devices/{sorted(kernel.state.queues)[number]}/online", "0")
    machine.files.texts[POLICY] = f"mechanism = '{mechanism}'\n{scene.policy}\n"
    return machine


def do(machine: Machine, requests: list[Request], deed: str, n: int) -> None:
    # Whoever is refused holds nothing, and nothing is published about it.
    with suppress(ApvfioError):
        if deed == "start":
            start_guest(machine, requests[n])
        elif deed == "stop":
            release_guest(machine, requests[n].guest_uuid)
        else:
            reconcile_host(machine)


def look(machine: Machine, files: list[GuestFile]) -> tuple[object, ...]:
    """What is published, and all that it is made of."""
    offer = read_offer(machine, files)
    state = read_state(machine)
    known = read_keys(machine, state.host)
    bare = bare_state(machine, state, known, {one.request.guest_uuid for one in files if one.request})
    ledger = bare.ledger
    facts = (ledger.leases, ledger.pending, ledger.overrides, ledger.last_given, ledger.mechanism)
    return (
        offer.utilization,
        offer.attributes,
        bare.host,
        facts,
        bare.usage,
        {queue: keys.mkvps for queue, keys in known.keys.items()},
    )


def play(scene: Scene, profile: str, mechanism: str) -> int:
    """Play it; the number of looks, each of which had the same result."""
    machine = machine_of(scene, profile, mechanism)
    for n, asked in enumerate(scene.strangers):
        do(machine, [request(asked, n + STRANGERS)], "start", 0)
    requests = [request(asked, n) for n, asked in enumerate(scene.guests)]
    files = [GuestFile(one.guest, f"/{one.guest}.xml", one) for one in requests]
    first = look(machine, files)
    looks = 1

    def compare() -> None:
        nonlocal looks
        assert look(machine.process(), files) == first
        looks += 1

    for deed, n in scene.deeds:
        twin = machine.twin()
        do(twin, requests, deed, n)
        for at in range(1, twin.faults.count + 1):
            for late in (False, True):
                trial, kept = machine.twin(), machine
                trial.faults.arm(at, compare, late=late)
                machine = trial
                do(trial, requests, deed, n)
                machine = kept
        do(machine, requests, deed, n)
        compare()
    return looks


@pytest.mark.parametrize(("profile", "mechanism"), MECHANISMS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_nothing_that_the_clusters_guests_do_changes_the_offer(
    profile: str, mechanism: str, scene: Scene
) -> None:
    assert play(scene, profile, mechanism) > 1
