# SPDX-License-Identifier: Apache-2.0
"""The qemu hook: libvirt's operations mapped to the engine.

hooks/qemu passes on only guests that may be ours. Of libvirt's operations ``prepare`` alone
can refuse a guest; a failing ``reconnect`` would kill one that runs. Nothing is printed on
standard output, which libvirt takes for a replacement XML at ``migrate`` and ``restore``.
"""

from __future__ import annotations

import os
import select
import sys

from apvfio.mdev.devices import is_uuid
from apvfio.model.contexts import nullcontext, suppress
from apvfio.model.errors import ApvfioError, Exit, HostError, RequestError, printable, unexpected

_XML_LIMIT = 64 << 20
"""Twice what one message of libvirt's can hold (virnetprotocol.x: VIR_NET_MESSAGE_MAX)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from apvfio.kernel.seam import System

RECORDED = "recorded"
"""The word by which hooks/qemu says that it has recorded the stop."""


def main(argv: list[str], system: System | None = None, xml: bytes | None = None) -> int:
    """Serve one call; ``argv`` as libvirt gives it: guest name, operation, sub-operation, extra.

    ``xml`` is the domain's XML, standard input if not given. For ``release``, which needs only the guest's
    uuid, hooks/qemu adds the uuid to the arguments, and `RECORDED` if it has recorded the stop. The exit code
    is 0 except for a refused ``prepare``: its reason, one line, goes to standard error, and so to virsh's
    user.
    """
    operation = argv[1] if len(argv) > 1 else ""
    serve = _OPERATIONS.get(operation)
    if serve is None:
        return Exit.OK
    try:
        if xml is None:
            xml = argv[4].encode() if len(argv) > 4 else _standard_input()
        if operation == "release":
            release(xml, system, recorded=argv[5:] == [RECORDED])
        else:
            serve(xml, system)
    except ApvfioError as error:
        refusal = error
    except KeyboardInterrupt:
        refusal = ApvfioError(
            "it was interrupted.", remedy="The next call finishes or undoes what was begun."
        )
    except Exception as error:  # a traceback must not be what virsh's user reads
        refusal = unexpected(error)
    else:
        return Exit.OK
    _say(refusal)
    return refusal.code if operation == "prepare" else Exit.OK


def prepare(xml: bytes, system: System | None) -> None:
    """Give the guest the queues that its annotation requests; ignore a guest without an annotation."""
    with _opened(system) as here:
        try:
            _prepare(here, xml)
        except ApvfioError as error:
            if _has_rights(here):
                from apvfio.events.record import note_refusal  # noqa: PLC0415

                note_refusal(here, error)
            raise


def _prepare(here: System, xml: bytes) -> None:
    from apvfio.domain.request import request_of  # noqa: PLC0415
    from apvfio.engine.start import start_guest  # noqa: PLC0415

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
        try:
            start_guest(here, request, abandoned=daemon_has_died)
        except ApvfioError as error:  # also one that is about the host, such as its policy
            raise error.for_guest(request.guest) from None
    else:
        _note_ignored(here, xml)


def _note_ignored(system: System, xml: bytes) -> None:
    """Record in the audit log a guest whose device does not exist and that requests no queues."""
    from apvfio.domain.request import parse_device  # noqa: PLC0415
    from apvfio.events.record import note_ignored  # noqa: PLC0415
    from apvfio.model.host import AP_MDEVS  # noqa: PLC0415

    device = parse_device(xml)
    if device and _has_rights(system) and not system.sysfs.exists(AP_MDEVS.device(device.mdev)):
        note_ignored(system, device)


def _expected(system: System, xml: bytes) -> bool:
    """Whether ``apvfio migrate`` brings the guest: without its device, which waits for it here."""
    from apvfio.domain.request import guest_uuid, parse_device  # noqa: PLC0415
    from apvfio.engine.migration_lease import expect_arrival  # noqa: PLC0415

    return parse_device(xml) is None and expect_arrival(system, guest_uuid(xml))


def release(xml: bytes, system: System | None, *, recorded: bool = False) -> None:
    """Return the guest's queues. Only the uuid in the XML counts: a stop must not depend on the rest.

    ``recorded``: as for `apvfio.engine.stop.stop_guest`.
    """
    from apvfio.engine.stop import stop_guest  # noqa: PLC0415

    uuid = _uuid_in(xml)
    with _opened(system) as here:
        stop_guest(here, uuid, recorded=recorded)


def reconnect(xml: bytes, system: System | None) -> None:
    """Finish what a crash interrupted; the daemon has started again, and the guest still runs."""
    from apvfio.domain.request import request_of  # noqa: PLC0415
    from apvfio.engine.reconcile import reconcile_host  # noqa: PLC0415

    with _opened(system) as here:
        if request_of(here.files, xml):
            reconcile_host(here, hurry=True)


_OPERATIONS = {"prepare": prepare, "release": release, "reconnect": reconnect}


def _opened(system: System | None) -> AbstractContextManager[System]:
    """The system given, or the simulated host or tree that the environment names, or this machine."""
    if system:
        return nullcontext(system)
    if sim := os.environ.get("APVFIO_SIM"):
        from apvfio.sim.host_file import open_sim  # noqa: PLC0415

        return open_sim(sim)
    from apvfio.store.system import RealSystem  # noqa: PLC0415

    return nullcontext(RealSystem(os.environ.get("APVFIO_ROOT") or "/"))


def daemon_has_died() -> bool:
    """Whether the daemon that called has died: nobody is left to read standard error."""
    return has_no_reader(2)


def has_no_reader(descriptor: int) -> bool:
    """Whether the pipe that ``descriptor`` writes to has no reader any more."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _has_rights(system: System) -> bool:
    """Whether the host's queues are the caller's to give; a session daemon runs the same hook as its user."""
    from apvfio.store.system import on_this_machine  # noqa: PLC0415

    return os.geteuid() == 0 or not on_this_machine(system)


def _standard_input() -> bytes:
    xml = sys.stdin.buffer.read(_XML_LIMIT + 2) if sys.stdin else b""
    # The hook's script adds a line feed.
    if len(xml.rstrip(b"\n")) > _XML_LIMIT:
        raise RequestError(
            f"the domain XML is larger than {_XML_LIMIT >> 20} MiB.", remedy="Shorten its metadata."
        )
    return xml


def _uuid_in(xml: bytes) -> str:
    """The guest's uuid, lower case: libvirt writes it right after the name, where ``<`` is escaped.

    All that there is may be the uuid.
    """
    before, found, after = xml.partition(b"<uuid>")
    uuid = after.partition(b"</uuid>")[0] if found else before
    text = uuid.strip().decode("ascii", "replace").lower()
    if not is_uuid(text):
        raise RequestError(
            f"the domain XML has the invalid UUID {printable(text)!r}.",
            remedy="If the guest holds queues, return them with 'apvfio release'.",
        )
    return text


def _say(error: ApvfioError) -> None:
    # A reader that does not listen must not make a release fail.
    with suppress(OSError):
        if sys.stderr:
            print(f"apvfio: {error}", file=sys.stderr, flush=True)


def run() -> None:
    """Serve this process' call and end it at once: Python's own cleanup takes a tenth of a start."""
    os._exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
