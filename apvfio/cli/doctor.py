# SPDX-License-Identifier: Apache-2.0
"""``apvfio doctor``: what keeps guests from their queues, and the remedy."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial

from apvfio.cli.guest_source import add_source, read_file
from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.terminal import add_color, look
from apvfio.doctor.check import PROBLEM, WARNING
from apvfio.doctor.facts import DomainFacts
from apvfio.domain.xml_reader import read_domain
from apvfio.libvirt.guests import Guests
from apvfio.mdev.devices import is_uuid
from apvfio.model.errors import ApvfioError, UsageError, printable
from apvfio.view.paint import RED, YELLOW, painted

_LONGEST = 1000
_COLORS = {PROBLEM: RED, WARNING: YELLOW}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("doctor", help="find out why guests do not get their queues; change nothing")
    add_source(parser)
    add_color(parser, "problems and warnings")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine and print; the exit code is that of the first problem."""
    # Only this command needs these modules, and they load many others.
    from apvfio.doctor.remedies import Words  # noqa: PLC0415
    from apvfio.doctor.run_checks import examine  # noqa: PLC0415
    from apvfio.doctor.text import lines  # noqa: PLC0415

    if args.guest and args.xml:
        raise UsageError(
            "doctor takes either a guest's name or --xml FILE.", remedy="See 'apvfio doctor --help'."
        )
    guest = _name(args.connect, args.guest) if args.guest else ""
    domains = _from_files(args.xml) if args.xml else None
    if domains and len(domains) == 1:
        guest = domains[0].name
    words = Words(args.sim or "", args.root, args.connect)
    with opened(args) as system:
        found = examine(system, lambda: domains or _from_libvirt(args.connect), words, guest=guest)
    text = list(lines(found, guest, partial(_painted, look(args.color).color)))
    known = all(check.id != "guest" for check in found.problems)
    if args.guest and found.problems and known:
        log = words.apvfio("log", f"--guest={guest}")
        text.append(printable(f"What happened to it before: {log}", _LONGEST))
    print_result(args, found.as_json(), text)
    return found.code


def _painted(on: bool, text: str, state: str) -> str:
    return painted(text, _COLORS[state], on=on) if state in _COLORS else text


def _name(uri: str, word: str) -> str:
    """Return the name of the guest that has ``word`` for its UUID or id, otherwise ``word``."""
    if word.isdigit() or is_uuid(word.lower()):
        # The examination itself reports that libvirt does not answer, or does not know the guest.
        with suppress(ApvfioError), Guests(uri) as guests:
            return guests.find(word).name
    return word


def _from_files(paths: list[str]) -> list[DomainFacts]:
    found = []
    for path in paths:
        xml = read_file(path)
        found.append(DomainFacts(read_domain(xml, f"the domain in {path}").name or path, xml, listed=False))
    return found


def _from_libvirt(uri: str) -> list[DomainFacts]:
    with Guests(uri) as guests:
        return [
            DomainFacts(
                known.name,
                known.next_xml(),
                known.active,
                known.autostart,
                known.xml(live=True) if known.active else b"",
                definition=known.xml() if known.saved else b"",
            )
            for known in guests.all()
        ]
