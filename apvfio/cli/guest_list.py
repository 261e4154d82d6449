# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest list``: every guest that asks for something, and whether it could start now."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.guest_show import facts
from apvfio.cli.host_options import opened, print_json
from apvfio.cli.terminal import look, print_lines
from apvfio.libvirt.guest_status import guest_statuses
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import Exit
from apvfio.view.guests_text import guests_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.libvirt.guest_status import GuestStatus
    from apvfio.plan.guest_pairs import Pair


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb has none of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """List them."""
    with Guests(args.connect) as guests, opened(args) as system:
        found, pairs = guest_statuses(system, guests.all())
    if args.json:
        print_json([_as_json(one, pairs) for one in found])
        return Exit.OK
    how = look("never")
    print_lines(guests_text(found, pairs, how.width if how.folds else None))
    return Exit.OK


def _as_json(one: GuestStatus, pairs: Sequence[Pair]) -> dict[str, object]:
    rivals = [_other(one.name, pair) for pair in pairs if one.name in (pair.first, pair.second)]
    return {
        **facts(one.request, one.name),
        "state": one.state,
        "can_start": one.can_start,
        "error": one.error and one.error.as_json(),
        "held": [str(queue) for queue in one.lease.matrix.queues()] if one.lease else [],
        "faults": list(one.faults),
        "now": one.now,
        "conflicts": rivals,
    }


def _other(name: str, pair: Pair) -> str:
    return pair.second if pair.first == name else pair.first
