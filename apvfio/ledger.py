# SPDX-License-Identifier: Apache-2.0
"""Who holds what, and what is owed to the host: /run/apvfio/ledger.json.

The ledger says what should be. It is written before the first step of a change, so a
crash anywhere leaves a ledger from which the next call can finish or undo the work. It
lives in /run because masks and mediated devices die with the boot as well.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from apvfio.errors import ApvfioError, RequestError, printable
from apvfio.mask import NO_IDS, IdSet, format_list, parse_list
from apvfio.matrix import Apqn, Matrix
from apvfio.promises import Process, Promise, promise_from, promise_json
from mdev.devices import is_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from apvfio.system import Files

LEDGER = "run/apvfio/ledger.json"
VERSION = 1
_PAGE = 4096

BY_ADAPTERS = "adapters"
BY_DOMAINS = "domains"
BY_OVERRIDES = "overrides"

STARTING = "starting"
"""The ledger has it, the host perhaps not yet. Seen by another process it belongs to a hook that died."""
HELD = "held"
CHANGING = "changing"
"""The guest runs and its device gets, or gets back, ``matrix``; what `Lease.was` has stays the guest's."""
ENDING = "ending"

_WAYS = (BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES)
_STATES = (STARTING, HELD, CHANGING, ENDING)


class Before(NamedTuple):
    """What a lease was before a change that is under way."""

    matrix: Matrix
    way: str
    changer: Process
    """Who changes it: if he has died, it is undone."""


class Lease(NamedTuple):
    """One guest's hold on its queues."""

    guest: str
    uuid: str
    """The guest's uuid: a guest is told by it, because names change."""
    mdev: str
    matrix: Matrix
    way: str
    """What keeps its queues from the host: the masks, `BY_ADAPTERS` or `BY_DOMAINS`, or `BY_OVERRIDES`."""
    state: str
    made: bool
    """Whether apvfio made the mdev, and so removes it."""
    since: int = 0
    """When the guest got its queues, in seconds since the boot."""
    was: Before | None = None
    """What it goes back to if the change that is under way is not kept."""

    def undone(self) -> Lease:
        """The lease on its way back to what it `was`."""
        assert self.was
        return self._replace(matrix=self.was.matrix, way=self.was.way, was=None)

    def kept(self) -> Lease:
        """The lease with its change for good, or back from one."""
        return self._replace(state=HELD, was=None)


class Debt(NamedTuple):
    """The mask bits that apvfio cleared and the host shall have back."""

    apmask: IdSet = NO_IDS
    aqmask: IdSet = NO_IDS

    def __or__(self, other: object) -> Debt:
        assert isinstance(other, Debt)
        return Debt(self.apmask | other.apmask, self.aqmask | other.aqmask)

    def __sub__(self, other: Debt) -> Debt:
        return Debt(self.apmask - other.apmask, self.aqmask - other.aqmask)

    def __and__(self, other: Debt) -> Debt:
        return Debt(self.apmask & other.apmask, self.aqmask & other.aqmask)

    def __bool__(self) -> bool:
        return bool(self.apmask) or bool(self.aqmask)


