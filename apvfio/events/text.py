# SPDX-License-Identifier: Apache-2.0
"""Events in words."""

from __future__ import annotations

from apvfio.events.event import KINDS
from apvfio.model.errors import printable
from apvfio.model.ledger import BY_OVERRIDES
from apvfio.model.text import count_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.events.event import Event

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
        way=_way(event.freed_by),
        text=text,
        why=f" ({text})" if text else "",
        counts=", ".join(f"{n} {printable(name)}" for name, n in sorted(event.counts.items())),
    )
    late = ", found out afterwards" if event.late else ""
    warned = "".join(f"; warning: {printable(warning, _LONGEST)}" for warning in event.warnings)
    # All of it is looked through once more: who has edited the audit log may have done it anywhere.
    return printable(f"{said}{warned}{late}", _WHOLE)


def _way(way: str) -> str:
    if not way:
        return ""
    return ", by driver_override" if way == BY_OVERRIDES else f", freed by its {way}"
