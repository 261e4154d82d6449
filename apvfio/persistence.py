# SPDX-License-Identifier: Apache-2.0
"""A guest's device made a persistent definition of mdevctl's, and unmade."""

from __future__ import annotations

from apvfio.definitions import PARENT, load_definition, matrix_of
from apvfio.errors import ApvfioError, ConflictError, HostError, RequestError
from apvfio.host import AP_MDEVS
from apvfio.system import on_this_machine
from mdev.definitions import MANUAL, Definition, path
from mdev.mdevctl import Mdevctl, MdevctlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.matrix import Matrix
    from apvfio.request import Request
    from apvfio.system import System

_READABLE = 0o644


def definition_of(matrix: Matrix) -> Definition:
    """The definition that makes a device with ``matrix``; the guest's start makes it, not the boot."""
    kinds = zip(("adapter", "domain", "control_domain"), matrix, strict=True)
    attrs = tuple((f"assign_{kind}", f"0x{i:x}") for kind, ids in kinds for i in ids)
    return Definition(AP_MDEVS.name, MANUAL, attrs)


def define(system: System, request: Request) -> bool:
    """Define the guest's device; False if that is so already. ConflictError if it is defined otherwise."""
    if request.wish is not None:
        raise RequestError(
            "it asks for queues by property, and a definition names queues.",
            guest=request.guest,
            remedy="Annotate it with <ap:matrix>.",
        )
    there = load_definition(system.files, request.mdev)
    if there and matrix_of(there) == request.matrix:
        return False
    if there:
        raise ConflictError(
            f"its device {request.mdev} is defined with {matrix_of(there)}; it asks for {request.matrix}.",
            guest=request.guest,
            remedy="Undefine it first.",
        )
    text = definition_of(request.matrix).text()
    if on_this_machine(system):
        _mdevctl(lambda command: command.define(PARENT, request.mdev, text))
    else:
        system.files.write(path(PARENT, request.mdev), text, _READABLE)
    written = load_definition(system.files, request.mdev)
    if written is None or matrix_of(written) != request.matrix:
        raise ApvfioError(
            f"/{path(PARENT, request.mdev)} does not hold what was defined.",
            remedy="Look at 'mdevctl list -d'.",
        )
    return True


def undefine(system: System, mdev: str) -> bool:
    """Remove the definition of the device; False if there is none. A device that is there stays."""
    if load_definition(system.files, mdev) is None:
        return False
    if on_this_machine(system):
        _mdevctl(lambda command: command.undefine(PARENT, mdev))
    else:
        system.files.remove(path(PARENT, mdev))
    return True


def _mdevctl(call: Callable[[Mdevctl], None]) -> None:
    try:
        call(Mdevctl())
    except MdevctlError as error:
        raise HostError(f"{error}.", remedy="See 'mdevctl list --defined'.") from None
