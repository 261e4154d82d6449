# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest set``: write a guest's annotation and device, after a check against the host."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.guest_file import set_in_file
from apvfio.cli.guest_request import NEITHER, requested, require_annotation
from apvfio.cli.guest_scope import (
    DefinitionEdit,
    Scope,
    add_guest_or_file,
    add_scope,
    edited,
    require_guest_or_file,
    warn_of_saved,
)
from apvfio.cli.host_options import opened, print_json
from apvfio.cli.if_state import on_premise, state_of
from apvfio.cli.plan import describe
from apvfio.cli.terminal import print_lines, warn
from apvfio.domain.request import asked_in, free_by_in, parse_device, parse_domain, request_of
from apvfio.domain.xml_editor import with_request
from apvfio.engine.preview import preview_start
from apvfio.engine.state import look
from apvfio.libvirt import live_guest
from apvfio.libvirt.device_conflicts import DeviceChoice, new_device, other_devices, sharer
from apvfio.libvirt.guests import Guests, annotation
from apvfio.libvirt.hotplug import attached, require_replaceable
from apvfio.model.criteria import USAGE
from apvfio.model.errors import ApvfioError, Exit, RequestError, UsageError, printable
from apvfio.model.mask_grammar import parse_list
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.live_change import LivePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.cli.guest_request import Asked
    from apvfio.engine.state import State
    from apvfio.kernel.seam import System
    from apvfio.libvirt.device_conflicts import OtherDevices
    from apvfio.libvirt.guests import Guest
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan

_UNCHECKED = "--unchecked writes the request anyway."


class _Task(NamedTuple):
    """What is to be done."""

    guest: Guest
    scope: Scope
    annotation: str | None
    """The new annotation; None if it stays as it is."""
    edit: DefinitionEdit | None
    """Of the definition, if that is to change."""
    running: bytes | None
    """The running guest's XML as it will be, if that is to change."""
    device: DeviceChoice


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the verb."""
    add_guest_or_file(parser)
    parser.add_argument("--adapters", metavar="LIST", help="adapters of the queues, such as 0,0xa")
    parser.add_argument("--domains", metavar="LIST", help="usage domains of the queues, such as 1-2,4")
    parser.add_argument(
        "--any",
        metavar="CRITERIA",
        help="properties of the queues, in place of their ids, such as mode=ep11,adapters=2,domains=1",
    )
    parser.add_argument(
        "--cards",
        metavar="CRITERIA",
        action="append",
        help="properties of one kind of adapters, such as mode=cca,adapters=2; give it once for each kind",
    )
    parser.add_argument(
        "--control-domains",
        metavar="LIST",
        help="control domains of the guest, such as 1-2,4; usage for the domains that it gets",
    )
    parser.add_argument(
        "--free-by",
        choices=("adapters", "domains", NEITHER),
        help="free the queues by adapters or by domains; none leaves the choice to apvfio",
    )
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--no-hostdev", action="store_true", help="leave the guest's mediated device as it is, or missing"
    )
    device.add_argument(
        "--new-device",
        action="store_true",
        help="give the guest a new mediated device, which a clone needs; the queues may be omitted",
    )
    parser.add_argument(
        "--unchecked", action="store_true", help="write the request even if this host cannot satisfy it now"
    )
    add_scope(parser)


def run(args: argparse.Namespace) -> int:
    """Show what the command does, and do it."""
    if args.unchecked and args.live:
        raise UsageError("--unchecked and --live exclude each other.", remedy="Choose one of them.")
    for option in ("adapters", "domains", "control_domains"):  # before libvirt is asked anything
        if getattr(args, option) and (option, getattr(args, option)) != ("control_domains", USAGE):
            parse_list(getattr(args, option), f"--{option.replace('_', '-')}")
    if args.new_device and args.live:
        raise UsageError(
            "a running guest keeps its mediated device.",
            remedy="Omit --live: the guest gets the new device at its next start.",
        )
    require_guest_or_file(args)
    if args.xml:
        return set_in_file(args, partial(requested, args), _UNCHECKED)
    with Guests(args.connect) as guests:
        guest = guests.find(args.guest)
        defined = guest.persistent and (args.config or not args.live)
        found = requested(args, guest.xml(live=guest.active and not defined))
        with opened(args) as system:
            task = _task(args, guest, found, other_devices(guest, guests.all(), _seen(args, system)))
            _checked(args, task, on_premise(system, args.if_state, partial(_state, args, guest)))
    return Exit.OK


def _seen(args: argparse.Namespace, system: System) -> State | None:
    """The host's own devices; None if it is not to be asked."""
    try:
        return None if args.unchecked else look(system)
    except ApvfioError as error:
        raise error.adding(remedy=_UNCHECKED) from None


def _task(args: argparse.Namespace, guest: Guest, found: Asked | None, others: OtherDevices) -> _Task:
    scope = Scope.of(args, guest)
    text = annotation(found.asked, found.free_by) if found else None
    if text is None:
        require_annotation(guest.xml(), guest.name)
    now = attached(guest) if guest.active else None
    defined = parse_device(guest.xml()) if scope.config else None
    had = defined.mdev if defined else None
    device = DeviceChoice(had, had) if args.no_hostdev else _device(args, guest, now, had, others)
    edit = DefinitionEdit.of(guest, partial(with_request, annotation=text, mdev=device.new))
    running = None
    if scope.live:
        require_replaceable(guest)
        running = with_request(guest.xml(live=True), text, None if now else device.uuid)
    return _Task(guest, scope, text, edit if scope.config else None, running, device)


