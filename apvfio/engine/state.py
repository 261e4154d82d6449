# SPDX-License-Identifier: Apache-2.0
"""The state of a host from which a plan is made: the kernel's, the ledger's and the policy's."""

from __future__ import annotations

from apvfio.engine.lease_end import changed_lease
from apvfio.engine.signs_of_life import Evidence
from apvfio.kernel.snapshot import read_host
from apvfio.model.host import Host
from apvfio.model.ledger import Ledger
from apvfio.model.policy import Policy
from apvfio.model.typed import NamedTuple
from apvfio.plan.steps import with_relied_on_mask, with_retaken, without_returned
from apvfio.store import ledger_file
from apvfio.store.policy_file import read_policy
from apvfio.store.stop_records import ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import System


class State(NamedTuple):
    """What planning needs."""

    host: Host
    ledger: Ledger
    policy: Policy


def look(system: System) -> State:
    """Return the state with the ledger as its file has it; anybody may look, without the lock."""
    host = read_host(system.sysfs)
    return State(host, ledger_file.load(system.files, system.boot_id), read_policy(system.files))


def read_state(system: System, found: Ledger | None = None) -> State:
    """Return the state with the ledger brought up to date; ``found`` is the ledger that the file has.

    For a change, which has the lock, or for a preview of one.
    """
    host = read_host(system.sysfs)
    found = found or ledger_file.load(system.files, system.boot_id)
    return State(host, bring_up_to_date(system, found, host), read_policy(system.files))


def read_ledger(system: System, evidence: Evidence | None = None) -> tuple[Host, Ledger, Ledger]:
    """Return the host, the ledger as its file has it, and that brought up to date; for a change or a preview.

    Without the policy: a mistake in its file keeps no queues from the host.
    """
    host = read_host(system.sysfs)
    found = ledger_file.load(system.files, system.boot_id)
    return host, found, bring_up_to_date(system, found, host, evidence)


def bring_up_to_date(system: System, ledger: Ledger, host: Host, evidence: Evidence | None = None) -> Ledger:
    """Bring ``ledger``, loaded under the lock, up to date with ``host`` and its processes.

    A live change whose process has ended is rolled back, a claim ends with its mdevctl process, and a pending
    return that another program has made is removed.
    """
    signs, stopped = evidence or Evidence(system), ended(system)
    changed = [
        new for lease in ledger.leases.values() if (new := changed_lease(system, lease, host, signs, stopped))
    ]
    broken = [claim.mdev for claim in ledger.claims.values() if not system.lives(claim.process)]
    ledger = ledger.with_leases(changed).without_claims(*broken)
    return with_retaken(without_returned(with_relied_on_mask(ledger, host), host), host)
