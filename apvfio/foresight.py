# SPDX-License-Identifier: Apache-2.0
"""What `apvfio.broker.release` and `reconcile` would do now; nothing is changed, and no lock is taken."""

from __future__ import annotations

from apvfio import ledgers
from apvfio.host import read_host
from apvfio.plan.overrides import returnable_overrides
from apvfio.plan.steps import due, returnable, staying
from apvfio.settle import Outcome, differences, settled, without_abandoned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.host import Host
    from apvfio.ledger import Ledger
    from apvfio.system import System


def foresee_release(system: System, guest_uuid: str) -> Outcome:
    """The end of what the guest ``guest_uuid`` holds, though it may still use it."""
    host = read_host(system.sysfs)
    found = ledgers.load(system.files, system.boot_id)
    return _outcome(settled(system, found, host).ending(guest_uuid), host)


def foresee_reconcile(system: System) -> Outcome:
    """What is due, and what is seen that should not be so."""
    host = read_host(system.sysfs)
    found = ledgers.load(system.files, system.boot_id)
    ledger = without_abandoned(system, settled(system, found, host))
    return _outcome(ledger, host)._replace(seen=tuple(differences(system, host, found)))


def _outcome(ledger: Ledger, host: Host) -> Outcome:
    """All steps that are due, taken at once, and the debts that they leave."""
    mdevs = staying(ledger, host)
    paid = {queue for queue, _ in returnable_overrides(ledger, host, mdevs)}
    after = ledger._replace(
        owed=ledger.owed - returnable(ledger, host, mdevs),
        overrides={queue: before for queue, before in ledger.overrides.items() if queue not in paid},
    )
    return Outcome(due(ledger, host), after)
