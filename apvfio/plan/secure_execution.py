# SPDX-License-Identifier: Apache-2.0
"""The rules for Secure Execution guests: which queues they can use, and which changes undo their bind.

The guest's kernel uses a queue only if its adapter is an accelerator or in EP11 mode (ap_bus.h:
ap_q_supported_in_se), and EP11 needs a CEX8S or later. The guest binds each queue to itself, and associates
an EP11 queue with a secret; any reset of the queue undoes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.criteria import CCA, EP11
from apvfio.model.errors import RequestError
from apvfio.model.text import some_queues

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from apvfio.model.cards import Card
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText

OLDEST_EP11 = 8
"""A CEX8S: the queues of older adapters in EP11 mode can be neither bound nor associated."""

_SHOWN_DIGITS = 32
"""Of an EP11 pattern those that zkey shows and compares."""


def unusable(card: Card) -> str:
    """Return what makes ``card`` unusable for such a guest, such as ``in CCA mode``; '' if it is usable."""
    if card.mode == CCA:
        return "in CCA mode"
    if card.mode == EP11 and card.generation < OLDEST_EP11:
        older = f"a CEX{card.generation}" if card.generation else "of unknown generation"
        return f"in EP11 mode and {older}"
    return ""


def require_usable(request: Request, cards: Mapping[int, Card]) -> None:
    """RequestError if ``request`` is a Secure Execution guest's and names queues that it cannot use.

    Adapters that this host does not have are not in ``cards``, and are not checked.
    """
    if not request.secure:
        return
    if request.criteria:
        if any(cards.mode == CCA for cards in request.criteria.cards):
            raise _unusable("queues in CCA mode", request.guest)
        return
    for adapter in request.matrix.adapters:
        why = unusable(cards[adapter]) if adapter in cards else ""
        if why:
            raise _unusable(f"adapter {adapter:02x}, which is {why}", request.guest)


def shared_key_warnings(keys: Mapping[Apqn, SeenKeys]) -> Iterator[WarningText]:
    """Warnings, in sentences, where two domains of one adapter share a master key.

    Domains of one adapter that the same guest has must not (ibm.com/docs: linuxonibm/lxse,
    lxse_c_ep11_reqs).
    """
    alike: dict[tuple[int, str], list[Apqn]] = {}
    for queue in sorted(keys):
        for key in keys[queue].mkvps:
            alike.setdefault((queue.adapter, key[:_SHOWN_DIGITS]), []).append(queue)
    for (_, key), queues in alike.items():
        if len(queues) > 1:
            old = min((keys[queue] for queue in queues), key=lambda seen: (seen.fresh, seen.seen))
            when = "" if old.fresh else f" (remembered since {old.when})"
            yield (
                f"{some_queues(queues)} are domains of one adapter with the same master key 0x{key}{when}, "
                "which a Secure Execution guest must not be given: request one domain on several adapters"
            )


def lost_binding(queues: Collection[Apqn]) -> WarningText:
    """Return the warning for a running Secure Execution guest that loses ``queues``."""
    return (
        f"the Secure Execution guest loses bind and associate of {some_queues(queues)}, "
        "and must repeat both when it has queues again"
    )


def to_bind(queues: Collection[Apqn]) -> WarningText:
    """Return the warning for a running Secure Execution guest that gets ``queues``."""
    return (
        f"the Secure Execution guest must bind {some_queues(queues)}, and associate those in mode ep11, "
        "before it can use them"
    )


def require_migratable(request: Request) -> None:
    """RequestError for a Secure Execution guest, which QEMU does not migrate (QEMU 11.1.3)."""
    if request.secure:
        raise RequestError(
            "it is a Secure Execution guest, and QEMU cannot migrate one.",
            guest=request.guest,
            remedy="Shut it down here and start it at the destination.",
        )


def _unusable(what: str, guest: str) -> RequestError:
    return RequestError(
        f"it is a Secure Execution guest and cannot use {what}.",
        guest=guest,
        remedy="Request adapters in mode ep11 (CEX8S or later) or accel.",
    )
