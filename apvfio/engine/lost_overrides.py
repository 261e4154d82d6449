# SPDX-License-Identifier: Apache-2.0
"""Why a start or a live change failed: another program reset the overrides that it had just set.

IBM's DRA driver for Kubernetes resets each override without a mediated device, and between the override and
the device there is a moment in each start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.errnos import is_lost
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError, ConflictError, KernelRefusedError
from apvfio.model.host import OVERRIDES, VFIO_DRIVER
from apvfio.model.text import some_queues

if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.plan.start_plan import Plan


def explained(sysfs: Sysfs, plan: Plan, error: ApvfioError | OSError) -> ApvfioError | OSError:
    """Return the error that explains ``error`` if there is one, else ``error``; before anything is undone."""
    refused = isinstance(error, KernelRefusedError) and is_lost(error)
    if plan.mechanism != OVERRIDES or not (refused or type(error) is ApvfioError):
        return error
    host = read_host(sysfs)
    reset = [
        queue
        for queue in plan.lease.matrix.queues()
        if queue in host.drivers and host.overrides.get(queue) != VFIO_DRIVER
    ]
    if not reset:
        return error
    return ConflictError(
        f"another program has changed driver_override of {some_queues(reset)} since apvfio set it.",
        queues=reset,
        remedy="Try again; if that fails, too, find the program.",
    )
