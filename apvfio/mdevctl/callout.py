# SPDX-License-Identifier: Apache-2.0
"""mdevctl's callout: free the queues of a device before mdevctl creates it.

The callout runs before s390-tools' ap-check and then replaces itself with ap-check by exec: the lock that
ap-check takes names its parent, which must be mdevctl (ap-check.c). If ap-check is not installed, the callout
makes the comparisons itself. The notifier returns the queues: during ``post``, mdevctl still holds that lock.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from apvfio.mdev.callouts import (
    ATTRIBUTES,
    DEFINE,
    GET,
    MODIFY,
    NOT_MINE,
    POST,
    PRE,
    REFUSED,
    SCRIPTS,
    SERVED,
    START,
    CallError,
    attributes,
    parse_call,
)
from apvfio.model.errors import ApvfioError, RequestError, unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import System
    from apvfio.mdev.callouts import Call
    from apvfio.mdev.definitions import Definition
    from apvfio.model.text import WarningText

AP_CHECK = f"/{SCRIPTS[0]}/callouts/ap-check"
_LIMIT = 1 << 20


def main(argv: list[str], system: System | None = None, text: bytes | None = None) -> int:
    """Serve one call: ``argv`` as mdevctl gives it, ``text`` the device's JSON, standard input if not given.

    A refusal is one sentence on standard error, which mdevctl shows; before an action alone it counts.
    Otherwise this does not return where there is an ap-check: the process becomes that one.
    """
    try:
        call = parse_call(argv)
    except CallError as error:
        return _refuse(str(error))
    if text is None:
        # Standard input is always a pipe, empty for get; mdevctl 1.2 skips a callout that closes it too soon.
        text = sys.stdin.buffer.read(_LIMIT)
    masks_only = os.access(AP_CHECK, os.X_OK)
    try:
        code = _serve(call, text, system or this_machine(), masks_only=masks_only)
    except ApvfioError as error:
        code = _refuse(f"the mediated device {call.uuid}: {error}")
    except Exception as error:  # a traceback must not be what mdevctl's user reads
        code = _refuse(str(unexpected(error)))
    # After the action, ap-check releases its lock, whatever happened here.
    if masks_only and (code == SERVED or call.event == POST):
        _become_ap_check(argv, text)
    return code


def _serve(call: Call, text: bytes, system: System, *, masks_only: bool) -> int:
    from apvfio.model.host import AP_MDEVS  # noqa: PLC0415

    if call.type != AP_MDEVS.name:
        return NOT_MINE
    if (call.event, call.action) == (PRE, START):
        for warning in _free(call, text, system, masks_only=masks_only):
            _say(warning)
    elif call.event == POST:
        _tell_news(call, system)
    elif masks_only:
        pass  # ap-check makes the comparisons
    elif (call.event, call.action) == (GET, ATTRIBUTES):
        _print_attributes(call, system)
    elif call.event == PRE and call.action in (DEFINE, MODIFY):
        _compare_definitions(call, _definition(text), system)
    return SERVED


def _free(call: Call, text: bytes, system: System, *, masks_only: bool) -> Iterator[WarningText]:
    """Free the queues of a device that is about to start, as its warnings are read."""
    from apvfio.engine.claim import MasksOnlyError, make_claim  # noqa: PLC0415
    from apvfio.store.definitions import matrix_of  # noqa: PLC0415
    from apvfio.store.processes import parent  # noqa: PLC0415

    mdevctl = parent()
    if mdevctl is None:
        return  # it has died, and nobody wants the queues
    matrix = matrix_of(_definition(text), strict=False)
    try:
        warnings = make_claim(system, call.uuid, matrix, mdevctl, masks_only=masks_only)
    except MasksOnlyError as error:
        yield (
            f"the mediated device {call.uuid}: {error} ap-check knows masks only and will refuse, so nothing "
            "was freed. Switch to masks with 'apvfio mechanism masks', or let a guest's start create "
            "the device."
        )
        return
    for warning in warnings:
        yield f"the mediated device {call.uuid}: {warning}"


def _tell_news(call: Call, system: System) -> None:
    """Without the lock, which mdevctl may hold by way of ap-check; looking needs none."""
    from apvfio.engine.state import look  # noqa: PLC0415
    from apvfio.mdevctl.guest_messages import news  # noqa: PLC0415

    host, ledger, _ = look(system)
    for sentence in news(call, host, ledger, system.files):
        _say(sentence)


def _print_attributes(call: Call, system: System) -> None:
    from apvfio.kernel.snapshot import read_matrix  # noqa: PLC0415
    from apvfio.store.definitions import attributes_of  # noqa: PLC0415

    try:
        print(attributes(attributes_of(read_matrix(system.sysfs, call.uuid))))
    except OSError:
        return  # it is gone, and nothing is what it has


def _compare_definitions(call: Call, definition: Definition, system: System) -> None:
    """Among the devices that start by themselves: the others are compared when they start."""
    from apvfio.mdev.definitions import AUTO  # noqa: PLC0415
    from apvfio.plan.ap_check import not_yet_free_at_boot, require_definable  # noqa: PLC0415
    from apvfio.store import masks_file  # noqa: PLC0415
    from apvfio.store.definitions import autostarted, matrix_of  # noqa: PLC0415

    if definition.start != AUTO:
        return
    matrix = matrix_of(definition, strict=False)
    require_definable(call.uuid, matrix, autostarted(system.files))
    if sentence := not_yet_free_at_boot(matrix, masks_file.load(system.files)):
        _say(sentence)


def _definition(text: bytes) -> Definition:
    from apvfio.mdev.definitions import DefinitionError, parse  # noqa: PLC0415

    try:
        return parse(text.decode("utf-8", "replace"))
    except DefinitionError as error:
        raise RequestError(
            f"mdevctl's output about it cannot be used: {error}.",
            remedy="See 'mdevctl list --defined --dumpjson'.",
        ) from None


def _become_ap_check(argv: list[str], text: bytes) -> None:
    """As a child it would take its lock for us, and lose it when we end."""
    file = os.memfd_create("mdevctl")
    os.write(file, text)
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    sys.stderr.flush()
    os.execv(AP_CHECK, [AP_CHECK, *argv])  # noqa: S606  (no shell is what is wanted)


def this_machine() -> System:
    """Return this machine, with the time that any start has."""
    from apvfio.store.system import RealSystem  # noqa: PLC0415

    # One mdevctl process starts many devices (start-parent-mdevs): its age says nothing about this start.
    return RealSystem()


def _refuse(sentence: str) -> int:
    _say(sentence)
    return REFUSED


def _say(sentence: str) -> None:
    print(f"apvfio: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
