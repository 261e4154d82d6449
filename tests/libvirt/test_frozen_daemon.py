# SPDX-License-Identifier: Apache-2.0
"""A real libvirtd that is frozen, or waits for a hook: commands answer in time, and SIGINT ends them."""

from __future__ import annotations

import json
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from hosts import a_matrix, mdev
from lab.hook import hook_script
from lab_env import LabEnv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lab import Lab
    from lab_env import MakeLab

HANGING = "/etc/libvirt/hooks/qemu.d/90-hangs"
SIGINT_AFTER = ("timeout", "--foreground", "--preserve-status", "--signal=INT")
SAYS = "libvirt at qemu:///system does not answer: no answer within 10 s"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as made:
        yield made


@pytest.fixture
def env(lab: Lab) -> Iterator[LabEnv]:
    env = LabEnv(lab)
    env.define("db1", a_matrix("0,10", "1-2"), mdev(1))
    yield env
    env.clean()


@pytest.fixture
def frozen(env: LabEnv) -> Iterator[LabEnv]:
    env.lab.libvirtd.freeze()
    yield env
    env.lab.libvirtd.thaw()


@pytest.fixture
def hanging(env: LabEnv) -> Iterator[LabEnv]:
    """A guest is being started, and somebody's hook does not end."""
    script = '#!/bin/sh\n[ "$2" != prepare ] || exec sleep 300\n'
    env.run(["sh", "-c", f"cat >{HANGING}; chmod +x {HANGING}"], stdin=script)
    env.run(["sh", "-c", "virsh -c qemu:///system start db1 >/dev/null 2>&1 &"])
    deadline = time.monotonic() + 20
    while env.run(["pgrep", "-f", "^sleep 300"]).returncode and time.monotonic() < deadline:
        time.sleep(0.1)
    yield env
    env.run(["sh", "-c", f"rm {HANGING}; pkill -f '^sleep 300'"])


def timed(env: LabEnv, *words: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = env.apvfio(*words)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def test_a_frozen_daemon(frozen: LabEnv) -> None:
    code, said, seconds = timed(frozen, "guest", "list")
    assert (code, seconds < 20) == (Exit.HOST, True), seconds
    assert SAYS in said


def test_the_doctor_of_a_frozen_daemon(frozen: LabEnv) -> None:
    code, said, seconds = timed(frozen, "doctor", "--json", "db1")
    checks = {c["id"]: c for c in json.loads(said)["checks"]}
    assert (code, seconds < 20) == (Exit.HOST, True), seconds
    assert checks["connection"]["state"] == "problem"
    assert SAYS in checks["connection"]["message"]
    assert {checks[name]["state"] for name in ("hook", "python", "policy")} == {"ok"}


@pytest.mark.parametrize(
    "words", [("guest", "list"), ("plan", "db1"), ("guest", "show", "db1")], ids=" ".join
)
def test_a_foreign_hook_hangs(hanging: LabEnv, words: tuple[str, ...]) -> None:
    code, said, seconds = timed(hanging, *words)
    assert (code, seconds < 25) == (Exit.HOST, True), (said, seconds)
    assert SAYS in said


def test_sigint_at_any_moment(hanging: LabEnv) -> None:
    """`timeout` sends it; the command is past its imports then."""
    for seed in range(6):
        seconds = random.Random(seed).uniform(1.0, 4.0)
        began = time.monotonic()
        done = hanging.run([*SIGINT_AFTER, f"{seconds:.2f}", sys.executable, "-m", "apvfio", "guest", "list"])
        assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "")
        assert time.monotonic() - began < seconds + 4


def test_a_daemon_that_goes_on_is_asked_again(env: LabEnv) -> None:
    env.lab.libvirtd.freeze()
    assert timed(env, "guest", "show", "db1")[0] == Exit.HOST
    env.lab.libvirtd.thaw()
    code, said, _ = timed(env, "guest", "show", "db1")
    assert (code, "0,10" in said) == (Exit.OK, True), said
