# SPDX-License-Identifier: Apache-2.0
"""``apvfio sim``: make a simulated host, and mount one."""

from __future__ import annotations

import argparse
import re

from apvfio.errors import Exit, UsageError
from apvfio.mask import MAX_ID, NO_IDS, parse_list

# A real host needs nothing of the simulator.
_ADAPTERS = "00=accel,01=cca,0a=ep11"
_DOMAINS = "1,2,4,0x1b"
"""The host of the examples in IBM's documentation."""
_MODES = ("accel", "cca", "ep11")
_ADAPTER = re.compile(r"(?:0x)?([0-9a-f]{1,2})(?:-(?:0x)?([0-9a-f]{1,2}))?=(\w+)", re.IGNORECASE)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its two verbs."""
    sim = commands.add_parser("sim", help="make or mount a simulated host")
    verbs = sim.add_subparsers(dest="verb", metavar="VERB", required=True)
    new = verbs.add_parser("new", help="make a simulated host")
    new.add_argument("file", metavar="FILE")
    new.add_argument("--kernel", default="7.2", metavar="VERSION", help="6.1, 6.12 or 7.2 (the default)")
    new.add_argument(
        "--adapters",
        default=_ADAPTERS,
        metavar="LIST",
        help=f"hexadecimal ids and their modes, ranges as 00-03=cca; default {_ADAPTERS}",
    )
    new.add_argument("--domains", default=_DOMAINS, metavar="LIST", help=f"usage domains; default {_DOMAINS}")
    new.add_argument("--control-domains", metavar="LIST", help="control domains; default: the usage domains")
    new.add_argument("--no-vfio-ap", action="store_true", help="the module vfio_ap is not loaded")
    new.add_argument("--force", action="store_true", help="replace FILE if it exists")
    new.set_defaults(run=_new)
    mount = verbs.add_parser("mount", help="show a simulated host as a tree: DIR/sys, DIR/etc, and more")
    mount.add_argument("file", metavar="FILE")
    mount.add_argument("directory", metavar="DIR")
    mount.set_defaults(run=_mount)


def _new(args: argparse.Namespace) -> int:
    from apvfio.sim.kernel import SimKernel  # noqa: PLC0415
    from apvfio.sim.store import create_sim  # noqa: PLC0415

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


def _mount(args: argparse.Namespace) -> int:
    from apvfio.sim.fuse import mount  # noqa: PLC0415

    def ready() -> None:
        print(f"{args.file} is mounted at {args.directory}; Ctrl-C or umount ends it.", flush=True)

    mount(args.file, args.directory, ready)
    return Exit.OK


def parse_adapters(text: str) -> dict[int, str]:
    """Adapters and their modes, as in ``00-03=cca,0a=ep11``; UsageError if it is not that."""
    adapters: dict[int, str] = {}
    for item in filter(None, text.split(",")):
        match = _ADAPTER.fullmatch(item.strip())
        if not match:
            raise _bad(item, "is not an adapter and its mode")
        low = int(match[1], 16)
        high = int(match[2] or match[1], 16)
        mode = match[3].lower()
        if mode not in _MODES:
            raise _bad(item, f"has no mode out of {', '.join(_MODES)}")
        if not low <= high <= MAX_ID:
            raise _bad(item, "runs backwards")
        adapters.update(dict.fromkeys(range(low, high + 1), mode))
    return adapters


def _bad(item: str, why: str) -> UsageError:
    return UsageError(
        f"{item[:40]!r} in --adapters {why}.", remedy="Write hexadecimal ids, as in 00=accel,01-03=cca."
    )
