# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest set|clear --xml FILE``: annotation and device in a file, for guests that start from one."""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.guest_request import require_annotation
from apvfio.cli.host_options import opened, print_json, print_result
from apvfio.cli.if_state import on_premise, state_of
from apvfio.cli.plan import describe
from apvfio.cli.terminal import print_lines
from apvfio.domain.request import guest_uuid, parse_device, parse_domain
from apvfio.domain.xml_editor import (
    device_uuids,
    difference,
    own_mdevs,
    with_request_in_file,
    without_request_in_file,
)
from apvfio.domain.xml_reader import read_domain
from apvfio.engine.preview import preview_start
from apvfio.libvirt.device_conflicts import DeviceChoice
from apvfio.libvirt.guests import annotation
from apvfio.model.errors import ApvfioError, ConflictError, Exit
from apvfio.store.safe_open import file_error, read_part, replace_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.cli.guest_request import Asked
    from apvfio.kernel.seam import System
    from apvfio.plan.start_plan import Plan

    Requested = Callable[[bytes], Asked | None]
    """The request that the options make of that in a domain's XML."""

_SUFFIX = ".xml"
_LIMIT = 16 << 20


class _Edit(NamedTuple):
    """The change of one file."""

    path: str
    """Of the file itself, whatever links lead to it."""
    before: bytes
    after: bytes
    guest: str
    device: DeviceChoice

    def lines(self) -> list[str]:
        """Return what changes, in lines."""
        return list(difference(self.before, self.after))

    def write(self) -> None:
        """Put the new text in the place of the old, with its mode and owner; nothing if no line changes."""
        if not self.lines():
            return
        if _read(self.path) != self.before:
            raise ConflictError(
                f"{self.path} was changed by another program.",
                guest=self.guest,
                remedy="Check it and try again.",
            )
        try:
            found = os.stat(self.path)
            replace_whole(self.path, self.after, stat.S_IMODE(found.st_mode))
            os.chown(self.path, found.st_uid, found.st_gid)
        except OSError as error:
            raise file_error(self.path, "written", error) from None


def set_in_file(args: argparse.Namespace, asked: Requested, unchecked: str) -> int:
    """Show and write the change of the request in the file ``--xml``; ``unchecked`` ends some remedies."""
    edit = _edit(args, os.path.realpath(args.xml), asked)
    with opened(args) as system:
        look = partial(_state, edit, unchecked=args.unchecked)
        checked = on_premise(system, args.if_state, look)
        state = look(system) if args.json else ""
        plan = None if args.unchecked else _plan(checked, edit.after, unchecked)
        if not args.json:
            print_lines(_lines(edit, plan, dry_run=args.dry_run))
        if not args.dry_run:
            with checked.lock() if args.if_state else nullcontext():
                edit.write()
    if args.json:
        facts = {"guest": edit.guest, "plan": plan and plan.as_json(), "definition": edit.lines()}
        print_json({**facts, "device": edit.device.as_json(), "state": state})
    return Exit.OK


def clear_in_file(args: argparse.Namespace) -> int:
    """Show what is removed from the file ``--xml``, and remove it."""
    path = os.path.realpath(args.xml)
    before = _read(path)
    domain, devices = read_domain(before), set[str]()
    if args.remove_hostdev:
        devices = device_uuids(before)
    elif not args.keep_hostdev:  # what was there before has a uuid of somebody's choice
        devices = set().union(*(own_mdevs(guest_uuid(xml)) for xml in (before, *_guests_beside(path))))
    after = without_request_in_file(before, devices)
    edit = _Edit(path, before, after, domain.name, DeviceChoice(None, None))
    with opened(args) as system:
        look = partial(_state, edit, unchecked=True)
        checked = on_premise(system, args.if_state, look)
        state = look(system) if args.json else ""
        if not args.dry_run:
            with checked.lock() if args.if_state else nullcontext():
                edit.write()
    facts = {"guest": edit.guest, "mdev": None, "definition": edit.lines(), "state": state}
    print_result(args, facts, edit.lines() or ["nothing to change"])
    return Exit.OK


def _edit(args: argparse.Namespace, path: str, asked: Requested) -> _Edit:
    before = _read(path)
    domain = read_domain(before)
    request = asked(before)
    if request is None:
        require_annotation(before, domain.name)
    bare = parse_device(before)
    device = _device(args, path, guest_uuid(before), bare.mdev if bare else None)
    text = annotation(*request) if request else None
    return _Edit(path, before, with_request_in_file(before, text, device.new), domain.name, device)


def _device(args: argparse.Namespace, path: str, uuid: str, had: str | None) -> DeviceChoice:
    """The device that the guest will have: no other file in the directory may have the same."""
    if args.no_hostdev:
        return DeviceChoice(had, had)
    others = _devices_beside(path)
    if had and not args.new_device and (had in own_mdevs(uuid) or had not in others):
        return DeviceChoice(had, had)
    free = (mdev for mdev in own_mdevs(uuid) if mdev != had and mdev not in others)
    found = next(free, None)
    if found is None:
        raise ConflictError(
            "other files in its directory have all UUIDs that its mediated device could have.",
            remedy="Give the guest another UUID: see uuidgen(1).",
        )
    return DeviceChoice(found, had, others.get(had, "") if had else "")


def _devices_beside(path: str) -> dict[str, str]:
    """The mediated devices in the other files of the directory, and the name of a guest with each."""
    found: dict[str, str] = {}
    for xml in _guests_beside(path):
        found |= dict.fromkeys(device_uuids(xml), read_domain(xml).name)
    return found


def _guests_beside(path: str) -> Iterator[bytes]:
    """The domains in the other files of the directory."""
    directory, own = os.path.split(path)
    for name in sorted(os.listdir(directory)):
        if name.endswith(_SUFFIX) and name != own:
            with suppress(ApvfioError):  # no guest, or none that could start
                xml = _read(os.path.join(directory, name))
                read_domain(xml)
                yield xml


def _read(path: str) -> bytes:
    try:
        return read_part(path, _LIMIT)
    except OSError as error:
        raise file_error(path, "read", error) from None


def _state(edit: _Edit, system: System, *, unchecked: bool) -> str:
    host = "" if unchecked else state_of(system)
    return hashlib.sha256(host.encode() + _read(edit.path)).hexdigest()


def _plan(system: System, xml: bytes, unchecked: str) -> Plan | None:
    if parse_device(xml) is None:
        return None
    request = parse_domain(xml)
    assert request
    try:
        return preview_start(system, request)
    except ApvfioError as error:
        raise error.adding(remedy=unchecked) from None


def _lines(edit: _Edit, plan: Plan | None, *, dry_run: bool) -> Iterator[str]:
    words = edit.device.words(edit.guest, dry_run=dry_run)
    if words:
        yield from (words, "")
    if plan:
        yield from (*describe(plan), "")
    yield from edit.lines() or ["nothing to change"]
