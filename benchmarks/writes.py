# SPDX-License-Identifier: Apache-2.0
"""Writes to the kernel, counted on the simulated one: they take longer than all the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.store import stop_records
from benchmarks import invented
from benchmarks.counting import devices, machine
from benchmarks.goals import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.request import Request
    from apvfio.sim.host_file import SimSystem
    from benchmarks.counting import Counted
    from benchmarks.goals import Goal

_GUESTS = 100
_MASKS = ("bus/ap/apmask", "bus/ap/aqmask")


def goals(_rounds: int) -> Iterator[Goal]:
    """One guest's writes, and the masks' for a hundred recorded stops."""
    system, seam = _host()
    request = _requests()[0]
    for what, call, goal in (
        ("start", lambda: start_guest(system, request), ("apmask", "create", "ap_config")),
        ("stop", lambda: release_guest(system, request.guest_uuid), ("remove", "apmask")),
    ):
        seam.clear()
        call()
        names = ", ".join(path.rpartition("/")[2] for path in seam.writes)
        beside = f"one each: {', '.join(goal)}"
        yield counted(f"writes of one {what}", beside, len(seam.writes), len(goal), bound=1, note=names)
    together, alone = _stop(together=True), _stop(together=False)
    yield counted(f"mask writes of {_GUESTS} recorded stops", "one by one", together, alone, bound=0.1)


def _host() -> tuple[SimSystem, Counted]:
    return machine("7.2", range(_GUESTS), IdSet([0, 1]))


def _requests() -> list[Request]:
    # An adapter each, of which the host keeps a domain: nobody's bit is free already.
    return [invented.request(n, Matrix(IdSet([n]), IdSet([0]))) for n in range(_GUESTS)]


def _mask_writes(seam: Counted) -> int:
    return sum(path in _MASKS for path in seam.writes)


def _stop(*, together: bool) -> int:
    system, seam = _host()
    requests = _requests()
    for request in requests:
        start_guest(system, request)
    seam.clear()
    *others, last = requests
    for request in others:
        if together:
            stop_records.record(system, request.guest_uuid)
        else:
            release_guest(system, request.guest_uuid)
    release_guest(system, last.guest_uuid)
    assert not devices(system)
    return _mask_writes(seam)
