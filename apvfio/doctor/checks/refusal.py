# SPDX-License-Identifier: Apache-2.0
"""Why a start would be refused, and what allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import of_error
from apvfio.doctor.checks.host import in_somebodys_use, removing
from apvfio.doctor.checks.kernel import clearing, strange
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError, RequestError, printable
from apvfio.model.host import BUS
from apvfio.model.ids import format_list
from apvfio.model.matrix import Apqn
from apvfio.plan.availability import DrainedError
from apvfio.store.policy_file import POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, GuestFacts
    from apvfio.doctor.remedies import Words
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Matrix
    from apvfio.model.request import Request

OWN_DEVICE = "Give it a mediated device of its own."


def refusal(guest: GuestFacts, request: Request, error: ApvfioError, facts: Facts, words: Words) -> Check:
    """The check to which the refusal ``error`` of the guest's start belongs."""
    if isinstance(error, ConflictError):
        return _held(guest, request, error, facts, words)
    if request.secure and isinstance(error, RequestError):
        return of_error("secure-execution", error, words.apvfio("queues"))
    if isinstance(error, PolicyError):
        drained = isinstance(error, DrainedError)
        return of_error(
            "refused", error, *(_drains(error, facts, words) if drained else [words.edit(POLICY)])
        )
    if request.criteria:
        return of_error("criteria", error, words.apvfio("queues"))
    if isinstance(error, HostError) and facts.host:
        return _absent(guest, request, error, facts, words)
    return of_error("start", error)


def _drains(error: ApvfioError, facts: Facts, words: Words) -> Iterator[str]:
    """The commands that end the drains of these queues, and no other drain."""
    queues = [Apqn._make(queue) for queue in error.queues]
    for drain in facts.store.drains:
        if any(map(drain.area.holds, queues)):
            yield words.end_of_drain(drain.area)


def _held(guest: GuestFacts, request: Request, error: ConflictError, facts: Facts, words: Words) -> Check:
    """Somebody has the queues or the device. No other guest is stopped, and none loses its device."""
    check = of_error("held", error)
    ledger, host = facts.ledger, facts.host
    if ledger is None or host is None:
        return check
    rivals = [lease for lease in facts.leases if lease.uuid != request.guest_uuid]
    if any(lease.mdev == request.mdev for lease in rivals):
        return check._replace(remedy=OWN_DEVICE, commands=(own_device(guest, words),))
    holders = [lease for lease in rivals if lease.matrix.meets(request.matrix)]
    devices = [
        uuid
        for uuid, matrix in sorted(host.mdevs.items())
        if uuid not in ledger.leases and (uuid == request.mdev or not matrix.overlap(request.matrix).empty)
    ]
    unused = [uuid for uuid in devices if not in_somebodys_use(uuid, facts, but=request.guest_uuid)]
    if devices and devices == unused and not holders:
        return check._replace(
            remedy="If nobody needs the device, remove it.",
            commands=tuple(removing(uuid, facts, words) for uuid in devices),
        )
    if holders or devices:
        return check._replace(
            remedy=f"{_awaiting(holders, facts)}, or request other queues; 'apvfio queues' lists them.",
            commands=(words.apvfio("queues"),),
        )
    if kept := strange(request, host):
        return check._replace(
            remedy="If that override is a leftover, clear it.", commands=tuple(clearing(kept, host, words))
        )
    return check


def _awaiting(holders: list[Lease], facts: Facts) -> str:
    """What to wait for until the queues that ``holders`` have are free."""
    if not holders:
        return "Wait until the device is no longer in use"
    off = {guest.outline.uuid for guest in facts.known_guests if not guest.domain.active}
    who = f"guest {printable(holders[0].guest)}"
    if holders[0].uuid in off:
        return f"{who[0].upper()}{who[1:]} is off: run 'apvfio reconcile' two minutes after its last start"
    return f"Wait until {who} has stopped"


def own_device(guest: GuestFacts, words: Words) -> str:
    """The command that gives the guest another mediated device."""
    name = guest.domain.name
    # The command requires the queues for which the device is meant.
    annotated = guest.outline.annotated and not isinstance(guest.request, ApvfioError)
    return words.about("guest set", name, "--new-device") if annotated else words.virsh("edit", name)


def _absent(guest: GuestFacts, request: Request, error: HostError, facts: Facts, words: Words) -> Check:
    """Judge requested queues that the host lacks; the partition's configuration tells why."""
    host, partition = facts.host, facts.kernel.partition
    assert host
    check = of_error("absent", error)
    adapters = request.matrix.adapters - host.adapters
    domains = request.matrix.domains - host.domains
    scan = words.echo("1", f"{BUS}/scans")
    if (adapters or domains) and not (adapters - partition.adapters) and not (domains - partition.domains):
        return check._replace(
            sentence=f"{error.clause}, though this partition has it: the AP bus has not found it yet.",
            remedy="Scan the AP bus.",
            commands=(scan,),
        )
    if domains and not domains - partition.control_domains:
        return check._replace(
            sentence=f"this partition has domains {format_list(domains)} as control domains only, and the "
            "guest requests their queues.",
            remedy="Assign them to the partition as usage domains (HMC), then scan the AP bus.",
            commands=(scan,),
        )
    if guest.less and not request.free_by:  # which the command cannot say
        return check._replace(commands=(setting(guest, guest.less, words),))
    return check


def setting(guest: GuestFacts, matrix: Matrix, words: Words) -> str:
    """The command that has the guest request ``matrix``."""
    control = ["--control-domains", format_list(matrix.control_domains)] if matrix.control_domains else []
    lists = ["--adapters", format_list(matrix.adapters), "--domains", format_list(matrix.domains)]
    return words.about("guest set", guest.domain.name, *lists, *control)
