# SPDX-License-Identifier: Apache-2.0
"""One guest, from its XML to what its start would do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from apvfio.doctor.check import of_error, ok, problem, skipped, warning
from apvfio.doctor.checks.refusal import OWN_DEVICE, own_device, refusal, setting
from apvfio.doctor.facts import BROKEN_DEFINITION, Unseen
from apvfio.domain.request import HOSTDEV_XML
from apvfio.domain.xml_editor import own_mdev
from apvfio.model.errors import ApvfioError, Exit, RequestError, printable
from apvfio.model.host import AP_MDEVS, BUS, UNBOUND
from apvfio.model.request import Request
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.secure_execution import shared_key_warnings
from apvfio.plan.start_plan import ALREADY_FREE, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, GuestFacts
    from apvfio.doctor.remedies import Words
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Matrix

_WITHOUT_DEVICE = "it runs without the queues that it requests: a guest gets them when it starts."
_HOW_TO_GET_THEM = (
    "Shut it down and start it again, or give it the queues while it runs with 'apvfio guest set --live'."
)
_ARCH = "s390x"
_MACHINE = "s390-ccw"


def judge_guest(guest: GuestFacts, facts: Facts, words: Words) -> Iterator[Check]:
    """Yield the guest's faults in the order in which its start would meet them; last, what a start does."""
    for check in _judge(guest, facts, words):
        yield check._replace(guest=guest.domain.name)


def _judge(guest: GuestFacts, facts: Facts, words: Words) -> Iterator[Check]:
    request = guest.request
    if guest.outdated:
        yield warning(
            "saved",
            "its next start restores a managed save, whose request differs from its definition's.",
            # No command to paste, because it would discard the stored memory.
            "If the stored memory may be lost, run 'virsh managedsave-remove': the guest then starts "
            "from its definition.",
        )
    if isinstance(request, ApvfioError):
        yield _unclear(guest, request, facts, words)
        yield skipped("start", "its request cannot be determined")
        return
    yield from _xml(guest, facts, words)
    if request is None:
        yield _asks_nothing(guest, facts, words)
        return
    if guest.outline.annotated:
        yield ok("annotation", f"it requests {request.criteria or request.matrix}")
    else:
        yield ok("definition", f"mdevctl's definition of its device requests {request.matrix}")
    if request.secure:
        yield from _secure(guest.plan)
    yield from _cards(request, facts, words)
    yield _start(guest, request, facts, words)


def _unclear(guest: GuestFacts, error: ApvfioError, facts: Facts, words: Words) -> Check:
    name = guest.domain.name
    edit = words.virsh("edit", name)
    if guest.wrong == "definition":
        check = of_error("definition", error, words.about("define --replace", name))
        if _is_shared(guest, facts):
            return check._replace(remedy=OWN_DEVICE, commands=(edit,))
        return check
    if guest.wrong == BROKEN_DEFINITION:
        return of_error("definition", error, words.edit(AP_MDEVS.definition(guest.outline.device)))
    if guest.wrong == "device":
        plug = (_attaching(guest, words),) if not guest.outline.device else (edit,)
        return of_error("device", error, *plug)
    line = f" (line {guest.outline.line} of 'virsh dumpxml --inactive')" if guest.outline.line else ""
    return of_error("annotation", error, edit)._replace(sentence=f"{error.clause}{line}.")


def _is_shared(guest: GuestFacts, facts: Facts) -> bool:
    """Whether another guest has its device, and so its definition, as well."""
    others = (other.outline for other in facts.known_guests if other.outline.uuid != guest.outline.uuid)
    return guest.outline.device in [other.device for other in others]


def _attaching(guest: GuestFacts, words: Words) -> str:
    """The command that gives the guest the device that ``apvfio guest set`` would."""
    xml = HOSTDEV_XML.format(own_mdev(guest.outline.uuid))
    attach = words.virsh("attach-device", guest.domain.name, "/dev/stdin", "--config")
    return f"echo {shlex.quote(xml)} | {attach}"


def _xml(guest: GuestFacts, facts: Facts, words: Words) -> Iterator[Check]:
    """What keeps QEMU from giving it queues, whatever apvfio does."""
    outline, edit = guest.outline, words.virsh("edit", guest.domain.name)
    if outline.arch not in ("", _ARCH) or (outline.machine and not outline.machine.startswith(_MACHINE)):
        kind = f"{outline.machine or 'the default'} for {outline.arch or 'nothing known'}"
        sentence = f"its machine is {kind}; only s390-ccw-virtio for s390x has AP queues."
        remedy = "Define it as <type arch='s390x' machine='s390-ccw-virtio'>."
        yield problem("machine", sentence, remedy, edit, code=Exit.REQUEST)
    if outline.disabled:
        sentence = f"its <cpu> disables {', '.join(outline.disabled)}: the guest would find no AP queues."
        yield problem(
            "cpu",
            sentence,
            "Remove the feature's element, or set its policy to require.",
            edit,
            code=Exit.REQUEST,
        )
    if outline.kind == "kvm" and not facts.kernel.kvm:
        yield problem(
            "kvm", "it runs with KVM, and /dev/kvm does not exist.", "Load the driver.", "modprobe kvm"
        )


