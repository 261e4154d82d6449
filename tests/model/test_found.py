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
    "a bit that an administrator set is pending for a guest that does not need it": (
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
    "a second start that asks by property takes the device of a guest that runs": (
        "7.2",
        [("start", 1, 5, "attached", None), ("start", 1, 10, "", None), ("settle",)],
    ),
    "the same where the kernel does not let go": (
        "6.1",
        [("start", 2, 0, "attached", None), ("start", 2, 11, "attached", None), ("settle",)],
    ),
    "masks that are only stored leave a recorded stop unserved": (
        "6.1",
        [
            ("start", 2, 0, "runs", None),
            ("stop", 2, "recorded", None),
            ("masks", "+1", "-9", False, True, None),
        ],
    ),
    "a mode that is there already leaves a start that died": (
        "7.2",
        [("start", 1, 1, "attached", (1, "late fail", 5)), ("mode", "masks", None)],
    ),
    "a refused start leaves a recorded stop unserved": (
        "6.12",
        [("start", 3, 1, "", None), ("stop", 3, "recorded", None), ("start", 2, 7, "", None)],
    ),
    "a refused start undoes half of a change that died": (
        "7.2",
        [
            ("domains", (1, 2, 4, 9)),
            ("start", 2, 8, "", None),
            ("start", 1, 4, "attached", (5, "fail", 5)),
            ("change", 2, 5, False, (3, "late kill")),
            ("start", 2, 7, "runs", None),
        ],
    ),
    "an arrival leaves a guest that died unheard": (
        "6.1",
        [
            ("expect", 3, 1, None),
            ("start", 1, 3, "runs", None),
            ("wait", 1),
            ("die", 1),
            ("wait", 121),
            ("arrive", 3, False, None),
        ],
    ),
    "a guest arrives whose stop is recorded": (
        "6.12",
        [("expect", 2, 6, None), ("stop", 2, "recorded", None), ("arrive", 2, False, None)],
    ),
    "a stop is forgotten while somebody has the device open": (
        "6.1",
        [
            ("start", 2, 2, "attached", None),
            ("linger", 2),
            ("stop", 2, "strayed", (4, "meanwhile", "domains", (1, 2, 4, 9))),
            ("force", 2, None),
            ("reconcile", (6, "meanwhile", "domains", (1, 2, 4))),
            ("settle",),
        ],
    ),
    "the same without force": (
        "7.2",
        [
            ("start", 3, 9, "attached", None),
            ("stop", 3, "by hook", (2, "meanwhile", "open", 3)),
            ("change", 3, 5, False, None),
            ("settle",),
        ],
    ),
    "a start that fails beside a QEMU without its device leaves an empty device": (
        "6.12",
        [
            ("start", 3, 1, "attached", None),
            ("force", 3, None),
            ("start", 3, 9, "runs", (4, "fail", 16)),
            ("change", 3, 0, False, None),
        ],
    ),
    "a start of a guest that runs forgets the change that is being undone": (
        "7.2",
        [
            ("start", 2, 2, "attached", (9, "kill")),
            ("start", 3, 0, "runs", None),
            ("configure", 3, False),
            ("change", 2, 6, False, (5, "meanwhile", "open", 3)),
            ("change", 3, 4, False, (4, "fail", 5)),
            ("start", 3, 0, "runs", (6, "meanwhile", "open", 2)),
            ("change", 3, 9, True, None),
        ],
    ),
    "a change of a guest of which a stop is recorded cannot be undone": (
        "6.1",
        [("start", 3, 3, "runs", None), ("stop", 3, "strayed", None), ("change", 3, 9, False, None)],
    ),
    "a start that fails behind a device that cannot go yet leaves a lease that has not ended": (
        "6.1",
        [
            ("plug", 5, "cca"),
            ("chzdev", "-0", "0-255"),
            ("start", 1, 0, "attached", (3, "kill")),
            ("open", 1),
            ("start", 3, 7, "attached", None),
        ],
    ),
    "a start with other queues that fails forgets that the guest is expected, and what its device has": (
        "6.1",
        [
            ("expect", 1, 1, None),
            ("start", 1, 0, "runs", (2, "meanwhile", "open", 1)),
            ("arrive", 1, False, None),
        ],
    ),
    "a bit that cannot go back keeps one of the other mask from going": (
        "6.12",
        [
            ("policy", 4),
            ("plug", 1, ""),
            ("start", 3, 8, "attached", None),
            ("mdevctl", 8, (0, 1), (4,)),
            ("expect", 1, 0, None),
            ("stop", 3, "by hook", None),
            ("wait", 121),
            ("reconcile", None),
        ],
    ),
    "a guest that arrived late has no time to come up": (
        "7.2",
        [
            ("expect", 1, 0, None),
            ("wait", 30),
            ("wait", 30),
            ("wait", 30),
            ("arrive", 1, False, None),
            ("wait", 30),
            ("wait", 1),
            ("reconcile", None),
        ],
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_once(what: str) -> None:
    profile, ops = FOUND[what]
    world = World(profile)
    for op in ops:
        world.do(op)


@pytest.mark.parametrize("write", range(1, 10))
def test_a_start_that_dies_beside_a_qemu_without_its_device_leaves_no_half_of_one(write: int) -> None:
    world = World("7.2")
    for op in (
        ("start", 3, 1, "attached", None),
        ("force", 3, None),
        ("start", 3, 3, "runs", (write, "kill")),
        ("reconcile", None),
    ):
        world.do(op)
    leases, mdevs = world.machine.ledger.leases, world.machine.kernel.state.mdevs
    assert {mdev: lease.matrix for mdev, lease in leases.items()} == {
        mdev: there.matrix for mdev, there in mdevs.items()
    }
