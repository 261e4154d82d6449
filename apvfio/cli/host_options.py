# SPDX-License-Identifier: Apache-2.0
"""What commands share: the system on which they work, options, and ``--json``."""

from __future__ import annotations

import argparse
import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.cli.terminal import print_lines
from apvfio.cli.verbosity import announced
from apvfio.libvirt.guests import DEFAULT_URI
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Area
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apvfio.kernel.seam import System
    from apvfio.sim.host_file import SimSystem


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_if_state(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option ``--if-state``."""
    parser.add_argument(
        "--if-state",
        metavar="STATE",
        type=_state,
        help="change nothing unless the state is still the one that --dry-run --json printed",
    )


def _state(text: str) -> str:
    if re.fullmatch("[0-9a-f]{64}", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a state that --dry-run --json prints")


def add_area(group: argparse._MutuallyExclusiveGroup, what: str) -> None:
    """Give ``group`` the options ``--adapter`` and ``--domain``; ``what`` begins their help."""
    group.add_argument("--adapter", metavar="LIST", help=f"{what} these adapters, such as 0xa")
    group.add_argument("--domain", metavar="LIST", help=f"{what} these domains, such as 27")


def area_of(args: argparse.Namespace) -> Area | None:
    """The area that the options name, None if they name none; RequestError if a list makes no sense."""
    adapters = NO_IDS if args.adapter is None else parse_list(args.adapter, "--adapter")
    domains = NO_IDS if args.domain is None else parse_list(args.domain, "--domain")
    return Area(adapters, domains) if adapters or domains else None


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an option whose value is a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")

    return parse


def print_json(document: object) -> None:
    """Print ``document`` as JSON for machines and people."""
    print(json.dumps(document, indent=2))


def print_result(args: argparse.Namespace, document: object, lines: Iterable[str]) -> None:
    """Print ``document`` if ``--json`` is given, otherwise ``lines``."""
    if args.json:
        print_json(document)
    else:
        print_lines(lines)


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[System]:
    """The system that ``--sim`` or ``--root`` names, or this machine."""
    if args.sim:
        # Only a simulated host needs the simulator.
        from apvfio.sim.host_file import open_sim  # noqa: PLC0415

        with open_sim(args.sim) as system:
            yield _announced(system, args)
    else:
        yield _announced(RealSystem(args.root), args)


def _announced(system: RealSystem | SimSystem, args: argparse.Namespace) -> System:
    if getattr(args, "verbose", False):
        system.sysfs = announced(system.sysfs)
    return system


def default_uri() -> str:
    """Return the libvirt daemon to connect to if the command line names none, as virsh chooses it."""
    return os.environ.get("LIBVIRT_DEFAULT_URI") or DEFAULT_URI


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option ``--connect``."""
    parser.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        default=default_uri(),
        help=f"connect to the libvirt daemon at URI (default: {DEFAULT_URI}, or LIBVIRT_DEFAULT_URI)",
    )
