# SPDX-License-Identifier: Apache-2.0
"""One guest, from its XML to what its start would do."""

from __future__ import annotations

import shlex

from apvfio.doctor.check import of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import Unseen
from apvfio.doctor.judge.refusal import refusal
from apvfio.errors import ApvfioError, Exit
from apvfio.guest_xml import own_mdev
from apvfio.host import BUS
from apvfio.ledger import Ledger
from apvfio.plan.planner import NO_WAY_NEEDED, Plan
from apvfio.request import Request
from apvfio.wording import count_queues, some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, Guest
    from apvfio.doctor.words import Words

_ARCH = "s390x"
_MACHINE = "s390-ccw"


def judge_guest(guest: Guest, facts: Facts, words: Words) -> Iterator[Check]:
    """What is wrong with it, in the order in which its start would stumble; in the end what a start does."""
    name, request = guest.domain.name, guest.request
    if isinstance(request, ApvfioError):
        yield _unclear(guest, request, words)
        yield skipped("start", "what it asks for is not clear", guest=name)
        return
    yield from _xml(guest, facts, words)
    if request is None:
        yield _asks_nothing(guest, facts, words)
        return
    if guest.outline.annotated:
        yield ok("annotation", f"it asks for {request.wish or request.matrix}", guest=name)
    else:
        yield ok("definition", f"mdevctl's definition of its device asks for {request.matrix}", guest=name)
    yield from _cards(guest, request, facts, words)
    yield _start(guest, request, facts, words)


def _unclear(guest: Guest, error: ApvfioError, words: Words) -> Check:
    name = guest.domain.name
    edit = words.virsh("edit", name)
    if guest.wrong == "definition":
        again = "define --replace" if guest.outline.annotated else "undefine"
        return of_error("definition", error, words.about(again, name), guest=name)
    if guest.wrong == "device":
        plug = (_attaching(guest, words),) if not guest.outline.device else (edit,)
        return of_error("device", error, *plug, guest=name)
    line = f" (line {guest.outline.line} of 'virsh dumpxml --inactive')" if guest.outline.line else ""
    found = of_error("annotation", error, edit, guest=name)
    return found._replace(sentence=f"{found.sentence.removesuffix('.')}{line}.")


def _attaching(guest: Guest, words: Words) -> str:
    """The command that gives the guest the device that ``apvfio guest set`` would."""
    xml = (
        "<hostdev mode='subsystem' type='mdev' model='vfio-ap'>"
        f"<source><address uuid='{own_mdev(guest.outline.uuid)}'/></source></hostdev>"
    )
    attach = words.virsh("attach-device", guest.domain.name, "/dev/stdin", "--config")
    return f"echo {shlex.quote(xml)} | {attach}"


def _xml(guest: Guest, facts: Facts, words: Words) -> Iterator[Check]:
    """What keeps QEMU from giving it queues, whatever apvfio does."""
    name, outline = guest.domain.name, guest.outline
    edit = words.virsh("edit", name)
    if outline.arch not in ("", _ARCH) or (outline.machine and not outline.machine.startswith(_MACHINE)):
        yield problem(
            "machine",
            f"its machine is {outline.machine or 'the default'} for {outline.arch or 'nothing known'}, and "
            "only s390-ccw-virtio for s390x has AP queues.",
            "Define it as <type arch='s390x' machine='s390-ccw-virtio'>.",
            edit,
            code=Exit.REQUEST,
            guest=name,
        )
    if outline.disabled:
        yield problem(
            "cpu",
            f"its <cpu> disables {', '.join(outline.disabled)}: the guest would find no AP queues.",
            "Take the feature out, or require it.",
            edit,
            code=Exit.REQUEST,
            guest=name,
        )
    if outline.kind == "kvm" and not facts.kernel.kvm:
        yield problem(
            "kvm",
            "it runs with KVM, and /dev/kvm is not there.",
            "Load the driver.",
            "modprobe kvm",
            guest=name,
        )


