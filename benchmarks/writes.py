# SPDX-License-Identifier: Apache-2.0
"""Writes to the kernel, counted on the simulated one: they take longer than all the rest."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from apvfio.engine import broker
from apvfio.engine.calls import Acquire
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.store import stop_records
from benchmarks import invented
from benchmarks.counting import devices, machine
from benchmarks.goals import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.request import Request
    from apvfio.sim.store import SimSystem
    from benchmarks.counting import Counted
    from benchmarks.goals import Goal

_GUESTS = 100
_MASKS = ("bus/ap/apmask", "bus/ap/aqmask")


def goals(_rounds: int) -> Iterator[Goal]:
    """One guest's writes, and the masks' for a hundred guests at once."""
    system, seam = _host()
    request = _requests()[0]
    for what, call, goal in (
        ("start", lambda: broker.acquire(system, request), ("apmask", "create", "ap_config")),
        ("stop", lambda: broker.release(system, request.guest_uuid), ("remove", "apmask")),
    ):
        seam.clear()
        call()
        names = ", ".join(path.rpartition("/")[2] for path in seam.writes)
        beside = f"one each: {', '.join(goal)}"
        yield counted(f"writes of one {what}", beside, len(seam.writes), len(goal), bound=1, note=names)
    for what, run in (("starts", _start), ("stops", _stop)):
        together, alone = run(together=True), run(together=False)
        yield counted(f"mask writes of {_GUESTS} {what} at once", "one by one", together, alone, bound=0.1)


def _host() -> tuple[SimSystem, Counted]:
    return machine("7.2", range(_GUESTS), IdSet([0, 1]))


def _requests() -> list[Request]:
    # An adapter each, of which the host keeps a domain: nobody's bit is free already.
    return [invented.request(n, Matrix(IdSet([n]), IdSet([0]))) for n in range(_GUESTS)]


def _mask_writes(seam: Counted) -> int:
    return sum(path in _MASKS for path in seam.writes)


def _start(*, together: bool) -> int:
    system, seam = _host()
    *others, last = _requests()
    with ExitStack() as waiting:
        for request in others:
            if together:
                waiting.enter_context(system.room.post(Acquire(request).as_json()))
            else:
                broker.acquire(system, request)
        broker.acquire(system, last)
        assert devices(system) == _GUESTS
    return _mask_writes(seam)


def _stop(*, together: bool) -> int:
    system, seam = _host()
    requests = _requests()
    for request in requests:
        broker.acquire(system, request)
    seam.clear()
    *others, last = requests
    for request in others:
        if together:
            stop_records.record(system, request.guest_uuid)
        else:
            broker.release(system, request.guest_uuid)
    broker.release(system, last.guest_uuid)
    assert not devices(system)
    return _mask_writes(seam)
