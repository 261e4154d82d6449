# SPDX-License-Identifier: Apache-2.0
"""What happens to guests' queues and the ledger when apvfio is removed from a host."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from apvfio.engine.deferred import DIRECTORY
from apvfio.engine.reconcile import reconcile_host
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.host import BUS
from apvfio.store import ledger_file, stop_records

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.progress import Progress

_RUN = "run/apvfio"
_SOME = 5


def require_unused(system: System, force: bool) -> None:
    """ConflictError naming the guests that hold queues, unless ``force``."""
    ledger = ledger_file.load(system.files, system.boot_id)
    holding = sorted({lease.guest for lease in ledger.leases.values()})
    if holding and not force:
        names = ", ".join(map(printable, holding[:_SOME])) + (", ..." if len(holding) > _SOME else "")
        raise ConflictError(
            f"{'guest' if len(holding) == 1 else 'guests'} {names} "
            f"{'holds' if len(holding) == 1 else 'hold'} queues, "
            "which nothing returns after apvfio is removed.",
            remedy="Shut them down first ('apvfio release' if they do not run), or add --force.",
        )


def return_pending(system: System, force: bool, progress: Progress) -> None:
    """Return to the host all that is pending; with ``force`` an error is only printed."""
    if not system.sysfs.exists(BUS):
        return
    try:
        reconcile_host(system, progress=progress)
    except ApvfioError as error:
        if not force:
            raise
        print(f"apvfio: {error}", file=sys.stderr)


def forget(root: str, system: System) -> bool:
    """Remove the ledger, the stop records and everything else below /run.

    While queues are held or returns are pending, remove only the directory of deferred returns, and return
    False.
    """
    # The directory shows that the unit takes up deferred returns.
    shutil.rmtree(os.path.join(root, DIRECTORY), ignore_errors=True)
    ledger = ledger_file.load(system.files, system.boot_id)
    if ledger.leases or ledger.pending or ledger.overrides or ledger.claims:
        return False
    stop_records.forget_served(system, ledger)
    shutil.rmtree(os.path.join(root, _RUN), ignore_errors=True)
    return True
