# SPDX-License-Identifier: Apache-2.0
"""All guests: a short result for each, and the pairs that cannot run together."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from apvfio.doctor.check import OK, PROBLEM, of_error, ok, problem, skipped, warning
from apvfio.doctor.checks.guest import judge_guest
from apvfio.doctor.checks.refusal import own_device
from apvfio.doctor.facts import Unseen
from apvfio.domain.xml_editor import own_mdevs
from apvfio.model.errors import ApvfioError, Exit, printable
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.model.similar import did_you_mean
from apvfio.model.text import some_queues
from apvfio.plan.start_plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, GuestFacts
    from apvfio.doctor.remedies import Words
    from apvfio.model.matrix import Apqn


def judge_guests(facts: Facts, words: Words) -> Iterator[Check]:
    """Every guest with an annotation or a device for queues."""
    guests = facts.guests
    if isinstance(guests, Unseen):
        if facts.machine is None:
            yield skipped("guest", guests.error.clause)
        return
    holding = {lease.uuid for lease in facts.leases}
    concerned = [
        guest
        for guest in guests
        if guest.request is not None
        or guest.outline.device
        or guest.attached
        or guest.outline.uuid in holding
    ]
    if not concerned:
        yield ok("guest", "no guest requests AP queues")
    for guest in concerned:
        # A cold standby is meant to wait: it is judged as if the running guest had stopped.
        if isinstance(guest.plan, ApvfioError) and isinstance(guest.alone, Plan):
            yield from _waiting(guest, guest.plan, guest.alone, facts, words)
            continue
        checks = judge_guest(guest, facts, words)
        yield from (check for check in checks if check.state != OK or check.id == "start")
    yield from pairs(concerned, words, facts)


def _waiting(
    guest: GuestFacts, error: ApvfioError, alone: Plan, facts: Facts, words: Words
) -> Iterator[Check]:
    """Judge a guest that can start as soon as others have stopped."""
    running = [other for other in facts.known_guests if other.domain.active]
    uuids = {other.outline.uuid for other in running}
    leases = facts.ledger.leases if facts.ledger else {}
    held = {mdev for mdev, lease in leases.items() if lease.uuid in uuids}
    free = facts.kernel.attached - held - {guest.attached for guest in running}
    without_them = facts._replace(kernel=facts.kernel._replace(attached=free))
    checks = judge_guest(guest._replace(plan=alone), without_them, words)
    yield from (check for check in checks if check.state != OK)
    if guest.outline.device not in held:  # the check of the pair reports that
        waits = ok("start", f"it waits until a running guest stops: {error.clause}")
        yield waits._replace(guest=guest.domain.name)


def judge_one(facts: Facts, words: Words) -> Iterator[Check]:
    """All that bears on the guest that is asked about."""
    if isinstance(facts.guests, Unseen):
        yield (
            of_error("guest", facts.guests.error)
            if facts.machine is None
            else skipped("guest", "libvirt does not answer")
        )
        return
    if not facts.judged:
        sentence = f"libvirt knows no guest {printable(facts.named)}."
        close = did_you_mean(facts.named, [guest.domain.name for guest in facts.known_guests])
        remedy = f"{close}List all guests."
        yield problem("guest", sentence, remedy, words.virsh("list", "", "--all"), code=Exit.REQUEST)
    for guest in facts.judged:
        yield from judge_guest(guest, facts, words)
    yield from pairs(list(facts.guests), words, facts)


def pairs(guests: list[GuestFacts], words: Words, facts: Facts) -> Iterator[Check]:
    """Guests of which only one can run at a time; if a guest was asked about, those that it is one of."""
    name = facts.named
    for one, other in combinations(guests, 2):
        first, second = (other, one) if other.domain.name == name else (one, other)
        if name in ("", first.domain.name):
            # The check of the waiting guest has reported the pair already.
            waits = _stands_by(first, second, facts), _stands_by(second, first, facts)
            for check in _pair(first, second, words, facts):
                reported = any(waits) if check.id == "same-queues" else name and waits[0]
                if not reported or check.state == PROBLEM:
                    yield check


def _stands_by(one: GuestFacts, other: GuestFacts, facts: Facts) -> bool:
    """Whether ``one`` does not run and cannot start, as ``other`` holds its queues or its device."""
    if one.domain.active or not isinstance(one.plan, ApvfioError):
        return False
    matrix = one.request.matrix if isinstance(one.request, Request) else Matrix()
    leases = [lease for lease in facts.leases if lease.uuid == other.outline.uuid]
    return any(lease.mdev == one.outline.device or lease.matrix.meets(matrix) for lease in leases)


def _pair(one: GuestFacts, other: GuestFacts, words: Words, facts: Facts) -> Iterator[Check]:
    if one.outline.device and one.outline.device == other.outline.device:
        clone = _clone(one, other, facts)
        if clone is other and not facts.named:
            one, other = other, one
        fixable = clone and facts.named in ("", clone.domain.name)
        yield _exclusive(
            "same-device",
            (one, other),
            f"its mediated device {one.outline.device} is",
            f"Give guest {printable(clone.domain.name)} a mediated device of its own."
            if clone
            else "Give one of the two a mediated device of its own.",
            *((own_device(clone, words),) if clone and fixable else ()),
        )
    elif shared := _shared(one, other):
        yield _exclusive(
            "same-queues",
            (one, other),
            f"{some_queues(shared)} {'is' if len(shared) == 1 else 'are'}",
            "To run both at the same time, give one of them other queues.",
            words.about("plan", "", "--all"),
        )._replace(queues=tuple(shared))


def _clone(one: GuestFacts, other: GuestFacts, facts: Facts) -> GuestFacts | None:
    """Which of two guests with one device is not the one that it was made for, None if nobody can tell."""
    lease = facts.ledger.leases.get(one.outline.device) if facts.ledger else None
    for original, clone in ((one, other), (other, one)):
        uuid = original.outline.uuid
        if lease.uuid == uuid if lease else original.outline.device in own_mdevs(uuid):
            return None if clone.domain.active else clone
    running = [guest for guest in (one, other) if guest.domain.active]
    return next((guest for guest in (one, other) if len(running) == 1 and guest not in running), None)


def _exclusive(
    name: str, both: tuple[GuestFacts, GuestFacts], what: str, remedy: str, *commands: str
) -> Check:
    """Two guests that exclude each other; a problem if both start with the host."""
    one, other = both
    sentence = f"{what} also guest {printable(other.domain.name)}'s"
    if one.domain.autostart and other.domain.autostart:
        ends = ", and both start with the host: one of the two will not."
        check = problem(name, f"{sentence}{ends}", remedy, *commands, code=Exit.CONFLICT)
    else:
        ends = ", so that only one of the two can run."
        check = warning(name, f"{sentence}{ends}", remedy, *commands)
    return check._replace(guest=one.domain.name)


def _shared(one: GuestFacts, other: GuestFacts) -> list[Apqn]:
    if isinstance(one.request, Request) and isinstance(other.request, Request):
        return list(one.request.matrix.overlap(other.request.matrix).queues())
    return []
