# SPDX-License-Identifier: Apache-2.0
"""``apvfio status``: the owner of each queue, pending returns, drift; one guest; users of an adapter."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_area, add_connect, add_json, area_of, opened, print_result
from apvfio.cli.output_file import write_text
from apvfio.cli.terminal import add_color, look
from apvfio.libvirt.status import read_status
from apvfio.model.errors import Exit, UsageError, printable
from apvfio.view.status_report import status as status_lines
from apvfio.view.status_report import status_json, status_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import System
    from apvfio.model.matrix import Area
    from apvfio.view.matrix_text import Look

_SECONDS = 1.0
_LONGEST_NAME = 64
_SHORTEST, _LONGEST = 0.1, 3600


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("status", help="show the owner of each queue, and the pending returns")
    parser.add_argument(
        "guest", nargs="?", metavar="GUEST", help="show this guest alone: its name, UUID or id"
    )
    add_color(parser, "the matrix and problems")
    add_json(parser)
    parser.add_argument(
        "--svg", metavar="FILE", help="draw the matrix into FILE as an SVG picture; - is standard output"
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=_SECONDS,
        help="show the status again whenever it changes, and check every SECONDS (default: 1)",
    )
    add_area(parser.add_mutually_exclusive_group(), "show all users of")
    add_connect(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    area = area_of(args)
    given = {
        "GUEST": args.guest is not None,
        "--json": args.json,
        "--svg": args.svg is not None,
        "--watch": args.watch,
        "--adapter": args.adapter is not None,
        "--domain": args.domain is not None,
    }
    one = area or args.guest is not None
    forms = [name for name, there in given.items() if there and not (one and name == "--json")]
    if len(forms) > 1 and forms != ["--json", "--watch"]:
        raise UsageError(f"{forms[0]} and {forms[1]} exclude each other.", remedy="Choose one of them.")
    if area:
        return _show_users(args, area)
    if args.guest is not None:
        return _show_guest(args)
    if args.watch:
        from apvfio.cli.watch import watch  # noqa: PLC0415  nothing else needs it

        return watch(args)
    with opened(args) as system:
        found = read_status(system)
    if args.svg is not None:
        from apvfio.view.matrix_svg import svg  # noqa: PLC0415  most calls draw nothing

        write_text(args.svg, svg(status_report(found), _place(args), _now()))
    else:
        print_result(args, status_json(found), status_lines(status_report(found), look(args.color)))
    return Exit.OK


def _place(args: argparse.Namespace) -> str:
    """Return the name of the host: this machine's, or that of the simulated host's file or directory."""
    simulated = args.sim or (args.root if os.path.realpath(args.root) != "/" else "")
    name = os.path.basename(os.path.abspath(simulated)) if simulated else os.uname().nodename
    return printable(name, _LONGEST_NAME)


def _now() -> str:
    """Return the time in UTC; SOURCE_DATE_EPOCH stands in for it, for pictures that are reproducible."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(given) if given.isascii() and given.isdigit() else time.time()
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _show_users(args: argparse.Namespace, area: Area) -> int:
    from apvfio.libvirt.users import read_users  # noqa: PLC0415  most calls need neither
    from apvfio.view.users_report import users, users_json  # noqa: PLC0415

    with opened(args) as system:
        found = read_users(system, area, args.connect)
    how = look("never")
    print_result(args, users_json(found), users(found, how.width if how.folds else None))
    return Exit.OK


def _show_guest(args: argparse.Namespace) -> int:
    from apvfio.doctor.remedies import Words  # noqa: PLC0415  most calls need none of them
    from apvfio.libvirt.one_guest import read_guest  # noqa: PLC0415
    from apvfio.view.guest_report import one_guest_json, one_guest_lines  # noqa: PLC0415

    with opened(args) as system:
        found = read_guest(system, args.guest, args.connect)
    words = Words(args.sim or "", args.root, args.connect)
    print_result(args, one_guest_json(found), one_guest_lines(found, words, look(args.color)))
    return Exit.OK


def describe(system: System, how: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    return status_lines(status_report(read_status(system)), how)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if _SHORTEST <= seconds <= _LONGEST:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from {_SHORTEST} to {_LONGEST}")
