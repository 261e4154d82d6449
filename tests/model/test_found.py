# SPDX-License-Identifier: Apache-2.0
"""What long soaks have found, each the shortest way there, gone again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.world import World

if TYPE_CHECKING:
    from model.world import Op

FOUND: dict[str, tuple[str, list[Op]]] = {
    "a queue that goes while masks are changed takes a driver from another": (
        "6.12",
        [
            ("start", 1, 6, "", (4, "meanwhile", "plug", 5, "cca")),
            ("settle",),
            ("modprobe", False),
            ("masks", "-5", "+1,-2", True, True, (3, "meanwhile", "domains", (1, 4))),
            ("settle",),
        ],
    ),
    "a bit that an administrator set is owed for a guest that does not need it": (
        "6.1",
        [
            ("echo", "aqmask", "-2"),
            ("policy", 3),
            ("configure", 3, False),
            ("start", 3, 5, "", None),
            ("start", 2, 0, "", None),
            ("start", 3, 4, "", None),
            ("chzdev", "1-255", "+1"),
            ("start", 1, 5, "", None),
            ("settle",),
        ],
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_once(what: str) -> None:
    profile, ops = FOUND[what]
    world = World(profile)
    for op in ops:
        world.do(op)
