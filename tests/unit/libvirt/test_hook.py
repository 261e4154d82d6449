# SPDX-License-Identifier: Apache-2.0
"""The hook: libvirt's contract, from the shell script to the engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apvfio.domain.xml_reader import is_own
from apvfio.events import audit_log
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import hook
from apvfio.model.errors import Exit
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import LEDGER
from apvfio.store.policy_file import POLICY
from domain_xml import HOSTDEV, MDEV, UUID, domain
from hosts import IBM_DOMAINS
from lab.hook import hook_script
from memory_host import IBM_ADAPTERS, Machine

HOOK = Path(__file__).parents[3] / "hooks" / "qemu"
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
    assert machine.files.texts.keys() <= {audit_log.AUDIT_LOG}  # that it gets nothing


@pytest.mark.parametrize(
    ("xml", "code", "says"),
    [
        (b"<domain", Exit.REQUEST, "apvfio: the domain XML is not well-formed"),
        (
            domain(devices=""),
            Exit.REQUEST,
            "apvfio: guest db1: it requests AP queues but has no mediated device",
        ),
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
    machine: Machine, capfd: pytest.CaptureFixture[str], xml: bytes, code: int, says: str
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


def test_a_refusal_that_is_about_the_host_names_the_guest(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else ``apvfio log --guest`` does not show it."""
    machine.files.texts[POLICY] = "[reserve]\nqueue = []\n"
    assert call(machine, "prepare", domain()) == Exit.REQUEST
    assert capfd.readouterr().err.startswith("apvfio: guest db1: the policy ")
    (event,) = filter(None, audit_log.read(machine.files))
    assert event.guest == "db1"


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


