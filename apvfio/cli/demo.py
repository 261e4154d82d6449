# SPDX-License-Identifier: Apache-2.0
"""``apvfio demo``: the life of an annotated guest on a simulated host, shown as it happens."""

from __future__ import annotations

import argparse
import sys

from apvfio.cli.plan import describe as describe_plan
from apvfio.cli.status import describe as describe_status
from apvfio.cli.terminal import look, print_lines
from apvfio.domain.request import parse_domain
from apvfio.engine.broker import plan
from apvfio.model.errors import ApvfioError, Exit, HostError
from apvfio.model.ids import parse_list
from apvfio.model.matrix import Matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from apvfio.kernel.seam import System

GUEST = "db1"
MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
WISH = Matrix(parse_list("0,0xa"), parse_list("1,2,4"), parse_list("1,2,4"))


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo", help="start and stop a guest on a simulated host, and show the matrix"
    )
    parser.add_argument("--in-process", action="store_true", help="without libvirt: the hook alone")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo, with libvirt where it can be had."""
    # Only the demo needs the lab and the simulator.
    from apvfio.lab.lab import check_prerequisites  # noqa: PLC0415

    reason = "asked for"
    if not args.in_process:
        try:
            check_prerequisites()
            return _with_libvirt()
        except HostError as error:
            reason = str(error)
    print(f"Without libvirt ({reason}): the hook runs in this process, on the simulated kernel.\n")
    return _in_process()


def _with_libvirt() -> int:
    from apvfio.install.shipped_files import hook_script  # noqa: PLC0415
    from apvfio.lab.guest import guest_xml  # noqa: PLC0415
    from apvfio.lab.lab import Lab  # noqa: PLC0415

    with Lab(hook_script()) as lab:
        print("A private libvirtd runs on a simulated host: IBM's example, 3 adapters and 4 domains.\n")
        _show("Before", lab.host())
        _ran(f"virsh define {GUEST}.xml", lab.define(guest_xml(GUEST, WISH, MDEV)), f"annotation: {WISH}")
        _show_plan(lab.host(), guest_xml(GUEST, WISH, MDEV))
        _ran(f"virsh start {GUEST}", lab.virsh("start", GUEST))
        _show("While it runs", lab.host())
        _ran(f"virsh destroy {GUEST}", lab.virsh("destroy", GUEST))
        _show("After", lab.host())
    return Exit.OK


def _in_process() -> int:
    from apvfio.lab.guest import guest_xml  # noqa: PLC0415
    from apvfio.libvirt import hook  # noqa: PLC0415
    from apvfio.sim.kernel import SimKernel  # noqa: PLC0415
    from apvfio.sim.store import SimSystem  # noqa: PLC0415

    system = SimSystem.new(SimKernel.new())
    xml = guest_xml(GUEST, WISH, MDEV)
    _show("Before", system)
    _show_plan(system, xml)
    for operation, when in (("prepare", "While it runs"), ("release", "After")):
        print(f"$ hooks/qemu {GUEST} {operation} begin -")
        code = hook.main([GUEST, operation, "begin", "-"], system, xml.encode())
        if code:
            return code
        _show(when, system)
    return Exit.OK


def _show(when: str, system: System) -> None:
    print(f"== {when}\n")
    print_lines(describe_status(system, look("auto")))
    print(flush=True)


def _show_plan(system: System, xml: str) -> None:
    request = parse_domain(xml.encode())
    assert request is not None
    print(f"$ apvfio plan {GUEST}")
    print("\n".join(describe_plan(plan(system, request))))
    print(flush=True)


def _ran(command: str, done: CompletedProcess[str], note: str = "") -> None:
    print(f"$ {command}" + (f"   # {note}" if note else ""), flush=True)
    if done.returncode:
        raise ApvfioError(f"'{command}' failed: {' '.join(done.stderr.split())}")
    sys.stdout.write(done.stdout)
    print()
