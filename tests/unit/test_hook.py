# SPDX-License-Identifier: Apache-2.0
"""The hook: libvirt's contract, from the shell script to the broker."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from apvfio import hook
from apvfio.assets import hook_script
from apvfio.errors import Exit
from apvfio.host import read_host
from apvfio.ledgers import LEDGER
from apvfio.sim.kernel import SimKernel
from apvfio.sim.store import create_sim, open_sim
from domains import HOSTDEV, MDEV, UUID, domain
from hosts import IBM_DOMAINS
from machines import IBM_ADAPTERS, Machine

HOOK = Path(__file__).parents[2] / "hooks" / "qemu"
PLAIN = f"<domain><name>plain</name><uuid>{UUID}</uuid><devices/></domain>".encode()
OTHERS = ["start", "started", "stopped", "attach", "migrate", "restore", "", "unheard-of"]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def call(machine: Machine, operation: str, xml: bytes, name: str = "db1") -> int:
    return hook.main([name, operation, "begin", "-"], machine, xml)


def test_prepare_gives_and_release_takes(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    before = machine.host
    assert call(machine, "prepare", domain()) == Exit.OK
    assert list(machine.host.mdevs) == [MDEV.lower()]
    for operation in [*OTHERS, "reconnect"]:
        assert call(machine, operation, domain()) == Exit.OK
    assert list(machine.host.mdevs) == [MDEV.lower()]
    assert call(machine, "release", domain()) == Exit.OK
    assert machine.host == before
    assert capfd.readouterr() == ("", "")


def test_release_goes_by_the_ledger_not_by_the_xml(machine: Machine) -> None:
    before = machine.host
    call(machine, "prepare", domain())
    assert call(machine, "release", PLAIN) == Exit.OK
    assert machine.host == before


def test_a_guest_without_annotation_is_left_alone(machine: Machine) -> None:
    with_device = PLAIN.replace(b"<devices/>", f"<devices>{HOSTDEV}</devices>".encode())
    for xml in (PLAIN, with_device):
        for operation in ("prepare", "release", "reconnect"):
            assert call(machine, operation, xml) == Exit.OK
    assert machine.sysfs.written == []
    assert machine.files.texts == {}


@pytest.mark.parametrize(
    ("xml", "code", "says"),
    [
        (b"<domain", Exit.REQUEST, "apvfio: the domain XML is not well-formed"),
        (domain(devices=""), Exit.REQUEST, "apvfio: guest db1: it asks for AP queues but has no device"),
        (
            domain('<ap:matrix adapters="7" domains="1"/>'),
            Exit.HOST,
            "guest db1: this host has no adapter 7 (0x7)",
        ),
        (domain('<ap:matrix adapters="0" domains="300"/>'), Exit.REQUEST, "goes beyond 255"),
        (domain('<ap:matrix adapters="" domains="1"/>'), Exit.REQUEST, "it is empty"),
        (domain('<ap:matrix adapters="0" domains="4-1"/>'), Exit.REQUEST, "runs backwards"),
    ],
)
def test_only_prepare_refuses_and_nothing_has_changed(
    machine: Machine, capfd: pytest.CaptureFixture[str], xml: bytes, code: Exit, says: str
) -> None:
    before = machine.snapshot()
    assert call(machine, "prepare", xml) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    for operation in ("release", "reconnect"):
        assert call(machine, operation, xml) == Exit.OK
    assert machine.snapshot() == before


def test_a_damaged_ledger_stops_prepare_only(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.files.texts[LEDGER] = "{"
    before = machine.snapshot()
    assert call(machine, "prepare", domain()) == Exit.FAILURE
    assert call(machine, "release", domain()) == Exit.OK
    assert call(machine, "reconnect", domain()) == Exit.OK
    assert capfd.readouterr().err.count("is damaged") == 3
    assert machine.snapshot() == before


def test_a_fault_of_our_own_is_a_sentence_too(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.sysfs.exists = None  # type: ignore[assignment]
    assert call(machine, "prepare", domain()) == Exit.FAILURE
    assert call(machine, "reconnect", domain()) == Exit.OK
    err = capfd.readouterr().err
    assert "unexpected TypeError" in err
    assert "Traceback" not in err


def test_an_ordinary_user_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert hook.main(["db1", "prepare", "begin", "-"], None, domain()) == Exit.HOST
    assert "system's libvirt daemon only" in capfd.readouterr().err
    assert hook.main(["plain", "prepare", "begin", "-"], None, PLAIN) == Exit.OK


def test_the_environment_may_name_a_simulated_host(tmp_path: Path) -> None:
    path = str(tmp_path / "host.json")
    create_sim(path, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    script = tmp_path / "50-apvfio"
    script.write_text(hook_script())
    script.chmod(0o755)
    for operation, held in (("prepare", [MDEV.lower()]), ("release", [])):
        done = subprocess.run(
            [script, "db1", operation, "begin", "-"],
            input=domain(),
            env={"APVFIO_SIM": path, "PATH": os.environ["PATH"]},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        with open_sim(path) as system:
            assert list(read_host(system.sysfs).mdevs) == held


class TestScript:
    """hooks/qemu, with an interpreter that only says how it was called."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        python = tmp_path / "python3"
        python.write_text('#!/bin/sh\nprintf "%s|" "$@"\ncat\nexit 7\n')
        python.chmod(0o755)
        script = tmp_path / "50-apvfio"
        text = HOOK.read_text()
        for name, path in (("python", python), ("ledger", tmp_path / "ledger.json")):
            text = re.sub(f"^{name}=.*$", f"{name}={path}", text, flags=re.MULTILINE)
        script.write_text(text)
        script.chmod(0o755)
        return script

    def run(self, script: Path, operation: str, xml: bytes, name: str = "db1") -> tuple[int, bytes]:
        done = subprocess.run(
            [script, name, operation, "begin", "-"], input=xml, capture_output=True, timeout=20, check=False
        )
        assert done.stderr == b""
        return done.returncode, done.stdout

    @pytest.mark.parametrize("operation", ["prepare", "release", "reconnect"])
    def test_a_guest_that_may_be_ours_is_passed_on(self, script: Path, operation: str) -> None:
        code, out = self.run(script, operation, domain(), "-x 'y' ü")
        assert code == (7 if operation == "prepare" else 0)
        assert (
            out.rstrip(b"\n")
            == b"-I|-m|apvfio.hook|-x 'y' \xc3\xbc|%s|begin|-|" % operation.encode() + domain()
        )

    def test_where_apvfio_is_need_not_be_looked_for(self, script: Path, tmp_path: Path) -> None:
        found = "".join(f"{word}|" for word in ("-I", "-S", "-c")).encode()
        for packages, begin in ((tmp_path / "none", b"-I|-m|"), (HOOK.parents[1], found)):
            text = re.sub("^packages=.*$", f"packages={packages}", script.read_text(), flags=re.MULTILINE)
            script.write_text(text)
            code, out = self.run(script, "prepare", domain())
            assert code == 7
            assert out.startswith(begin)
            assert out.rstrip(b"\n").endswith(b"|db1|prepare|begin|-|" + domain())
            assert self.run(script, "reconnect", domain())[0] == 0

    @pytest.mark.parametrize("operation", OTHERS)
    def test_other_operations_end_at_once(self, script: Path, operation: str) -> None:
        assert self.run(script, operation, domain()) == (0, b"")

    @pytest.mark.parametrize("operation", ["prepare", "release", "reconnect"])
    def test_a_guest_without_device_and_annotation_starts_no_interpreter(
        self, script: Path, operation: str
    ) -> None:
        assert self.run(script, operation, PLAIN) == (0, b"")

    def test_a_guest_that_lost_annotation_and_device_while_it_ran(self, script: Path) -> None:
        ledger = script.parent / "ledger.json"
        ledger.write_text('{"uuid": "another"}')
        assert self.run(script, "release", PLAIN) == (0, b"")
        ledger.write_text(f'{{"uuid": "{UUID}"}}')
        assert self.run(script, "release", PLAIN)[1].startswith(b"-I|-m|apvfio.hook|")
        assert self.run(script, "prepare", PLAIN) == (0, b"")

    def test_a_large_domain_is_passed_on_whole(self, script: Path) -> None:
        xml = domain(name="n" * 1_000_000)
        code, out = self.run(script, "prepare", xml)
        assert code == 7
        assert out.rstrip(b"\n").endswith(xml)
