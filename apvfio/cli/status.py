# SPDX-License-Identifier: Apache-2.0
"""``apvfio status``: who has which queue, what is owed to the host, and what is not as it should be."""

from __future__ import annotations

import argparse

from apvfio.cli.output import write_text
from apvfio.cli.place import add_json, opened, print_json
from apvfio.cli.terminal import add_color, look, print_lines
from apvfio.libvirt.status import read_status
from apvfio.model.claim import claim_json
from apvfio.model.errors import Exit, UsageError
from apvfio.model.ids import format_list
from apvfio.store.ledger_file import lease_json, pending_json
from apvfio.view.picture import picture
from apvfio.view.report import Report, report
from apvfio.view.status_text import status as status_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import System
    from apvfio.libvirt.status import Status
    from apvfio.view.matrix_text import Look
    from apvfio.view.picture import Picture

_SECONDS = 1.0
_SHORTEST, _LONGEST = 0.1, 3600


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("status", help="show who has which queue, and what is owed to the host")
    add_color(parser)
    add_json(parser)
    parser.add_argument("--svg", metavar="FILE", help="draw it into FILE as a picture; - is standard output")
    parser.add_argument("--html", metavar="FILE", help="write it into FILE as a page; - is standard output")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=_SECONDS,
        help="show it again whenever it changes, looking every so many seconds (default: 1)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    drawn = args.html if args.svg is None else args.svg
    given = {"--json": args.json, "--svg": args.svg is not None, "--html": args.html is not None}
    forms = [*(name for name, there in given.items() if there), *(["--watch"] if args.watch else [])]
    if len(forms) > 1 and forms != ["--json", "--watch"]:
        raise UsageError(f"{forms[0]} and {forms[1]} exclude each other.", remedy="Choose one of them.")
    if args.watch:
        from apvfio.cli.watch import watch  # noqa: PLC0415  nothing else needs it

        return watch(args)
    with opened(args) as system:
        found = read_status(system)
    if drawn is not None:
        write_text(drawn, _drawing(told(found), page=args.svg is None))
    elif args.json:
        print_json(as_json(found))
    else:
        print_lines(status_lines(told(found), look(args.color)))
    return Exit.OK


def describe(system: System, how: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    return status_lines(told(read_status(system)), how)


def told(found: Status) -> Report:
    """The status for a person."""
    error = str(found.policy_error or "")
    return report(found.host, found.ledger, found.mechanism, drawn(found), found.drift, policy_error=error)


def drawn(found: Status) -> Picture:
    """The matrix as every form of it shows it."""
    return picture(found.owners, found.policy.reserves, found.seen)


def as_json(found: Status) -> dict[str, object]:
    """The document that ``--json`` prints."""
    host = found.host
    return {
        "mechanism": found.mechanism,
        "kernel": {"vfio_ap": host.vfio_ap, **host.abilities._asdict()},
        "apmask": format_list(host.apmask),
        "aqmask": format_list(host.aqmask),
        "queues": [
            {
                "queue": str(queue),
                "driver": host.drivers[queue] or None,
                "owner": str(owner),
                "state": found.seen.states.get(queue),
            }
            for queue, owner in found.owners.items()
        ],
        "leases": [
            {**lease_json(lease), "running": _running(found, lease.uuid)}
            for lease in found.ledger.leases.values()
        ],
        "claims": [claim_json(claim) for claim in found.ledger.claims.values()],
        "pending": pending_json(found.ledger),
        "pending_returns": [one.as_json() for one in found.pending],
        "drift": found.drift,
        "policy_error": found.policy_error and str(found.policy_error),
        "picture": drawn(found).as_json(),
    }


def _running(found: Status, guest_uuid: str) -> bool | None:
    """Whether the guest has a QEMU process; None where nobody can tell."""
    return None if found.running is None else guest_uuid in found.running


def _drawing(shown: Report, *, page: bool) -> str:
    if page:
        from apvfio.view.matrix_html import page as draw  # noqa: PLC0415  most calls draw nothing
    else:
        from apvfio.view.matrix_svg import svg as draw  # noqa: PLC0415
    return draw(shown)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if _SHORTEST <= seconds <= _LONGEST:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number from {_SHORTEST} to {_LONGEST}")
