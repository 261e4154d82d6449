# SPDX-License-Identifier: Apache-2.0
"""Why a start would be refused, and what opens the way for it."""

from __future__ import annotations

from apvfio.doctor.check import of_error
from apvfio.doctor.facts import Unseen
from apvfio.doctor.judge.host import removing
from apvfio.errors import ConflictError, HostError, PolicyError
from apvfio.host import BUS, Host
from apvfio.ledger import Ledger
from apvfio.mask import format_list
from apvfio.matrix import Matrix
from apvfio.plan.presence import absent_control_domains
from apvfio.policy import POLICY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, Guest
    from apvfio.doctor.words import Words
    from apvfio.errors import ApvfioError
    from apvfio.request import Request


def refusal(guest: Guest, request: Request, error: ApvfioError, facts: Facts, words: Words) -> Check:
    """The check to which the refusal ``error`` of the guest's start belongs."""
    name = guest.domain.name
    if isinstance(error, ConflictError):
        return of_error("held", error, *_freeing(request, facts, words), guest=name)
    if isinstance(error, PolicyError):
        return of_error("refused", error, words.edit(POLICY), guest=name)
    if request.wish:
        return of_error("wish", error, words.apvfio("queues"), guest=name)
    host = facts.kernel.host
    if isinstance(error, HostError) and isinstance(host, Host):
        return _absent(guest, request, error, facts, words)
    return of_error("start", error, guest=name)


def _freeing(request: Request, facts: Facts, words: Words) -> Iterator[str]:
    """The commands that stop whoever holds the queues or the device."""
    ledger, host = facts.keeping.ledger, facts.kernel.host
    if not isinstance(ledger, Ledger) or not isinstance(host, Host):
        return
    users = {} if isinstance(facts.guests, Unseen) else {g.outline.device: g for g in facts.guests}
    for lease in ledger.live():
        if lease.uuid != request.guest_uuid and (
            lease.mdev == request.mdev or not lease.matrix.overlap(request.matrix).empty
        ):
            yield words.virsh("shutdown", lease.guest)
    for uuid, matrix in sorted(host.mdevs.items()):
        if uuid in ledger.leases or (uuid != request.mdev and matrix.overlap(request.matrix).empty):
            continue
        if uuid in facts.kernel.attached and uuid in users:
            yield words.virsh("shutdown", users[uuid].domain.name)
        else:
            yield removing(uuid, facts, words)


def _absent(guest: Guest, request: Request, error: HostError, facts: Facts, words: Words) -> Check:
    """Queues that are not there: why, as far as the partition's own configuration tells."""
    host, partition = facts.kernel.host, facts.kernel.partition
    assert isinstance(host, Host)
    check = of_error("absent", error, guest=guest.domain.name)
    adapters = request.matrix.adapters - host.adapters
    domains = request.matrix.domains - host.domains
    control = absent_control_domains(request.matrix, host)
    scan = words.echo("1", f"{BUS}/scans")
    if (adapters or domains) and not (adapters - partition.adapters) and not (domains - partition.domains):
        return check._replace(
            sentence=f"{error.sentence.removesuffix('.')}, though this partition has it: the AP bus has not "
            "found it yet.",
            remedy="Have the bus look again.",
            commands=(scan,),
        )
    if domains and not domains - partition.control_domains:
        return check._replace(
            sentence=f"this partition has domains {format_list(domains)} as control domains only, and the "
            "guest asks for their queues.",
            remedy="Assign them to the partition as usage domains (HMC), then have the bus look again.",
            commands=(scan,),
        )
    if adapters or domains or control:
        asked = request.matrix
        there = Matrix(asked.adapters - adapters, asked.domains - domains, asked.control_domains - control)
        if there.adapters and there.domains:
            return check._replace(commands=(_asking_for_less(guest, there, words),))
    return check


def _asking_for_less(guest: Guest, matrix: Matrix, words: Words) -> str:
    control = ["--control-domains", format_list(matrix.control_domains)] if matrix.control_domains else []
    lists = ["--adapters", format_list(matrix.adapters), "--domains", format_list(matrix.domains)]
    return words.about("guest set", guest.domain.name, *lists, *control)
