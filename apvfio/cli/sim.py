# SPDX-License-Identifier: Apache-2.0
"""``apvfio sim``: make a simulated host, run guests on it, and mount it."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.cli.guest_source import read_file
from apvfio.domain.request import guest_uuid, parse_device
from apvfio.domain.xml_reader import read_domain
from apvfio.libvirt import hook
from apvfio.model.errors import ConflictError, Exit, HostError, RequestError, UsageError, printable
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes
from apvfio.sim.profile import NEWEST, PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.sim.host_file import SimSystem

_ADAPTERS = "0=accel,1=cca,0xa=ep11"
_DOMAINS = "1,2,4,0x1b"
"""The host of the examples in IBM's documentation."""
_MODES = ("accel", "cca", "ep11")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    sim = commands.add_parser("sim", help="make or mount a simulated host, and run guests on it")
    verbs = sim.add_subparsers(dest="verb", metavar="VERB", required=True)
    parsers = {}
    for verb, run, text in (
        ("new", _new, "make a simulated host"),
        ("start", _start, "start a guest, as libvirt does"),
        ("stop", _stop, "stop a guest, as libvirt does"),
        ("kill", _kill, "end the QEMU process of a guest, and do not call the hook"),
        ("mount", _mount, "show a simulated host as a tree: DIR/sys, DIR/etc and DIR/run"),
    ):
        parser = parsers[verb] = verbs.add_parser(verb, help=text)
        parser.add_argument("file", metavar="FILE", help="file of the simulated host")
        parser.set_defaults(run=run)
    parsers["start"].add_argument(
        "xml", metavar="XML", help="file with the domain XML of the guest; - is standard input"
    )
    for verb in ("stop", "kill"):
        parsers[verb].add_argument("name", metavar="NAME", help="name or UUID of the guest")
    parsers["mount"].add_argument("directory", metavar="DIR", help="directory below which the host is shown")
    new = parsers["new"]
    new.add_argument(
        "--kernel",
        default=NEWEST,
        metavar="VERSION",
        help=f"simulated version of Linux: {', '.join(PROFILES)} (default: {NEWEST})",
    )
    new.add_argument(
        "--adapters",
        default=_ADAPTERS,
        metavar="LIST",
        help=f"adapters with their modes, such as 0-3=cca,0xa=ep11 (default: {_ADAPTERS})",
    )
    new.add_argument(
        "--domains", default=_DOMAINS, metavar="LIST", help=f"usage domains (default: {_DOMAINS})"
    )
    new.add_argument("--control-domains", metavar="LIST", help="control domains (default: the usage domains)")
    new.add_argument(
        "--no-vfio-ap", action="store_true", help="simulate a host that has not loaded the module vfio_ap"
    )
    new.add_argument("--force", action="store_true", help="replace FILE if it exists")


def _new(args: argparse.Namespace) -> int:
    kernel = SimKernel.new(
        profile=args.kernel,
        adapters=parse_adapters(args.adapters),
        domains=parse_list(args.domains, "--domains") if args.domains else NO_IDS,
        control_domains=(
            parse_list(args.control_domains, "--control-domains") if args.control_domains else None
        ),
        vfio_ap=not args.no_vfio_ap,
    )
    create_sim(args.file, kernel, force=args.force)
    return Exit.OK


def _start(args: argparse.Namespace) -> int:
    """The hook's ``prepare``, a QEMU process, and that process opens the device."""
    xml = read_file(args.xml)
    name, uuid, device = read_domain(xml).name, guest_uuid(xml), parse_device(xml)
    with open_sim(args.file) as system:
        processes = system.processes or Processes(system.kernel)
        if processes.of_guest(uuid):
            raise ConflictError("it runs already.", guest=name, remedy="Stop it first.")
        system.processes = processes
        code = hook.main([name, "prepare", "begin", "-"], system, xml)
        if code:
            return code
        pid = processes.start(uuid, name).pid
        if device:
            try:
                processes.open(pid, device.mdev)
            except OSError as error:
                processes.end(pid)
                hook.main([name, "release", "end", "-"], system, xml)
                raise HostError(
                    f"its QEMU cannot open the mediated device {device.mdev}: {error.strerror}.",
                    guest=name,
                    remedy=f"See 'apvfio --sim {args.file} status'.",
                ) from None
    return Exit.OK


def _stop(args: argparse.Namespace) -> int:
    """The QEMU process ends, and the hook's ``release`` is called."""
    with _ended(args) as (system, name, uuid):
        xml = f"<domain><uuid>{uuid}</uuid></domain>"
        return hook.main([name, "release", "end", "-"], system, xml.encode())


def _kill(args: argparse.Namespace) -> int:
    """The QEMU process ends, and no hook is called: libvirt's daemon has died with the guest."""
    with _ended(args):
        return Exit.OK


@contextmanager
def _ended(args: argparse.Namespace) -> Iterator[tuple[SimSystem, str, str]]:
    """The host on which the guest's QEMU has just ended, the guest's name and its UUID."""
    with open_sim(args.file) as system:
        pids = system.processes.of_guest(args.name) if system.processes else []
        if not system.processes or not pids:
            raise RequestError(
                f"no guest {printable(args.name)} runs on the simulated host {printable(args.file)}.",
                remedy="Start it with 'apvfio sim start'.",
            )
        process = system.processes.table[pids[0]]
        system.processes.end(pids[0])
        yield system, process.name, process.guest


def _mount(args: argparse.Namespace) -> int:
    from apvfio.sim.fuse import mount  # noqa: PLC0415

    def ready() -> None:
        print(f"{args.file} is mounted at {args.directory}; Ctrl-C or umount ends it.", flush=True)

    mount(args.file, args.directory, ready)
    return Exit.OK


def parse_adapters(text: str) -> dict[int, str]:
    """Adapters and their modes, as in ``0-3=cca,0xa=ep11``.

    UsageError if an item is not a range and a mode, RequestError if the ids make no sense.
    """
    adapters: dict[int, str] = {}
    for item in filter(None, text.split(",")):
        ids, equals, mode = item.partition("=")
        if not equals:
            raise _bad(item, "is not an adapter and its mode")
        if mode.strip().lower() not in _MODES:
            raise _bad(item, f"has no mode out of {', '.join(_MODES)}")
        adapters.update(dict.fromkeys(parse_list(ids.strip(), "--adapters"), mode.strip().lower()))
    return adapters


def _bad(item: str, why: str) -> UsageError:
    return UsageError(
        f"{item[:40]!r} in --adapters {why}.", remedy="Write ids with modes, as in 0=accel,1-3=cca,0xa=ep11."
    )
