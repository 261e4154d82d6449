# SPDX-License-Identifier: Apache-2.0
"""``apvfio define`` and ``apvfio undefine``: mdevctl's persistent definition of a guest's device."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.guest_source import add_source, read_domain
from apvfio.cli.host_options import opened
from apvfio.cli.verbosity import add_quiet
from apvfio.domain.request import parse_device, parse_domain
from apvfio.libvirt.device_conflicts import made_for
from apvfio.libvirt.guests import Guests
from apvfio.mdevctl.persistent_device import define, undefine
from apvfio.model.errors import ConflictError, Exit, RequestError, printable
from apvfio.plan.availability import own_device

if TYPE_CHECKING:
    from apvfio.model.request import Request


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register both commands."""
    for name, text, run in (
        ("define", "write a guest's annotation as mdevctl's definition of its mediated device", _define),
        ("undefine", "remove mdevctl's definition of a guest's mediated device", _undefine),
    ):
        parser = commands.add_parser(name, help=text)
        add_source(parser)
        parser.add_argument(
            "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
        )
        add_quiet(parser)
        parser.set_defaults(run=run)
        if run is _define:
            parser.add_argument(
                "--replace", action="store_true", help="replace an existing definition that differs"
            )


def _require_own(args: argparse.Namespace, request: Request) -> None:
    """ConflictError if the device of the guest that is named was made for another one.

    A clone has its original's. Its definition would be that of the original.
    """
    if not args.guest:
        return
    with Guests(args.connect) as guests:
        original = made_for(request.mdev, guests.all())
        if original and original.uuid != request.guest_uuid:
            raise ConflictError(
                f"its mediated device {request.mdev} is that of guest {printable(original.name)}.",
                guest=request.guest,
                remedy=own_device(request.guest),
            )


def _define(args: argparse.Namespace) -> int:
    xml, what = read_domain(args)
    request = parse_domain(xml)
    if request is None:
        raise RequestError(f"{what} has no annotation.", remedy="Add one with 'apvfio guest set'.")
    _require_own(args, request)
    with opened(args) as system:
        done = define(system, request, replace=args.replace, dry_run=args.dry_run)
    what = f"mediated device {request.mdev} of guest {printable(request.guest)}: {request.matrix}"
    print(f"{_verb(args, done, 'define', 'already defined:')} {what}")
    return Exit.OK


def _undefine(args: argparse.Namespace) -> int:
    xml, what = read_domain(args)
    request = parse_device(xml)
    if request is None:
        raise RequestError(f"{what} has no vfio-ap device.", remedy="Name another guest.")
    _require_own(args, request)
    with opened(args) as system:
        done = undefine(system, request.mdev, dry_run=args.dry_run)
    what = f"mediated device {request.mdev} of guest {printable(request.guest)}"
    print(f"{_verb(args, done, 'undefine', 'not defined:')} {what}")
    return Exit.OK


def _verb(args: argparse.Namespace, done: bool, verb: str, otherwise: str) -> str:
    if not done:
        return otherwise
    return f"would {verb}" if args.dry_run else f"{verb}d"