def _secure(plan: Plan | ApvfioError | None) -> Iterator[Check]:
    """Judge a Secure Execution guest; unusable queues are reported as the refusal of its start."""
    if isinstance(plan, Plan):
        for said in shared_key_warnings(plan.keys):
            yield warning("secure-execution", f"{said}.", "")
    if not isinstance(plan, RequestError):
        yield ok("secure-execution", "it is a Secure Execution guest: it binds its queues after each start")


def _asks_nothing(guest: GuestFacts, facts: Facts, words: Words) -> Check:
    device = guest.outline.device
    own = [lease for lease in facts.leases if lease.uuid == guest.outline.uuid]
    if own:
        held = count_queues(len(list(own[0].matrix.queues())))
        ends = "libvirt will not find its device" if device else "its next start is without them"
        sentence = f"it holds {held} ({own[0].matrix}), and its definition does not request them: {ends}."
        return _unrequested(guest, sentence, words)
    host = facts.host
    if guest.attached and host and guest.attached not in host.mdevs:
        sentence = f"its mediated device {guest.attached} is gone, and its definition requests no queues."
        return _unrequested(guest, sentence, words)
    if not device:
        return ok("start", "it requests no AP queues, and starts without any")
    holder = next((lease for lease in facts.leases if lease.mdev == device), None)
    if holder:
        sentence = f"its mediated device {device} is that of guest {printable(holder.guest)}."
        return problem("held", sentence, OWN_DEVICE, own_device(guest, words), code=Exit.CONFLICT)
    if host and device in host.mdevs:
        return _ready_made(guest, host.mdevs[device], facts, words)
    sentence = f"no annotation or definition says which queues its device {device} is for."
    return _unrequested(guest, sentence, words)


def _unrequested(guest: GuestFacts, sentence: str, words: Words) -> Check:
    """Judge a guest without a request that had queues before; the remedy requests its last queues again."""
    known = guest.known
    return problem(
        "annotation",
        sentence,
        "Annotate it again to give it its last queues."
        if known
        else "Annotate it with 'apvfio guest set', or remove its device.",
        *((setting(guest, known, words),) if known else ()),
        code=Exit.REQUEST,
    )


def _ready_made(guest: GuestFacts, matrix: Matrix, facts: Facts, words: Words) -> Check:
    """Judge a guest that requests nothing and whose device apvfio did not create."""
    device = guest.outline.device
    if device in facts.kernel.attached and not guest.domain.active:
        return _in_use(guest, device, words)
    held = some_queues(list(matrix.queues()))
    if not held:
        sentence = f"its mediated device {device}, which apvfio did not create, holds no queues ({matrix})."
        remedy = "Assign queues to the device, or annotate the guest."
        return problem("device", sentence, remedy, code=Exit.REQUEST)
    return ok("start", f"it requests no queues, and has a device that apvfio did not create, with {held}")


def _in_use(guest: GuestFacts, device: str, words: Words) -> Check:
    sentence = f"its mediated device {device} is in use by another guest or process."
    return problem("held", sentence, OWN_DEVICE, own_device(guest, words), code=Exit.CONFLICT)


def _outlived(guest: GuestFacts, request: Request, facts: Facts) -> Lease | None:
    """The lease of a guest whose QEMU runs although libvirt says that it is off, if that prevents a start."""
    lease = _lease(request, facts)
    if lease is None or lease.mdev in facts.kernel.attached:
        return lease
    same = lease.mdev == request.mdev and (request.criteria or lease.matrix == request.matrix)
    return lease if guest.outlives and not same else None


def _cards(request: Request, facts: Facts, words: Words) -> Iterator[Check]:
    """Adapters that it requests and that do not work: it would get them as they are."""
    for card in facts.kernel.cards:
        adapter = int(card.id, 16)
        if adapter not in request.matrix.adapters or card.status not in ("deconfig", "chkstop"):
            continue
        what = "deconfigured" if card.status == "deconfig" else "check-stopped"
        switch = words.echo("1", f"{BUS}/devices/card{card.id}/config")
        sentence = f"adapter {card.id} ({adapter}), which it requests, is {what}: its queues do not work."
        if card.status == "deconfig":
            yield warning("cards-asked", sentence, "Configure it on.", switch)
        else:
            yield warning("cards-asked", sentence, "Request another, or have the hardware checked.")


def _start(guest: GuestFacts, request: Request, facts: Facts, words: Words) -> Check:
    if guest.domain.active:
        return _running(guest, request, facts, words)
    if lease := _outlived(guest, request, facts):
        sentence = f"libvirt says that it is off, and its QEMU still has the mediated device {lease.mdev}."
        remedy = "Wait until that process has ended; see 'ps -ef' for one with the guest's uuid."
        return problem("held", sentence, remedy, code=Exit.CONFLICT)
    if guest.plan is None:
        return skipped("start", _why_no_plan(facts))
    if isinstance(guest.plan, ApvfioError):
        return refusal(guest, request, guest.plan, facts, words)
    if request.mdev in facts.kernel.attached:
        return _in_use(guest, request.mdev, words)
    return _nothing(guest.plan, facts) or _starting(guest.plan, facts)


