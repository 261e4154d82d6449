# SPDX-License-Identifier: Apache-2.0
"""Read cards and their master keys, for requests by criteria."""

from __future__ import annotations

from apvfio.kernel.lszcrypt import read_cards
from apvfio.kernel.snapshot import read_or
from apvfio.model.cards import Card, CardFacts
from apvfio.model.host import BUS, HOST_DRIVER
from apvfio.model.matrix import Apqn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.criteria import Criteria
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix

MODES = {"Accelerator": "accel", "CCA-Coproc": "cca", "EP11-Coproc": "ep11"}
_TYPE_TO_GENERATION = 6
"""AP_DEVICE_TYPE_CEX4 is 10, and the later ones count on."""
_CURRENT = ("AES CUR", "APKA CUR", "ASYM CUR", "WK CUR")
"""The registers of the keys in force; those of the next and the former ones make no queue usable."""


def read_adapters(sysfs: Sysfs) -> dict[int, Card]:
    """Every adapter, by its id."""
    faults = {"deconfig": "deconfigured", "chkstop": "check-stopped"}
    return {
        int(card.id, 16): Card(
            mode=MODES.get(card.mode, ""),
            generation=max(0, (card.hwtype or 0) - _TYPE_TO_GENERATION),
            fault=faults.get(card.status or "", ""),
        )
        for card in read_cards(sysfs)
    }


def read_card_facts(sysfs: Sysfs, criteria: Criteria, host: Host, ledger: Ledger) -> CardFacts:
    """What ``criteria`` asks about: the cards, and if it names a key the keys of the queues that may do.

    Each key is a question to a card, and only the host's own driver asks it. For the other
    queues that counts which the ledger remembers.
    """
    cards = read_adapters(sysfs)
    mkvps = {queue: keys for queue, keys in ledger.last_seen_mkvps.items() if queue in host.drivers}
    if criteria.mkvp:
        fit = {adapter for adapter, card in cards.items() if card.mode == criteria.mode}
        for queue, driver in host.drivers.items():
            if driver == HOST_DRIVER and queue.adapter in fit:
                mkvps[queue] = read_mkvps(sysfs, queue)
    return CardFacts(cards, mkvps)


def read_mkvps(sysfs: Sysfs, queue: Apqn) -> tuple[str, ...]:
    """The valid current master keys of ``queue``, which cex4queue has; none if it does not answer."""
    return parse_mkvps(read_or(sysfs, f"{BUS}/devices/{queue}/mkvps", ""))


def parse_mkvps(text: str) -> tuple[str, ...]:
    """The patterns in ``mkvps``, in its order, without 0x (cex:cca_mkvps_show, ep11_mkvps_show)."""
    found = []
    for line in text.splitlines():
        register, _, rest = line.partition(":")
        words = rest.split()
        if register in _CURRENT and len(words) == 2 and words[0] == "valid":
            found.append(words[1].lower().removeprefix("0x"))
    return tuple(found)


def queues_with_keys(sysfs: Sysfs, host: Host, matrix: Matrix) -> set[Apqn]:
    """The queues of ``matrix`` that are the host's and carry valid master keys."""
    queues = (queue for queue in matrix.queues() if host.drivers.get(queue) == HOST_DRIVER)
    return {queue for queue in queues if read_mkvps(sysfs, queue)}