def _device(
    args: argparse.Namespace, guest: Guest, now: str | None, had: str | None, others: OtherDevices
) -> DeviceChoice:
    """The device that the guest's definition will have; ``now`` is the one it runs with."""
    if had is None:
        return DeviceChoice(now or new_device(guest, others), had)
    if args.new_device:
        return DeviceChoice(new_device(guest, others, but=had), had)
    # The running guest has this device open: no other guest can have it.
    other = "" if had == now or (args.live and now) else sharer(had, guest.uuid, others)
    return DeviceChoice(new_device(guest, others), had, other) if other else DeviceChoice(had, had)


def _state(args: argparse.Namespace, guest: Guest, system: System) -> str:
    return state_of(None if args.unchecked else system, guest)


def _checked(args: argparse.Namespace, task: _Task, system: System) -> None:
    """Plan on the host, unless ``--unchecked`` is given, show the plan, and carry it out."""
    state = _state(args, task.guest, system) if args.json else ""
    if task.edit:
        warn_of_saved(task.guest)
    request = None if args.unchecked else _request(system, task)
    plan = _plan(system, task, request) if request else None
    if not args.json:
        print_lines(_lines(task, plan, dry_run=args.dry_run))
    if not args.dry_run:
        _do(args, task, request, system)
    if not args.json:
        print_lines(["", *_outcome(task, dry_run=args.dry_run)])
    if args.json:
        edits = list(task.edit.lines()) if task.edit else []
        facts = {"guest": task.guest.name, "plan": plan and plan.as_json(), "definition": edits}
        print_json({**facts, "device": task.device.as_json(), "state": state})


def _do(args: argparse.Namespace, task: _Task, request: Request | None, system: System) -> None:
    if task.running is None or request is None:
        with system.lock() if args.if_state else nullcontext():
            if task.edit:
                _edit(task)
    else:
        live_guest.give(
            system, task.guest, request, task.annotation or "", partial(_edit, task) if task.edit else None
        )


def _request(system: System, task: _Task) -> Request | None:
    """What the guest will request; None if it will have no device, so that no host could start it."""
    xml = task.running or (task.edit.after if task.edit else b"")
    if task.running is None and parse_device(xml) is None:
        _warn(task.guest, "it requests AP queues but has no mediated device; without it, it does not start")
        return None
    request = parse_domain(xml)
    assert request
    try:
        request_of(system.files, xml)
    except RequestError as error:  # mdevctl's definition of the device says something else
        _warn(task.guest, error.clause, error.remedy)
    return request


def _plan(system: System, task: _Task, request: Request) -> Plan | LivePlan | None:
    if task.running is not None:
        return live_guest.plan(system, task.guest, request)
    try:
        return preview_start(system, request, runs=task.guest.active)
    except ApvfioError as error:
        if (
            task.annotation is None
        ):  # only the device changes: what the guest requests is as possible as before
            _warn(task.guest, f"it cannot start now: {error.clause}", error.remedy)
            return None
        raise error.adding(remedy=_UNCHECKED) from None


def _edit(task: _Task) -> Callable[[], None]:
    """Change the definition; return the function that undoes the change."""
    assert task.edit
    back = task.edit.make(task.guest)
    try:
        _require_kept(task)
    except ApvfioError:
        back()
        raise
    return back


def _require_kept(task: _Task) -> None:
    """ApvfioError unless libvirt has the annotation as it was given: it keeps one element of a namespace."""
    guest, why = task.guest, "it has another"
    try:
        xml = guest.xml()
        kept = asked_in(xml)
        if kept and task.annotation in (None, annotation(kept, free_by_in(xml))):
            return
    except RequestError as error:
        why = error.clause
    raise ApvfioError(
        f"libvirt did not keep the annotation: {why}. The definition is as it was before.",
        guest=guest.name,
        remedy="Remove what else is in its <metadata> with 'virsh edit', then try again.",
    )


def _lines(task: _Task, plan: Plan | LivePlan | None, *, dry_run: bool) -> list[str]:
    edits = list(task.edit.lines()) if task.edit else []
    words = task.device.words(task.guest.name, dry_run=dry_run)
    shown = [words, ""] if words else []
    shown += [] if plan is None else list(_described(plan, dry_run=dry_run))
    if plan is None and task.scope.config and task.guest.active and not task.scope.live:
        shown += ["", "it runs, and keeps what it has until its next start"]
    return [*shown, *([""] if shown and edits else []), *edits]


def _outcome(task: _Task, *, dry_run: bool) -> Iterator[str]:
    """What was done, or would be."""
    name = printable(task.guest.name)
    if task.running is not None:
        yield f"{'would change' if dry_run else 'changed'} the running guest {name}"
    if task.edit:
        yield edited(task.edit, name, dry_run=dry_run)


def _described(plan: Plan | LivePlan, *, dry_run: bool) -> Iterator[str]:
    if not isinstance(plan, LivePlan):
        yield from describe(plan)
        return
    if plan.idle:
        yield "it has these queues already"
        return
    yield from describe(plan.plan)
    gets, gives = ("would get", "would give up") if dry_run else ("gets", "gives up")
    for what, queues in ((gets, plan.gained), (gives, plan.given_up)):
        if queues:
            yield f"the guest {what} {count_queues(len(queues))}: {some_queues(queues)}"


def _warn(guest: Guest, what: str, remedy: str = "") -> None:
    warning = RequestError(f"{what}.", guest=guest.name, remedy=remedy)
    warn(str(warning))
