# SPDX-License-Identifier: Apache-2.0
"""The demonstration with a real libvirt: `virsh start` of an annotated guest on a simulated host.

Where there can be no lab, it says so and runs ``apvfio demo``.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from apvfio.cli.demo import ADAPTERS, DOMAINS, GUEST, MDEV, show, show_plan
from apvfio.cli.main import main as apvfio
from apvfio.model.errors import ApvfioError, Exit, HostError
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from lab.guest import guest_xml
from lab.hook import hook_script
from lab.lab import Lab

if TYPE_CHECKING:
    from subprocess import CompletedProcess

REQUEST = Matrix(parse_list(ADAPTERS), parse_list(DOMAINS), parse_list(DOMAINS))


def main() -> int:
    """Start and stop the guest, and show the matrix before, during and after."""
    with ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab(hook_script()))
        except HostError as error:
            print(f"Without libvirt: {error}\n", flush=True)
            return apvfio(["demo"])
        try:
            _start_and_stop(lab)
        except ApvfioError as error:
            print(f"demo: {error}", file=sys.stderr)
            return error.code
    return Exit.OK


def _start_and_stop(lab: Lab) -> None:
    xml = guest_xml(GUEST, REQUEST, MDEV)
    print("A private libvirtd runs on a simulated host: IBM's example, 3 adapters and 4 domains.\n")
    show("Before", lab.host())
    _show_command(f"virsh define {GUEST}.xml", lab.define(xml), f"annotation: {REQUEST}")
    show_plan(lab.host(), xml)
    _show_command(f"virsh start {GUEST}", lab.virsh("start", GUEST))
    show("While it runs", lab.host())
    _show_command(f"virsh destroy {GUEST}", lab.virsh("destroy", GUEST))
    show("After", lab.host())


def _show_command(command: str, done: CompletedProcess[str], note: str = "") -> None:
    print(f"$ {command}" + (f"   # {note}" if note else ""), flush=True)
    if done.returncode:
        raise ApvfioError(f"'{command}' failed: {' '.join(done.stderr.split())}")
    sys.stdout.write(done.stdout)
    print()


if __name__ == "__main__":
    sys.exit(main())
