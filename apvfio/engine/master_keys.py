# SPDX-License-Identifier: Apache-2.0
"""The master keys of queues: read from the host's queues, remembered for the others.

Each function that reads keys remembers them, and each that takes queues from the host reads their keys first
(`apvfio.engine.plan_start.remember_keys`): afterwards they cannot be read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.kernel.cards import parse_mkvps, read_adapters
from apvfio.kernel.snapshot import shown_mkvps
from apvfio.model.cards import CardFacts
from apvfio.model.errors import ApvfioError
from apvfio.model.host import HOST_DRIVER
from apvfio.model.master_keys import SeenKeys
from apvfio.store import mkvps_file, mkvps_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from apvfio.kernel.seam import System
    from apvfio.model.criteria import Criteria
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn
    from apvfio.store.mkvps_file import Reading


def known_keys(system: System, host: Host, queues: Iterable[Apqn]) -> dict[Apqn, SeenKeys]:
    """Return the known keys of ``queues``, without those that were never read or show none.

    Each queue that the host has is asked, which takes its card a moment; `SeenKeys.fresh` says that it
    answered.
    """
    asked = [queue for queue in queues if queue in host.drivers]
    shown = read_shown(system, host, asked)
    mkvps_note.add(system.files, shown)
    known = {**remembered_keys(system), **fresh_keys(shown)}
    return {queue: known[queue] for queue in asked if queue in known}


def read_shown(system: System, host: Host, queues: Iterable[Apqn]) -> dict[Apqn, str]:
    """Return what the host's queues of ``queues`` show of their keys, '' for one without such a file."""
    mine = [queue for queue in queues if host.drivers.get(queue) == HOST_DRIVER]
    return {queue: shown_mkvps(system.sysfs, queue) for queue in mine}


def fresh_keys(shown: Mapping[Apqn, str]) -> dict[Apqn, SeenKeys]:
    """Return the keys in the texts that the queues showed just now."""
    now = mkvps_note.now()
    parsed = {queue: parse_mkvps(text) for queue, text in shown.items()}
    return {queue: SeenKeys(keys, now, fresh=True) for queue, keys in parsed.items() if keys is not None}


def remembered_keys(system: System) -> dict[Apqn, SeenKeys]:
    """Return the remembered keys, without asking any card; nothing if they cannot be read."""
    with suppress(ApvfioError):
        return keys_in(mkvps_file.load(system.files))
    return {}


def keys_in(readings: Mapping[Apqn, Reading]) -> dict[Apqn, SeenKeys]:
    """Return the keys that remembered ``readings`` tell."""
    parsed = {queue: parse_mkvps(reading.registers) for queue, reading in readings.items()}
    return {queue: SeenKeys(keys, readings[queue].seen) for queue, keys in parsed.items() if keys is not None}


def tidy_keys(system: System) -> None:
    """Keep the file of remembered keys from growing with each look; takes the lock if it has to."""
    with suppress(ApvfioError):
        if system.files.size(mkvps_note.MKVPS) > mkvps_note.FULL:
            with system.lock():
                mkvps_file.tidy(system.files)


def remembered_queues(system: System, meant: Callable[[Apqn], bool]) -> list[Apqn]:
    """Return the queues that `forget_keys` would forget; ApvfioError. Nothing is changed."""
    return sorted(queue for queue in mkvps_file.load(system.files) if meant(queue))


def forget_keys(system: System, meant: Callable[[Apqn], bool]) -> list[Apqn]:
    """Forget the remembered keys of the queues that are ``meant``, and return them; ApvfioError."""
    with system.lock():
        there = mkvps_file.load(system.files)
        return sorted(mkvps_file.forget(system.files, [queue for queue in there if meant(queue)]))


def card_facts(system: System, criteria: Criteria, host: Host) -> CardFacts:
    """Return the cards that ``criteria`` may choose from, with the keys of those that need a certain key."""
    cards = read_adapters(system.sysfs)
    modes = {kind.mode for kind in criteria.cards if kind.keys}
    queues = [
        queue for queue in host.drivers if queue.adapter in cards and cards[queue.adapter].mode in modes
    ]
    return CardFacts(cards, known_keys(system, host, queues) if queues else {})
