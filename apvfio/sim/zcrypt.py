# SPDX-License-Identifier: Apache-2.0
"""What cards and queues show of themselves, and switching them on and off.

The simulated adapters are CEX8 that answer no request. Unless the state says otherwise, they show no keys and
no serial numbers, like a machine whose adapters do not answer.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV
from typing import TYPE_CHECKING

from apvfio.model.ids import IdSet
from apvfio.sim.grammar import refusal, sscanf_d

if TYPE_CHECKING:
    from apvfio.model.matrix import Apqn
    from apvfio.sim.state import State

DEPTH = 8
MAX_MSG_SIZE = 12288
_LETTERS = {"accel": "A", "cca": "C", "ep11": "P"}
FUNCTIONS = {"accel": 0xEA000000, "cca": 0xF2000000, "ep11": 0xE6000000}
"""By mode: what PQAP(TAPQ) says, as ``ap_functions`` shows it."""
_CCA_KEYS = "\n".join(
    f"{kind} {age}: - -" for kind in ("AES", "APKA", "ASYM") for age in ("NEW", "CUR", "OLD")
)
KEYS = {"cca": _CCA_KEYS, "ep11": "WK CUR: - -\nWK NEW: - -"}
"""By mode: ``mkvps`` where no queue answers (cex:cca_mkvps_show, ep11_mkvps_show)."""
CARD_ANSWERS = {
    "accel": (),
    "cca": ("serialnr",),
    "ep11": ("API_ordinalnr", "FW_version", "op_modes", "serialnr"),
}
"""By mode: what a card is asked, an empty line without an answer (cex:ep11_card_attrs)."""


def card_type(mode: str, hwtype: int) -> str:
    """``CEX8C`` and the like (cex:zcrypt_cex4_card_probe)."""
    return f"CEX{hwtype - 6}{_LETTERS[mode]}"


def parse_switch(text: str) -> bool:
    """0 or 1 (zc:online_store)."""
    number = sscanf_d(text)
    if number not in (0, 1):
        raise refusal(EINVAL)
    return number == 1


def switch_card(state: State, adapter: int, text: str) -> None:
    """A card's ``online``, which switches its queues, too (zc:online_store)."""
    online = parse_switch(text)
    card = state.cards[adapter]
    if online and not card.config:
        raise refusal(ENODEV)
    card.online = online
    for apqn in state.queues_of(adapter):
        state.queues[apqn].online = online


def switch_queue(state: State, apqn: Apqn, text: str) -> None:
    """A queue's ``online`` (zq:online_store)."""
    online = parse_switch(text)
    queue, card = state.queues[apqn], state.cards[apqn.adapter]
    if online and not (queue.config and card.config):
        raise refusal(ENODEV)
    if online and not card.online:
        raise refusal(EINVAL)
    queue.online = online


def configure_card(state: State, adapter: int, text: str) -> None:
    """A card's ``config``: the machine obeys at once, queues notice at the next scan (card:config_store)."""
    configured = parse_switch(text)
    hardware = state.hardware
    hardware.standby = (
        hardware.standby - IdSet([adapter]) if configured else hardware.standby | IdSet([adapter])
    )
    state.cards[adapter].config = configured


def clear_requests(state: State, adapter: int) -> None:
    """A card's ``request_count``, and those of its bound queues (card:request_count_store)."""
    state.cards[adapter].requests = 0
    for apqn in state.queues_of(adapter):
        if state.queues[apqn].driver:
            state.queues[apqn].requests = 0
