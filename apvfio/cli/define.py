# SPDX-License-Identifier: Apache-2.0
"""``apvfio define`` and ``apvfio undefine``: a guest's device as a persistent definition of mdevctl's."""

from __future__ import annotations

import argparse

from apvfio.cli.place import opened
from apvfio.cli.source import add_source, read_domain
from apvfio.errors import Exit, RequestError, printable
from apvfio.persistence import define, undefine
from apvfio.request import parse_device, parse_domain


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register both commands."""
    for name, text, run in (
        ("define", "define a guest's device for mdevctl, as its annotation says", _define),
        ("undefine", "remove mdevctl's definition of a guest's device", _undefine),
    ):
        parser = commands.add_parser(name, help=text)
        add_source(parser)
        parser.set_defaults(run=run)
        if run is _define:
            parser.add_argument("--replace", action="store_true", help="change a definition that is there")


def _define(args: argparse.Namespace) -> int:
    xml, what = read_domain(args)
    request = parse_domain(xml)
    if request is None:
        raise RequestError(f"{what} has no annotation.", remedy="Add one with 'apvfio guest set'.")
    with opened(args) as system:
        done = define(system, request, replace=args.replace)
    print(f"{request.mdev} {'is' if done else 'was'} defined{'' if done else ' already'}: {request.matrix}")
    return Exit.OK


def _undefine(args: argparse.Namespace) -> int:
    xml, what = read_domain(args)
    request = parse_device(xml)
    if request is None:
        raise RequestError(f"{what} has no vfio-ap device.", remedy="Name another guest.")
    with opened(args) as system:
        done = undefine(system, request.mdev)
    print(f"{request.mdev} {'is no longer' if done else 'was not'} defined ({printable(request.guest)})")
    return Exit.OK
