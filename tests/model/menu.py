# SPDX-License-Identifier: Apache-2.0
"""The operations there are on a `World`, with what each can be told: for hypothesis and for the soak."""

from __future__ import annotations

from errno import EBUSY, EINTR, EINVAL, EIO, ENODEV, ENOMEM
from itertools import product
from typing import TYPE_CHECKING

from model.lives import PAST_GRACE
from model.others import ADAPTERS, DOMAINS, FOREIGN, POLICIES, SPARE_ADAPTER, SPARE_DOMAIN
from model.world import COMES_UP, CRITERIA, GUESTS, HOW, MODES, REQUESTS

if TYPE_CHECKING:
    import random

    from model.world import Op

FAULT = "fault"
"""Stands for a choice among none, `STRIKES` and what others do `MEANWHILE`."""

_YES_OR_NO = (True, False)
_ADAPTERS = (*ADAPTERS, SPARE_ADAPTER)
_DOMAINS = (*DOMAINS, SPARE_DOMAIN)
_QUEUES = tuple(f"{a:02x}.{d:04x}" for a, d in product(_ADAPTERS, _DOMAINS))
_DRIVERS = ("cex4queue", "vfio_ap")
_BITS = {"apmask": _ADAPTERS, "aqmask": _DOMAINS}
_RELATIVE = {
    name: ("", *(f"{sign}{i}" for sign in "+-" for i in ids), f"+{ids[0]},-{ids[1]}", "+0-255")
    for name, ids in _BITS.items()
}
_ABSOLUTE = {name: (f"0-{ids[1]},{ids[2] + 1}-255", f"{ids[1]}-255", "0-255") for name, ids in _BITS.items()}
_BOTH = {name: _RELATIVE[name] + _ABSOLUTE[name] for name in _BITS}
_SOME_ADAPTERS = ((0,), (1,), (3,), (0, 1), (5,))
_SOME_DOMAINS = ((1,), (2, 4), (4,), (9,))

TABLE: dict[str, tuple[object, ...]] = {
    "start": (GUESTS, range(len(REQUESTS) + len(CRITERIA)), COMES_UP, FAULT),
    "expect": (GUESTS, range(len(REQUESTS)), FAULT),
    "arrive": (GUESTS, _YES_OR_NO, FAULT),
    "change": (GUESTS, range(len(REQUESTS) + len(CRITERIA)), (True, True, False), FAULT),
    "stop": (GUESTS, HOW, FAULT),
    "die": (GUESTS,),
    "linger": (GUESTS,),
    "open": (GUESTS,),
    "close": (),
    "reuse": (),
    "wait": ((1, 30, PAST_GRACE),),
    "release": (GUESTS,),
    "force": (GUESTS, FAULT),
    "reconcile": (FAULT,),
    "masks": (_BOTH["apmask"], _BOTH["aqmask"], _YES_OR_NO, _YES_OR_NO, FAULT),
    "mode": (MODES, FAULT),
    "policy": (range(len(POLICIES)),),
    "chzdev": (_BOTH["apmask"], _BOTH["aqmask"]),
    "echo": (tuple(_BITS), tuple(f"{sign}{i}" for sign in "+-" for i in sorted({*_ADAPTERS, *_DOMAINS}))),
    "override": (_QUEUES, ("", "vfio_ap", "cex4queue", "none")),
    "unbind": (_QUEUES, _DRIVERS),
    "online": (_QUEUES, ("0", "1")),
    "mdevctl": ((*FOREIGN, *FOREIGN, *GUESTS), _SOME_ADAPTERS, _SOME_DOMAINS),
    "assign": (
        FOREIGN,
        tuple(f"{verb}assign_{kind}" for verb in ("", "un") for kind in ("adapter", "domain")),
        sorted({*_ADAPTERS, *_DOMAINS}),
    ),
    "remove": ((*FOREIGN, *FOREIGN, *GUESTS),),
    "plug": (_ADAPTERS, ("", "cca", "ep11")),
    "domains": (((1, 2, 4), (1, 2, 4, 9), (1, 4)),),
    "configure": (_ADAPTERS[:-1], _YES_OR_NO),
    "modprobe": (_YES_OR_NO,),
    "reboot": (("", "", "", "+0-255,-1"), _YES_OR_NO),
    "settle": (),
}
MEANWHILE = (
    "echo",
    "override",
    "unbind",
    "mdevctl",
    "assign",
    "remove",
    "plug",
    "domains",
    "configure",
    "modprobe",
    "die",
    "open",
)
"""What others do without waiting for anybody's lock."""
STRIKES = (
    ("kill",),
    ("late kill",),
    *((what, errno) for what in ("fail", "late fail") for errno in (EIO, EINTR)),
    *(("fail", errno) for errno in (ENOMEM, EINVAL, EBUSY, ENODEV)),
)
WRITES = (*range(1, 7), *range(1, 7), *range(7, 14))
"""At which write something strikes: most calls have few."""
_OFTEN = {
    "start": 8,
    "change": 5,
    "stop": 6,
    "wait": 2,
    "reconcile": 3,
    "settle": 2,
    "modprobe": 0.5,
    "reboot": 0.3,
    "mode": 0.5,
}


def draw(dice: random.Random) -> Op:
    """An operation by chance, a few of them struck or meddled with."""
    kind = dice.choices(_KINDS, _WEIGHTS)[0]
    return (kind, *_words(dice, kind))


def _words(dice: random.Random, kind: str) -> list[object]:
    return [_fault(dice) if choice is FAULT else dice.choice(choice) for choice in TABLE[kind]]  # type: ignore[arg-type]


def _fault(dice: random.Random) -> Op | None:
    chance = dice.random()
    if chance < 0.6:
        return None
    if chance < 0.8:
        return (dice.choice(WRITES), *dice.choice(STRIKES))
    kind = dice.choice(MEANWHILE)
    return (dice.choice(WRITES), "meanwhile", kind, *_words(dice, kind))


_KINDS = list(TABLE)
_WEIGHTS = [_OFTEN.get(kind, 1) for kind in _KINDS]
