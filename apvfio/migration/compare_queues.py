# SPDX-License-Identifier: Apache-2.0
"""Compare the queues at the destination with those here: mode, generation and master keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.master_keys import known_keys
from apvfio.kernel.cards import read_adapters
from apvfio.model.errors import HostError, printable
from apvfio.model.matrix import Apqn
from apvfio.model.text import some_queues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.text import WarningText

_KEYLESS = "accel"
_LONGEST_TIME = 40


class Equipment(NamedTuple):
    """What a queue is."""

    mode: str
    """``accel``, ``cca`` or ``ep11``; '' if it is none of them, or is not there."""
    generation: int
    """8 for a CEX8S; 0 if the kernel does not tell."""
    mkvps: tuple[str, ...] | None
    """The patterns of its valid current master keys; None if they are not known."""
    remembered_since: str = ""
    """When they were read, if they cannot be read now (ISO 8601): a key ceremony may have changed them."""

    def as_json(self) -> dict[str, object]:
        """For the other host."""
        mkvps = None if self.mkvps is None else list(self.mkvps)
        return {
            "mode": self.mode,
            "generation": self.generation,
            "mkvps": mkvps,
            "remembered_since": self.remembered_since or None,
        }


def read_equipment(system: System, host: Host, queues: Iterable[Apqn]) -> dict[Apqn, Equipment]:
    """What each of ``queues`` is. Keys of queues that guests have are those that are remembered."""
    cards, queues = read_adapters(system.sysfs), list(queues)
    keys = known_keys(system, host, queues)
    found = {}
    for queue in queues:
        card = cards.get(queue.adapter) if queue in host.drivers else None
        seen = keys.get(queue)
        found[queue] = Equipment(
            mode=card.mode if card else "",
            generation=card.generation if card else 0,
            mkvps=seen.mkvps if seen else None,
            remembered_since=seen.seen if seen and not seen.fresh else "",
        )
    return found


def equipment_from(document: object) -> dict[Apqn, Equipment]:
    """What `Equipment.as_json` made, by queue; ValueError if it is anything else."""
    if not isinstance(document, dict):
        raise ValueError("its queues are not an object")
    found = {}
    for name, facts in document.items():
        queue = Apqn.parse(name)
        if queue is None or not isinstance(facts, dict):
            raise ValueError("one of its queues is not a queue")
        mode, generation, keys, since = (facts.get(key) for key in Equipment._fields)
        known = keys is None or (isinstance(keys, list) and all(type(key) is str for key in keys))
        known = known and (since is None or (type(since) is str and len(since) <= _LONGEST_TIME))
        if type(mode) is not str or type(generation) is not int or not known:
            raise ValueError("its list of queues is not understood")
        found[queue] = Equipment(mode, generation, None if keys is None else tuple(keys), since or "")
    return found


class _Comparison:
    """What was found of the queues at the destination."""

    def __init__(self) -> None:
        self.strange: list[Apqn] = []
        self.older: list[Apqn] = []
        self.unknown: list[Apqn] = []
        self.alike: list[Apqn] = []
        self.different: list[Apqn] = []
        self.keyless: list[Apqn] = []
        self.since_here: set[str] = set()
        self.since_there: set[str] = set()

    def add(self, queue: Apqn, new: Equipment, old: Sequence[Equipment]) -> None:
        """Compare ``queue``, which is ``new`` at the destination, with those it may stand in for."""
        same_mode = [one for one in old if one.mode == new.mode]
        if not same_mode:
            self.strange.append(queue)
            return
        if new.generation < min(one.generation for one in same_mode):
            self.older.append(queue)
        if new.mode != _KEYLESS:
            self._add_keys(queue, new, [one for one in same_mode if one.mkvps is not None])

    def _add_keys(self, queue: Apqn, new: Equipment, known: Sequence[Equipment]) -> None:
        if new.mkvps is None or not known:
            self.unknown.append(queue)
            return
        self.since_here |= {one.remembered_since for one in known if one.remembered_since}
        self.since_there |= {new.remembered_since} if new.remembered_since else set()
        if any(one.mkvps == new.mkvps for one in known):
            self.alike.append(queue)
        else:
            (self.different if new.mkvps else self.keyless).append(queue)

    @property
    def basis(self) -> str:
        """Which of the keys compared were not read now, and since when they are remembered."""
        sides = (("here", self.since_here), ("there", self.since_there))
        said = [f"{where} since {printable(min(times))}" for where, times in sides if times]
        return f" (remembered {', '.join(said)})" if said else ""


def compare(
    here: Mapping[Apqn, Equipment],
    there: Mapping[Apqn, Equipment],
    *,
    other_keys: bool = False,
    remedy: str = "Load the same master keys there, or add --other-keys.",
) -> list[WarningText]:
    """What to warn of, in sentences, when a guest gets the queues ``there`` in place of those ``here``.

    A queue stands in for the one of its own name, or if there is none for any. HostError if a queue is of a
    mode that the guest has not, or has other master keys, unless ``other_keys``; ``remedy`` is for those.
    Where keys are remembered ones, the sentence says so.
    """
    found = _Comparison()
    for queue, new in there.items():
        found.add(queue, new, [here[queue]] if queue in here else list(here.values()))
    _require_mode(found.strange, here, there)
    other = [*found.different, *found.keyless]
    about_keys = _about_keys(found.different, found.keyless) + found.basis
    if other and not other_keys:
        sentence = f"{about_keys}, so the guest's keys would not work there."
        raise HostError(sentence, queues=other, remedy=remedy)
    warnings = [about_keys] if other else []
    if found.alike and found.basis:
        warnings.append(
            f"{some_queues(found.alike)} at the destination have the same master keys as here{found.basis}: "
            "a key ceremony may have changed them since"
        )
    if found.older:
        warnings.append(f"{some_queues(found.older)} at the destination are of an older generation than here")
    if found.unknown:
        warnings.append(
            f"it cannot be read whether {some_queues(found.unknown)} at the destination have the same master "
            "keys"
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
        f"but the guest's queues here are {' or '.join(had) or 'unknown'}.",
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
