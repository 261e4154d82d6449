# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest``: set, show, clear and list the annotations of libvirt's guests."""

from __future__ import annotations

import argparse
import sys

from apvfio.cli.place import add_connect, add_json, print_json
from apvfio.errors import ApvfioError, Exit, RequestError, UsageError, printable
from apvfio.guests import Guests
from apvfio.mask import NO_IDS, format_list, parse_list
from apvfio.matrix import Matrix
from apvfio.request import parse_domain
from apvfio.wish import parse_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.guests import Guest
    from apvfio.request import Request
    from apvfio.wish import Wish

_LONGEST = 200
"""A wish with a master key is long."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its four verbs."""
    guest = commands.add_parser("guest", help="set, show, clear and list what guests ask for")
    verbs = guest.add_subparsers(dest="verb", metavar="VERB", required=True)
    setter = _verb(verbs, "set", "write a guest's annotation", _set, named=True)
    setter.add_argument("--adapters", metavar="LIST", help="adapters, as 0,0xa")
    setter.add_argument("--domains", metavar="LIST", help="usage domains, as 1-2,4")
    setter.add_argument(
        "--any",
        metavar="WISH",
        help="instead of both: any queues like mode=ep11,adapters=2,domains=1,min-generation=7,mkvp=0x...",
    )
    setter.add_argument("--control-domains", metavar="LIST", help="control domains")
    _add_scope(setter)
    _add_scope(_verb(verbs, "clear", "remove a guest's annotation", _clear, named=True))
    shower = _verb(verbs, "show", "show what a guest asks for", _show, named=True)
    shower.add_argument("--live", action="store_true", help="what it runs with, not its next start")
    add_json(shower)
    add_json(_verb(verbs, "list", "list all guests with an annotation", _list, named=False))


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
    *,
    named: bool,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text)
    if named:
        parser.add_argument("guest", metavar="GUEST")
    add_connect(parser)
    parser.set_defaults(run=run)
    return parser


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", action="store_true", help="for the next start (the default)")
    parser.add_argument("--live", action="store_true", help="in the running guest's XML; its queues stay")


def _set(args: argparse.Namespace) -> int:
    asked = _asked(args)
    with Guests(args.connect) as guests:
        guest = guests.find(args.guest)
        guest.annotate(asked, config=args.config or not args.live, live=args.live)
        _warn_without_device(guest)
    return Exit.OK


def _asked(args: argparse.Namespace) -> Matrix | Wish:
    if args.any is None and args.adapters is not None and args.domains is not None:
        return Matrix(
            parse_list(args.adapters, "--adapters"),
            parse_list(args.domains, "--domains"),
            parse_list(args.control_domains, "--control-domains") if args.control_domains else NO_IDS,
        )
    if args.any is None or args.adapters is not None or args.domains is not None:
        raise UsageError(
            "guest set takes either --adapters and --domains, or --any.",
            remedy="See 'apvfio guest set --help'.",
        )
    return parse_option(args.any, args.control_domains)


def _warn_without_device(guest: Guest) -> None:
    try:
        parse_domain(guest.xml())
    except RequestError as error:
        print(f"apvfio: warning: {error}", file=sys.stderr)


def _clear(args: argparse.Namespace) -> int:
    with Guests(args.connect) as guests:
        guests.find(args.guest).annotate(None, config=args.config or not args.live, live=args.live)
    return Exit.OK


def _show(args: argparse.Namespace) -> int:
    with Guests(args.connect) as guests:
        request = parse_domain(guests.find(args.guest).xml(live=args.live))
    if request is None:
        raise RequestError(
            f"guest {printable(args.guest)} has no annotation.", remedy="Add one with 'apvfio guest set'."
        )
    facts = _facts(request)
    if args.json:
        print_json(facts)
    else:
        shown = {key: value for key, value in facts.items() if value is not None}
        lines = (
            f"{key.replace('_', ' '):<16}{printable(str(value), _LONGEST)}" for key, value in shown.items()
        )
        print("\n".join(lines))
    return Exit.OK


def _list(args: argparse.Namespace) -> int:
    rows = []
    with Guests(args.connect) as guests:
        for guest in guests.all():
            row = _row(guest)
            if row:
                rows.append(row)
    if args.json:
        print_json(rows)
        return Exit.OK
    for row in rows:
        wish = row["error"] or row["any"] or f"adapters {row['adapters']}, domains {row['domains']}"
        print(f"{printable(str(row['guest'])):<20} {row['state']:<8} {printable(str(wish), _LONGEST)}")
    return Exit.OK


def _row(guest: Guest) -> dict[str, object] | None:
    state = "running" if guest.active else "shut off"
    try:
        request = parse_domain(guest.xml())
    except ApvfioError as error:
        return {"guest": guest.name, "state": state, "error": error.sentence}
    return {"state": state, "error": None, **_facts(request)} if request else None


def _facts(request: Request) -> dict[str, object]:
    who = {"guest": request.guest, "uuid": request.guest_uuid, "mdev": request.mdev}
    if request.wish:
        # Which queues it gets is decided at each start.
        control = format_list(request.wish.control_domains)
        nothing = {"adapters": None, "domains": None, "control_domains": control}
        return {**who, **nothing, "any": str(request.wish)}
    return {
        **who,
        "adapters": format_list(request.matrix.adapters),
        "domains": format_list(request.matrix.domains),
        "control_domains": format_list(request.matrix.control_domains),
        "any": None,
    }