def _asks_nothing(guest: Guest, facts: Facts, words: Words) -> Check:
    name, device = guest.domain.name, guest.outline.device
    if not device:
        return ok("start", "it asks for no AP queues, and starts without", guest=name)
    host = facts.kernel.host
    if not isinstance(host, Unseen) and device in host.mdevs:
        held = some_queues(list(host.mdevs[device].queues())) or "no queues"
        return ok(
            "start", f"it asks for nothing, and has a device that somebody else made, with {held}", guest=name
        )
    return problem(
        "annotation",
        f"it has the device {device}, and nothing says which queues belong to it: libvirt will not find it.",
        "Annotate the guest; the ids are examples.",
        words.about("guest set", name, "--adapters", "0", "--domains", "1"),
        code=Exit.REQUEST,
        guest=name,
    )


def _cards(guest: Guest, request: Request, facts: Facts, words: Words) -> Iterator[Check]:
    """Adapters that it asks for and that do not work: it would get them as they are."""
    for card in facts.kernel.cards:
        adapter = int(card.id, 16)
        if adapter not in request.matrix.adapters or card.status not in ("deconfig", "chkstop"):
            continue
        what = "deconfigured" if card.status == "deconfig" else "check-stopped"
        commands = (
            [words.echo("1", f"{BUS}/devices/card{card.id}/config")] if card.status == "deconfig" else []
        )
        yield warning(
            "cards-asked",
            f"adapter {card.id} ({adapter}), which it asks for, "
            f"is {what}: it would start with queues that do not work.",
            "Configure it on." if commands else "Ask for another, or have the hardware looked at.",
            *commands,
            guest=guest.domain.name,
        )


def _start(guest: Guest, request: Request, facts: Facts, words: Words) -> Check:
    name = guest.domain.name
    if guest.domain.active:
        return _running(guest, request, facts, words)
    if guest.plan is None:
        return skipped("start", _why_no_plan(facts), guest=name)
    if isinstance(guest.plan, ApvfioError):
        return refusal(guest, request, guest.plan, facts, words)
    host = facts.kernel.host
    missing = "" if isinstance(host, Unseen) or host.vfio_ap else ", once vfio_ap is loaded"
    return ok("start", f"{_what(guest.plan)}{missing}", guest=name)


def _running(guest: Guest, request: Request, facts: Facts, words: Words) -> Check:
    name, ledger = guest.domain.name, facts.keeping.ledger
    if not isinstance(ledger, Ledger):
        return skipped("start", "it runs, and the ledger cannot be read", guest=name)
    leases = [lease for lease in ledger.live() if lease.uuid == request.guest_uuid]
    host = facts.kernel.host
    if leases:
        return ok(
            "start",
            f"it runs and has {count_queues(len(list(leases[0].matrix.queues())))}: {leases[0].matrix}",
            guest=name,
        )
    if not isinstance(host, Unseen) and request.mdev in host.mdevs:
        return ok("start", "it runs with a device that somebody else made", guest=name)
    return warning(
        "start",
        "it runs without the queues that it asks for: they are given at its start only.",
        "Stop it and start it again.",
        words.virsh("shutdown", name),
        words.virsh("start", name),
        guest=name,
    )


def _why_no_plan(facts: Facts) -> str:
    kernel, keeping = facts.kernel, facts.keeping
    for what, seen in (
        ("the AP bus", kernel.host),
        ("the ledger", keeping.ledger),
        ("the policy", keeping.policy),
    ):
        if isinstance(seen, Unseen):
            return f"{what} cannot be read"
    return "the host could not be read"


def _what(plan: Plan) -> str:
    queues = f"{count_queues(len(list(plan.request.matrix.queues())))} ({plan.request.matrix})"
    lost = plan.chosen.collateral
    cost = f"; the host loses {some_queues(lost)} besides" if lost else ""
    warnings = "".join(f"; {warning}" for warning in plan.warnings if "nobody asked for" not in warning)
    if plan.way == NO_WAY_NEEDED:
        how = "which are free already"
    elif plan.chosen.name == "overrides":
        how = "freed one by one with driver_override"
    else:
        how = f"freed by its {plan.chosen.name}"
    return f"a start gives it {queues}, {how}{cost}{warnings}"
