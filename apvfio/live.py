# SPDX-License-Identifier: Apache-2.0
"""A guest that runs is given queues, others than it has, or none: its device and its annotation together.

Ledger and host are changed first, as anywhere; then libvirt is told. What libvirt refuses is undone, and
what a death leaves is undone by the next call (`apvfio.changing`), or is the guest's until it ends and
is finished by the same command given again.
"""

from __future__ import annotations

import os
from contextlib import suppress

from apvfio import broker, changing, guest_device
from apvfio.errors import ApvfioError, ConflictError, HostError, RequestError
from apvfio.ledgers import load
from apvfio.liveness import find_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.guests import Guest
    from apvfio.ledger import Lease
    from apvfio.plan.change import Change
    from apvfio.plan.planner import Plan
    from apvfio.promises import Process
    from apvfio.request import Request
    from apvfio.system import System


def lease_of(system: System, guest: Guest) -> Lease | None:
    """What the running ``guest`` holds, None if nothing; ConflictError if its device is somebody else's."""
    if not guest.active:
        raise RequestError(
            "it does not run.", guest=guest.name, remedy="Leave out --live: it is for its next start then."
        )
    leases = load(system.files, system.boot_id).of_guest(guest.uuid)
    device = guest_device.attached(guest)
    if device and device not in {lease.mdev for lease in leases}:
        raise ConflictError(
            f"its device {device} was not given to it by apvfio, which does not change it.",
            guest=guest.name,
            remedy="Unplug that device first, or change it where it was made.",
        )
    return leases[0] if leases else None


def plan(system: System, guest: Guest, request: Request) -> Plan | Change:
    """What `give` would do now; changes nothing."""
    if lease_of(system, guest):
        return changing.plan_change(system, request, this_process())
    return broker.plan(system, request)


def give(system: System, guest: Guest, request: Request, tell: Callable[[], None]) -> None:
    """Give the running ``guest`` what ``request`` names, in place of what it has; ``tell`` tells libvirt.

    ApvfioError, from whichever of the two, and then it has what it had.
    """
    if not lease_of(system, guest):
        broker.acquire(system, request)
        try:
            guest_device.attach(guest, request.mdev)
            tell()
        except ApvfioError as error:
            _give_up(system, guest)
            raise error.for_guest(guest.name) from None
        return
    done = changing.change(system, request, this_process())
    try:
        guest_device.attach(guest, request.mdev)
        tell()
    except BaseException:
        if not done.idle:
            changing.undo(system, done)
        raise
    changing.keep(system, done)


def take(system: System, guest: Guest) -> str | None:
    """Take its device from the running ``guest``, and home what it holds; the device's uuid if it had one."""
    lease = lease_of(system, guest)
    device = guest_device.detach(guest)
    if lease:
        broker.release(system, guest.uuid)
    return device


def this_process() -> Process:
    """The process that changes a guest."""
    found = find_process(os.getpid())
    if found is None:
        raise HostError("/proc does not show this process.", remedy="Mount /proc.")
    return found


def _give_up(system: System, guest: Guest) -> None:
    """The guest gets nothing, as before; what that fails at is its own until it ends."""
    with suppress(ApvfioError):
        if guest.active:
            guest_device.detach(guest)
        broker.release(system, guest.uuid)
