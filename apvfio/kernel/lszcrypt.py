# SPDX-License-Identifier: Apache-2.0
"""Cards and queues as ``lszcrypt -V`` lists them (s390-tools zconf/zcrypt/lszcrypt.c), read from sysfs.

The columns are computed as lszcrypt 2.41 does. Earlier releases add one to QDEPTH, which the kernel adds
itself since some release after 6.1 (card:depth_show). Unlike in lszcrypt, a device that disappears during the
reading only leaves gaps.
"""

from __future__ import annotations

import re

from apvfio.kernel.errnos import unreadable
from apvfio.kernel.snapshot import read_or
from apvfio.model.host import BUS, VFIO_DRIVER
from apvfio.model.matrix import Apqn
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import Sysfs

DEVICES = "devices/ap"

_CARD = re.compile(r"card([0-9a-f]{2})")
_ZCRYPT_DRIVER = re.compile(r"cex[0-9](card|queue)")
_MODES = ((0x10000000, "CCA-Coproc"), (0x08000000, "Accelerator"), (0x04000000, "EP11-Coproc"))
_FUNCTIONS = "SMCDAXNHFR"
"""The facilities by their bits in ``ap_functions``, from the highest of 32 bits down."""
_HIGHEST = 1 << 31
_BINDINGS = ("usable", "bound", "unbound", "illicit")
"""How a queue stands to a secure-execution guest, by the two bits below `_BINDING_SHIFT`."""
_BINDING_SHIFT = 14


class ApDevice(NamedTuple):
    """A card or a queue; what the kernel does not show is None."""

    id: str
    queue: Apqn | None
    type: str | None
    mode: str
    status: str | None
    requests: int | None
    pending: int | None
    hwtype: int | None
    qdepth: int | None
    functions: str
    driver: str | None
    """Only a driver of zcrypt's or vfio_ap: lszcrypt calls a queue of any other driverless."""
    sestat: str | None
    """Whether a secure-execution guest may use the queue; None where the bus does not know of it."""


class _Card(NamedTuple):
    """What lszcrypt's lines for queues take from their card."""

    name: str
    path: str
    type: str | None
    hwtype: int | None
    qdepth: int | None
    functions: int
    configured: bool


def read_inventory(sysfs: Sysfs) -> Iterator[ApDevice]:
    """Every card, each followed by its queues, in the order of their ids; HostError if there is no list."""
    secure_binding = has_secure_binding(sysfs)
    for card in _cards(sysfs):
        yield _device(sysfs, card, card.path)
        for child in _names(sysfs, card.path):
            queue = Apqn.parse(child)
            if queue:
                device = _device(sysfs, card, f"{card.path}/{queue}", queue)
                yield device._replace(sestat=_binding(sysfs, card, queue) if secure_binding else None)


def read_cards(sysfs: Sysfs) -> Iterator[ApDevice]:
    """Every card without its queues, in the order of their ids."""
    for card in _cards(sysfs):
        yield _device(sysfs, card, card.path)


def has_secure_binding(sysfs: Sysfs) -> bool:
    """Whether queues can be bound to secure-execution guests (APSB), which gives lszcrypt one more column."""
    return "APSB" in (_text(sysfs, f"{BUS}/features") or "").split()


def _cards(sysfs: Sysfs) -> Iterator[_Card]:
    try:
        names = sysfs.list(DEVICES)
    except OSError as error:
        raise unreadable(error) from error
    for match in map(_CARD.fullmatch, names):
        if match:
            yield _read_card(sysfs, match[1])


def _read_card(sysfs: Sysfs, name: str) -> _Card:
    path = f"{DEVICES}/card{name}"
    return _Card(
        name=name,
        path=path,
        type=_text(sysfs, f"{path}/type"),
        hwtype=_number(sysfs, f"{path}/hwtype"),
        qdepth=_number(sysfs, f"{path}/depth"),
        functions=_functions(sysfs, path) or 0,
        configured=_number(sysfs, f"{path}/config") != 0,
    )


def _device(sysfs: Sysfs, card: _Card, path: str, queue: Apqn | None = None) -> ApDevice:
    """What is at ``path``: ``card`` itself, or one of its queues."""
    status = _status(sysfs, path)
    driver = _driver(sysfs, path)
    counted = card.configured and (queue is None or driver not in (None, VFIO_DRIVER))
    return ApDevice(
        id=str(queue) if queue else card.name,
        queue=queue,
        type=card.type,
        mode=next((mode for bit, mode in _MODES if card.functions & bit), "Unknown"),
        status=status,
        requests=None if status == "deconfig" else _number(sysfs, f"{path}/request_count"),
        pending=_pending(sysfs, path) if counted else None,
        hwtype=card.hwtype,
        qdepth=card.qdepth,
        functions="".join(
            letter if card.functions << i & _HIGHEST else "-" for i, letter in enumerate(_FUNCTIONS)
        ),
        driver=driver,
        sestat=None,
    )


def _status(sysfs: Sysfs, path: str) -> str | None:
    if _number(sysfs, f"{path}/config") == 0:
        return "deconfig"
    if _number(sysfs, f"{path}/chkstop"):
        return "chkstop"
    online = _number(sysfs, f"{path}/online")
    if online is not None:
        return "online" if online else "offline"
    return _text(sysfs, f"{path}/status")  # vfio_ap's: unassigned, assigned, in use


def _pending(sysfs: Sysfs, path: str) -> int:
    return sum(_number(sysfs, f"{path}/{name}") or 0 for name in ("pendingq_count", "requestq_count"))


def _driver(sysfs: Sysfs, path: str) -> str | None:
    try:
        driver = sysfs.readlink(f"{path}/driver").rpartition("/")[2]
    except OSError:
        return None
    return driver if driver == VFIO_DRIVER or _ZCRYPT_DRIVER.fullmatch(driver) else None


def _binding(sysfs: Sysfs, card: _Card, queue: Apqn) -> str:
    functions = _functions(sysfs, f"{card.path}/{queue}")
    if functions is None:
        return "error"
    return _BINDINGS[functions >> _BINDING_SHIFT & 3] if functions else "invalid"


def _functions(sysfs: Sysfs, path: str) -> int | None:
    try:
        return int(_text(sysfs, f"{path}/ap_functions") or "", 16)
    except ValueError:
        return None


def _number(sysfs: Sysfs, path: str) -> int | None:
    text = _text(sysfs, path) or ""
    return int(text) if text.isascii() and text.isdigit() else None


def _text(sysfs: Sysfs, path: str) -> str | None:
    return read_or(sysfs, path, "").strip() or None


def _names(sysfs: Sysfs, path: str) -> list[str]:
    try:
        return sysfs.list(path)
    except OSError:
        return []
