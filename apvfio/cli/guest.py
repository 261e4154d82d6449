# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest``: what guests request. The verbs ``set`` and ``clear`` have files of their own."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli import guest_clear, guest_set
from apvfio.cli.host_options import add_connect, add_json, opened, print_result
from apvfio.cli.terminal import add_color, look
from apvfio.cli.verbosity import add_verbosity
from apvfio.domain.request import parse_domain
from apvfio.domain.xml_reader import SECURE_EXECUTION
from apvfio.libvirt.guest_status import guest_statuses
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import Exit, RequestError, printable
from apvfio.view.columns import columns, cut, fold, padded
from apvfio.view.guest_report import why_apart
from apvfio.view.guests_json import guest_json, request_json
from apvfio.view.paint import RED, YELLOW, painted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.libvirt.guest_status import GuestStatus
    from apvfio.plan.guest_pairs import Pair
    from apvfio.view.matrix_text import Look


_LONGEST = 200
"""Criteria with a master key are long."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    guest = commands.add_parser("guest", help="set, show, clear and list the requests of guests")
    verbs = guest.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, run, text in (
        (
            "set",
            guest_set.run,
            "write a guest's request into its definition, or give queues to a running guest",
        ),
        ("clear", guest_clear.run, "remove a guest's request, or take the queues from a running guest"),
        ("show", _show, "show a guest's request"),
        ("list", _list, "list the guests that request queues, and whether they can start"),
    ):
        parser = verbs.add_parser(name, help=text)
        if name == "show":
            parser.add_argument("guest", metavar="GUEST", help="name, UUID or id of the guest")
            parser.add_argument(
                "--live",
                action="store_true",
                help="show the request of the running guest, not that of its next start",
            )
        elif name == "list":
            parser.add_argument(
                "--all", action="store_true", help="list the guests without AP queues as well"
            )
            add_color(parser, "problems")
        elif name == "set":
            guest_set.add_options(parser)
        elif name == "clear":
            guest_clear.add_options(parser)
        add_connect(parser)
        if name in ("set", "clear"):
            add_verbosity(parser)
        add_json(parser)
        parser.set_defaults(run=run)


def _show(args: argparse.Namespace) -> int:
    with Guests(args.connect) as guests:
        guest = guests.find(args.guest)
        request = parse_domain(guest.xml(live=True) if args.live else guest.next_xml())
    if request is None:
        raise RequestError(
            f"guest {printable(args.guest)} has no annotation.", remedy="Add one with 'apvfio guest set'."
        )
    asked = request_json(request)
    kind = SECURE_EXECUTION if request.secure else None
    shown = {**asked, "secure_execution": None, "criteria": request.criteria, "launch_security": kind}
    lines = (
        f"{key.replace('_', ' '):<16}{printable(str(value), _LONGEST) or 'none'}"
        for key, value in shown.items()
        if value is not None
    )
    print_result(args, asked, lines)
    return Exit.OK


def _list(args: argparse.Namespace) -> int:
    with Guests(args.connect) as guests, opened(args) as system:
        found, pairs = guest_statuses(system, guests.all(), every=args.all)
    lines = guests_text(found, pairs, look(args.color))
    print_result(args, [guest_json(one, pairs) for one in found], lines)
    return Exit.OK


_HEADINGS = ("GUEST", "STATE", "REQUEST", "NOW")
_GAP = 2
_NARROWEST = 12
"""The least width of the column with the requests; below it, each guest gets lines of its own."""
_LONGEST_NAME = 30


class _Row(NamedTuple):
    """A guest in the table."""

    name: str
    state: str
    asks: str
    now: str
    color: str
    """The color of the guest's state: that of a problem, of a warning, or ''."""


def guests_text(standings: Sequence[GuestStatus], pairs: Sequence[Pair], look: Look) -> Iterator[str]:
    """Return a table if it fits, else lines for each guest; then the pairs that exclude each other."""
    width = look.width if look.folds else None
    rows = [
        _Row(
            cut(printable(one.name), _LONGEST_NAME),
            one.state,
            printable(one.asks, 200),
            printable(one.now, 300),
            (RED if one.faults else YELLOW if one.error else "") if look.color else "",
        )
        for one in standings
    ]
    yield from _table(rows, width) if rows else ()
    if pairs:
        yield ""
    for pair in pairs:
        names = f"{printable(pair.first)} and {printable(pair.second)}"
        both = f"{names} cannot run together: {why_apart(pair)}"
        yield from fold(both, width)
    troubled = next((one.name for one in standings if one.faults), None)
    if troubled is not None:
        yield ""
        yield from fold(f"when that happened: {_log_of(troubled)}", width)


def _log_of(guest: str) -> str:
    """Return the command that shows the events of ``guest``."""
    return f"'apvfio log {shlex.quote(printable(f'--guest={guest}'))}'"


def _table(rows: list[_Row], width: int | None) -> Iterator[str]:
    names, states, asks = (max(columns(row[i]) for row in (_HEADINGS, *rows)) for i in range(3))
    left = names + states + asks + 3 * _GAP
    widest = max(columns(row[3]) for row in (_HEADINGS, *rows))
    if width is not None and left + min(widest, 2 * _NARROWEST) > width:
        yield from _lines(rows, width)
        return
    for row in (_Row(*_HEADINGS, ""), *rows):
        head = f"{padded(row[0], names + _GAP)}{padded(row[1], states + _GAP)}{padded(row[2], asks + _GAP)}"
        rest = fold(row.now, None if width is None else width - left, 0)
        folded = [painted(line, row.color, on=bool(row.color)) for line in rest]
        yield head + folded[0]
        yield from (" " * left + line for line in folded[1:])


def _lines(rows: list[_Row], width: int) -> Iterator[str]:
    for row in rows:
        yield from fold(f"{row.name}, {row.state}", width)
        yield from fold(f"    {row.asks}", width, 6)
        for line in fold(f"    {row.now}", width, 6):
            yield painted(line, row.color, on=bool(row.color))
