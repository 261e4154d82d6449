# SPDX-License-Identifier: Apache-2.0
"""The master keys of all queues: read where the host has the queue, remembered where a guest has it.

They are read again and again. Only what is new is remembered, and the time once an hour.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from apvfio.kernel.cards import parse_mkvps, read_adapters
from apvfio.kernel.snapshot import read_or
from apvfio.model.cards import CardFacts
from apvfio.model.criteria import KEYLESS
from apvfio.model.errors import ApvfioError
from apvfio.model.host import BUS, HOST_DRIVER
from apvfio.model.master_keys import SeenKeys
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
    asked = [q for q, driver in host.drivers.items() if driver == HOST_DRIVER and q.adapter in keyed]
    shown = {queue: read_or(system.sysfs, f"{BUS}/devices/{queue}/mkvps", "") for queue in asked}
    before: dict[Apqn, Reading] = {}
    with suppress(ApvfioError):
        before = mkvps_file.load(system.files)
    due = {queue: text for queue, text in shown.items() if _is_due(text, before.get(queue))}
    if mkvps_note.add(system.files, due) and system.files.size(mkvps_note.MKVPS) > mkvps_note.FULL:
        with system.lock():
            mkvps_file.tidy(system.files)
    seen = mkvps_note.now()
    texts = {queue: (reading.registers, reading.seen, False) for queue, reading in before.items()}
    texts |= {queue: (text, seen, True) for queue, text in shown.items() if parse_mkvps(text) is not None}
    keys = {
        queue: SeenKeys(found, when, fresh)
        for queue, (text, when, fresh) in texts.items()
        if (found := parse_mkvps(text)) is not None and queue in host.drivers
    }
    return CardFacts(cards, keys)


def _is_due(text: str, before: Reading | None) -> bool:
    """Whether ``text``, what a queue shows now, is to be remembered."""
    registers = mkvps_note.answered(text)
    if not registers or before is None or before.registers != registers:
        return bool(registers)
    try:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(before.seen)
    except ValueError:
        return True
    return not timedelta(0) <= age < _REFRESH
