# SPDX-License-Identifier: Apache-2.0
"""Writes to the kernel, counted on the simulated one: they take longer than all the rest."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from apvfio import broker
from apvfio.calls import Acquire, Release
from apvfio.mask import IdSet
from apvfio.matrix import Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.sim.store import SimSystem
from benchmarks import invented
from benchmarks.goals import Goal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.request import Request

GUESTS = 100
_DOMAINS = 2
_MASKS = ("bus/ap/apmask", "bus/ap/aqmask")


def goals(_rounds: int) -> Iterator[Goal]:
    """One guest's writes, and the masks' for a hundred guests at once."""
    system, written = _host()
    request = _requests()[0]
    broker.acquire(system, request)
    yield Goal("writes of one start: mask, device, matrix", "one", len(written), 3, note=_names(written))
    written.clear()
    broker.release(system, request.guest_uuid)
    yield Goal("writes of one stop: device, mask", "one", len(written), 2, note=_names(written))
    for what, call in (("starts", _start), ("stops", _stop)):
        together, alone = call(together=True), call(together=False)
        note = f"{together} and {alone} writes"
        yield Goal(f"mask writes of {GUESTS} {what} at once", "one by one", together / alone, 0.1, note=note)


def _host() -> tuple[SimSystem, list[str]]:
    """A host, and the paths that will be written."""
    kernel = SimKernel.new(adapters=dict.fromkeys(range(GUESTS), "cca"), domains=IdSet(range(_DOMAINS)))
    system = SimSystem.new(kernel)
    written: list[str] = []
    write = system.sysfs.write

    def counted(path: str, text: str) -> None:
        written.append(path)
        write(path, text)

    system.sysfs.write = counted  # type: ignore[method-assign]
    return system, written


def _requests() -> list[Request]:
    # An adapter each, of which the host keeps a domain: nobody's bit is free already.
    return [invented.request(n, Matrix(IdSet([n]), IdSet([0]))) for n in range(GUESTS)]


def _masks(written: list[str]) -> int:
    return sum(path in _MASKS for path in written)


def _start(*, together: bool) -> int:
    system, written = _host()
    *others, last = _requests()
    with ExitStack() as waiting:
        for request in others:
            if together:
                waiting.enter_context(system.room.post(Acquire(request).as_json()))
            else:
                broker.acquire(system, request)
        broker.acquire(system, last)
        assert (
            len(system.sysfs.list("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/devices"))
            == GUESTS
        )
    return _masks(written)


def _stop(*, together: bool) -> int:
    system, written = _host()
    requests = _requests()
    for request in requests:
        broker.acquire(system, request)
    written.clear()
    *others, last = requests
    with ExitStack() as waiting:
        for request in others:
            if together:
                waiting.enter_context(system.room.post(Release(request.guest_uuid).as_json()))
            else:
                broker.release(system, request.guest_uuid)
        broker.release(system, last.guest_uuid)
    assert not system.sysfs.list("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/devices")
    return _masks(written)


def _names(paths: list[str]) -> str:
    return ", ".join(path.rpartition("/")[2] for path in paths)
