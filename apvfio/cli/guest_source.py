# SPDX-License-Identifier: Apache-2.0
"""The sources from which commands read a guest's XML: libvirt, or a file."""

from __future__ import annotations

import argparse
import sys

from apvfio.cli.host_options import add_connect
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import UsageError, printable

_XML_LIMIT = 16 << 20


def add_source(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` GUEST, ``--xml`` and ``--connect``."""
    parser.add_argument("guest", nargs="?", metavar="GUEST", help="name, UUID or id of the guest")
    parser.add_argument(
        "--xml",
        metavar="FILE",
        action="append",
        help="read the domain XML from FILE, not from libvirt; - is standard input",
    )
    add_connect(parser)


def read_domain(args: argparse.Namespace) -> tuple[bytes, str]:
    """Return the XML of the one named guest, and how to call it; UsageError unless one guest is named."""
    if bool(args.guest) == bool(args.xml) or len(args.xml or []) > 1:
        raise UsageError(
            f"{args.command} takes either a guest's name or --xml FILE.",
            remedy=f"See 'apvfio {args.command} --help'.",
        )
    if args.xml:
        return read_file(args.xml[0]), f"the domain in {args.xml[0]}"
    with Guests(args.connect) as guests:
        return guests.find(args.guest).next_xml(), f"guest {printable(args.guest)}"


def read_domains(args: argparse.Namespace) -> list[bytes]:
    """The XML of all guests that libvirt knows, or of all files named."""
    if args.guest:
        raise UsageError(
            f"{args.command} takes either a guest's name or --all.",
            remedy=f"See 'apvfio {args.command} --help'.",
        )
    if args.xml:
        return [read_file(path) for path in args.xml]
    with Guests(args.connect) as guests:
        return [guest.next_xml() for guest in guests.all()]


def read_file(path: str) -> bytes:
    """The domain XML in a file, or on standard input; UsageError if it cannot be read."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(_XML_LIMIT) if sys.stdin else b""
        with open(path, "rb") as file:
            return file.read(_XML_LIMIT)
    except OSError as error:
        what = "standard input" if path == "-" else path
        raise UsageError(
            f"{what}: {error.strerror or 'it cannot be read'}.", remedy="Name a readable file."
        ) from None
