# SPDX-License-Identifier: Apache-2.0
"""``apvfio cluster``: what this host offers to a Pacemaker cluster, and how guests are configured there."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.verbosity import add_quiet
from apvfio.cluster import cib
from apvfio.cluster.guest_files import DIRECTORY, read_guest_file, read_guest_files
from apvfio.cluster.offer import read_offer
from apvfio.cluster.outlook import outlook
from apvfio.cluster.priorities import priorities
from apvfio.cluster.publish import publish
from apvfio.cluster.resource import Resource
from apvfio.model.errors import Exit, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.cluster.offer import Offer
    from apvfio.cluster.outlook import Outlook

_SET_PRIORITY = ("crm_resource", "--meta", "--set-parameter", "priority")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    cluster = commands.add_parser("cluster", help="guests with AP queues in a Pacemaker cluster")
    verbs = cluster.add_subparsers(dest="verb", metavar="VERB", required=True)
    offer = verbs.add_parser("offer", help="show what this host offers to its cluster")
    _add_guests(offer)
    add_json(offer)
    offer.set_defaults(run=_offer)
    publish = verbs.add_parser("publish", help="publish in the cluster what this host offers")
    _add_guests(publish)
    publish.add_argument("--node", metavar="NAME", help="the name of this host in the cluster")
    publish.add_argument("-n", "--dry-run", action="store_true", help="show what would be published")
    add_quiet(publish)
    add_json(publish)
    publish.set_defaults(run=_publish)
    outlook = verbs.add_parser("outlook", help="show for each node which guests would stop if it failed")
    add_json(outlook)
    outlook.set_defaults(run=_outlook)
    order = verbs.add_parser(
        "priorities", help="print commands that give guests with less choice of hosts a higher priority"
    )
    add_json(order)
    order.set_defaults(run=_priorities)
    guest = verbs.add_parser("guest", help="print the configuration of a guest for its cluster")
    guest.add_argument("file", metavar="FILE", help="the guest's domain XML")
    form = guest.add_mutually_exclusive_group()
    form.add_argument("--pcs", action="store_true", help="as commands for pcs (the default)")
    form.add_argument("--crm", action="store_true", help="as commands for crm")
    form.add_argument("--xml", action="store_true", help="as elements of the cluster's CIB")
    add_json(guest)
    guest.set_defaults(run=_guest)


def _add_guests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guests", metavar="DIR", help=f"the directory with the XML of the cluster's guests (/{DIRECTORY})"
    )


def _offer(args: argparse.Namespace) -> int:
    with opened(args) as system:
        found = read_offer(system, read_guest_files(system.files, args.guests))
    print_result(args, found.as_json(), _offer_lines(found))
    return Exit.OK


def _publish(args: argparse.Namespace) -> int:
    node = args.node or cib.local_node()
    with opened(args) as system:
        found = publish(
            system, lambda: read_guest_files(system.files, args.guests), node, dry_run=args.dry_run
        )
    verb = "would publish" if args.dry_run else "published"
    lines = (f"{verb} {printable(str(change), 400)}" for change in found)
    print_result(args, {"node": node, "changes": [change._asdict() for change in found]}, lines)
    return Exit.OK


def _outlook(args: argparse.Namespace) -> int:
    found = outlook(cib.read_cib())
    print_result(args, found.as_json(), _outlook_lines(found))
    return Exit.OK


def _priorities(args: argparse.Namespace) -> int:
    found = priorities(cib.read_cib())
    lines = (
        shlex.join([*_SET_PRIORITY, "--resource", guest, "--parameter-value", str(priority)])
        for guest, priority in sorted(found.items())
    )
    print_result(args, found, lines)
    return Exit.OK


def _outlook_lines(found: Outlook) -> Iterator[str]:
    yield "Guests now"
    yield from _table({guest: node or "stopped" for guest, node in sorted(found.now.nodes.items())})
    for one in found.failures:
        yield ""
        yield f"If node {printable(one.node)} fails"
        ends = {**{guest: f"runs on {node}" for guest, node in one.moved.items()}}
        ends |= dict.fromkeys(one.lost, "stops: no other node has its queues")
        yield from _table(dict(sorted(ends.items()))) if ends else ["  no guest stops or moves"]


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    return (f"  {printable(key):<{width}}  {printable(value, 400)}" for key, value in rows.items())


def _guest(args: argparse.Namespace) -> int:
    with opened(args) as system:
        found = Resource.of(read_guest_file(system.files, args.file))
    form = found.crm if args.crm else found.xml if args.xml else found.pcs
    print_result(args, found.as_json(), form())
    return Exit.OK


def _offer_lines(found: Offer) -> Iterator[str]:
    yield "Queues by class of request"
    yield from _table({name: str(count) for name, count in found.utilization.items()})
    yield ""
    yield "Guests that this host can start" if found.guests else "No guests"
    yield from _table(
        {one.guest.name: f"no: {one.error.sentence}" if one.error else "yes" for one in found.guests}
    )