class Ledger(NamedTuple):
    """All leases, by the uuid of their mdev, and what is owed to the host; valid for one boot."""

    boot_id: str
    leases: dict[str, Lease]
    owed: Debt = Debt()
    overrides: Mapping[Apqn, str] = {}
    """The queues whose ``driver_override`` apvfio set, and what it was before."""
    offline: frozenset[Apqn] = frozenset()
    """The queues that were offline when they were taken: a driver that gets a queue puts it online."""
    mode: str = ""
    """The mechanism chosen for this boot with ``apvfio mode``, '' if none was."""
    mkvps: Mapping[Apqn, tuple[str, ...]] = {}
    """The master keys of queues as last read, remembered because only the host's own driver can read them."""
    last: Mapping[str, Matrix] = {}
    """What a guest, by its uuid, that asks by property was last given in this boot: it gets it again."""

    had: Mapping[Apqn, str] = {}
    """The guest, by its name, that had each queue last in this boot."""

    promises: Mapping[str, Promise] = {}
    """What is kept free for devices that mdevctl is about to make, by their uuids."""

    def of_guest(self, uuid: str) -> list[Lease]:
        """The leases of the guest ``uuid``; more than one only while an older one is ending."""
        return [lease for lease in self.leases.values() if lease.uuid == uuid]

    def with_lease(self, lease: Lease) -> Ledger:
        """The ledger with ``lease`` added, or put in place of an older one of the same mdev."""
        return self._replace(leases={**self.leases, lease.mdev: lease})

    def without(self, mdev: str) -> Ledger:
        """The ledger without the lease of that mdev."""
        return self._replace(leases={k: v for k, v in self.leases.items() if k != mdev})

    def promising(self, promise: Promise) -> Ledger:
        """The ledger with ``promise``, in place of an older one for the same device."""
        return self._replace(promises={**self.promises, promise.mdev: promise})

    def breaking(self, mdev: str) -> Ledger:
        """The ledger without the promise for that device."""
        return self._replace(promises={k: v for k, v in self.promises.items() if k != mdev})

    def ending(self, guest_uuid: str) -> Ledger:
        """The ledger in which the leases of the guest ``guest_uuid`` come to their end."""
        ledger = self
        for lease in self.of_guest(guest_uuid):
            ledger = ledger.with_lease(lease._replace(state=ENDING))
        return ledger

    def doomed(self) -> set[str]:
        """The mdevs that go when the ending leases end."""
        return {lease.mdev for lease in self.leases.values() if lease.state == ENDING and lease.made}

    def needed(self) -> Debt:
        """The mask bits that promises and the leases not about to end keep clear."""
        rows, columns = NO_IDS, NO_IDS
        for held in self.holding():
            if held.way == BY_ADAPTERS:
                rows |= held.matrix.adapters
            elif held.way == BY_DOMAINS:
                columns |= held.matrix.domains
        return Debt(rows, columns)

    def needed_queues(self) -> set[Apqn]:
        """The queues whose override promises and the leases not about to end rely on."""
        by_overrides = [held.matrix for held in self.holding() if held.way == BY_OVERRIDES]
        return {queue for matrix in by_overrides for queue in matrix.queues()}

    def remembering(self, guest_uuid: str, matrix: Matrix) -> Ledger:
        """The ledger in which the guest ``guest_uuid`` was last given ``matrix``."""
        return self._replace(last={**self.last, guest_uuid: Matrix(matrix.adapters, matrix.domains)})

    def handed(self, lease: Lease) -> Ledger:
        """The ledger in which the guest of ``lease`` has its queues, and so had them last."""
        return self._replace(had={**self.had, **dict.fromkeys(lease.matrix.queues(), lease.guest)})

    def live(self) -> list[Lease]:
        """The leases that are not about to end."""
        return [lease for lease in self.leases.values() if lease.state != ENDING]

    def spans(self) -> list[Lease]:
        """The leases not about to end, and as leases of their own what those being changed were before."""
        live = self.live()
        before = (lease.undone() for lease in live if lease.was)
        return [*live, *before]

    def holding(self) -> list[Lease | Promise]:
        """All for whose sake queues are kept from the host."""
        return [*self.spans(), *self.promises.values()]

    def aimed(self) -> Ledger:
        """The ledger as if all changes that are under way were for good: what is to be taken, not kept."""
        if not any(lease.was for lease in self.leases.values()):
            return self
        return self._replace(leases={k: v._replace(was=None) for k, v in self.leases.items()})


def load(files: Files, boot_id: str) -> Ledger:
    """The ledger of this boot, empty if there is none; ApvfioError if it cannot be understood."""
    text = files.read(LEDGER)
    if text is None:
        return Ledger(boot_id, {})
    try:
        document = json.loads(text)
        _expect(isinstance(document, dict), "it is not an object")
        _expect(type(document.get("version")) is int and document["version"] > 0, "it has no version")
        if document["version"] > VERSION:
            raise ApvfioError(
                f"/{LEDGER} was written by a newer apvfio (version {document['version']}).",
                remedy="Use that one; nothing was changed.",
            )
        if document.get("boot_id") != boot_id:
            return Ledger(boot_id, {})  # masks and mdevs have died with that boot
        leases = [_lease_from(item) for item in _get(document, "leases", list)]
        by_mdev = {lease.mdev: lease for lease in leases}
        _expect(len(by_mdev) == len(leases), "two leases have the same mdev")
        owed = _get(document, "owed", dict)
        debt = Debt(_ids_from(owed, "apmask"), _ids_from(owed, "aqmask"))
        overrides = _drivers_from(_get(owed, "overrides", dict))
        offline = frozenset(_queue_from(name) for name in _get(document, "offline", list))
        mode = _get(document, "mode", str)
        # Ledgers written before these were kept lack them.
        mkvps = _mkvps_from(_get(document, "mkvps", dict) if "mkvps" in document else {})
        last = _last_from(_get(document, "last", dict) if "last" in document else {})
        had = _texts_from(_get(document, "had", dict) if "had" in document else {})
        promises = _promises_from(_get(document, "promises", list) if "promises" in document else [])
    except (ValueError, RecursionError, RequestError) as error:
        raise ApvfioError(
            f"/{LEDGER} is damaged: {printable(str(error), 200)}.",
            remedy="Nothing was changed. Move the file away; 'apvfio status' shows what it leaves behind.",
        ) from None
    return Ledger(boot_id, by_mdev, debt, overrides, offline, mode, mkvps, last, had, promises)


