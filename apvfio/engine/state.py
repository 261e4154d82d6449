# SPDX-License-Identifier: Apache-2.0
"""The state of a host that a plan is made on: the kernel's, the ledger's and the policy's."""

from __future__ import annotations

from apvfio.engine.up_to_date import bring_up_to_date
from apvfio.kernel.snapshot import read_host
from apvfio.model.host import Host
from apvfio.model.ledger import Ledger
from apvfio.model.policy import Policy
from apvfio.model.typed import NamedTuple
from apvfio.store import ledger_file
from apvfio.store.policy_file import read_policy

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