def _starting(plan: Plan, facts: Facts) -> Check:
    """Return what the start will do, and the conditions that are still missing."""
    host = facts.host
    missing = "" if host is None or host.vfio_ap else ", once vfio_ap is loaded"
    if facts.kernel.mixed and plan.chosen.clear:
        missing += ", once the masks can be changed"
    return ok("start", f"{_what(plan)}{missing}")


def _nothing(plan: Plan, facts: Facts) -> Check | None:
    """The problem that none of the queues is on the host, which over-provisioning allows."""
    host = facts.host
    if host is None or any(queue in host.drivers for queue in plan.request.matrix.queues()):
        return None
    sentence = f"none of its queues ({plan.request.matrix}) is on this host: it starts without queues."
    remedy = "Assign them to the partition (HMC), or request others ('apvfio queues')."
    return problem("absent", sentence, remedy)


def _running(guest: GuestFacts, request: Request, facts: Facts, words: Words) -> Check:
    if facts.ledger is None or facts.host is None:
        return skipped("start", f"it runs, and {_why_no_plan(facts)}")
    return _without_queues(guest, request, facts, words) or _served(guest, request, facts, words)


def _served(guest: GuestFacts, request: Request, facts: Facts, words: Words) -> Check:
    """Judge a running guest that has all its queues: what it has, and whether it can start again."""
    if isinstance(guest.plan, ApvfioError):
        found = refusal(guest, request, guest.plan, facts, words)
        return found._replace(sentence=f"it runs, and its next start would be refused: {found.sentence}")
    lease = _lease(request, facts)
    if lease is None:
        return ok("start", "it runs with a device that apvfio did not create")
    has = f"it runs and has {count_queues(len(list(lease.matrix.queues())))}: {lease.matrix}"
    other = request.criteria is None and request.matrix != lease.matrix
    after = f"; at its next start it gets {request.matrix}" if other else ""
    return ok("start", f"{has}{after}")


def _without_queues(guest: GuestFacts, request: Request, facts: Facts, words: Words) -> Check | None:
    """What is wrong with a guest that runs without its queues, or some of them; None if it has all."""
    host, lease = facts.host, _lease(request, facts)
    device = lease.mdev if lease else guest.attached
    if device and host and device not in host.mdevs:
        return _lost(guest, f"it runs, and its mediated device {device} is gone: it has no queues.", words)
    if guest.unseen and host:
        found = _lost(guest, f"it runs, and {some_queues(guest.unseen)} do not reach it.", words)
        unbound = [queue for queue in guest.unseen if host.drivers.get(queue) == UNBOUND]
        if not unbound:
            return found
        return found._replace(
            remedy="Let the kernel bind these queues; the running guest then gets them.",
            commands=tuple(words.echo(str(queue), f"{BUS}/drivers_probe") for queue in unbound),
        )
    if lease and lease.expected and not guest.attached:
        sentence = "it runs without its device, which 'apvfio migrate' has unplugged."
        return warning(
            "start", sentence, "If no migration is under way, give that command again with --back."
        )
    if device:
        return None
    # No command: only the guest's QEMU knows whether a device can be plugged in.
    return warning("start", _WITHOUT_DEVICE, _HOW_TO_GET_THEM)


def _lease(request: Request, facts: Facts) -> Lease | None:
    return next((lease for lease in facts.leases if lease.uuid == request.guest_uuid), None)


def _lost(guest: GuestFacts, sentence: str, words: Words) -> Check:
    """A running guest that has lost queues: only its next start gives them back."""
    remedy = "Shut it down; when it is off ('virsh domstate'), start it again."
    return problem("start", sentence, remedy, words.virsh("shutdown", guest.domain.name))


def _why_no_plan(facts: Facts) -> str:
    read = {"AP bus": facts.kernel.host, "ledger": facts.store.ledger, "policy": facts.store.policy}
    unread = [f"the {what} cannot be read" for what, seen in read.items() if isinstance(seen, Unseen)]
    return unread[0] if unread else "the host could not be read"


def _told_elsewhere(warning: str) -> bool:
    """Whether another part of the sentence, or another check, says the same as a plan's ``warning``."""
    return "collateral" in warning or "a Secure Execution guest must not" in warning


def _what(plan: Plan) -> str:
    queues = f"{count_queues(len(list(plan.request.matrix.queues())))} ({plan.request.matrix})"
    lost = plan.chosen.collateral
    cost = f"; collateral queues: {some_queues(lost)}" if lost else ""
    warnings = "".join(f"; {warning}" for warning in plan.warnings if not _told_elsewhere(warning))
    if plan.freed_by == ALREADY_FREE:
        how = "which are free already"
    elif plan.chosen.name == "overrides":
        how = "freed one by one with driver_override"
    else:
        how = f"freed by {plan.chosen.name}"
    return f"a start gives it {queues}, {how}{cost}{warnings}"
