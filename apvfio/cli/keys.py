# SPDX-License-Identifier: Apache-2.0
"""``apvfio keys``: list the master keys of queues, read now or remembered, and forget remembered ones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.verbosity import add_quiet
from apvfio.engine.master_keys import forget_keys, known_keys, remembered_queues, tidy_keys
from apvfio.kernel.cards import read_adapters
from apvfio.kernel.snapshot import read_host
from apvfio.model.criteria import KEYLESS
from apvfio.model.errors import Exit, UsageError, printable
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn
from apvfio.model.owners import owners
from apvfio.model.text import count_queues, some_queues
from apvfio.store import ledger_file
from apvfio.view.columns import Column, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apvfio.kernel.seam import System
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.owners import Owner

_NOW = "now"
_NEVER = "never"
_LONGEST_OWNER = 40


class _Row(NamedTuple):
    """A queue that may have master keys."""

    queue: Apqn
    mode: str
    owner: Owner
    keys: SeenKeys | None

    def as_json(self) -> dict[str, object]:
        return {
            "queue": str(self.queue),
            "mode": self.mode,
            "owner": str(self.owner),
            "master_keys": self.keys.as_json() if self.keys else None,
        }

    def words(self) -> list[str]:
        """Return the columns."""
        read = (_NOW if self.keys.fresh else self.keys.when) if self.keys else _NEVER
        shown = " ".join(map(str, self.keys.keys)) or "none" if self.keys else "unknown"
        return [str(self.queue), self.mode, read, printable(str(self.owner), _LONGEST_OWNER), shown]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    keys = commands.add_parser(
        "keys", help="list the verification patterns of master keys, and forget remembered ones"
    )
    verbs = keys.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser(
        "list", help="list the patterns, read from the host's queues or remembered for the others"
    )
    forget = verbs.add_parser("forget", help="forget remembered patterns, as after a key ceremony")
    forget.add_argument("queues", metavar="QUEUE", nargs="*", help="a queue, as 0a.001b")
    forget.add_argument("--adapters", metavar="LIST", help="all queues of these adapters, as 0,0xa")
    forget.add_argument("--domains", metavar="LIST", help="all queues of these domains, as 1-2,4")
    forget.add_argument("--all", action="store_true", help="all queues")
    forget.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_quiet(forget)
    for parser, run in ((show, _list), (forget, _forget)):
        add_json(parser)
        parser.set_defaults(run=run)


def _list(args: argparse.Namespace) -> int:
    with opened(args) as system:
        rows = _rows(system)
        tidy_keys(system)
    print_result(args, [row.as_json() for row in rows], _table(rows))
    return Exit.OK


def _forget(args: argparse.Namespace) -> int:
    meant = _meant(args)
    with opened(args) as system:
        gone = remembered_queues(system, meant) if args.dry_run else forget_keys(system, meant)
        rows = _rows(system, meant)
    lines = _forgotten(gone, rows, dry_run=args.dry_run)
    document = {
        "dry_run": args.dry_run,
        "forgotten": [str(queue) for queue in sorted(gone)],
        "queues": [row.as_json() for row in rows],
    }
    print_result(args, document, lines)
    return Exit.OK


def _meant(args: argparse.Namespace) -> Callable[[Apqn], bool]:
    """Which queues the options name; UsageError if none, or if a name is no queue's."""
    if not (args.queues or args.adapters or args.domains or args.all):
        raise UsageError(
            "keys forget: no queue is named.",
            remedy="Name queues, such as 0a.001b, or use --adapters, --domains or --all.",
        )
    named = set()
    for name in args.queues:
        queue = Apqn.parse(name)
        if queue is None:
            raise UsageError(
                f"{printable(name)!r} is not a queue.",
                remedy="Write it as 'apvfio keys list' does, such as 0a.001b.",
            )
        named.add(queue)
    adapters = parse_list(args.adapters, "--adapters") if args.adapters else NO_IDS
    domains = parse_list(args.domains, "--domains") if args.domains else NO_IDS
    return lambda queue: args.all or queue in named or queue.adapter in adapters or queue.domain in domains


def _rows(system: System, meant: Callable[[Apqn], bool] = lambda _: True) -> list[_Row]:
    """Return the queues that may have master keys and are ``meant``."""
    host, cards = read_host(system.sysfs), read_adapters(system.sysfs)
    owned = owners(host, ledger_file.load(system.files, system.boot_id))
    modes = {adapter: card.mode for adapter, card in cards.items() if card.mode not in (KEYLESS, "")}
    queues = [queue for queue in sorted(host.drivers) if queue.adapter in modes and meant(queue)]
    keys = known_keys(system, host, queues)
    return [_Row(queue, modes[queue.adapter], owned[queue], keys.get(queue)) for queue in queues]


def _table(rows: Iterable[_Row]) -> Iterator[str]:
    words = [row.words() for row in rows]
    headings = ("QUEUE", "MODE", "READ", "OWNER", "MASTER KEYS")
    widths = [max(len(heading), *(len(row[i]) for row in words), 0) for i, heading in enumerate(headings)]
    return (line.rstrip() for line in table([*map(Column, headings, widths)], words))


def _forgotten(gone: Iterable[Apqn], rows: Iterable[_Row], *, dry_run: bool) -> Iterator[str]:
    queues = list(gone)
    if queues:
        verb = "would forget" if dry_run else "forgot"
        yield f"{verb} the keys of {count_queues(len(queues))}: {some_queues(queues)}"
    else:
        yield f"no key of these queues {'is' if dry_run else 'was'} remembered"
    fresh = [row.queue for row in rows if row.keys and row.keys.fresh]
    later = [row.queue for row in rows if not (row.keys and row.keys.fresh)]
    if fresh:
        yield f"{'can be read again' if dry_run else 'read again'}: {some_queues(fresh)}"
    if later:
        yield f"cannot be read now: {some_queues(later)}"