def arguments(called: bytes) -> bytes:
    """What the program gets that an interpreter was called with, which looks for packages everywhere."""
    option, command, _, packages, rest = called.split(b"|", 4)
    assert (option, command, packages) == (b"-I", b"-c", b"/")
    return rest


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("model/errors.py", "cannot import name 'ApvfioError' from 'apvfio.model.errors'"),
        ("libvirt/lean_import.py", "module 'apvfio.libvirt.lean_import' has no attribute 'install'"),
        ("engine/state.py", "cannot import name '"),
    ],
)
def test_files_of_two_versions_are_one_sentence(tmp_path: Path, broken: str, reason: str) -> None:
    shutil.copytree(HOOK.parents[1] / "apvfio", tmp_path / "apvfio")
    (tmp_path / "apvfio" / broken).write_text("")
    script = tmp_path / "50-apvfio"
    text = re.sub("^python=.*$", f"python={sys.executable}", HOOK.read_text(), flags=re.MULTILINE)
    script.write_text(re.sub("^packages=$", f"packages={tmp_path}", text, flags=re.MULTILINE))
    script.chmod(0o755)
    state = tmp_path / "run/apvfio"
    state.mkdir(parents=True)
    (state / "ledger.json").write_text(f'{{"uuid": "{UUID}"}}')
    for operation in ("prepare", "reconnect", "release"):
        done = subprocess.run(
            [script, "db1", operation, "begin", "-"],
            input=domain(),
            env={"PATH": os.environ["PATH"], "APVFIO_ROOT": str(tmp_path)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode == (operation == "prepare")
        assert said.startswith(f"apvfio: apvfio's modules do not fit together: {reason}"), said
        assert said.endswith(". If it is being updated, try again; otherwise install it again.\n")
        assert said.count("\n") == 1
    (record,) = state.glob("stopped.*")
    assert record.name.endswith(UUID)


class TestScript:
    """hooks/qemu, with an interpreter that only says how it was called."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        python = tmp_path / "python3"
        python.write_text('#!/bin/sh\nprintf "%s|" "$@"\ncat\nexit 7\n')
        python.chmod(0o755)
        script = tmp_path / "50-apvfio"
        script.write_text(re.sub("^python=.*$", f"python={python}", HOOK.read_text(), flags=re.MULTILINE))
        script.chmod(0o755)
        state = tmp_path / "run/apvfio"
        state.mkdir(parents=True)
        (state / "ledger.json").write_text(f'{{"uuid": "{UUID}"}}')
        return script

    def run(
        self, script: Path, operation: str, xml: bytes, name: str = "db1", **env: str
    ) -> tuple[int, bytes]:
        done = subprocess.run(
            [script, name, operation, "begin", "-"],
            input=xml,
            capture_output=True,
            timeout=20,
            check=False,
            env={**os.environ, "APVFIO_ROOT": str(script.parent), **env},
        )
        assert done.stderr == b""
        return done.returncode, done.stdout

    def records(self, script: Path) -> list[str]:
        """The guests whose stops are recorded."""
        return [path.name.split(".")[2] for path in script.parent.glob("run/apvfio/stopped.*")]

    @pytest.mark.parametrize("operation", ["prepare", "reconnect"])
    def test_a_guest_that_may_be_ours_is_passed_on(self, script: Path, operation: str) -> None:
        code, out = self.run(script, operation, domain(), "-x 'y' ü")
        assert code == (7 if operation == "prepare" else 0)
        assert arguments(out.rstrip(b"\n")) == b"-x 'y' \xc3\xbc|%s|begin|-|" % operation.encode() + domain()

    @pytest.mark.parametrize(
        "namespace",
        ["urn:apvfio:guest:1", "urn:apvfio:guest:2", "urn:apvfio", " URN:Apvfio ", "URN:APVFIO:guest:1"],
    )
    def test_no_misspelt_annotation_is_ignored(self, script: Path, namespace: str) -> None:
        """What the reader refuses must reach it, or the guest starts without its queues."""
        assert is_own(namespace)
        xml = f'<domain><metadata><ap:guest xmlns:ap="{namespace}"/></metadata></domain>'.encode()
        assert self.run(script, "prepare", xml)[0] == 7

    @pytest.mark.parametrize(
        "metadata",
        [
            b"",
            b'<z:n xmlns:z="urn:n"><z:q:bar/></z:n>',
            b"<uuid>00000000-0000-0000-0000-000000000000</uuid>",
            b"<x>" * 10_000,
            b"<n>" + b"y" * (17 << 20),
            b"\0\xff",
        ],
        ids=range(6),
    )
    def test_a_stop_needs_the_uuid_and_is_recorded_before_an_interpreter_starts(
        self, script: Path, metadata: bytes
    ) -> None:
        xml = domain().replace(b"<metadata>", b"<metadata>" + metadata)
        code, out = self.run(script, "release", xml, "-x 'y' ü")
        assert code == 0
        assert arguments(out) == b"-x 'y' \xc3\xbc|release|begin|-|%s|recorded|" % UUID.encode()
        assert self.records(script) == [UUID]

    @pytest.mark.parametrize("ending", ["kill -9 $$", "exit 1", "exit 127", "kill -9 $PPID"])
    def test_a_stop_stays_recorded_however_the_interpreter_ends(self, script: Path, ending: str) -> None:
        deferred = script.parent / "run/apvfio/deferred"
        deferred.mkdir()
        script.parent.joinpath("python3").write_text(f"#!/bin/sh\n{ending}\n")
        subprocess.run(
            [script, "db1", "release", "end", "-"],
            input=domain(),
            env={**os.environ, "APVFIO_ROOT": str(script.parent)},
            timeout=20,
            capture_output=True,
            check=False,
        )
        assert self.records(script) == [UUID]
        if "PPID" not in ending:
            # The unit that watches starts, and serves it.
            (woken,) = deferred.iterdir()
            assert woken.name.partition(".")[2] == UUID

    @pytest.mark.parametrize("size", [0, 100, 16_000, 16_381, 16_382, 16_383, 16_384, 16_400, 100_000])
    def test_the_guest_is_found_in_a_ledger_of_any_size(self, script: Path, size: int) -> None:
        ledger = script.parent / "run/apvfio/ledger.json"
        for text, ours in ((UUID, True), (UUID.replace("1", "2"), False)):
            # Whole lines of a ledger may end as the ledger does.
            ledger.write_text("{\n}\n".ljust(size // 2, "\n") + " }\n" * (size // 6) + f'"{text}"}}\n')
            assert bool(self.run(script, "release", domain())[1]) is ours
            assert bool(self.records(script)) is ours
            for record in script.parent.glob("run/apvfio/stopped.*"):
                record.unlink()

    @pytest.mark.parametrize("text", ["", "{", '{"leases": [\n {\n }\n', "\0\0}"])
    def test_a_ledger_that_is_not_whole_does_not_lose_a_stop(self, script: Path, text: str) -> None:
        """It lacks the guest, and grep says so: as before apvfio had written it."""
        (script.parent / "run/apvfio/ledger.json").write_text(text)
        assert self.run(script, "release", domain()) == (0, b"")
        (script.parent / "run/apvfio/ledger.json").write_text(f"{text}{UUID}")
        assert self.run(script, "release", domain())[1] != b""
        assert self.records(script) == [UUID]

    def test_who_served_a_stop_leaves_nobody_to_wake(self, script: Path) -> None:
        deferred = script.parent / "run/apvfio/deferred"
        deferred.mkdir()
        script.parent.joinpath("python3").write_text('#!/bin/sh\nrm "$APVFIO_ROOT"/run/apvfio/stopped.*\n')
        assert self.run(script, "release", domain()) == (0, b"")
        assert list(deferred.iterdir()) == []

    def test_where_run_takes_no_file_the_stop_is_recorded_elsewhere(self, script: Path) -> None:
        lasting = script.parent / "var/lib/apvfio"
        lasting.mkdir(parents=True)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # A directory in the record's place is as good as a disk without room.
        text = script.read_text()
        script.write_text(text.replace("record=$state/$name", "record=$state/none/$name"))
        assert self.run(script, "release", domain())[0] == 0
        (record,) = lasting.iterdir()
        assert re.fullmatch(rf"stopped\.[0-9]+\.{UUID}\.{boot}", record.name)

    def test_the_boot_is_that_of_the_tree(self, script: Path) -> None:
        lasting = script.parent / "var/lib/apvfio"
        lasting.mkdir(parents=True)
        random = script.parent / "proc/sys/kernel/random"
        random.mkdir(parents=True)
        random.joinpath("boot_id").write_text("tree\n")
        script.write_text(script.read_text().replace("record=$state/$name", "record=$state/none/$name"))
        assert self.run(script, "release", domain())[0] == 0
        (record,) = lasting.iterdir()
        assert record.name.endswith(f".{UUID}.tree")

    def test_a_reconnect_does_not_fail_because_nobody_reads(self, script: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "wb") as deaf:
            command = [str(script), "db1", "reconnect", "begin", "-"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=deaf, timeout=20, check=False)
        assert done.returncode == 0

    def test_functions_of_the_environment_are_not_run(self, script: Path) -> None:
        exported = {
            f"BASH_FUNC_{name}%%": "() { echo exported; }" for name in ("grep", "printf", "read", "exit")
        }
        for operation in ("prepare", "release", "reconnect", "started"):
            assert b"exported" not in self.run(script, operation, domain(), **exported)[1]

    @pytest.mark.parametrize(("operation", "code"), [("prepare", 6), ("release", 0), ("reconnect", 0)])
    @pytest.mark.parametrize("stdin", [b"", None])
    def test_without_xml_no_guest_starts(
        self, script: Path, operation: str, code: int, stdin: bytes | None
    ) -> None:
        command = [str(script), "db1", operation, "begin", "-"]
        done = subprocess.run(
            command if stdin is not None else ["sh", "-c", 'exec "$@" <&-', "sh", *command],
            input=b"",
            env={**os.environ, "APVFIO_ROOT": str(script.parent)},
            timeout=20,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code
        assert (done.stderr == b"apvfio: libvirt gave no domain XML.\n") is (operation != "release")
