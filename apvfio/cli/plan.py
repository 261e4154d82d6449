# SPDX-License-Identifier: Apache-2.0
"""``apvfio plan``: what starting a guest would do to this host."""

from __future__ import annotations

import argparse
import sys

from apvfio import broker
from apvfio.cli.place import add_connect, add_json, opened, print_json
from apvfio.cli.terminal import print_lines
from apvfio.errors import ApvfioError, Exit, RequestError, UsageError, printable
from apvfio.plan.everyone import plan_everyone
from apvfio.render.everyone_text import everyone
from apvfio.request import Request, parse_domain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.plan.masks import Way
    from apvfio.plan.planner import Plan

_XML_LIMIT = 16 << 20


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("plan", help="show what starting a guest would do; changes nothing")
    parser.add_argument("guest", nargs="?", metavar="GUEST", help="a guest that libvirt knows")
    parser.add_argument(
        "--xml", metavar="FILE", action="append", help="a domain XML instead; - is standard input"
    )
    parser.add_argument(
        "--all", action="store_true", help="all guests that libvirt knows, or all of several --xml, at once"
    )
    add_connect(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan and print."""
    if args.all:
        return _run_all(args)
    request = _request(args)
    with opened(args) as system:
        found = broker.plan(system, request)
    if args.json:
        print_json(found.as_json())
    else:
        print("\n".join(describe(found)))
    return Exit.OK


def _run_all(args: argparse.Namespace) -> int:
    requests, errors = _requests(args)
    with opened(args) as system:
        found = plan_everyone(requests, *broker.current(system))
    found = found._replace(errors=(*errors, *found.errors))
    if args.json:
        print_json(found.as_json())
    else:
        print_lines(everyone(found))
    return Exit.OK


def _requests(args: argparse.Namespace) -> tuple[list[Request], list[ApvfioError]]:
    """What all guests ask for, and what is wrong with the annotations of the others."""
    if args.guest:
        raise UsageError("plan takes either a guest's name or --all.", remedy="See 'apvfio plan --help'.")
    if args.xml:
        documents = [_read_xml(path) for path in args.xml]
    else:
        from apvfio.guests import Guests  # noqa: PLC0415  loads libvirt

        with Guests(args.connect) as guests:
            documents = [guest.xml() for guest in guests.all()]
    requests, errors = [], []
    for xml in documents:
        try:
            request = parse_domain(xml)
        except ApvfioError as error:
            errors.append(error)
            continue
        if request:
            requests.append(request)
    return requests, errors


def _request(args: argparse.Namespace) -> Request:
    if bool(args.guest) == bool(args.xml) or len(args.xml or []) > 1:
        raise UsageError(
            "plan takes either a guest's name or --xml FILE.", remedy="See 'apvfio plan --help'."
        )
    if args.xml:
        xml, what = _read_xml(args.xml[0]), f"the domain in {args.xml[0]}"
    else:
        from apvfio.guests import Guests  # noqa: PLC0415  loads libvirt

        with Guests(args.connect) as guests:
            xml, what = guests.find(args.guest).xml(), f"guest {printable(args.guest)}"
    request = parse_domain(xml)
    if request is None:
        raise RequestError(f"{what} has no annotation.", remedy="Add one with 'apvfio guest set'.")
    return request


def _read_xml(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(_XML_LIMIT)
    try:
        with open(path, "rb") as file:
            return file.read(_XML_LIMIT)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}.", remedy="Name a readable file.") from None


def describe(found: Plan) -> list[str]:
    """The plan in lines for a person."""
    lines = [
        f"guest   {printable(found.request.guest)}",
        f"mdev    {found.request.mdev}",
        f"queues  {found.request.matrix}",
        f"way     {_way_text(found)}",
    ]
    if found.runner_up:
        lines.append(f"instead {_cost_text(found.runner_up)}")
    lines += [f"warning {warning}" for warning in found.warnings]
    lines += ["", "steps:"]
    lines += [f"  {step.op:<7} echo {step.value} > /sys/{step.path}" for step in found.steps]
    lines += [f"the mask changes as a command: {command}" for command in found.chzdev()]
    return lines


def _way_text(found: Plan) -> str:
    if found.way == "none":
        return "none needed: the host's drivers have none of these queues"
    return _cost_text(found.chosen)


def _cost_text(way: Way) -> str:
    lost = ", ".join(map(str, way.collateral)) or "nothing"
    bits = f"{way.bits} mask bit{'s' if way.bits != 1 else ''}"
    return f"free its {way.name}: {bits}; the host loses besides: {lost}"
