# SPDX-License-Identifier: Apache-2.0
"""The output of ``apvfio drain``, as text and as the documents of ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apvfio.model.errors import printable
from apvfio.model.text import some_queues
from apvfio.view.clock import local, utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.libvirt.drain import DrainPlan, Move, RestorePlan, Stays
    from apvfio.libvirt.users import ForeignDevice
    from apvfio.model.drain import Drain

_LONGEST = 1000


class Words(Protocol):
    """What writes commands to paste for the host that is looked at."""

    def virsh(self, verb: str, guest: str = "", *words: str) -> str:
        """A command of libvirt's."""

    def apvfio(self, *words: str) -> str:
        """A command of ours."""


def drain_lines(plan: DrainPlan, words: Words, *, dry_run: bool) -> Iterator[str]:
    """Return the lines about what a drain does, or would do with ``dry_run``, and which guests must stop."""
    would = "would " if dry_run else ""
    yield f"{would}drain {plan.area}" if dry_run else f"drained {plan.area}"
    for move in plan.moves:
        yield from _moved(move, "would move" if dry_run else "moved", dry_run=dry_run)
    if plan.overrides:
        yield (
            f"{would}clear driver_override of {some_queues(plan.overrides)}"
            if dry_run
            else (f"cleared driver_override of {some_queues(plan.overrides)}")
        )
    if dry_run:
        yield from left_lines(plan, words, dry_run=True)


def left_lines(plan: DrainPlan, words: Words, *, dry_run: bool = False) -> Iterator[str]:
    """Return the lines about remaining users of the area, with the commands that remove them from it."""
    stays = "would stay" if dry_run else "stays"
    if not (plan.stays or plan.devices):
        other = "other " if plan.moves else ""
        yield f"no {other}guest or mediated device has queues of {plan.area}"
        return
    for one in plan.stays:
        why = printable(one.why, _LONGEST)
        yield f"guest {printable(one.name)} {stays} on {some_queues(one.queues)}: {why}"
        yield from (f"    {printable(command, _LONGEST)}" for command in _stopping(one, words))
    for device in plan.devices:
        queues = some_queues(plan.area.queues_of(device.matrix))
        opened = f", open in process {device.process.pid}" if device.process else ""
        yield f"mediated device {device.mdev} {stays} on {queues}{opened}"
        yield f"    {_removing(device)}"


def restore_lines(plans: Sequence[RestorePlan], words: Words, *, dry_run: bool) -> Iterator[str]:
    """Return the lines about what a restore does, or with ``dry_run`` would do."""
    if not plans:
        yield "nothing is drained"
    for plan in plans:
        yield f"{'would end' if dry_run else 'ended'} the drain of {plan.drain.area}"
        for move in plan.moves:
            yield from _moved(move, "would move back" if dry_run else "moved back", dry_run=dry_run)
        for one in plan.stays:
            keeps = "would keep" if dry_run else "keeps"
            yield f"guest {printable(one.name)} {keeps} its present queues: {printable(one.why, _LONGEST)}"
        if plan.drain.overrides:
            again = "would set again" if dry_run else "set again"
            yield f"{again}, where the queue is there: driver_override of {some_queues(plan.drain.overrides)}"
        for name in plan.start_again:
            yield f"guest {printable(name)} had to stop for the drain and is shut off; to start it:"
            yield f"    {printable(words.virsh('start', name), _LONGEST)}"


def drains_lines(drains: Sequence[Drain]) -> Iterator[tuple[str, str]]:
    """Return a name and a value for each drain, for the status."""
    for drain in drains:
        state = "restore not finished: 'apvfio drain --restore' finishes it" if drain.restoring else ""
        yield "drained", f"{drain.area} since {local(drain.since)}{f'; {state}' if state else ''}"


def drain_json(done: DrainPlan, left: DrainPlan, words: Words, *, dry_run: bool) -> dict[str, object]:
    """Return the document of a drain; in a dry run ``left`` is what is planned, too."""
    return {
        "dry_run": dry_run,
        "area": done.area.as_json(),
        "moves": [_move_json(move) for move in done.moves],
        "overrides": {str(queue): driver for queue, driver in sorted(done.overrides.items())},
        "stays": [_stays_json(one, words) for one in left.stays],
        "devices": [
            {
                "mdev": device.mdev,
                "queues": [str(queue) for queue in left.area.queues_of(device.matrix)],
                "pid": device.process.pid if device.process else None,
                "commands": [_removing(device)],
            }
            for device in left.devices
        ],
    }


def restore_json(plans: Sequence[RestorePlan], words: Words, *, dry_run: bool) -> dict[str, object]:
    """Return the document of a restore."""
    return {
        "dry_run": dry_run,
        "drains": [
            {
                **drain_state_json(plan.drain),
                "moves": [_move_json(move) for move in plan.moves],
                "stays": [_stays_json(one, words) for one in plan.stays],
                "start_again": [
                    {"guest": name, "commands": [words.virsh("start", name)]} for name in plan.start_again
                ],
            }
            for plan in plans
        ],
    }


def drain_state_json(drain: Drain) -> dict[str, object]:
    """Return a drain as ``--json`` prints it."""
    return {
        "area": drain.area.as_json(),
        "since": utc(drain.since),
        "overrides": {str(queue): driver for queue, driver in sorted(drain.overrides.items())},
        "restoring": drain.restoring,
    }


def _moved(move: Move, how: str, *, dry_run: bool) -> Iterator[str]:
    change, name = move.change, printable(move.guest.name)
    gives, gets = ("would give up", "get") if dry_run else ("gave up", "got")
    yield f"{how} guest {name}: it {gives} {some_queues(change.given_up)}"
    yield f"    and {gets} {some_queues(change.gained)}"
    for warning in change.plan.warnings:
        yield f"    warning: {printable(warning, _LONGEST)}"


def _move_json(move: Move) -> dict[str, object]:
    change = move.change
    return {
        "guest": move.guest.name,
        "uuid": move.guest.uuid,
        "gained": [str(queue) for queue in change.gained],
        "given_up": [str(queue) for queue in change.given_up],
        "collateral": [str(queue) for queue in change.plan.chosen.collateral],
        "warnings": list(change.plan.warnings),
    }


def _stays_json(one: Stays, words: Words) -> dict[str, object]:
    return {
        "guest": one.name,
        "uuid": one.uuid,
        "queues": [str(queue) for queue in one.queues],
        "why": one.why,
        "commands": list(_stopping(one, words)),
    }


def _stopping(one: Stays, words: Words) -> list[str]:
    return [words.virsh("shutdown", one.name)] if one.must_stop else []


def _removing(device: ForeignDevice) -> str:
    return f"mdevctl stop -u {device.mdev}"
