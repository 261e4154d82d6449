# SPDX-License-Identifier: Apache-2.0
"""The file of the ledger, /run/apvfio/ledger.json.

It is in /run because masks and mediated devices end with the boot as well.
"""

from __future__ import annotations

from apvfio.mdev.devices import is_uuid
from apvfio.model import json_text
from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.model.host import MaskBits
from apvfio.model.ids import NO_IDS, IdSet, format_list
from apvfio.model.ledger import FREED_BY, STATES, Claim, Lease, LeaseBefore, Ledger, LiveChange
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from apvfio.kernel.seam import Files

LEDGER = "run/apvfio/ledger.json"
VERSION = 2
_PAGE = 4096
_LONGEST_UPTIME = 1 << 32
"""Seconds; no host runs for a century."""


class NewerLedgerError(ApvfioError):
    """The ledger was written by a newer apvfio."""


def load(files: Files, boot_id: str) -> Ledger:
    """The ledger of this boot, empty if there is none; ApvfioError if it cannot be understood."""
    text = files.read(LEDGER)
    if text is None:
        return Ledger(boot_id, {})
    try:
        document = json_text.loads(text)
        _expect(isinstance(document, dict), "it is not an object")
        _expect(type(document.get("version")) is int and document["version"] > 0, "it has no version")
        if document["version"] > VERSION:
            raise NewerLedgerError(
                f"/{LEDGER} was written by a newer apvfio (version {document['version']}).",
                remedy="Nothing was changed. Install that version again. Before a downgrade, shut down the "
                "guests that hold queues, and remove the package.",
            )
        if document.get("boot_id") != boot_id:
            return Ledger(boot_id, {})  # masks and mdevs have died with that boot
        leases = [_lease_from(item) for item in _get(document, "leases", list)]
        leases_by_mdev = {lease.mdev: lease for lease in leases}
        _expect(len(leases_by_mdev) == len(leases), "two leases have the same mdev")
        claims = [_claim_from(item) for item in _get(document, "claims", list)]
        claims_by_mdev = {claim.mdev: claim for claim in claims}
        _expect(len(claims_by_mdev) == len(claims), "two claims have the same mdev")
        pending = _get(document, "pending", dict)
        return Ledger(
            boot_id,
            leases_by_mdev,
            pending=_bits_from(pending),
            overrides=_drivers_from(_get(pending, "overrides", dict)),
            offline_queues=frozenset(_queue_from(name) for name in _get(document, "offline_queues", list)),
            mechanism=_get(document, "mechanism", str),
            last_given=_last_given_from(_get(document, "last_given", dict)),
            last_holder=_texts_from(_get(document, "last_holder", dict)),
            claims=claims_by_mdev,
            cleared_by_admin=_bits_from(_get(document, "cleared_by_admin", dict)),
            cleared_by_others=_bits_from(_get(document, "cleared_by_others", dict)),
        )
    except (ValueError, RecursionError, RequestError) as error:
        raise ApvfioError(
            f"/{LEDGER} is damaged: {printable(str(error), 200)}.",
            remedy="Nothing was changed. Move the file away; 'apvfio status' shows what it leaves behind.",
        ) from None


def save(files: Files, ledger: Ledger) -> None:
    """Write the ledger atomically, readable by a person."""
    document = {
        "version": VERSION,
        "boot_id": ledger.boot_id,
        "leases": [_lease_json(lease) for lease in ledger.leases.values()],
        "pending": pending_json(ledger),
        "claims": [_claim_json(claim) for claim in ledger.claims.values()],
        "offline_queues": [str(queue) for queue in sorted(ledger.offline_queues)],
        "mechanism": ledger.mechanism,
        "last_holder": {str(queue): guest for queue, guest in sorted(ledger.last_holder.items())},
        "last_given": {uuid: matrix.lists() for uuid, matrix in ledger.last_given.items()},
        "cleared_by_admin": _bits_json(ledger.cleared_by_admin),
        "cleared_by_others": _bits_json(ledger.cleared_by_others),
    }
    files.write(LEDGER, json_text.dumps(document, indent=1) + "\n")


def _lease_json(lease: Lease) -> dict[str, object]:
    return {
        "guest": lease.guest,
        "uuid": lease.uuid,
        "mdev": lease.mdev,
        **lease.matrix.lists(),
        "freed_by": lease.freed_by,
        "state": lease.state,
        "created": lease.created,
        "since": lease.since,
        **({"before": _before_json(lease.before)} if lease.before else {}),
        **({"expected": True} if lease.expected else {}),
        **({"secure": True} if lease.secure else {}),
        **({"kernel_move": lease.kernel_move._asdict()} if lease.kernel_move else {}),
        **({"live_change": _live_change_json(lease.live_change)} if lease.live_change else {}),
    }


