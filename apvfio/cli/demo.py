# SPDX-License-Identifier: Apache-2.0
"""``apvfio demo``: the life of an annotated guest on a simulated host, shown as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.cli.plan import describe as describe_plan
from apvfio.cli.status import describe as describe_status
from apvfio.cli.terminal import look, print_lines
from apvfio.domain.request import parse_domain
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.engine.preview import preview_plan
from apvfio.libvirt import hook
from apvfio.model.errors import Exit
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel

if TYPE_CHECKING:
    import argparse

    from apvfio.kernel.seam import System

GUEST = "db1"
MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
ADAPTERS = "0x00,0x0a"
DOMAINS = "0x01,0x02,0x04"
_XML = f"""\
<domain type='kvm'>
  <name>{GUEST}</name>
  <uuid>6f2f2f5c-2222-4222-8222-222222222222</uuid>
  <metadata>
    <ap:guest xmlns:ap='{NAMESPACE}'><ap:matrix adapters='{ADAPTERS}' domains='{DOMAINS}'/></ap:guest>
  </metadata>
  <devices>
    <hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{MDEV}'/></source></hostdev>
  </devices>
</domain>
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo", help="start and stop a guest on a simulated host, and show the matrix"
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Call the hook as libvirt would, in this process, on the simulated kernel."""
    print("The hook runs in this process, on a simulated host: IBM's example, 3 adapters and 4 domains.\n")
    system = SimSystem.new(SimKernel.new())
    show("Before", system)
    show_plan(system, _XML)
    for operation, when in (("prepare", "While it runs"), ("release", "After")):
        print(f"$ hooks/qemu {GUEST} {operation} begin -")
        code = hook.main([GUEST, operation, "begin", "-"], system, _XML.encode())
        if code:
            return code
        show(when, system)
    return Exit.OK


def show(when: str, system: System) -> None:
    """Print the status of the host under a heading."""
    print(f"== {when}\n")
    print_lines(describe_status(system, look("auto")))
    print(flush=True)


def show_plan(system: System, xml: str) -> None:
    """Print what a start of the guest with this domain XML would do."""
    request = parse_domain(xml.encode())
    assert request is not None
    print(f"$ apvfio plan {GUEST}")
    print("\n".join(describe_plan(preview_plan(system, request))))
    print(flush=True)
