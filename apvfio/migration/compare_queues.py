# SPDX-License-Identifier: Apache-2.0
"""Whether the queues at the destination do what those here do: mode, generation and master keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.kernel.cards import read_adapters, read_mkvps
from apvfio.model.errors import HostError
from apvfio.model.host import HOST_DRIVER
from apvfio.model.matrix import Apqn
from apvfio.model.text import some_queues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apvfio.kernel.seam import Sysfs
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.text import WarningText

_KEYLESS = "accel"


class Equipment(NamedTuple):
    """What a queue is."""

    mode: str
    """``accel``, ``cca`` or ``ep11``; '' if it is none of them, or is not there."""
    generation: int
    """8 for a CEX8S; 0 if the kernel does not tell."""
    mkvps: tuple[str, ...] | None
    """The patterns of its valid current master keys; None if they cannot be read."""

    def as_json(self) -> dict[str, object]:
        """For the other host."""
        mkvps = None if self.mkvps is None else list(self.mkvps)
        return {"mode": self.mode, "generation": self.generation, "mkvps": mkvps}


def read_equipment(sysfs: Sysfs, host: Host, ledger: Ledger, queues: Iterable[Apqn]) -> dict[Apqn, Equipment]:
    """What each of ``queues`` is. Keys of queues that guests have are those the ledger remembers."""
    cards = read_adapters(sysfs)
    found = {}
    for queue in queues:
        card = cards.get(queue.adapter) if queue in host.drivers else None
        mine = host.drivers.get(queue) == HOST_DRIVER
        found[queue] = Equipment(
            mode=card.mode if card else "",
            generation=card.generation if card else 0,
            mkvps=read_mkvps(sysfs, queue) if mine else ledger.last_seen_mkvps.get(queue),
        )
    return found


def equipment_from(document: object) -> dict[Apqn, Equipment]:
    """What `Equipment.as_json` made, by queue; ValueError if it is anything else."""
    if not isinstance(document, dict):
        raise ValueError("its queues are no object")
    found = {}
    for name, facts in document.items():
        queue = Apqn.parse(name)
        if queue is None or not isinstance(facts, dict):
            raise ValueError("one of its queues is none")
        mode, generation, keys = (facts.get(key) for key in Equipment._fields)
        known = keys is None or (isinstance(keys, list) and all(type(key) is str for key in keys))
        if type(mode) is not str or type(generation) is not int or not known:
            raise ValueError("what it says of its queues is not understood")
        found[queue] = Equipment(mode, generation, None if keys is None else tuple(keys))
    return found


def compare(
    here: Mapping[Apqn, Equipment], there: Mapping[Apqn, Equipment], *, other_keys: bool = False
) -> list[WarningText]:
    """What to warn of, in sentences, when a guest gets the queues ``there`` in place of those ``here``.

    A queue stands in for the one of its own name, or if there is none for any. HostError if a
    queue is of a mode that the guest has not, or has other master keys, unless ``other_keys``.
    """
    strange: list[Apqn] = []
    keyless: list[Apqn] = []
    different: list[Apqn] = []
    older: list[Apqn] = []
    unknown: list[Apqn] = []
    for queue, new in there.items():
        old = [here[queue]] if queue in here else list(here.values())
        alike = [one for one in old if one.mode == new.mode]
        known = {one.mkvps for one in alike if one.mkvps is not None}
        if not alike:
            strange.append(queue)
            continue
        if new.generation < min(one.generation for one in alike):
            older.append(queue)
        if new.mode == _KEYLESS:
            continue
        if new.mkvps is None or not known:
            unknown.append(queue)
        elif new.mkvps not in known:
            (different if new.mkvps else keyless).append(queue)
    _require_mode(strange, here, there)
    if (different or keyless) and not other_keys:
        sentence = _about_keys(different, keyless) + ", so the guest's keys would not work there."
        remedy = "Load the same master keys there, or say --other-keys."
        raise HostError(sentence, queues=[*different, *keyless], remedy=remedy)
    warnings = [_about_keys(different, keyless)] if different or keyless else []
    if older:
        warnings.append(f"{some_queues(older)} at the destination are of an older generation than here")
    if unknown:
        warnings.append(
            f"it cannot be read whether {some_queues(unknown)} at the destination have the same master keys"
        )
    return warnings


def _require_mode(
    strange: list[Apqn], here: Mapping[Apqn, Equipment], there: Mapping[Apqn, Equipment]
) -> None:
    if not strange:
        return
    queue = min(strange)
    old = [here[queue]] if queue in here else here.values()
    had = sorted({one.mode or "of no known mode" for one in old})
    raise HostError(
        f"{queue} is {there[queue].mode or 'of no known mode'} at the destination, "
        f"and what the guest has here is {' or '.join(had) or 'unknown'}.",
        queues=strange,
        remedy="Choose a destination with the same kind of adapters, or ask for other queues.",
    )


def _about_keys(different: list[Apqn], keyless: list[Apqn]) -> WarningText:
    parts = []
    if different:
        parts.append(f"{some_queues(different)} at the destination have other master keys than here")
    if keyless:
        parts.append(f"{some_queues(keyless)} at the destination have no master keys, unlike here")
    return ", and ".join(parts)
