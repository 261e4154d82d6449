# SPDX-License-Identifier: Apache-2.0
"""Records of guests' stops that no call has served yet.

libvirt reports the end of a guest once. hooks/qemu therefore records it, as an empty file that names the
guest, before it starts an interpreter that may be killed or run out of memory. Every call that has the lock
serves all recorded stops, and removes a record only after the ledger says that the leases end.

A record is in /run/apvfio. If no file can be made there, it is in /var/lib/apvfio with the boot to which it
belongs: ``stopped.SECONDS.UUID`` or ``stopped.SECONDS.UUID.BOOT``, with SECONDS since the boot, sleep
included.
"""

from __future__ import annotations

from apvfio.mdev.devices import is_uuid
from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import CHANGING, HELD, STARTING
from apvfio.model.typed import NamedTuple
from apvfio.store.processes import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Lease, Ledger

_RUN = "run/apvfio"
_LASTING = "var/lib/apvfio"
_PREFIX = "stopped."
_UNKNOWN = "unknown"


class Stop(NamedTuple):
    """The recorded end of one life of a guest."""

    path: str
    uuid: str
    """The guest's, lower case."""
    seconds: int
    """When it was recorded, in seconds since the boot."""
    boot: str
    """The boot it belongs to, '' for the present one."""

    def ends(self, lease: Lease) -> bool:
        """Whether ``lease`` belongs to the life that ended, and has not ended yet."""
        return lease.state in (HELD, CHANGING) and self.concerns(lease)

    def concerns(self, lease: Lease) -> bool:
        """Whether ``lease`` belongs to the life that ended."""
        return lease.uuid == self.uuid and lease.state != STARTING and lease.since <= self.seconds


def record(system: System, guest_uuid: str) -> bool:
    """Record that the guest has stopped; False if no file can be made."""
    name = f"{_PREFIX}{now()}.{guest_uuid}"
    for path in (f"{_RUN}/{name}", f"{_LASTING}/{name}.{system.boot_id}"):
        with suppress(ApvfioError):
            if system.files.create(path):
                return True
    return False


def recorded(system: System) -> list[Stop]:
    """All records; of another boot's, `Stop.boot` tells."""
    found = _records(system, _RUN)
    # What is wrong with that directory keeps no guest from its queues.
    with suppress(ApvfioError):
        found += _records(system, _LASTING)
    return found


def of_guest(system: System, guest_uuid: str) -> list[Stop]:
    """The records of one guest in this boot."""
    return [stop for stop in recorded(system) if stop.uuid == guest_uuid and not stop.boot]


def ended(system: System) -> Callable[[Lease], bool]:
    """Return a function that tells whether a record of this boot ends a lease."""
    latest: dict[str, Stop] = {}
    for stop in recorded(system):
        if not stop.boot:
            latest[stop.uuid] = max(stop, latest.get(stop.uuid, stop), key=lambda found: found.seconds)
    return lambda lease: lease.uuid in latest and latest[lease.uuid].ends(lease)


def forget(system: System, guest_uuid: str) -> None:
    """Remove the records of a guest that holds nothing."""
    for stop in of_guest(system, guest_uuid):
        with suppress(ApvfioError):
            system.files.remove(stop.path)


def beginning(guest_uuid: str, stops: Iterable[Stop]) -> int:
    """Return when a life of the guest begins that begins now, in seconds since the boot.

    That is after each of the recorded ``stops``, none of which must end it.
    """
    earlier = [stop.seconds + 1 for stop in stops if stop.uuid == guest_uuid and not stop.boot]
    return max([now(), *earlier])


def forget_served(system: System, ledger: Ledger) -> list[Stop]:
    """Remove the records without a lease in ``ledger``; under the lock. Return the others.

    The record of a lease that is ending stays: while a process has the device open, the lease may not end
    after all. A record that cannot be removed does no harm: it ends no lease that began after it.
    """
    found = recorded(system)
    leases: dict[str, list[Lease]] = {stop.uuid: [] for stop in found}
    for lease in ledger.leases.values():
        if lease.uuid in leases:
            leases[lease.uuid].append(lease)
    left = []
    for stop in found:
        if stop.boot or not any(map(stop.concerns, leases[stop.uuid])):
            with suppress(ApvfioError):
                system.files.remove(stop.path)
                continue
        left.append(stop)
    return left


def _records(system: System, directory: str) -> list[Stop]:
    found = (_parse(system, directory, name) for name in system.files.list(directory))
    return [stop for stop in found if stop]


def _parse(system: System, directory: str, name: str) -> Stop | None:
    if not name.startswith(_PREFIX):
        return None
    seconds, _, rest = name.removeprefix(_PREFIX).partition(".")
    uuid, _, boot = rest.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and is_uuid(uuid)):
        return None
    # No time of this boot is ahead of its clock.
    present = boot in ("", system.boot_id) and int(seconds) <= now()
    return Stop(f"{directory}/{name}", uuid.lower(), int(seconds), "" if present else boot or _UNKNOWN)
