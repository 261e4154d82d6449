# SPDX-License-Identifier: Apache-2.0
"""Previews: what a start, a release or a reconcile would do. Nothing is changed, no lock is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.engine.carry_out import Outcome
from apvfio.engine.differences import differences
from apvfio.engine.master_keys import known_keys
from apvfio.engine.plan_start import plan_start
from apvfio.engine.signs_of_life import Evidence
from apvfio.engine.state import State, read_ledger, read_state
from apvfio.model.ledger import CHANGING, HELD
from apvfio.model.matrix import Matrix
from apvfio.plan.key_warnings import key_warnings
from apvfio.plan.steps import after_returns, after_stop, pending_steps

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan


def preview_start(system: System, request: Request, *, runs: bool | None = None) -> Plan:
    """What the next start of the guest would do; of one that runs, when it has stopped.

    ``runs`` is whether it does, as processes and ledger tell if not given. The errors are those of a start.
    """
    seen = read_state(system)
    leases = [lease for lease in seen.ledger.of_guest(request.guest_uuid) if lease.state in (HELD, CHANGING)]
    if runs is None:
        running = system.running_guests()
        runs = bool(leases) if running is None else request.guest_uuid in running
    if not runs:
        return preview_plan(system, request, seen)
    ledger, host = after_stop(seen.ledger, seen.host, request.guest_uuid)
    found = preview_plan(system, request, seen._replace(ledger=ledger, host=host))
    return found._replace(keeps=leases[0].matrix if leases else Matrix())


def preview_plan(system: System, request: Request, state: State | None = None) -> Plan:
    """What starting the guest would do, on the host in ``state`` if given; the errors are those of a start.

    The cards are asked for the keys that the guest would find, which takes them a moment.
    """
    state = state or read_state(system)
    found = plan_start(system, request, state)
    keys = known_keys(system, state.host, found.request.matrix.queues())
    warnings = (*found.warnings, *key_warnings(found.request, state.ledger, keys))
    return found._replace(warnings=warnings, keys=keys)


def preview_release(system: System, guest_uuid: str, *, force: bool = False) -> tuple[Outcome, Host]:
    """Return what the release of guest ``guest_uuid`` would do, and the host after it.

    ConflictError if the guest still has its device, unless ``force``.
    """
    evidence = Evidence(system)
    host, found, ledger = read_ledger(system, evidence)
    for lease in () if force else found.of_guest(guest_uuid):
        evidence.require_idle(lease)
    return _preview(ledger.with_ending(guest_uuid), host)


def preview_reconcile(system: System) -> tuple[Outcome, Host]:
    """The pending steps and how the host differs from the ledger, and the host after the steps."""
    host, found, ledger = read_ledger(system)
    outcome, after = _preview(ledger, host)
    return outcome._replace(seen=tuple(differences(system, host, found))), after


def _preview(ledger: Ledger, host: Host) -> tuple[Outcome, Host]:
    left, after = after_returns(ledger, host)
    return Outcome(pending_steps(ledger, host), left), after
