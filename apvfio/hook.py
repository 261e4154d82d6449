# SPDX-License-Identifier: Apache-2.0
"""The qemu hook: libvirt's operations mapped to the broker.

hooks/qemu passes on only guests that may be ours. Of libvirt's operations ``prepare`` alone
can refuse a guest; a failing ``reconnect`` would kill one that runs. Nothing is printed on
standard output, which libvirt takes for a replacement XML at ``migrate`` and ``restore``.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import nullcontext, suppress

from apvfio.errors import ApvfioError, Exit, HostError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from apvfio.system import System

_XML_LIMIT = 16 << 20


def main(argv: list[str], system: System | None = None, xml: bytes | None = None) -> int:
    """Serve one call: ``argv`` as libvirt gives it, guest name, operation, sub-operation, extra.

    ``xml`` is the domain's XML, standard input if not given. The exit code is 0 for all but a
    refused ``prepare``, whose reason, one line, goes to standard error and so to virsh's user.
    """
    operation = argv[1] if len(argv) > 1 else ""
    serve = _OPERATIONS.get(operation)
    if serve is None:
        return Exit.OK
    try:
        serve(_standard_input() if xml is None else xml, system)
    except ApvfioError as error:
        refusal = error
    except KeyboardInterrupt:
        refusal = ApvfioError(
            "it was interrupted.", remedy="The next call finishes or undoes what was begun."
        )
    except Exception as error:  # a traceback must not be what virsh's user reads
        refusal = ApvfioError(f"unexpected {type(error).__name__}: {error}.", remedy="Please report this.")
    else:
        return Exit.OK
    _say(refusal)
    return refusal.code if operation == "prepare" else Exit.OK


def prepare(xml: bytes, system: System | None) -> None:
    """Give the guest what its annotation asks for; a guest without one is none of our business."""
    with _opened(system) as here:
        try:
            _prepare(here, xml)
        except ApvfioError as error:
            if _has_rights(here):
                from apvfio.records import note_refusal  # noqa: PLC0415

                note_refusal(here, error)
            raise


def _prepare(here: System, xml: bytes) -> None:
    from apvfio.asking import request_of  # noqa: PLC0415
    from apvfio.broker import acquire  # noqa: PLC0415

    try:
        request = request_of(here.files, xml)
    except RequestError:
        if _expected(here, xml):
            return
        raise
    if request:
        if not _has_rights(here):
            raise HostError(
                "a guest with AP queues can be started by the system's libvirt daemon only.",
                remedy="Define it under qemu:///system.",
            )
        acquire(here, request, deserted=_deserted)


def _expected(system: System, xml: bytes) -> bool:
    """Whether ``apvfio migrate`` brings the guest: without its device, which waits for it here."""
    from apvfio.ledger import HELD  # noqa: PLC0415
    from apvfio.ledgers import load  # noqa: PLC0415
    from apvfio.request import guest_uuid, parse_device  # noqa: PLC0415

    leases = load(system.files, system.boot_id).of_guest(guest_uuid(xml))
    return parse_device(xml) is None and any(lease.state == HELD for lease in leases)


def release(xml: bytes, system: System | None) -> None:
    """Take home what the guest holds. The ledger counts, not the XML: its metadata may have changed since."""
    from apvfio.broker import release as take_home  # noqa: PLC0415
    from apvfio.handover import hand_over_stop  # noqa: PLC0415
    from apvfio.ledgers import load  # noqa: PLC0415
    from apvfio.request import guest_uuid  # noqa: PLC0415

    uuid = guest_uuid(xml)
    with _opened(system) as here:
        if not load(here.files, here.boot_id).of_guest(uuid):
            return  # its start was refused, perhaps for want of the lock: that is not waited for again
        if _deserted() and uuid in (here.running_guests() or ()):
            return  # started anew by another daemon: what it holds is not of the life that ended
        try:
            take_home(here, uuid, hurry=True)
        except ApvfioError:
            # Nobody will call for this guest again: what holds it up may be over soon.
            hand_over_stop(here.files, uuid)
            raise


def reconnect(xml: bytes, system: System | None) -> None:
    """The daemon is back and the guest still runs: finish what a crash left undone, touch nothing else."""
    from apvfio.asking import request_of  # noqa: PLC0415
    from apvfio.broker import reconcile  # noqa: PLC0415

    with _opened(system) as here:
        if request_of(here.files, xml):
            reconcile(here, hurry=True)


_OPERATIONS = {"prepare": prepare, "release": release, "reconnect": reconnect}


def _opened(system: System | None) -> AbstractContextManager[System]:
    """The system given, or the simulated host or tree that the environment names, or this machine."""
    if system:
        return nullcontext(system)
    if sim := os.environ.get("APVFIO_SIM"):
        from apvfio.sim.store import open_sim  # noqa: PLC0415

        return open_sim(sim)
    from apvfio.system import RealSystem  # noqa: PLC0415

    return nullcontext(RealSystem(os.environ.get("APVFIO_ROOT") or "/"))


def _deserted() -> bool:
    """Whether the daemon that called has died: nobody is left to read standard error."""
    poll = select.poll()
    poll.register(2, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _has_rights(system: System) -> bool:
    """Whether the host's queues are the caller's to give; a session daemon runs the same hook as its user."""
    from apvfio.system import on_this_machine  # noqa: PLC0415

    return os.geteuid() == 0 or not on_this_machine(system)


def _standard_input() -> bytes:
    xml = sys.stdin.buffer.read(_XML_LIMIT + 1) if sys.stdin else b""
    if len(xml) > _XML_LIMIT:
        raise RequestError(
            f"the domain XML is larger than {_XML_LIMIT >> 20} MiB.", remedy="Shorten its metadata."
        )
    return xml


def _say(error: ApvfioError) -> None:
    # Who does not listen must not turn a release into a failure.
    with suppress(OSError):
        if sys.stderr:
            print(f"apvfio: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
