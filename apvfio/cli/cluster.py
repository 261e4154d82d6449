# SPDX-License-Identifier: Apache-2.0
"""``apvfio cluster``: what this host offers to a Pacemaker cluster, and how guests are configured there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cluster.guest_files import DIRECTORY, read_guest_file, read_guest_files
from apvfio.cluster.offer import read_offer
from apvfio.cluster.resource import Resource
from apvfio.model.errors import Exit, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.cluster.offer import Offer


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    cluster = commands.add_parser("cluster", help="guests with AP queues in a Pacemaker cluster")
    verbs = cluster.add_subparsers(dest="verb", metavar="VERB", required=True)
    offer = verbs.add_parser("offer", help="show what this host offers to its cluster")
    _add_guests(offer)
    add_json(offer)
    offer.set_defaults(run=_offer)
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


def _guest(args: argparse.Namespace) -> int:
    with opened(args) as system:
        found = Resource.of(read_guest_file(system.files, args.file))
    form = found.crm if args.crm else found.xml if args.xml else found.pcs
    print_result(args, found.as_json(), form())
    return Exit.OK


def _offer_lines(found: Offer) -> Iterator[str]:
    yield "Queues by class of request"
    width = max(map(len, found.utilization))
    yield from (f"  {name:<{width}}  {count:>4}" for name, count in found.utilization.items())
    yield ""
    yield "Guests that this host can start" if found.guests else "No guests"
    width = max((len(one.guest.name) for one in found.guests), default=0)
    for one in found.guests:
        why = f"no: {printable(one.error.sentence, 400)}" if one.error else "yes"
        yield f"  {printable(one.guest.name):<{width}}  {why}"