def save(files: Files, ledger: Ledger) -> None:
    """Write the ledger atomically, readable by a person."""
    document = {
        "version": VERSION,
        "boot_id": ledger.boot_id,
        "leases": [lease_json(lease) for lease in ledger.leases.values()],
        "owed": owed_json(ledger),
        "promises": [promise_json(promise) for promise in ledger.promises.values()],
        "offline": [str(queue) for queue in sorted(ledger.offline)],
        "mode": ledger.mode,
        "mkvps": {str(queue): list(keys) for queue, keys in sorted(ledger.mkvps.items())},
        "had": {str(queue): guest for queue, guest in sorted(ledger.had.items())},
        "last": {
            uuid: {"adapters": format_list(matrix.adapters), "domains": format_list(matrix.domains)}
            for uuid, matrix in ledger.last.items()
        },
    }
    files.write(LEDGER, json.dumps(document, indent=1) + "\n")


def lease_json(lease: Lease) -> dict[str, object]:
    """A lease as the ledger and ``status --json`` write it; lists in chzdev's notation."""
    return {
        "guest": lease.guest,
        "uuid": lease.uuid,
        "mdev": lease.mdev,
        **_matrix_json(lease.matrix),
        "way": lease.way,
        "state": lease.state,
        "made": lease.made,
        "since": lease.since,
        **({"was": _before_json(lease.was)} if lease.was else {}),
    }


def _before_json(was: Before) -> dict[str, object]:
    return {
        **_matrix_json(was.matrix),
        "way": was.way,
        "pid": was.changer.pid,
        "started": was.changer.started,
    }


def _matrix_json(matrix: Matrix) -> dict[str, str]:
    return {name: format_list(ids) for name, ids in zip(Matrix._fields, matrix, strict=True)}


def owed_json(ledger: Ledger) -> dict[str, object]:
    """What is owed to the host, as the ledger and ``status --json`` write it."""
    return {
        "apmask": format_list(ledger.owed.apmask),
        "aqmask": format_list(ledger.owed.aqmask),
        "overrides": {str(queue): before for queue, before in sorted(ledger.overrides.items())},
    }


def _lease_from(item: object) -> Lease:
    _expect(isinstance(item, dict), "a lease is not an object")
    assert isinstance(item, dict)
    lease = Lease(
        guest=_get(item, "guest", str),
        uuid=_get(item, "uuid", str, is_uuid),
        mdev=_get(item, "mdev", str, is_uuid),
        matrix=_matrix_from(item),
        way=_get(item, "way", str, _WAYS.__contains__),
        state=_get(item, "state", str, _STATES.__contains__),
        made=_get(item, "made", bool),
        since=_get(item, "since", int) if "since" in item else 0,
        was=_before_from(_get(item, "was", dict)) if "was" in item else None,
    )
    _expect(not lease.matrix.empty, "a lease has no queues")
    return lease


def _before_from(item: dict[str, Any]) -> Before:
    changer = Process(_get(item, "pid", int), _get(item, "started", int))
    was = Before(_matrix_from(item), _get(item, "way", str, _WAYS.__contains__), changer)
    _expect(not was.matrix.empty, "a lease had no queues")
    return was


def _matrix_from(item: dict[str, Any]) -> Matrix:
    return Matrix(*(_ids_from(item, key) for key in Matrix._fields))


def _promises_from(items: list[Any]) -> dict[str, Promise]:
    promises = [promise_from(item) for item in items]
    _expect(all(promise.way in _WAYS for promise in promises), "a promise is kept in no known way")
    by_mdev = {promise.mdev: promise for promise in promises}
    _expect(len(by_mdev) == len(promises), "two promises have the same mdev")
    return by_mdev


def _texts_from(item: dict[str, Any]) -> dict[Apqn, str]:
    _expect(all(type(text) is str for text in item.values()), "what is kept of a queue is no text")
    return {_queue_from(name): text for name, text in item.items()}


def _drivers_from(item: dict[str, Any]) -> dict[Apqn, str]:
    found = _texts_from(item)
    fit = all(len(driver.encode()) < _PAGE and "\n" not in driver for driver in found.values())
    _expect(fit, "what a driver_override was before is more than one line")
    return found


def _mkvps_from(item: dict[str, Any]) -> dict[Apqn, tuple[str, ...]]:
    for keys in item.values():
        _expect(type(keys) is list and all(type(key) is str for key in keys), "a queue's mkvps are no texts")
    return {_queue_from(name): tuple(keys) for name, keys in item.items()}


def _last_from(item: dict[str, Any]) -> dict[str, Matrix]:
    _expect(all(type(ids) is dict for ids in item.values()), "what a guest had last is not an object")
    return {uuid: Matrix(_ids_from(ids, "adapters"), _ids_from(ids, "domains")) for uuid, ids in item.items()}


def _queue_from(name: object) -> Apqn:
    queue = Apqn.parse(name) if isinstance(name, str) else None
    if queue is None:
        raise ValueError(f"{str(name)[:40]!r} is no queue")
    return queue


def _ids_from(item: dict[str, Any], key: str) -> IdSet:
    text = _get(item, key, str)
    return parse_list(text, key) if text else NO_IDS


def _get(item: dict[str, Any], key: str, kind: type, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    value = item.get(key)
    _expect(type(value) is kind and fits(value), f"{key} is {str(value)[:40]!r}")
    return value


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
