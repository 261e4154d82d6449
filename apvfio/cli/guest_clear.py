# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest clear``: remove a guest's request, and its device or its queues."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from apvfio.cli.guest_file import clear_in_file
from apvfio.cli.guest_scope import (
    DefinitionEdit,
    Scope,
    add_guest_or_file,
    add_scope,
    edited,
    require_guest_or_file,
    warn_of_binding,
    warn_of_saved,
)
from apvfio.cli.host_options import opened, print_result
from apvfio.cli.if_state import on_premise, state_of
from apvfio.domain.xml_editor import device_uuids, own_mdevs, without_request
from apvfio.libvirt import live_guest
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import Exit, printable
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the verb."""
    add_guest_or_file(parser)
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--keep-hostdev",
        action="store_true",
        help="leave the mediated device in place; a running guest keeps its queues",
    )
    device.add_argument(
        "--remove-hostdev",
        action="store_true",
        help="remove the mediated device even if apvfio did not choose its UUID",
    )
    add_scope(parser)


def run(args: argparse.Namespace) -> int:
    """Show what is removed, and remove it."""
    require_guest_or_file(args)
    if args.xml:
        return clear_in_file(args)
    with Guests(args.connect) as guests, opened(args) as place:
        guest = guests.find(args.guest)
        scope = Scope.of(args, guest)
        look = partial(_state, scope, guest)
        state = look(place) if args.json else ""
        system = on_premise(place, args.if_state, look)
        mdevs = _superfluous(args, guest, guests)
        edit = DefinitionEdit.of(guest, partial(without_request, mdevs=mdevs)) if scope.config else None
        edits = list(edit.lines()) if edit else []
        if edit:
            warn_of_saved(guest)
        if scope.live and not args.keep_hostdev:
            for lease in ledger_file.load(system.files, system.boot_id).of_guest(guest.uuid):
                warn_of_binding(lease)
        taken = None
        if scope.live and not args.keep_hostdev:
            taken = _take(args, guest, system, edit)
        elif not args.dry_run:
            with system.lock() if args.if_state else nullcontext():
                if edit:
                    edit.make(guest)
                if scope.live:
                    guest.set_annotation("", live=True)
    done = "would lose" if args.dry_run else "has lost"
    lines = [*edits, *([f"the running guest {done} its device {taken}"] if taken else [])]
    if edit:
        lines += ["", edited(edit, printable(guest.name), dry_run=args.dry_run)]
    print_result(args, {"guest": guest.name, "mdev": taken, "definition": edits, "state": state}, lines)
    return Exit.OK


def _superfluous(args: argparse.Namespace, guest: Guest, guests: Guests) -> set[str]:
    """Return the devices to remove: those that apvfio made for the guest or for its original.

    A device with a uuid that a person chose was there before, or is meant to stay.
    """
    if args.keep_hostdev:
        return set()
    if args.remove_hostdev:
        return device_uuids(guest.xml()) if guest.persistent else set()
    return set().union(*(own_mdevs(other.uuid) for other in (guest, *guests.all())))


def _state(scope: Scope, guest: Guest, system: System) -> str:
    return state_of(system if scope.live else None, guest)


def _take(args: argparse.Namespace, guest: Guest, system: System, edit: DefinitionEdit | None) -> str | None:
    """The device that the running guest loses, None if it has none."""
    if not args.dry_run:
        return live_guest.take(system, guest, partial(edit.make, guest) if edit else None)
    lease = live_guest.lease_of(system, guest)
    return lease.mdev if lease else None
