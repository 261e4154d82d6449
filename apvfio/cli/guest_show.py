# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest show``: what one guest asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.place import print_json
from apvfio.cli.terminal import print_lines
from apvfio.domain.request import parse_domain
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import Exit, RequestError, printable
from apvfio.model.ids import format_list

if TYPE_CHECKING:
    from apvfio.model.request import Request

_LONGEST = 200
"""A wish with a master key is long."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the verb."""
    parser.add_argument("--live", action="store_true", help="what it runs with, not its next start")


def run(args: argparse.Namespace) -> int:
    """Show it."""
    with Guests(args.connect) as guests:
        request = parse_domain(guests.find(args.guest).xml(live=args.live))
    if request is None:
        raise RequestError(
            f"guest {printable(args.guest)} has no annotation.", remedy="Add one with 'apvfio guest set'."
        )
    asked = facts(request)
    if args.json:
        print_json(asked)
    else:
        shown = {key: value for key, value in asked.items() if value is not None}
        print_lines(
            f"{key.replace('_', ' '):<16}{printable(str(value), _LONGEST)}" for key, value in shown.items()
        )
    return Exit.OK


def facts(request: Request) -> dict[str, object]:
    """What a guest asks for, as ``guest show --json`` and ``guest list --json`` print it."""
    who = {"guest": request.guest, "uuid": request.guest_uuid, "mdev": request.mdev}
    if request.criteria:
        # Which queues it gets is decided at each start.
        control = format_list(request.criteria.control_domains)
        nothing = {"adapters": None, "domains": None, "control_domains": control}
        return {**who, **nothing, "any": str(request.criteria)}
    return {
        **who,
        "adapters": format_list(request.matrix.adapters),
        "domains": format_list(request.matrix.domains),
        "control_domains": format_list(request.matrix.control_domains),
        "any": None,
    }
