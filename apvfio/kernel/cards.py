# SPDX-License-Identifier: Apache-2.0
"""Read cards and their master keys, for requests by criteria."""

from __future__ import annotations

from apvfio.kernel.lszcrypt import read_cards
from apvfio.model.cards import Card
from apvfio.model.master_keys import MasterKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs

MODES = {"Accelerator": "accel", "CCA-Coproc": "cca", "EP11-Coproc": "ep11"}
_TYPE_TO_GENERATION = 6
"""AP_DEVICE_TYPE_CEX4 is 10, and the later ones count on."""
_NO_ANSWER = "-"
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


def parse_mkvps(text: str) -> tuple[MasterKey, ...] | None:
    """The keys in ``mkvps``, in its order (cex:cca_mkvps_show, ep11_mkvps_show).

    None where every register is shown without a state: nobody has answered.
    """
    found, answered = [], False
    for line in text.splitlines():
        register, _, rest = line.partition(":")
        words = rest.split()
        answered |= bool(words) and words[0] != _NO_ANSWER
        if register in _CURRENT and len(words) == 2 and words[0] == "valid":
            pattern = words[1].lower().removeprefix("0x")
            found.append(MasterKey(register.partition(" ")[0].lower(), pattern))
    return tuple(found) if answered else None
