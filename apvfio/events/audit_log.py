# SPDX-License-Identifier: Apache-2.0
"""The audit log: one line for each event, kept across boots in /var/lib/apvfio.

A line is appended after the ledger is written, by one write, and no call waits for the disk: a power failure
that loses the line also ends every guest. If a process dies between the two writes, the checksum in the last
line disagrees with the ledger. The next call then adds the missing events and marks them as late. The audit
log never makes a call fail: a full disk leaves a gap, which is closed in the same way.

Nor does the length of the audit log cost a call anything. Each file begins with the queues that all guests
hold, so that the newest file is enough. A file that is larger than apvfio makes it is not read.
"""

from __future__ import annotations

from apvfio.events.event import COUNTED, GAINS, HELD, STOPPED, Event, from_line, to_line
from apvfio.events.ledger_changes import Holder, differences, events, holders, holding, still_held
from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from apvfio.kernel.seam import Files
    from apvfio.model.ledger import Ledger

AUDIT_LOG = "var/lib/apvfio/audit.jsonl"
FILES = 40
"""With that many, some 30,000 events are kept."""
FULL = 256 << 10
OVERFULL = 1 << 20
_PER_HOLDER = 512
"""Bytes more for each guest that holds queues: a line at the beginning of every file is about it."""
_LARGEST = 32 << 20


def append_changes(
    files: Files, ledgers: Sequence[Ledger], now: float, planned: Event | None = None
) -> list[Event]:
    """Append the changes from each of ``ledgers``, already written, to the next; return the events.

    ``planned`` is the plan that has led from the first ledger to the second.
    """
    before, after = ledgers[0], ledgers[-1]
    changes = [list(events(ledgers[i], ledgers[i + 1], now)) for i in range(len(ledgers) - 1)]
    if planned:
        changes.insert(1, [planned])
    found = [event for part in changes for event in part]
    (end, last), held = _end(files), holders(before)
    if last is None or last.holds != holding(before.boot_id, held.values()):
        with suppress(ApvfioError):
            # A new file may have been created and left empty.
            newest = 0 if files.size(AUDIT_LOG) else 1
            known = replayed(_file(files, newest, OVERFULL + _PER_HOLDER * len(held)))
            found = [*differences(known, held, now, before.boot_id, late=True), *found]
    if found:
        found[-1] = found[-1]._replace(holds=holding(after.boot_id, holders(after).values()))
        if _turn_over(files, held.values(), now, before.boot_id):
            end = ""
        _append(files, found, end)
    return found


def note(files: Files, event: Event) -> None:
    """Append an event that changes no ledger; also without the lock, so that no new file is begun.

    A start that is tried and refused again and again does not fill the disk.
    """
    with suppress(ApvfioError):
        if files.size(AUDIT_LOG) <= OVERFULL:
            end, last = _end(files)
            _append(files, [event._replace(holds=last.holds if last else 0)], end)


def read(files: Files, newest: int = FILES) -> Iterator[Event | None]:
    """What the ``newest`` files have, oldest first, None for each damaged line; ApvfioError."""
    for number in range(newest - 1, -1, -1):
        yield from _file(files, number)


def _file(files: Files, number: int, largest: int | None = None) -> Iterator[Event | None]:
    if largest is not None and files.size(_name(number)) > largest:
        raise ApvfioError(
            f"/{_name(number)} is larger than {largest >> 10} KiB, which apvfio never writes.",
            remedy="Move it away, or see 'apvfio log'.",
        )
    yield from map(_parsed, (files.read(_name(number)) or "").splitlines())


def _parsed(line: str) -> Event | None:
    # The JSON error for an empty text would load all of json, at each start on a new host.
    if not line:
        return None
    try:
        return from_line(line)
    except (ValueError, RecursionError, ApvfioError):
        return None


def counts(files: Files, largest: int = _LARGEST) -> dict[str, int]:
    """How many events of each kind there ever were, also in files that are no longer kept.

    ApvfioError, also if a file has more than ``largest`` bytes.
    """
    total: dict[str, int] = {}
    for number in range(FILES):
        complete = False
        for event in _file(files, number, largest):
            if event and event.kind == COUNTED:
                complete = True
                total = {
                    kind: total.get(kind, 0) + event.counts.get(kind, 0) for kind in {*total, *event.counts}
                }
            elif event and event.kind != HELD:
                total[event.kind] = total.get(event.kind, 0) + 1
        if complete:
            break
    return total


def damaged(files: Files) -> int:
    """How many lines of the newest file cannot be understood; ApvfioError."""
    return sum(event is None for event in _file(files, 0, _LARGEST))


def replayed(log: Iterable[Event | None]) -> dict[str, Holder]:
    """Return who holds which queues according to the audit log."""
    held: dict[str, Holder] = {}
    for event in log:
        if event and event.kind in GAINS:
            held[event.mdev] = Holder(event.guest, event.uuid, event.mdev, event.matrix, event.freed_by)
        elif event and event.kind == STOPPED:
            held.pop(event.mdev, None)
        elif event and event.kind == COUNTED:
            held.clear()  # what follows at the beginning of a file is all there is
    return held


def _end(files: Files) -> tuple[str | None, Event | None]:
    """The last lines of the newest file, None if they cannot be read, and the last event, if it can be."""
    try:
        end = files.end(AUDIT_LOG)
    except ApvfioError:
        return None, None
    # An empty text is no JSON; to report that would load json, which a start avoids.
    return end, _parsed(end.rstrip("\n").rpartition("\n")[2]) if end else None


def _append(files: Files, found: Iterable[Event], end: str | None) -> None:
    """Add lines after ``end``, whose last line may be incomplete; nothing if ``end`` is unknown."""
    if end is None:
        return
    with suppress(ApvfioError):
        begin = "" if not end or end.endswith("\n") else "\n"
        files.append(AUDIT_LOG, begin + "".join(map(to_line, found)))


def _turn_over(files: Files, held: Collection[Holder], now: float, boot: str) -> bool:
    """Begin a new file, with counts and held queues, if the newest is full; return whether it was."""
    with suppress(ApvfioError):
        more = _PER_HOLDER * len(held)
        if files.size(AUDIT_LOG) < FULL + more:
            return False
        before: dict[str, int] = {}
        with suppress(ApvfioError):
            before = counts(files, OVERFULL + more)
        head = [Event(now, COUNTED, boot, counts=before), *still_held(held, now, boot)]
        for number in range(FILES - 1, 0, -1):
            files.rename(_name(number - 1), _name(number))
        _append(files, head, "")
        return True
    return False


def _name(number: int) -> str:
    return f"{AUDIT_LOG}.{number}" if number else AUDIT_LOG
