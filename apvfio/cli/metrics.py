# SPDX-License-Identifier: Apache-2.0
"""``apvfio metrics``: the host in numbers, for Prometheus."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import opened
from apvfio.cli.output_file import READABLE, STANDARD_OUTPUT, write_text
from apvfio.events import audit_log
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError, Exit
from apvfio.view.metrics.families import FAMILIES, text
from apvfio.view.metrics.measure import always, events, measure

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.view.metrics.measure import Measured


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("metrics", help="print metrics of the host in the format of Prometheus")
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=STANDARD_OUTPUT,
        help="write to FILE, such as one of node_exporter's textfile collector; - is standard output",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write them. Of a host that cannot be read they say so, and the command fails."""
    with opened(args) as system:
        measured, failure = _measured(system)
    write_text(
        args.output, text({family: measured[family] for family in FAMILIES if family in measured}), READABLE
    )
    if failure:
        raise failure
    return Exit.OK


def _measured(system: System) -> tuple[Measured, ApvfioError | None]:
    measured = always(up=False)
    try:
        measured |= events(audit_log.counts(system.files), audit_log.damaged(system.files))
        found = read_status(system)
    except ApvfioError as error:
        return measured, error
    wrong = found.policy_error
    return {**measured, **always(up=wrong is None), **measure(found)}, wrong
