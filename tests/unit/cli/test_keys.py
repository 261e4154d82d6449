# SPDX-License-Identifier: Apache-2.0
"""``apvfio keys``, and where else remembered master keys are shown with their time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.model.matrix import Apqn
from apvfio.sim.kernel import SimKernel
from apvfio.store import mkvps_note
from domain_xml import domain
from hosts import a_request
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = "ab" * 32, "cd" * 32
WHEN = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
THEN = "2026-01-31T11:00:00.000+00:00"


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """IBM's example host, whose adapter 10 is in EP11 mode; a guest has 0a.0001 and 0a.0002."""
    kernel = SimKernel.new()
    kernel.state.queues[Apqn(10, 1)].mkvps = f"WK CUR: valid 0x{KEY}\nWK NEW: empty -"
    kernel.state.queues[Apqn(10, 2)].mkvps = "WK CUR: uninitialized -\nWK NEW: empty -"
    made = SimulatedHost(tmp_path, kernel)
    made.start(a_request("10", "1-2"))
    return made


def out(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert host.run(*words) == Exit.OK
    return capsys.readouterr().out


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}


def test_what_a_guest_has_is_remembered_and_the_hosts_is_read(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with host.opened() as system:
        system.kernel.state.queues[Apqn(1, 1)].mkvps = "AES CUR: valid 0x1122334455667788\nAES NEW: - -"
    found = rows(out(host, capsys, "keys", "list"))
    # Adapter 0 is an accelerator.
    assert {name[:2] for name in found} == {"01", "0a"}
    mode, read, *owner, register, key = found["0a.0001"]
    assert (mode, owner, register, key) == ("ep11", ["guest", "g1"], "wk", f"0x{KEY}")
    assert re.fullmatch(WHEN, read)
    assert found["0a.0002"][-1] == "none"
    assert found["01.0001"] == ["cca", "now", "host", "aes", "0x1122334455667788"]
    assert found["01.0002"] == ["cca", "never", "host", "unknown"]


def test_queues_status_and_plan_tell_the_time(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(
        mkvps_note.MKVPS, f"{THEN} 0a.0001 WK CUR: valid 0x{KEY}\n{THEN} 01.0001 AES CUR: valid 0x11\n"
    )
    seen = {"mkvps": {"wk": KEY}, "seen": THEN, "source": "remembered"}
    for command in ("queues", "status"):
        document = json.loads(out(host, capsys, command, "--json"))
        queues = document["queues"] if command == "status" else document
        assert {one["queue"]: one["master_keys"] for one in queues}["0a.0001"] == seen
        assert {one["queue"]: one["master_keys"] for one in queues}["0a.0002"] is None
    # What the host has can be read at any time.
    line = "remembered master keys: 0a.0001, read at 2026-01-31T11:00:00Z or later\n"
    assert line in out(host, capsys, "status")


def test_status_asks_no_card(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    with host.opened() as system:
        system.kernel.state.queues[Apqn(1, 1)].mkvps = "AES CUR: valid 0x11"
    before = host.read(mkvps_note.MKVPS)
    out(host, capsys, "status")
    assert host.read(mkvps_note.MKVPS) == before
    out(host, capsys, "queues")
    assert "01.0001 AES CUR: valid 0x11" in (host.read(mkvps_note.MKVPS) or "")


def test_after_a_ceremony_the_old_key_counts_no_more(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with host.opened() as system:
        # The guest keeps 0a.0001; its neighbours, which went with it, come back to the host at its end.
        system.kernel.state.queues[Apqn(10, 1)].mkvps = f"WK CUR: valid 0x{OTHER}\nWK NEW: empty -"
    assert rows(out(host, capsys, "keys", "list"))["0a.0001"][-1] == f"0x{KEY}"
    said = out(host, capsys, "keys", "forget", "--domains", "1")
    assert said == ("forgot the keys of 1 queue: 0a.0001\ncannot be read now: 01.0001, 0a.0001\n")
    found = rows(out(host, capsys, "keys", "list"))
    assert found["0a.0001"][-1] == "unknown"
    assert found["0a.0002"][-1] == "none"
    assert host.run("release", "g1") == Exit.OK
    assert rows(out(host, capsys, "keys", "list"))["0a.0001"][1:] == ["now", "host", "wk", f"0x{OTHER}"]
    said = out(host, capsys, "keys", "forget", "0a.0001")
    assert said == "forgot the keys of 1 queue: 0a.0001\nread again: 0a.0001\n"


def test_a_dry_run_forgets_nothing(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    out(host, capsys, "keys", "list")
    before = host.read(mkvps_note.MKVPS)
    said = out(host, capsys, "keys", "forget", "--domains", "1", "--dry-run")
    assert said == "would forget the keys of 1 queue: 0a.0001\ncannot be read now: 01.0001, 0a.0001\n"
    assert host.read(mkvps_note.MKVPS) == before
    document = json.loads(out(host, capsys, "keys", "forget", "05.0005", "-n", "--json"))
    assert document == {"dry_run": True, "forgotten": [], "queues": []}
    said = out(host, capsys, "keys", "forget", "05.0005", "-n")
    assert said == "no key of these queues is remembered\n"


@pytest.mark.parametrize(
    ("words", "forgotten"),
    [
        (["--all"], ["0a.0001", "0a.0002"]),
        (["--adapters", "0xa"], ["0a.0001", "0a.0002"]),
        (["0a.0002", "--domains", "27"], ["0a.0002"]),
        (["05.0005"], []),
    ],
)
def test_what_is_forgotten(
    host: SimulatedHost, words: list[str], forgotten: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(out(host, capsys, "keys", "forget", *words, "--json"))
    assert document["forgotten"] == forgotten
    text = host.read(mkvps_note.MKVPS) or ""
    assert not any(name in text for name in forgotten)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no queue is named. Name queues"),
        (["0a.1b"], "'0a.1b' is not a queue. Write it"),
        (["--domains", "x"], "--domains"),
    ],
)
def test_what_is_no_command(
    host: SimulatedHost, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.read(mkvps_note.MKVPS)
    assert host.run("keys", "forget", *words) in (Exit.USAGE, Exit.REQUEST)
    assert says in capsys.readouterr().err
    assert host.read(mkvps_note.MKVPS) == before


def test_plan_says_which_keys_it_used(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = tmp_path / "db1.xml"
    xml.write_bytes(domain(f'<ap:any mode="ep11" mkvp="{KEY}"/>'))
    with host.opened() as system:
        system.kernel.state.queues[Apqn(10, 4)].mkvps = f"WK CUR: valid 0x{KEY}"
    host.run("release", "g1")
    assert "master keys  read now: 0a.0001\n" in out(host, capsys, "plan", "--xml", str(xml))
    # Nobody has them, and the host does not either: what is known is as old as the last look.
    host.write("sys/bus/ap/apmask", "-10")
    host.write(mkvps_note.MKVPS, f"{THEN} 0a.0001 WK CUR: valid 0x{KEY}\n")
    text = out(host, capsys, "plan", "--xml", str(xml))
    assert "master keys  remembered since 2026-01-31T11:00:00Z: 0a.0001\n" in text
    assert (
        "warning      the master key of 0a.0001 cannot be read now, and is the one remembered since "
        "2026-01-31T11:00:00Z: a key ceremony may have changed it\n"
    ) in text


def test_a_change_of_the_masks_reads_them_too(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with host.opened() as system:
        system.kernel.state.queues[Apqn(1, 1)].mkvps = "AES CUR: valid 0x1122334455667788"
    out(host, capsys, "masks", "-a", "apmask=-1")
    mode, read, owner, register, key = rows(out(host, capsys, "keys", "list"))["01.0001"]
    assert (mode, owner, register, key) == ("cca", "free", "aes", "0x1122334455667788")
    assert re.fullmatch(WHEN, read)


def test_a_dumped_host_remembers_the_same(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(out(host, capsys, "keys", "list"))
    copy = str(tmp_path / "copy.json")
    out(host, capsys, "dump", copy)
    host.path = copy
    found = rows(out(host, capsys, "keys", "list"))
    assert found["0a.0001"] == before["0a.0001"]
    assert found["0a.0001"][1] != "now"
