# SPDX-License-Identifier: Apache-2.0
"""``apvfio status``: who has which queue, what is owed to the host, and what is not as it should be."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from apvfio import serving
from apvfio.cli.place import add_json, opened, print_json
from apvfio.cli.terminal import add_color, look, print_lines
from apvfio.errors import Exit, printable
from apvfio.host import MASK_NAMES
from apvfio.ledger import lease_json, owed_json
from apvfio.mask import format_list
from apvfio.owners import owners
from apvfio.plan.mode import mode_of
from apvfio.promises import promise_json
from apvfio.render.matrix_text import picture
from apvfio.settle import differences
from apvfio.wording import some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.host import Host
    from apvfio.ledger import Lease, Ledger
    from apvfio.matrix import Apqn
    from apvfio.owners import Owner
    from apvfio.policy import Policy
    from apvfio.promises import Promise
    from apvfio.render.matrix_text import Look
    from apvfio.system import System


class _Status(NamedTuple):
    host: Host
    ledger: Ledger
    policy: Policy
    owners: dict[Apqn, Owner]
    drift: list[str]

    @property
    def mode(self) -> str:
        return mode_of(self.host, self.ledger, self.policy)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("status", help="show who has which queue, and what is owed to the host")
    add_color(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    with opened(args) as system:
        status = _read(system)
    if args.json:
        print_json(_as_json(status))
    else:
        print_lines(_lines(status, look(args.color)))
    return Exit.OK


def describe(system: System, how: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    return _lines(_read(system), how)


def _read(system: System) -> _Status:
    # Without the lock: looking must not wait for a guest that starts, nor make it wait.
    host, ledger, policy = serving.current(system)
    return _Status(host, ledger, policy, owners(host, ledger), differences(system, host, ledger))


def _as_json(status: _Status) -> dict[str, object]:
    host = status.host
    return {
        "mode": status.mode,
        "kernel": {"vfio_ap": host.vfio_ap, **host.abilities._asdict()},
        "apmask": format_list(host.apmask),
        "aqmask": format_list(host.aqmask),
        "queues": [
            {"apqn": str(queue), "driver": host.drivers[queue] or None, "owner": str(owner)}
            for queue, owner in status.owners.items()
        ],
        "leases": [lease_json(lease) for lease in status.ledger.leases.values()],
        "promises": [promise_json(promise) for promise in status.ledger.promises.values()],
        "owed": owed_json(status.ledger),
        "drift": status.drift,
    }


def _lines(status: _Status, how: Look) -> Iterator[str]:
    host = status.host
    yield f"mode    {status.mode}"
    yield f"kernel  {_kernel(host)}"
    yield f"apmask  {host.apmask or 'empty'}"
    yield f"aqmask  {host.aqmask or 'empty'}"
    yield ""
    yield from picture(status.owners, status.policy.reserves, how)
    yield ""
    yield from _leases(status.ledger)
    yield f"owed to the host: {_debt(status.ledger)}"
    if status.drift:
        yield ""
        yield "not as it should be:"
        yield from (f"  {sentence}" for sentence in status.drift)


def _kernel(host: Host) -> str:
    able = [
        *(["override"] if host.abilities.override else []),
        *(["ap_config"] if host.abilities.ap_config else []),
        *(["strict return"] if host.abilities.strict_return else []),
    ]
    return ", ".join([f"vfio_ap {'loaded' if host.vfio_ap else 'NOT loaded'}", *able])


def _leases(ledger: Ledger) -> Iterator[str]:
    if not ledger.leases:
        yield "no guest holds queues"
    for lease in ledger.leases.values():
        yield f"guest {printable(lease.guest)}: {_lease(lease)}"
    yield from map(_promise, ledger.promises.values())


def _promise(promise: Promise) -> str:
    return (
        f"mdevctl starts a device: {promise.matrix}; freed by {promise.way}, "
        f"mdev {promise.mdev}, process {promise.process.pid}"
    )


def _lease(lease: Lease) -> str:
    control = f", control domains {lease.matrix.control_domains}" if lease.matrix.control_domains else ""
    return f"{lease.matrix}{control}; freed by {lease.way}, {lease.state}, mdev {lease.mdev}"


def _debt(ledger: Ledger) -> str:
    parts = [f"{name} {ids}" for name, ids in zip(MASK_NAMES, ledger.owed, strict=True) if ids]
    if ledger.overrides:
        parts.append(f"driver_override of {some_queues(ledger.overrides)}")
    return ", ".join(parts) or "nothing"
