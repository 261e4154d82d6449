# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate``: migrate a running guest to another host, where it gets queues."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_connect, add_json, print_json, whole_number
from apvfio.cli.progress import ProgressLine
from apvfio.cli.terminal import print_lines, warn
from apvfio.cli.verbosity import add_verbosity
from apvfio.migration import by_kernel, source, stages
from apvfio.migration.address import parse_address
from apvfio.migration.budget import Budget
from apvfio.migration.daemon import Daemon
from apvfio.migration.hosts import OtherHost
from apvfio.migration.migrate import Ends, Mover
from apvfio.migration.places import StrandedError
from apvfio.migration.transfer import InterruptionError, Terms, interruptible
from apvfio.migration.transfer_process import TransferProcess
from apvfio.model.errors import ApvfioError, Exit, UsageError, printable
from apvfio.store.locks import Patience, own_lock
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.migration.hosts import Prospect
    from apvfio.migration.source import Traveller

_SHORTEST_WAIT = 5
_LONGEST_WAIT = 24 * 3600
_LOCK = "run/apvfio/migrate-{}.lock"
_TEXT = 300


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "migrate", help="migrate a running guest to another host that has queues for it"
    )
    parser.add_argument("guest", metavar="GUEST", help="name, UUID or id of the running guest")
    parser.add_argument(
        "destination",
        metavar="DESTINATION",
        help="URI of the libvirt daemon on the other host, such as qemu+ssh://root@host/system",
    )
    parser.add_argument(
        "--at", metavar="COMMAND", help="run apvfio on the other host by COMMAND instead of ssh"
    )
    parser.add_argument("--migrate-uri", metavar="URI", help="have libvirt send the guest's memory to URI")
    parser.add_argument(
        "--back-uri",
        metavar="URI",
        help="have libvirt send the guest's memory to URI if the guest has to be migrated back",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="encrypt the guest's memory during the transfer, with libvirt's TLS",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=whole_number(_SHORTEST_WAIT, _LONGEST_WAIT),
        help="end within SECONDS, even if the migration has to be undone",
    )
    parser.add_argument(
        "--keep-definition",
        action="store_true",
        help="leave the guest defined here as well; never start it on both hosts",
    )
    parser.add_argument(
        "--other-keys", action="store_true", help="migrate even if the other host has different master keys"
    )
    parser.add_argument(
        "--by-kernel",
        choices=by_kernel.WAYS,
        default=by_kernel.NEVER,
        help="experimental: have the kernel migrate the guest's device, so that it keeps its queues "
        "meanwhile; auto: if possible; only: refuse otherwise (default: never)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--back", action="store_true", help="bring back a guest whose migration was interrupted")
    how.add_argument("-n", "--dry-run", action="store_true", help="show what would be done; change nothing")
    add_connect(parser)
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Migrate, continue an interrupted migration, or undo one."""
    if args.sim:
        raise UsageError("a simulated host in a file runs no guests.", remedy="Leave out --sim.")
    address = parse_address(args.destination, args.at)
    budget = Budget(args.timeout)
    with (
        TransferProcess() as ahead,
        TransferProcess() as back,
        Daemon(args.connect, budget) as here,
        Daemon(address.uri, budget) as there,
        ProgressLine(verbose=args.verbose) as progress,
        interruptible(),
    ):
        name, uuid = source.identify(here, there, args.guest)
        terms = Terms(args.migrate_uri, args.back_uri, args.keep_definition, args.tls)
        ends = Ends(RealSystem(args.root), here, there, OtherHost(address.command, budget), ahead, back)
        mover = Mover(ends, uuid=uuid, terms=terms, budget=budget, progress=progress)
        try:
            with own_lock(os.path.join(args.root, _LOCK.format(uuid)), Patience(0)):
                return _run(args, ends, mover, uuid)
        except StrandedError as error:
            raise error.for_guest(name) from None
        except ApvfioError as error:
            raise mover.stranded(error).for_guest(name) from None


def _run(args: argparse.Namespace, ends: Ends, mover: Mover, uuid: str) -> int:
    traveller = source.find(ends, uuid, back=args.back)
    mover.letter = traveller.letter
    seen = mover.see()
    if seen.here.runs and seen.there.runs:
        source.require_two_hosts(ends)
    steps = stages.stages_back(seen) if args.back else stages.stages_ahead(seen)
    prospect: Prospect | None = None
    warnings: list[str] = []
    why_unplugged: str | None = None
    if stages.MOVE in steps:
        prospect, warnings, why_unplugged = _preview_move(
            args, ends, traveller, attached=bool(seen.here.device)
        )
    if prospect and why_unplugged is None:
        mover.letter, mover.by_kernel = by_kernel.letter(traveller), traveller.queues
        steps = stages.stages_ahead(seen, by_kernel=True)
    if not args.json:
        if why_unplugged and args.by_kernel != by_kernel.NEVER:
            _warn(traveller, [f"queues are unplugged for the move: {why_unplugged}"])
        _warn(traveller, warnings)
    if not args.dry_run:
        (mover.go_back if args.back else mover.go)()
        if not args.json:
            _warn(traveller, mover.warnings)
    if args.json:
        print_json(
            {
                "guest": traveller.name,
                "uuid": traveller.uuid,
                "destination": args.destination,
                "stages": [{"stage": step, "message": stages.WORDS[step]} for step in steps],
                "done": mover.done,
                "by_kernel": mover.by_kernel is not None,
                "why_unplugged": why_unplugged,
                "plan": prospect.plan if prospect else None,
                "warnings": [*warnings, *mover.warnings],
            }
        )
    elif args.dry_run:
        print_lines(_preview(traveller, prospect, steps))
    else:
        where = "here" if args.back else f"at {printable(args.destination, _TEXT)}"
        print_lines([f"guest {printable(traveller.name)} runs {where} and has its queues"])
    return Exit.OK


def _preview_move(
    args: argparse.Namespace, ends: Ends, traveller: Traveller, *, attached: bool
) -> tuple[Prospect, list[str], str | None]:
    """Return what the destination would do, the warnings, and why queues are unplugged, if so."""
    why = by_kernel.UNASKED
    if args.by_kernel != by_kernel.NEVER:
        try:
            return (*by_kernel.preview(ends, traveller, attached=attached), None)
        except ApvfioError as error:
            if args.by_kernel == by_kernel.ONLY or isinstance(error, InterruptionError):
                raise
            why = error.clause
    return (*source.preview(ends.system, traveller, ends.other, other_keys=args.other_keys), why)


def _warn(traveller: Traveller, warnings: list[str]) -> None:
    for warning in warnings:
        warn(f"guest {printable(traveller.name)}: {warning}")


def _preview(traveller: Traveller, prospect: Prospect | None, steps: list[str]) -> Iterator[str]:
    yield f"guest                      {printable(traveller.name)}"
    if not traveller.queues.empty:
        yield f"queues here                {traveller.queues}"
    if prospect:
        plan = prospect.plan
        yield f"queues there               {', '.join(map(str, prospect.equipment)) or 'none'}"
        yield f"freed by                   {printable(str(plan.get('freed_by')))}"
        collateral = plan.get("collateral")
        names = ", ".join(map(str, collateral)) if isinstance(collateral, list) else ""
        yield f"collateral queues          {names or 'none'}"
        chzdev = plan.get("chzdev")
        for command in chzdev if isinstance(chzdev, list) else []:
            yield f"equivalent chzdev command  {printable(str(command), _TEXT)}"
    yield "steps:"
    for step in steps:
        yield f"  {stages.WORDS[step]}"
    if not steps:
        yield "  none: it is there and has its queues"
