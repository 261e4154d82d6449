# SPDX-License-Identifier: Apache-2.0
"""The host's queues: cards that do not work, and what other tools have left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import WARNING, of_error, ok, skipped, warning
from apvfio.doctor.checks.store import ROOT_ONLY
from apvfio.doctor.facts import Unseen, known
from apvfio.model.host import ALL_BITS, AP_MDEVS, BUS, MASK_NAMES, OVERRIDES, MaskBits
from apvfio.model.ids import ALL_IDS, format_list, union
from apvfio.model.persistent_masks import RULE
from apvfio.model.request import Request
from apvfio.model.text import mask_bits, some_queues
from apvfio.plan.drift import cleared_by_others

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, KernelFacts
    from apvfio.doctor.remedies import Words
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix
    from apvfio.model.persistent_masks import StoredMasks

_CARD_FAULTS = {
    "deconfig": ("deconfigured", "Configure it on.", "config"),
    "chkstop": ("check-stopped", "Have its hardware checked (HMC, Support Element).", ""),
    "offline": ("set offline", "Set it online.", "online"),
}
"""What a card's status means, what to do, and the attribute that 1 is written to for that."""


def judge_host(facts: Facts, words: Words) -> Iterator[Check]:
    """Judge the host independently of any guest."""
    host, ledger, stored = facts.kernel.host, facts.store.ledger, facts.store.stored
    if isinstance(host, Unseen):
        yield skipped("cards", "there is no AP bus")
        return
    yield from _cards(facts, words)
    if isinstance(ledger, Unseen):
        yield skipped("foreign-devices", "the ledger, which lists apvfio's devices, cannot be read")
        return
    if isinstance(stored, Unseen):
        yield _unreadable(stored, words)
    yield from _foreign(facts, host, ledger, words)
    if host.mechanism != OVERRIDES:
        yield from _masks(facts.kernel, host, ledger, known(stored), words)


def _cards(facts: Facts, words: Words) -> Iterator[Check]:
    kernel, faults = facts.kernel, 0
    # The guests that would get them have a check of their own.
    requests = (guest.request for guest in facts.judged)
    asked = union(request.matrix.adapters for request in requests if isinstance(request, Request))
    for card in kernel.cards:
        if card.status not in _CARD_FAULTS:
            continue
        faults += 1
        if card.status != "offline" and int(card.id, 16) in asked:
            continue
        what, remedy, attribute = _CARD_FAULTS[card.status]
        switch = (words.echo("1", f"{BUS}/devices/card{card.id}/{attribute}"),) if attribute else ()
        yield warning("cards", f"adapter {card.id} ({int(card.id, 16)}) is {what}.", remedy, *switch)
    if kernel.cards and not faults:
        yield ok("cards", "all adapters are configured on, and online")


def _unreadable(stored: Unseen, words: Words) -> Check:
    if stored.hidden:
        return skipped("stored-masks", ROOT_ONLY)
    return of_error("stored-masks", stored.error, words.edit(RULE))._replace(state=WARNING)


def _foreign(facts: Facts, host: Host, ledger: Ledger, words: Words) -> Iterator[Check]:
    """Judge foreign mediated devices: not apvfio's, not attached, and of no defined guest."""
    for uuid, matrix in sorted(host.mdevs.items()):
        ours = uuid in ledger.leases or uuid in ledger.claims
        # A device that mdevctl starts at boot is there on purpose.
        if ours or facts.defined.get(uuid) or in_somebodys_use(uuid, facts):
            continue
        yield warning(
            "foreign-devices",
            f"no guest uses the mediated device {uuid}, which is not apvfio's and holds {_held(matrix)}.",
            "If nobody needs it, remove it.",
            removing(uuid, facts, words),
            queues=matrix.queues(),
        )


def in_somebodys_use(uuid: str, facts: Facts, *, but: str = "") -> bool:
    """Whether a guest or process has the mediated device, or a guest other than ``but`` may want it.

    While libvirt does not say which guests there are, any of them may.
    """
    if uuid in facts.kernel.attached or isinstance(facts.guests, Unseen):
        return True
    return any(
        uuid in (guest.outline.device, guest.attached) and guest.outline.uuid != but for guest in facts.guests
    )


def _held(matrix: Matrix) -> str:
    return some_queues(list(matrix.queues())) or f"no queues ({matrix})"


def removing(uuid: str, facts: Facts, words: Words) -> str:
    """The command that removes a mediated device."""
    if uuid in facts.defined and facts.mdevctl:
        return f"mdevctl stop -u {uuid}"
    return words.echo("1", AP_MDEVS.remove(uuid))


def _masks(
    kernel: KernelFacts, host: Host, ledger: Ledger, stored: StoredMasks | None, words: Words
) -> Iterator[Check]:
    """Judge bits that are clear for no known reason, and stored masks that differ from the active ones."""
    stored_bits = stored.cleared if stored else MaskBits()
    cleared = ALL_BITS - host.masks
    strange = cleared_by_others(host, ledger, ALL_BITS if kernel.boot_masks else stored_bits)
    for name, own, theirs, left, there in zip(
        MASK_NAMES, cleared, stored_bits, strange, (host.adapters, host.domains)
    ):
        if left:
            again = words.apvfio("masks", "--active", f"{name}=+{',+'.join(format_list(left).split(','))}")
            sentence = f"{mask_bits(name, left)} is clear for no known reason: the host lacks those queues."
            once = " once no driver_override is set" if kernel.mixed else ""
            remedy = f"If nobody freed them on purpose, return them{once}."
            yield warning("masks", sentence, remedy, *(() if kernel.mixed else (again,)))
        later = (theirs - own) & there
        if later:
            yield warning(
                "stored-masks",
                f"/{RULE} clears {mask_bits(name, later)} at the next boot; it is set now.",
                "If this is not intended, store the bits as set.",
                words.apvfio("masks", "--persistent", f"{name}={format_list(ALL_IDS - theirs | later)}"),
            )
