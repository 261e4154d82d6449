# SPDX-License-Identifier: Apache-2.0
"""``apvfio masks``: show the masks as ``lszdev --type ap``, change them as ``chzdev --type ap``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from apvfio.cli.confirm import add_yes, confirm
from apvfio.cli.host_options import add_if_state, add_json, opened, print_json, print_result
from apvfio.cli.if_state import on_premise, state_of
from apvfio.cli.progress import ProgressLine
from apvfio.cli.terminal import print_lines, warn
from apvfio.cli.verbosity import add_verbosity
from apvfio.engine.edit_masks import change_masks, plan_masks
from apvfio.kernel.snapshot import read_host
from apvfio.model import persistent_masks
from apvfio.model.errors import ApvfioError, Exit, UsageError, printable
from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import format_list
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.persistent_masks import StoredMasks
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.mask_edit import MaskEdit
from apvfio.store import masks_file
from apvfio.view.columns import bare_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.kernel.seam import System
    from apvfio.model.ids import IdSet
    from apvfio.model.mask_grammar import MaskSpec
    from apvfio.model.persistent_masks import StoredMasks
    from apvfio.plan.mask_edit import MaskChange


_SHOWN = 32
_HELP = """\
Without MASK=SPEC, print the masks. Otherwise change them, in the notation of chzdev:
apmask=-0x0,-0xa clears bits, which frees adapters for guests; aqmask=+1-2 sets bits;
apmask=1-9,11-255 replaces the mask. The active and the persistent masks are changed, each
from its present value. With --persistent, --remove apmask no longer stores a mask; after a
reboot all bits of that mask are set.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("masks", help="show or change apmask and aqmask", description=_HELP)
    parser.add_argument(
        "spec",
        nargs="*",
        metavar="MASK=SPEC",
        help="a mask and its new value or change, such as apmask=-0,-0xa",
    )
    parser.add_argument(
        "-a",
        "--active",
        action="store_true",
        help="show or change only the active masks, which are lost at a reboot",
    )
    parser.add_argument(
        "-p",
        "--persistent",
        action="store_true",
        help="show or change only the persistent masks, which are set at the next boot",
    )
    parser.add_argument(
        "-r",
        "--remove",
        action="append",
        default=[],
        metavar="MASK",
        help="no longer store MASK, which is apmask or aqmask (with --persistent)",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_yes(parser)
    add_if_state(parser)
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or change them."""
    both = args.active == args.persistent
    active, persistent = both or args.active, both or args.persistent
    if not args.spec and not args.remove:
        if args.dry_run or args.if_state:
            option = "--dry-run" if args.dry_run else "--if-state"
            raise UsageError(f"{option} requires a change to make.", remedy="See 'apvfio masks --help'.")
        with opened(args) as system:
            return _show(system, args, active=active, persistent=persistent)
    edits = _edits(args.spec)
    removed = _removed(args.remove, edits)
    if removed and active:
        raise UsageError("--remove removes stored masks only.", remedy="Add --persistent.")
    mask_edit = MaskEdit(**edits, active=active, persistent=persistent, removed=removed)
    with opened(args) as system:
        state = state_of(system) if args.json else ""
        change = _change(on_premise(system, args.if_state, state_of), mask_edit, args)
    if args.json:
        print_json({**_change_as_json(mask_edit, change), "state": state})
    return Exit.OK


def _edits(specs: list[str]) -> dict[str, MaskSpec | None]:
    edits: dict[str, MaskSpec | None] = dict.fromkeys(MASK_NAMES)
    for spec in specs:
        name, equals, text = spec.partition("=")
        if name not in edits or not equals:
            raise UsageError(
                f"{printable(spec)!r} is neither apmask=SPEC nor aqmask=SPEC.",
                remedy="See 'apvfio masks --help'.",
            )
        if edits[name]:
            raise UsageError(f"{name} is given twice.", remedy="Put all its changes into one list.")
        edits[name] = parse_mask_spec(text, name)
    return edits


def _removed(names: list[str], edits: dict[str, MaskSpec | None]) -> frozenset[str]:
    for name in names:
        if name not in edits:
            raise UsageError(
                f"{printable(name)!r} is neither apmask nor aqmask.", remedy="See 'apvfio masks --help'."
            )
        if edits[name]:
            raise UsageError(f"{name} is both changed and removed.", remedy="Do one or the other.")
    return frozenset(names)


def _show(system: System, args: argparse.Namespace, *, active: bool, persistent: bool) -> int:
    host = read_host(system.sysfs)
    shown = {
        "active": StoredMasks(host.apmask, host.aqmask) if active else None,
        "persistent": masks_file.load(system.files) if persistent else None,
    }
    document = {name: _as_json(masks) for name, masks in shown.items() if masks is not None}
    print_result(args, document, lszdev_lines(shown["active"], shown["persistent"]))
    return Exit.OK


def _change(system: System, mask_edit: MaskEdit, args: argparse.Namespace) -> MaskChange:
    def announce(change: MaskChange) -> None:
        if not args.json:
            print_lines(_effects(change, dry_run=args.dry_run), sys.stderr)
            for warning in change.warnings:
                warn(warning)
        if change.takes_last and not (args.dry_run or agreed):
            raise ApvfioError("no queue would stay with the host.", remedy="Repeat the command with --yes.")

    agreed = False
    if args.dry_run:
        change = plan_masks(system, mask_edit)
        announce(change)
    else:
        # No question is asked while the lock is held: a guest's start would wait for the answer.
        agreed = args.yes or _agreed(system, mask_edit, args)
        with ProgressLine(verbose=args.verbose) as progress:
            change = change_masks(system, mask_edit, announce, progress)
    if args.json:
        return change
    if args.dry_run and change.changes:
        print_lines(_steps(change))
        return change
    if mask_edit.active != mask_edit.persistent:
        scope = "active" if mask_edit.active else "persistent"
        print(f"Configuring device type in the {scope} configuration only")
    print(f"ap device type {'' if change.changes else 'already '}configured")
    return change


def _agreed(system: System, mask_edit: MaskEdit, args: argparse.Namespace) -> bool:
    """Ask if no queue would stay with the host; whether that was asked, and the answer was yes."""
    try:
        last = plan_masks(system, mask_edit).takes_last
    except ApvfioError:
        return (
            False  # leases that have ended are in the way, which the change removes; or the change fails, too
        )
    if last:
        confirm(args, "No queue would stay with the host. Change the masks?")
    return last


def _effects(change: MaskChange, *, dry_run: bool) -> Iterator[str]:
    """What a change does to the host, for standard error: chzdev's own words go to standard output."""
    loses, gets = ("would lose", "would get") if dry_run else ("loses", "gets")
    for verb, queues in ((loses, change.lost), (gets, change.returned)):
        if queues:
            yield f"apvfio: the host {verb} {count_queues(len(queues))}: {some_queues(queues, _SHOWN)}"
    if change.steps and not (change.lost or change.returned):
        neither = "would neither lose nor get" if dry_run else "neither loses nor gets"
        yield f"apvfio: the host {neither} a queue"


def _steps(change: MaskChange) -> Iterator[str]:
    yield from (f"would write {step.value} to /sys/{step.path}" for step in change.steps)
    for name, ids in zip(MASK_NAMES, change.to_store):
        if ids is not None:
            yield f"would store {name} {format_list(ids) or 'without any bit'} in /{persistent_masks.RULE}"
    yield from (f"would remove {name} from /{persistent_masks.RULE}" for name in change.to_remove)


def _change_as_json(mask_edit: MaskEdit, change: MaskChange) -> dict[str, object]:
    return {
        "changed": change.changes,
        **({"active": _as_json(change.active)} if mask_edit.active else {}),
        **({"persistent": _as_json(change.stored)} if mask_edit.persistent else {}),
        "freed": [str(queue) for queue in change.lost],
        "returned": [str(queue) for queue in change.returned],
        "steps": [step.as_json() for step in change.steps],
        "warnings": list(change.warnings),
    }


def _as_json(masks: Iterable[IdSet | None]) -> dict[str, str | None]:
    named = zip(MASK_NAMES, masks)
    return {name: None if ids is None else format_list(ids) for name, ids in named}


def lszdev_lines(active: StoredMasks | None, persistent: StoredMasks | None) -> Iterator[str]:
    """What ``lszdev --type ap`` prints; None for a configuration that is not requested."""
    yield "DEVICE TYPE ap"
    yield "  Description        : Cryptographic Adjunct Processor (AP) device"
    yield "  Modules            : ap"
    yield f"  Active             : {'no' if active is None else 'yes'}"
    yield f"  Persistent         : {'no' if persistent is None else 'yes'}"
    yield ""
    shown = [(h, s) for h, s in (("ACTIVE", active), ("PERSISTENT", persistent)) if s is not None]
    rows = [
        [name, *(_quoted(masks[i]) for _, masks in shown)]
        for i, name in enumerate(MASK_NAMES)
        if any(masks[i] is not None for _, masks in shown)
    ]
    if not rows:
        yield "  No settings found"
        return
    yield from (f"  {line}" for line in bare_table(["ATTRIBUTE", *(heading for heading, _ in shown)], rows))


def _quoted(ids: IdSet | None) -> str:
    return "-" if ids is None else f'"{format_list(ids)}"'
