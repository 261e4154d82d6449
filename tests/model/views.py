# SPDX-License-Identifier: Apache-2.0
"""What a host is at one instant, read from the simulated kernel's memory and not by the code under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import MaskBits
from apvfio.model.ledger import ENDING

if TYPE_CHECKING:
    from apvfio.model.ids import IdSet
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.sim.kernel import SimKernel
    from memory_host import Machine

HOST = "cex4queue"
VFIO = "vfio_ap"
KEPT = ("etc/",)
"""Where the files are that a person would miss; what is in /run is apvfio's own."""


class View(NamedTuple):
    """All of a host that apvfio changes, and what its guests have of it."""

    apmask: IdSet
    aqmask: IdSet
    drivers: dict[Apqn, str]
    overrides: dict[Apqn, str]
    offline: frozenset[Apqn]
    """The queues that the host has and does not use."""
    mdevs: dict[str, Matrix]
    guests: dict[str, Matrix]
    """What the guests see that have their device open, by its uuid."""
    kept: dict[str, str]

    @property
    def masks(self) -> MaskBits:
        """Both masks."""
        return MaskBits(self.apmask, self.aqmask)


class Promises(NamedTuple):
    """What of a ledger says how the host should be; the rest of it is memory of no consequence."""

    leases: frozenset[tuple[object, ...]]
    pending: MaskBits
    overrides: dict[Apqn, str]
    offline: frozenset[Apqn]
    mode: str


class State(NamedTuple):
    """A host and what the ledger says of it."""

    view: View
    promises: Promises


def view(machine: Machine) -> View:
    """The host now."""
    state = machine.kernel.state
    return View(
        apmask=state.apmask,
        aqmask=state.aqmask,
        drivers={queue: q.driver for queue, q in state.queues.items()},
        overrides={queue: q.override for queue, q in state.queues.items() if q.override},
        # What is deconfigured reads offline whatever it was set to.
        offline=frozenset(
            q
            for q, queue in state.queues.items()
            if queue.driver == HOST and queue.config and not queue.online
        ),
        mdevs={uuid: mdev.matrix for uuid, mdev in state.mdevs.items()},
        guests={uuid: mdev.guest_matrix for uuid, mdev in state.mdevs.items() if mdev.vm},
        kept={path: text for path, text in machine.files.texts.items() if path.startswith(KEPT)},
    )


def promises(ledger: Ledger) -> Promises:
    """What ``ledger`` says of how the host should be."""
    leases = frozenset(lease._replace(since=0) for lease in ledger.leases.values())
    return Promises(leases, ledger.pending, dict(ledger.overrides), ledger.offline_queues, ledger.mechanism)


def shared_queues(kernel: SimKernel) -> list[tuple[str, str]]:
    """The pairs of mediated devices that have a queue in common."""
    mdevs = sorted(kernel.state.mdevs.items())
    return [
        (a, b) for a, one in mdevs for b, two in mdevs if a < b and not one.matrix.overlap(two.matrix).empty
    ]


def still_pending(machine: Machine) -> list[str]:
    """The pending returns that the kernel would take this moment, tried one by one on a twin of the host.

    This asks the kernel's own rules and not apvfio's idea of them.
    """
    ledger, found = machine.ledger, []
    bits = ledger.pending - ledger.needed_bits()
    for name, ids in zip(("apmask", "aqmask"), bits):
        for i in ids:
            twin = machine.twin()
            if i not in getattr(twin.kernel.state, name) and _takes(twin, f"bus/ap/{name}", f"+{i}"):
                found.append(f"{name} +{i}")
    for queue, before in ledger.overrides.items():
        held = any(mdev.matrix.holds(queue) for mdev in machine.kernel.state.mdevs.values())
        there = machine.kernel.state.queues.get(queue)
        if queue in ledger.needed_queues() or held or not there or there.override != VFIO:
            continue
        if before != VFIO and _takes(
            machine.twin(), f"bus/ap/devices/{queue}/driver_override", before or "\n"
        ):
            found.append(f"driver_override of {queue}")
    return found


def disagreements(machine: Machine) -> list[str]:
    """Where ledger and kernel differ after a reconcile with nobody else about."""
    ledger, now, found = machine.ledger, view(machine), []
    for uuid, lease in ledger.leases.items():
        if lease.state == ENDING and lease.created and uuid in now.mdevs:
            found.append(f"the device of {lease.guest} outlived its end")
        elif lease.state != "held":
            found.append(f"the lease of {lease.guest} is {lease.state}")
        elif uuid not in now.mdevs:
            found.append(f"{lease.guest} has no device")
    found += [f"{one} and {two} share a queue" for one, two in shared_queues(machine.kernel)]
    still = (ledger.pending - ledger.needed_bits()) & now.masks
    if still:
        found.append(f"{still} is pending and set")
    return found


def _takes(twin: Machine, path: str, text: str) -> bool:
    try:
        twin.kernel.write(path, text)
    except OSError:
        return False
    return True


def difference(found: State, aim: State) -> str:
    """What of ``found`` is not as in ``aim``."""
    pairs = [*zip(View._fields, found.view, aim.view)]
    pairs += zip(Promises._fields, found.promises, aim.promises)
    return "; ".join(f"{name}: {_told(is_, should)}" for name, is_, should in pairs if is_ != should)


def _told(found: object, aim: object) -> str:
    if isinstance(found, dict) and isinstance(aim, dict):
        keys = [key for key in found.keys() | aim.keys() if found.get(key) != aim.get(key)]
        return ", ".join(f"{key} {found.get(key)!s} for {aim.get(key)!s}" for key in sorted(keys, key=str))
    return f"{found!s} for {aim!s}"
