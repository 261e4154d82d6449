# SPDX-License-Identifier: Apache-2.0
"""The ledger as it is kept, in /run/apvfio/ledger.json.

It lives in /run because masks and mediated devices die with the boot as well.
"""

from __future__ import annotations

import json

from apvfio.mdev.devices import is_uuid
from apvfio.model.claim import Claim, claim_from, claim_json
from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.model.ids import NO_IDS, IdSet, format_list, parse_list
from apvfio.model.ledger import FREED_BY, STATES, Lease, LeaseBefore, Ledger, LiveChange, MaskBits
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from apvfio.kernel.seam import Files

LEDGER = "run/apvfio/ledger.json"
VERSION = 1
_PAGE = 4096
_BITS = ("freed", "strange")


class NewerLedgerError(ApvfioError):
    """The ledger was written by a newer apvfio."""


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
            raise NewerLedgerError(
                f"/{LEDGER} was written by a newer apvfio (version {document['version']}).",
                remedy="Use that one; nothing was changed.",
            )
        if document.get("boot_id") != boot_id:
            return Ledger(boot_id, {})  # masks and mdevs have died with that boot
        leases = [_lease_from(item) for item in _get(document, "leases", list)]
        by_mdev = {lease.mdev: lease for lease in leases}
        _expect(len(by_mdev) == len(leases), "two leases have the same mdev")
        owed = _get(document, "owed", dict)
        debt = MaskBits(_ids_from(owed, "apmask"), _ids_from(owed, "aqmask"))
        overrides = _drivers_from(_get(owed, "overrides", dict))
        offline = frozenset(_queue_from(name) for name in _get(document, "offline", list))
        mode = _get(document, "mode", str)
        # Ledgers written before these were kept lack them.
        mkvps = _mkvps_from(_get(document, "mkvps", dict) if "mkvps" in document else {})
        last = _last_from(_get(document, "last", dict) if "last" in document else {})
        had = _texts_from(_get(document, "had", dict) if "had" in document else {})
        promises = _promises_from(_get(document, "promises", list) if "promises" in document else [])
        freed, strange = (_debt_from(_get(document, key, dict) if key in document else {}) for key in _BITS)
    except (ValueError, RecursionError, RequestError) as error:
        raise ApvfioError(
            f"/{LEDGER} is damaged: {printable(str(error), 200)}.",
            remedy="Nothing was changed. Move the file away; 'apvfio status' shows what it leaves behind.",
        ) from None
    return Ledger(
        *(boot_id, by_mdev, debt, overrides, offline, mode, mkvps, last, had, promises, freed, strange)
    )


def save(files: Files, ledger: Ledger) -> None:
    """Write the ledger atomically, readable by a person."""
    document = {
        "version": VERSION,
        "boot_id": ledger.boot_id,
        "leases": [lease_json(lease) for lease in ledger.leases.values()],
        "owed": owed_json(ledger),
        "promises": [claim_json(promise) for promise in ledger.promises.values()],
        "offline": [str(queue) for queue in sorted(ledger.offline)],
        "mode": ledger.mode,
        "mkvps": {str(queue): list(keys) for queue, keys in sorted(ledger.mkvps.items())},
        "had": {str(queue): guest for queue, guest in sorted(ledger.had.items())},
        "last": {
            uuid: {"adapters": format_list(matrix.adapters), "domains": format_list(matrix.domains)}
            for uuid, matrix in ledger.last.items()
        },
        **{key: _debt_json(bits) for key in _BITS if (bits := getattr(ledger, key))},
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
        **({"expected": True} if lease.expected else {}),
        **({"live": _live_json(lease.live)} if lease.live else {}),
    }


def _live_json(live: LiveChange) -> dict[str, object]:
    return {"annotation": live.annotation, "pid": live.changer.pid, "started": live.changer.started}


def _before_json(was: LeaseBefore) -> dict[str, object]:
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
        **_debt_json(ledger.owed),
        "overrides": {str(queue): before for queue, before in sorted(ledger.overrides.items())},
    }


def _debt_json(debt: MaskBits) -> dict[str, str]:
    return {name: format_list(ids) for name, ids in zip(MaskBits._fields, debt, strict=True)}


def _debt_from(item: dict[str, Any]) -> MaskBits:
    return MaskBits(*(_ids_from(item, name) for name in MaskBits._fields)) if item else MaskBits()


def _lease_from(item: object) -> Lease:
    _expect(isinstance(item, dict), "a lease is not an object")
    assert isinstance(item, dict)
    lease = Lease(
        guest=_get(item, "guest", str),
        uuid=_get(item, "uuid", str, is_uuid),
        mdev=_get(item, "mdev", str, is_uuid),
        matrix=_matrix_from(item),
        way=_get(item, "way", str, FREED_BY.__contains__),
        state=_get(item, "state", str, STATES.__contains__),
        made=_get(item, "made", bool),
        since=_get(item, "since", int) if "since" in item else 0,
        was=_before_from(_get(item, "was", dict)) if "was" in item else None,
        expected=_get(item, "expected", bool) if "expected" in item else False,
        live=_live_from(_get(item, "live", dict)) if "live" in item else None,
    )
    _expect(not lease.matrix.empty, "a lease has no queues")
    return lease


def _live_from(item: dict[str, Any]) -> LiveChange:
    changer = Process(_get(item, "pid", int), _get(item, "started", int))
    return LiveChange(changer, _get(item, "annotation", str))


def _before_from(item: dict[str, Any]) -> LeaseBefore:
    changer = Process(_get(item, "pid", int), _get(item, "started", int))
    was = LeaseBefore(_matrix_from(item), _get(item, "way", str, FREED_BY.__contains__), changer)
    _expect(not was.matrix.empty, "a lease had no queues")
    return was


def _matrix_from(item: dict[str, Any]) -> Matrix:
    return Matrix(*(_ids_from(item, key) for key in Matrix._fields))


def _promises_from(items: list[Any]) -> dict[str, Claim]:
    promises = [claim_from(item) for item in items]
    _expect(all(promise.way in FREED_BY for promise in promises), "a promise is kept in no known way")
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
