# SPDX-License-Identifier: Apache-2.0
"""Queues that the administrator has set offline: they are returned offline."""

from __future__ import annotations

from apvfio.kernel.snapshot import is_set_offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.plan.start_plan import Plan


def noting_offline(plan: Plan, host: Host, sysfs: Sysfs) -> Ledger:
    """Return the plan's ledger, with those of the queues to be taken that are offline now."""
    offline = {queue for queue in plan.taken(host) if is_set_offline(sysfs, queue)}
    return plan.ledger._replace(offline=plan.ledger.offline | offline)
