# SPDX-License-Identifier: Apache-2.0
"""``apvfio queues``: cards and queues as ``lszcrypt -V`` shows them, and who owns each queue."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.engine.master_keys import known_keys, tidy_keys
from apvfio.kernel.lszcrypt import has_secure_binding, read_inventory
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit, printable
from apvfio.model.owners import owners
from apvfio.store import ledger_file
from apvfio.view.columns import Column, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.kernel.lszcrypt import ApDevice
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn
    from apvfio.model.owners import Owner

_NO_DRIVER = "-no-driver-"
_COLUMNS = (
    Column("CARD.DOM", 8),
    Column("TYPE", 5),
    Column("MODE", 11),
    Column("STATUS", 10),
    Column("REQUESTS", 8, right=True),
    Column("PENDING", 8, right=True),
    Column("HWTYPE", 6, right=True),
    Column("QDEPTH", 6, right=True),
    Column("FUNCTIONS", 10),
    Column("DRIVER", 11),
)
_SESTAT = Column("SESTAT", 11)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("queues", help="list cards and queues as lszcrypt -V does, with the owners")
    parser.add_argument("--no-headings", action="store_true", help="omit the headings")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List them."""
    with opened(args) as system:
        secure_binding = has_secure_binding(system.sysfs)
        host = read_host(system.sysfs)
        owned = owners(host, ledger_file.load(system.files, system.boot_id))
        devices = read_inventory(system.sysfs)
        keys = known_keys(system, host, host.drivers)
        tidy_keys(system)
    found = [(device, owned.get(device.queue) if device.queue else None) for device in devices]
    rows = [_row(device, owner, secure_binding=secure_binding) for device, owner in found]
    columns = [*_COLUMNS, *([_SESTAT] if secure_binding else [])]
    columns.append(Column("OWNER", max(len("OWNER"), *(len(row[-1]) for row in rows), 0)))
    lines = (line.rstrip() for line in table(columns, rows, heading=not args.no_headings))
    print_result(args, [_as_json(device, owner, keys) for device, owner in found], lines)
    return Exit.OK


def _row(device: ApDevice, owner: Owner | None, *, secure_binding: bool) -> list[str]:
    return [
        device.id,
        _or_dash(device.type),
        device.mode,
        _or_dash(device.status),
        _or_dash(device.requests),
        _or_dash(device.pending),
        _or_dash(device.hwtype),
        "-" if device.qdepth is None else f"{device.qdepth:02d}",
        device.functions,
        device.driver or _NO_DRIVER,
        *([_or_dash(device.sestat)] if secure_binding else []),
        printable(str(owner)) if owner else "-",
    ]


def _or_dash(fact: object) -> str:
    return "-" if fact is None else printable(str(fact))


def _as_json(device: ApDevice, owner: Owner | None, keys: Mapping[Apqn, SeenKeys]) -> dict[str, object]:
    facts = {name: fact for name, fact in device._asdict().items() if name not in ("id", "queue", "pending")}
    seen = keys.get(device.queue) if device.queue else None
    return {
        "adapter": device.id[:2],
        "queue": str(device.queue) if device.queue else None,
        **facts,
        "pending_requests": device.pending,
        "owner": str(owner) if owner else None,
        "master_keys": seen.as_json() if seen else None,
    }
