# SPDX-License-Identifier: Apache-2.0
"""Real processes, hooks/qemu and ``python -m apvfio``: hostile input, odd environments, interruption."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.sim.host_file import open_sim
from hook_process import PATIENCE, Hook
from hostile_input import HOSTDEV, MDEV, UUID, domain, require_line

if TYPE_CHECKING:
    pass


EVIL = "raise SystemExit('this must not run')\n"


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


BARE = b"<domain><name>x</name><devices/></domain>"
HOSTILE = {
    "bytes": b"\xff\xfe\0urn:apvfio:guest:1\x1b[31m",
    "bomb": b"<!DOCTYPE d [<!ENTITY a 'b'>]>" + domain(),
    "two": domain().replace(b"</metadata>", domain().partition(b"<metadata>")[2].partition(b"<devices>")[0]),
    "deep": b"<!-- urn:apvfio:guest:1 -->" + b"<a>" * 100_000,
    "name": domain('<ap:matrix adapters="77" domains="1"/>', name="\u202e\u009b31m\n-x"),
    "uuid": domain(uuid="--help"),
    "huge": domain().ljust((64 << 20) + 1),
    "list": domain(f'<ap:matrix adapters="{"0," * 100_000}" domains="1"/>'),
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE)
def test_the_hook_refuses_it_in_a_line(hook: Hook, xml: bytes) -> None:
    before = hook.state()
    done = hook.call(xml, name="-x\n'\"$(touch run)`touch run`;touch run")
    assert done.returncode in (Exit.REQUEST, Exit.HOST)
    assert done.stdout == b""
    require_line(done.stderr.decode())
    assert hook.state() == before
    assert not (hook.script.parent / "run").exists()


@pytest.mark.parametrize(
    "xml", [b"", b"\0" * 100, BARE, b"-f/etc/passwd", b"<uuid>-e</uuid>", b"x" * 300_000], ids=len
)
def test_a_guest_that_is_not_ours_is_let_pass_whatever_it_is(hook: Hook, xml: bytes) -> None:
    for operation in ("prepare", "release", "reconnect", "", "-x", "prepare\nrelease"):
        done = hook.call(xml, operation)
        # A start without any XML is nobody's.
        refused = operation == "prepare" and not xml.strip(b"\0")
        assert (done.returncode, done.stdout) == (Exit.REQUEST if refused else 0, b"")
        assert b"Traceback" not in done.stderr


def test_the_environment_of_the_caller_does_not_matter(hook: Hook, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json", "select", "lxml", "sitecustomize", "usercustomize", "apvfio"):
        (evil / f"{name}.py").write_text(EVIL)
        (tmp_path / f"{name}.py").write_text(EVIL)
    for name in ("cat", "head", "grep", "python3", "printf"):
        (evil / name).write_text("#!/bin/sh\necho this must not run\n")
        (evil / name).chmod(0o755)
    odd = {
        "PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "PYTHONSTARTUP": str(evil / "json.py"),
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(evil), "PYTHONPLATLIBDIR": "evil", "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PATH": str(evil), "HOME": str(evil), "IFS": "/", "LANG": "xx_YY", "LC_ALL": "C.UTF-8",
        "TMPDIR": "/nowhere",
        "COLUMNS": "x", "PYTHONIOENCODING": "no-such",
    }  # fmt: skip
    done = hook.call(domain(), env=odd)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert hook.mdevs() == [MDEV]
    assert hook.call(domain(), "release", env=odd).returncode == 0
    assert hook.mdevs() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([b"plan", b"--xml", b"\xff\x1b[31m\n"], Exit.USAGE),
        ([b"--sim", b"\xff\n", b"status"], Exit.REQUEST),
        ([b"--root", b"x/" * 30_000, b"status"], Exit.USAGE),
        ([b"release", b"x" * 65_536], Exit.REQUEST),
        ([b"masks", b"apmask=" + b"-1," * 20_000], Exit.REQUEST),
        ([b"\x1b]0;x\x07"], Exit.USAGE),
    ],
)
def test_a_command_in_a_process_of_its_own(hook: Hook, words: list[bytes], code: int) -> None:
    before = hook.sim.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "apvfio", *words],
        env={"LC_ALL": "C", **({} if words[0] in (b"--sim", b"--root") else {"APVFIO_SIM": str(hook.sim)})},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, b"")
    require_line(done.stderr.decode())
    assert hook.sim.read_bytes() == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_a_terminal_that_cannot_show_a_name(hook: Hook, encoding: str) -> None:
    assert hook.call(domain(name="ü\U0001d524é")).returncode == 0
    for words in (["status"], ["queues"], ["release", "ü\U0001d524é"]):
        done = subprocess.run(
            [sys.executable, "-m", "apvfio", "--sim", hook.sim, *words],
            env={"PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        done.stdout.decode(encoding)


def test_a_definition_is_no_way_around(hook: Hook) -> None:
    """A guest without annotation whose device is defined badly."""
    with open_sim(str(hook.sim)) as system:
        system.files.write(
            f"etc/mdevctl.d/matrix/{MDEV}", '{"mdev_type": "vfio_ap-passthrough", "attrs": [{"x\\n": 1}]}'
        )
    xml = f"<domain><name>d</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
    done = hook.call(xml)
    assert done.returncode == Exit.REQUEST
    require_line(done.stderr.decode())
