# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest``: what libvirt's guests ask for, set, shown, cleared and listed; a file each verb."""

from __future__ import annotations

import argparse

from apvfio.cli import guest_clear, guest_list, guest_set, guest_show
from apvfio.cli.host_options import add_connect, add_json

_VERBS = {
    "set": (guest_set, "write what a guest needs into its definition, or give it to a guest that runs"),
    "clear": (guest_clear, "remove what a guest asks for, or take it from a guest that runs"),
    "show": (guest_show, "show what a guest asks for"),
    "list": (guest_list, "list all guests that ask for something, and whether they could start"),
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    guest = commands.add_parser("guest", help="set, show, clear and list what guests ask for")
    verbs = guest.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (verb, text) in _VERBS.items():
        parser = verbs.add_parser(name, help=text)
        if name != "list":
            parser.add_argument("guest", metavar="GUEST")
        verb.add_options(parser)
        add_connect(parser)
        add_json(parser)
        parser.set_defaults(run=verb.run)
