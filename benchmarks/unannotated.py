# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook for a guest that is none of its business, as processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.goals import measured
from benchmarks.measure import process, side_by_side
from benchmarks.plain_host import PEERS, PYTHON, plain_host
from lab.guest import guest_xml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.goals import Goal

OPERATIONS = ("prepare", "start", "started", "stopped", "release")
"""What libvirt calls in the life of a guest, in this order."""


def goals(rounds: int) -> Iterator[Goal]:
    """All five operations together."""
    xml = guest_xml("plain").encode()
    with plain_host([0], [0], []) as host:

        def five(argv: Sequence[str]) -> float:
            return sum(process([*argv, "plain", op, "begin", "-"], xml, host.env).wall for op in OPERATIONS)

        for beside, argv, bound in (
            ("a minimal hook in sh", [f"{PEERS}/minimal-hook.sh"], 1.5),
            ("a hook that imports lxml", [PYTHON, "-I", f"{PEERS}/lxml-hook.py"], 0.25),
        ):
            pair = side_by_side(lambda: five([host.hook]), lambda argv=argv: five(argv), rounds)  # type: ignore[misc]
            yield measured("guest without annotation, its five operations", beside, pair, bound)
