# SPDX-License-Identifier: Apache-2.0
"""``apvfio status``: who has which queue, what is owed to the host, and what is not as it should be."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from apvfio.cli.output import write_text
from apvfio.cli.place import add_json, opened, print_json
from apvfio.cli.terminal import add_color, look, print_lines
from apvfio.errors import ApvfioError, Exit, UsageError
from apvfio.host import read_host
from apvfio.ledgers import lease_json, load, owed_json
from apvfio.mask import format_list
from apvfio.owners import owners
from apvfio.plan.mode import mode_of
from apvfio.policy import Policy, read_policy
from apvfio.promises import promise_json
from apvfio.render.picture import picture
from apvfio.render.report import Report, report
from apvfio.render.status_text import status as status_lines
from apvfio.settle import differences
from apvfio.states import Seen, read_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.host import Host
    from apvfio.ledger import Ledger
    from apvfio.matrix import Apqn
    from apvfio.owners import Owner
    from apvfio.render.matrix_text import Look
    from apvfio.render.picture import Picture
    from apvfio.system import System

_SECONDS = 1.0
_SHORTEST, _LONGEST = 0.1, 3600


class Status(NamedTuple):
    """What the command finds."""

    host: Host
    ledger: Ledger
    policy: Policy
    owners: dict[Apqn, Owner]
    drift: list[str]
    seen: Seen
    policy_error: ApvfioError | None
    """Why the policy cannot be used, None if it can; ``policy`` is an empty one then."""

    @property
    def mode(self) -> str:
        """The kernel's mechanism in use."""
        return mode_of(self.host, self.ledger, self.policy)

    def report(self) -> Report:
        """The same for a person."""
        error = str(self.policy_error or "")
        return report(self.host, self.ledger, self.mode, self.drawn(), self.drift, policy_error=error)

    def drawn(self) -> Picture:
        """The matrix as every form of it shows it."""
        return picture(self.owners, self.policy.reserves, self.seen)


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
        write_text(drawn, _drawing(found.report(), page=args.svg is None))
    elif args.json:
        print_json(as_json(found))
    else:
        print_lines(status_lines(found.report(), look(args.color)))
    return Exit.OK


def describe(system: System, how: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    return status_lines(read_status(system).report(), how)


def read_status(system: System) -> Status:
    """What there is to show, read without the lock: looking must not wait for a start, nor make it wait.

    A policy that cannot be used hides nothing: the status says what is wrong with it.
    """
    host, ledger = read_host(system.sysfs), load(system.files, system.boot_id)
    policy, wrong = Policy(), None
    try:
        policy = read_policy(system.files)
    except ApvfioError as error:
        wrong = error
    drift = differences(system, host, ledger)
    return Status(host, ledger, policy, owners(host, ledger), drift, read_states(system.sysfs, host), wrong)


def as_json(found: Status) -> dict[str, object]:
    """The document that ``--json`` prints."""
    host = found.host
    return {
        "mode": found.mode,
        "kernel": {"vfio_ap": host.vfio_ap, **host.abilities._asdict()},
        "apmask": format_list(host.apmask),
        "aqmask": format_list(host.aqmask),
        "queues": [
            {
                "apqn": str(queue),
                "driver": host.drivers[queue] or None,
                "owner": str(owner),
                "state": found.seen.states.get(queue),
            }
            for queue, owner in found.owners.items()
        ],
        "leases": [lease_json(lease) for lease in found.ledger.leases.values()],
        "promises": [promise_json(promise) for promise in found.ledger.promises.values()],
        "owed": owed_json(found.ledger),
        "drift": found.drift,
        "policy_error": found.policy_error and str(found.policy_error),
        "picture": found.drawn().as_json(),
    }


def _drawing(told: Report, *, page: bool) -> str:
    if page:
        from apvfio.render.matrix_html import page as draw  # noqa: PLC0415  most calls draw nothing
    else:
        from apvfio.render.matrix_svg import svg as draw  # noqa: PLC0415
    return draw(told)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if _SHORTEST <= seconds <= _LONGEST:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number from {_SHORTEST} to {_LONGEST}")
