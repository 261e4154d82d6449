# SPDX-License-Identifier: Apache-2.0
"""``apvfio dump``: copy this host into a simulated host, for planning on another machine."""

from __future__ import annotations

import argparse

from apvfio.cli.host_options import opened
from apvfio.model.errors import Exit, printable
from apvfio.model.text import count_queues
from apvfio.sim.dump import dump

_LONGEST = 1000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("dump", help="copy this host into a file, as a simulated host")
    parser.add_argument("file", metavar="FILE", help="file to write")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Dump the host."""
    with opened(args) as system:
        host = dump(system, args.file, force=args.force)
    mdevs = f"{len(host.mdevs)} mediated device{'' if len(host.mdevs) == 1 else 's'}"
    print(f"{printable(args.file, _LONGEST)}: {count_queues(len(host.drivers))}, {mdevs}")
    return Exit.OK