def _live_change_json(change: LiveChange) -> dict[str, object]:
    return {"annotation": change.annotation, **change.changer._asdict()}


def _before_json(before: LeaseBefore) -> dict[str, object]:
    return {**before.matrix.lists(), "freed_by": before.freed_by, **before.changer._asdict()}


def _claim_json(claim: Claim) -> dict[str, object]:
    return {
        "mdev": claim.mdev,
        **claim.matrix.lists(),
        "freed_by": claim.freed_by,
        **claim.process._asdict(),
    }


def pending_json(ledger: Ledger) -> dict[str, object]:
    """The pending returns, as the ledger and ``status --json`` write it."""
    return {
        **_bits_json(ledger.pending),
        "overrides": {str(queue): before for queue, before in sorted(ledger.overrides.items())},
    }


def _bits_json(bits: MaskBits) -> dict[str, str]:
    return {name: format_list(ids) for name, ids in zip(MaskBits._fields, bits)}


def _bits_from(item: dict[str, Any]) -> MaskBits:
    return MaskBits(*(_ids_from(item, name) for name in MaskBits._fields))


def _lease_from(item: object) -> Lease:
    _expect(isinstance(item, dict), "a lease is not an object")
    assert isinstance(item, dict)
    lease = Lease(
        guest=_get(item, "guest", str),
        uuid=_get(item, "uuid", str, is_uuid),
        mdev=_get(item, "mdev", str, is_uuid),
        matrix=_matrix_from(item),
        freed_by=_freed_by_from(item),
        state=_get(item, "state", str, STATES.__contains__),
        created=_get(item, "created", bool),
        since=_get(item, "since", int, range(_LONGEST_UPTIME).__contains__) if "since" in item else 0,
        before=_before_from(_get(item, "before", dict)) if "before" in item else None,
        expected=_get(item, "expected", bool) if "expected" in item else False,
        live_change=_live_change_from(_get(item, "live_change", dict)) if "live_change" in item else None,
        secure=_get(item, "secure", bool) if "secure" in item else False,
        kernel_move=_process_from(_get(item, "kernel_move", dict)) if "kernel_move" in item else None,
    )
    _expect(not lease.matrix.empty, "a lease has no queues")
    return lease


def _live_change_from(item: dict[str, Any]) -> LiveChange:
    return LiveChange(_process_from(item), _get(item, "annotation", str))


def _before_from(item: dict[str, Any]) -> LeaseBefore:
    before = LeaseBefore(_matrix_from(item), _freed_by_from(item), _process_from(item))
    _expect(not before.matrix.empty, "a lease had no queues")
    return before


def _claim_from(item: object) -> Claim:
    _expect(isinstance(item, dict), "a claim is not an object")
    assert isinstance(item, dict)
    mdev = _get(item, "mdev", str, is_uuid)
    return Claim(mdev, _matrix_from(item), _freed_by_from(item), _process_from(item))


def _process_from(item: dict[str, Any]) -> Process:
    return Process(_get(item, "pid", int), _get(item, "started", int))


def _freed_by_from(item: dict[str, Any]) -> str:
    freed_by: str = _get(item, "freed_by", str, FREED_BY.__contains__)
    return freed_by


def _matrix_from(item: dict[str, Any]) -> Matrix:
    return Matrix(*(_ids_from(item, key) for key in Matrix._fields))


def _texts_from(item: dict[str, Any]) -> dict[Apqn, str]:
    _expect(all(type(text) is str for text in item.values()), "the record of a queue is not text")
    return {_queue_from(name): text for name, text in item.items()}


def _drivers_from(item: dict[str, Any]) -> dict[Apqn, str]:
    found = _texts_from(item)
    fit = all(len(driver.encode()) < _PAGE and "\n" not in driver for driver in found.values())
    _expect(fit, "what a driver_override was before is more than one line")
    return found


def _last_given_from(item: dict[str, Any]) -> dict[str, Matrix]:
    _expect(all(type(ids) is dict for ids in item.values()), "what a guest had last is not an object")
    return {uuid: _matrix_from(ids) for uuid, ids in item.items()}


def _queue_from(name: object) -> Apqn:
    queue = Apqn.parse(name) if isinstance(name, str) else None
    if queue is None:
        raise ValueError(f"{str(name)[:40]!r} is not a queue")
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
