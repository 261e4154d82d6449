# SPDX-License-Identifier: Apache-2.0
"""Write and remove mdevctl's persistent definition of a guest's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.cards import read_adapters
from apvfio.mdev.definitions import MANUAL, Definition
from apvfio.mdev.mdevctl import Mdevctl, MdevctlError
from apvfio.model.errors import ApvfioError, ConflictError, HostError, RequestError
from apvfio.model.host import AP_MDEVS
from apvfio.plan.secure_execution import require_usable
from apvfio.store.definitions import FOLDER, PARENT, load_definition, matrix_of
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.kernel.seam import System
    from apvfio.model.matrix import Matrix
    from apvfio.model.request import Request

_READABLE = 0o644


def definition_of(matrix: Matrix) -> Definition:
    """The definition that makes a device with ``matrix``; the guest's start makes it, not the boot."""
    kinds = zip(("adapter", "domain", "control_domain"), matrix)
    attrs = tuple((f"assign_{kind}", f"0x{i:x}") for kind, ids in kinds for i in ids)
    return Definition(AP_MDEVS.name, MANUAL, attrs)


def define(system: System, request: Request, *, replace: bool = False, dry_run: bool = False) -> bool:
    """Define the guest's device, or only check that in a dry run; return False if it is defined already.

    If it is defined with other queues, ConflictError, or with ``replace`` it gets the guest's requested
    queues; its start mode and foreign fields stay.
    """
    if request.criteria is not None:
        raise RequestError(
            "it requests queues by criteria, but a definition needs ids.",
            guest=request.guest,
            remedy="Annotate it with <ap:matrix>.",
        )
    if request.secure:
        require_usable(request, read_adapters(system.sysfs))
    there = load_definition(system.files, request.mdev)
    if there and matrix_of(there) == request.matrix:
        return False
    if there and not replace:
        raise ConflictError(
            f"its device {request.mdev} is defined with {matrix_of(there)}; it requests {request.matrix}.",
            guest=request.guest,
            remedy="Undefine it first, or define it with --replace.",
        )
    if dry_run:
        return True
    wanted = definition_of(request.matrix)
    if there:
        wanted = there._replace(attrs=wanted.attrs)
    if on_this_machine(system):
        _have_defined(system, request.mdev, wanted, there)
    if wanted.more or not on_this_machine(system):
        # mdevctl has dropped what others keep in it.
        system.files.write(AP_MDEVS.definition(request.mdev), wanted.text(), _READABLE)
    if load_definition(system.files, request.mdev) != wanted:
        raise ApvfioError(
            f"/{AP_MDEVS.definition(request.mdev)} does not have the new definition.",
            remedy="See 'mdevctl list -d'.",
        )
    return True


def _have_defined(system: System, mdev: str, wanted: Definition, there: Definition | None) -> None:
    """Have mdevctl define it; if it cannot, all is as it was."""
    file = AP_MDEVS.definition(mdev)
    was = system.files.read(file)

    def call(command: Mdevctl) -> None:
        # libvirt does not see what mdevctl cannot list: report that first.
        command.list(defined=True)
        change = command.redefine if there else command.define
        change(PARENT, mdev, wanted.text())

    try:
        _mdevctl(call)
    except HostError:
        if was is not None and system.files.read(file) != was:
            system.files.write(file, was, _READABLE)
        raise


def undefine(system: System, mdev: str, *, dry_run: bool = False) -> bool:
    """Remove the definition of the device; return False without one. An existing device stays.

    In a dry run the definition stays, too.
    """
    if load_definition(system.files, mdev) is None:
        return False
    if dry_run:
        return True
    if on_this_machine(system):
        _mdevctl(lambda command: command.undefine(PARENT, mdev))
    else:
        system.files.remove(AP_MDEVS.definition(mdev))
    return True


def _mdevctl(call: Callable[[Mdevctl], None]) -> None:
    try:
        call(Mdevctl())
    except MdevctlError as error:
        raise HostError(
            f"{error}.",
            remedy=f"See 'mdevctl list --defined', or correct a file in /{FOLDER} that is not a definition.",
        ) from None
