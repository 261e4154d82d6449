# SPDX-License-Identifier: Apache-2.0
"""Every remedy is carried out on the host that it was given for: it helps, and nothing else changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.sim.kernel import SimKernel
from doctor_env import faults, patient
from doctor_table import TABLE, Row
from remedies import READ_ONLY, Change, Practice, is_editor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doctor_env import Found

KERNEL = ("module", "bus", "queue", "mask", "card", "override")
"""What the kernel makes of a module or of a scan."""
MAY_CHANGE = {
    "ap-bus": KERNEL,
    "adapters": KERNEL,
    "absent": ("guest", *KERNEL),
    "vfio-ap": ("module",),
    "drivers": ("module", "queue", "card", "bus"),
    "mechanism": ("mask", "override", "queue", "file run/apvfio/ledger.json"),
    "overrides": ("override", "queue"),
    "masks": ("mask", "queue"),
    "stored-masks": ("file etc/udev/rules.d/41-ap.rules",),
    "cards": ("card",),
    "cards-asked": ("card",),
    "foreign-devices": ("device",),
    "held": ("device", "guest", "override", "queue"),
    "same-device": ("guest",),
    "drift": ("lease", "device", "mask", "queue", "file run/apvfio/"),
    "ledger": ("file run/apvfio/ledger.json",),
    "definition": ("file etc/mdevctl.d/",),
    "annotation": ("guest",),
    "device": ("guest",),
    "start": (
        "runs",
        "lease",
        "device",
        "reach",
        "mask",
        "queue",
        "file run/apvfio/",
        "file var/lib/apvfio/",
    ),
}
"""What the remedies of each check may touch, by the beginnings of changes in words."""


@pytest.fixture
def host(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Practice]:
    row: Row = request.getfixturevalue("row")
    arguments: dict[str, Any] = dict(row.kernel)
    with patient(tmp_path, capsys, SimKernel.new(**arguments), kind=Practice) as made:
        for verb, *words in row.steps:
            getattr(made, str(verb))(*words)
        yield made


def require_harmless(host: Practice, check: Found, changes: set[Change], asked: str) -> None:
    """No other guest has changed, lost anything or been stopped; nothing has changed but what may."""
    allowed = MAY_CHANGE.get(check["id"], ())
    running = host.running()
    for what, which in changes:
        log = (what, which) == ("file", "var/lib/apvfio/audit.jsonl")
        assert log or any(f"{what} {which}".startswith(one) for one in allowed), (check, what, which)
        if what in ("guest", "runs"):
            assert which == (check["guest"] or asked), (check, what, which)
        if what in ("device", "reach"):
            owners = {name for name in host.definitions() if which in host.definition(name).decode()}
            # A guest that has ended has no use for the device that apvfio made for it.
            others = owners & running if check["id"] == "drift" else owners
            assert not others - {check["guest"], asked}, (check, which, owners)
        if what == "lease":
            assert which not in running - {check["guest"], asked}, (check, which)


def require_pasteable(check: Found, asked: str, others: set[str]) -> None:
    """The commands can be pasted as they are, all at once, and none is about another guest."""
    commands = check["commands"]
    assert not any(is_editor(command) for command in commands[:-1]), check
    assert not re.search(r"\bshutdown\b(.|\n)*\bstart\b", "\n".join(commands)), check
    about = {name for name in others if any(re.search(rf"\b{name}\b", command) for command in commands)}
    assert not about - {check["guest"], asked}, check


def effective(command: str) -> bool:
    """Whether the command does something by itself."""
    words = command.split()
    looks = (words[0] == "apvfio" and ({"queues", "plan"} & set(words))) or "list --all" in command
    return not (is_editor(command) or words[0] in READ_ONLY or looks)


@pytest.mark.parametrize("row", TABLE, ids=[row.title for row in TABLE])
def test_remedies_are_safe_and_true(host: Practice, row: Row) -> None:
    for asked in (row.guest, ""):
        for check in faults(host.examined(*([asked] if asked else []))[1]):
            assert check["remedy"]
            require_pasteable(check, asked, set(host.definitions()))
            changes, again = host.prescribed(check, asked)
            require_harmless(host, check, changes, asked)
            left = (check["id"], check["message"]) in [(c["id"], c["message"]) for c in faults(again)]
            scan = any(command.endswith("/scans") for command in check["commands"])
            if any(map(effective, check["commands"])):
                # A scan finds what somebody has assigned to the partition before.
                assert left is not bool(changes), check
                assert changes or scan, check
            else:
                assert (changes, left) == (set(), True), check
