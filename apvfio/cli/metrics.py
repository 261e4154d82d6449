# SPDX-License-Identifier: Apache-2.0
"""``apvfio metrics``: the host in numbers, for Prometheus."""

from __future__ import annotations

import argparse

from apvfio.cli.output import READABLE, STANDARD_OUTPUT, write_text
from apvfio.cli.place import opened
from apvfio.errors import ApvfioError, Exit
from apvfio.events import trail
from apvfio.metrics.exposition import text
from apvfio.metrics.families import FAMILIES
from apvfio.metrics.measure import always, events, measure
from apvfio.status import read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.metrics.measure import Measured
    from apvfio.seam import System


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("metrics", help="print the host in numbers, as Prometheus reads them")
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=STANDARD_OUTPUT,
        help="replace FILE, in a directory of node_exporter's textfile collector",
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
        measured |= events(trail.counts(system.files), trail.damaged(system.files))
        found = read_status(system)
    except ApvfioError as error:
        return measured, error
    wrong = found.policy_error
    return {**measured, **always(up=wrong is None), **measure(found)}, wrong
