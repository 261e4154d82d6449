# SPDX-License-Identifier: Apache-2.0
"""All guests: each shortly, and those that cannot run together."""

from __future__ import annotations

from itertools import combinations

from apvfio.doctor.check import OK, of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import Unseen
from apvfio.doctor.judge.guest import judge_guest
from apvfio.errors import Exit, printable
from apvfio.request import Request
from apvfio.wording import some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, Guest
    from apvfio.doctor.words import Words
    from apvfio.matrix import Apqn


def judge_guests(facts: Facts, words: Words) -> Iterator[Check]:
    """Every guest with an annotation or a device for queues."""
    guests = facts.guests
    if isinstance(guests, Unseen):
        if facts.machine is None:
            yield skipped("guest", guests.error.sentence.removesuffix("."))
        return
    concerned = [guest for guest in guests if guest.outline.annotated or guest.outline.device]
    if not concerned:
        yield ok("guest", "no guest asks for AP queues")
    for guest in concerned:
        checks = list(judge_guest(guest, facts, words))
        yield from (check for check in checks if check.state != OK or check.id == "start")
    yield from pairs(concerned, words)


def judge_one(name: str, facts: Facts, words: Words) -> Iterator[Check]:
    """All that bears on the guest ``name``."""
    if isinstance(facts.guests, Unseen):
        yield (
            of_error("guest", facts.guests.error)
            if facts.machine is None
            else skipped("guest", "libvirt does not answer")
        )
        return
    guests = [guest for guest in facts.guests if guest.domain.name == name]
    if not guests:
        yield problem(
            "guest",
            f"libvirt knows no guest {printable(name)}.",
            "See which there are.",
            words.virsh("list", "", "--all"),
            code=Exit.REQUEST,
        )
    for guest in guests:
        yield from judge_guest(guest, facts, words)
    yield from (check for check in pairs(list(facts.guests), words, name))


def pairs(guests: list[Guest], words: Words, name: str = "") -> Iterator[Check]:
    """Guests of which only one can run at a time; with ``name`` those that it is one of."""
    for one, other in combinations(guests, 2):
        first, second = (other, one) if other.domain.name == name else (one, other)
        if name in ("", first.domain.name):
            yield from _pair(first, second, words)


def _pair(one: Guest, other: Guest, words: Words) -> Iterator[Check]:
    if one.outline.device and one.outline.device == other.outline.device:
        yield _exclusive(
            "same-device",
            (one, other),
            f"its mediated device {one.outline.device} is",
            "Give one of the two a uuid of its own (uuidgen).",
            words.virsh("edit", other.domain.name),
        )
    elif shared := _shared(one, other):
        yield _exclusive(
            "same-queues",
            (one, other),
            f"{some_queues(shared)} {'is' if len(shared) == 1 else 'are'}",
            "If they are to run together, give one of them other queues.",
            words.about("plan", "", "--all"),
        )._replace(queues=tuple(shared))


def _exclusive(name: str, both: tuple[Guest, Guest], what: str, remedy: str, command: str) -> Check:
    """Two guests that exclude each other; a problem if both start with the host."""
    one, other = both
    sentence = f"{what} also guest {printable(other.domain.name)}'s"
    if one.domain.autostart and other.domain.autostart:
        ends = ", and both start with the host: one of the two will not."
        return problem(name, f"{sentence}{ends}", remedy, command, code=Exit.CONFLICT, guest=one.domain.name)
    ends = ", so that only one of the two can run."
    return warning(name, f"{sentence}{ends}", remedy, command, guest=one.domain.name)


def _shared(one: Guest, other: Guest) -> list[Apqn]:
    if isinstance(one.request, Request) and isinstance(other.request, Request):
        return list(one.request.matrix.overlap(other.request.matrix).queues())
    return []
