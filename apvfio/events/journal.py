# SPDX-License-Identifier: Apache-2.0
"""Events as entries of the journal, by its native protocol: one datagram of fields.

No call waits for the journal: if it is missing, is full or refuses an entry, nothing else changes
(sd_journal_send(3), and systemd's JOURNAL_NATIVE_PROTOCOL). Field values from outside, such as a guest's
name, are sent with their length, so that no line break in them begins another field.
"""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_DGRAM, socket  # a tenth of what loading the public module takes

from apvfio.events.event import INFO, KINDS, WARNING, Event
from apvfio.model.contexts import suppress
from apvfio.model.errors import printable
from apvfio.model.ids import format_list
from apvfio.model.ledger import BY_OVERRIDES
from apvfio.model.text import count_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.events.event import Event

SOCKET = "/run/systemd/journal/socket"
_MOST = 256
"""Queues named in one entry, which must fit into a datagram."""


def send(event: Event, path: str = SOCKET) -> None:
    """Put an entry into the journal, if there is one that takes it at once."""
    data = b"".join(_field(name, text) for name, text in fields(event) if text)
    out = socket(AF_UNIX, SOCK_DGRAM)
    out.setblocking(False)
    with suppress(OSError):
        out.sendto(data, path)
    out.close()


def fields(event: Event) -> Iterator[tuple[str, str]]:
    """The fields of its entry, in order; those of one name follow each other."""
    yield "MESSAGE", printable(sentence(event), 1000)
    yield "MESSAGE_ID", KINDS[event.kind].message_id
    yield "PRIORITY", str(_priority(event))
    yield "SYSLOG_IDENTIFIER", "apvfio"
    yield "APVFIO_EVENT", event.kind
    yield "APVFIO_GUEST", event.guest
    yield "APVFIO_UUID", event.uuid
    yield "APVFIO_MDEV", event.mdev
    yield "APVFIO_FREED_BY", event.freed_by
    yield "APVFIO_ADAPTERS", format_list(event.matrix.adapters)
    yield "APVFIO_DOMAINS", format_list(event.matrix.domains)
    for queue, _ in zip(event.matrix.queues(), range(_MOST)):
        yield "APVFIO_QUEUE", str(queue)
    for name in event.collateral[:_MOST]:
        yield "APVFIO_COLLATERAL", name
    for warning in event.warnings[:_MOST]:
        yield "APVFIO_WARNING", warning


def _priority(event: Event) -> int:
    kind = KINDS[event.kind]
    if event.warnings:
        return WARNING
    return INFO if kind.without_text and not event.text else kind.priority


def _field(name: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


_LONGEST = 10_000
"""Characters: some thousand names of queues."""
_WHOLE = 100_000


def sentence(event: Event) -> str:
    """Return what happened, in one line fit for a terminal."""
    kind, matrix, text = KINDS[event.kind], event.matrix, printable(event.text, _LONGEST)
    number = len(matrix.adapters) * len(matrix.domains)
    said = (kind.sentence if text else kind.without_text or kind.sentence).format(
        guest=f"guest {printable(event.guest)}",
        queues=f"{count_queues(number)}: adapters {matrix.adapters}, domains {matrix.domains}",
        mdev=event.mdev,
        by=_by(event.freed_by),
        text=text,
        why=f" ({text})" if text else "",
        counts=", ".join(f"{n} {printable(name)}" for name, n in sorted(event.counts.items())),
    )
    late = ", recorded late" if event.late else ""
    warned = "".join(f"; warning: {printable(warning, _LONGEST)}" for warning in event.warnings)
    # The whole text is checked again: somebody may have edited any part of the audit log.
    return printable(f"{said}{warned}{late}", _WHOLE)


def _by(option: str) -> str:
    if not option:
        return ""
    return ", by driver_override" if option == BY_OVERRIDES else f", freed by {option}"
