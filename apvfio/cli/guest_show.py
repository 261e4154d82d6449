# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest show``: what one guest asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import print_json
from apvfio.cli.terminal import print_lines
from apvfio.domain.request import parse_domain
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import Exit, RequestError, printable
from apvfio.model.ids import format_list
from apvfio.model.matrix import Matrix

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
        guest = guests.find(args.guest)
        request = parse_domain(guest.xml(live=True) if args.live else guest.next_xml())
    if request is None:
        raise RequestError(
            f"guest {printable(args.guest)} has no annotation.", remedy="Add one with 'apvfio guest set'."
        )
    asked = facts(request)
    if args.json:
        print_json(asked)
    else:
        asked["criteria"] = request.criteria
        shown = {key: value for key, value in asked.items() if value is not None}
        print_lines(
            f"{key.replace('_', ' '):<16}{printable(str(value), _LONGEST)}" for key, value in shown.items()
        )
    return Exit.OK


def facts(request: Request | None, guest: str = "") -> dict[str, object]:
    """Return a guest's request as ``guest show --json`` and ``guest list --json`` print it.

    None stands for no request, or one that makes no sense, of ``guest``. Which queues fit criteria is decided
    at each start.
    """
    criteria = request.criteria if request else None
    lists: dict[str, str | None] = dict.fromkeys(Matrix._fields)
    if request and criteria:
        lists["control_domains"] = format_list(criteria.control_domains)
    elif request:
        lists |= request.matrix.lists()
    return {
        "guest": request.guest if request else guest,
        "uuid": request.guest_uuid if request else None,
        "mdev": request.mdev if request else None,
        **lists,
        "criteria": criteria.as_option() if criteria else None,
    }
