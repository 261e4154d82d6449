# SPDX-License-Identifier: Apache-2.0
"""The master keys of all queues: read from the host's queues, remembered for the guests' queues.

The publisher reads them every few seconds. Therefore only a change is remembered, and the time of reading
once an hour.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from apvfio.engine.master_keys import fresh_keys, keys_in, read_shown
from apvfio.kernel.cards import read_adapters
from apvfio.model.cards import CardFacts
from apvfio.model.criteria import KEYLESS
from apvfio.model.errors import ApvfioError
from apvfio.store import mkvps_file, mkvps_note

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn
    from apvfio.store.mkvps_file import Reading

_REFRESH = timedelta(hours=1)


def read_keys(system: System, host: Host) -> CardFacts:
    """Return the cards, and the master keys of each queue as last read; remember those that are new."""
    cards = read_adapters(system.sysfs)
    keyed = {adapter for adapter, card in cards.items() if card.mode not in ("", KEYLESS)}
    shown = read_shown(system, host, [queue for queue in host.drivers if queue.adapter in keyed])
    before: dict[Apqn, Reading] = {}
    with suppress(ApvfioError):
        before = mkvps_file.load(system.files)
    due = {queue: text for queue, text in shown.items() if _is_due(text, before.get(queue))}
    if mkvps_note.add(system.files, due) and system.files.size(mkvps_note.MKVPS) > mkvps_note.FULL:
        with system.lock():
            mkvps_file.tidy(system.files)
    known = {**keys_in(before), **fresh_keys(shown)}
    return CardFacts(cards, {queue: keys for queue, keys in known.items() if queue in host.drivers})


def _is_due(text: str, before: Reading | None) -> bool:
    """Return whether ``text``, which a queue shows now, has to be remembered."""
    registers = mkvps_note.answered(text)
    if not registers or before is None or before.registers != registers:
        return bool(registers)
    try:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(before.seen)
    except ValueError:
        return True
    return not timedelta(0) <= age < _REFRESH
