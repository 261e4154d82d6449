# SPDX-License-Identifier: Apache-2.0
"""What the real mdevctl with our callout and notifier must do, on a simulated host and on real drivers alike.

Each tier has a fixture ``env`` of its own, with both scripts in place, and inherits the cases.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apvfio.kernel.snapshot import read_host
from apvfio.model.host import MaskBits
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.store.ledger_file import load
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import CompletedProcess

    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix

HOOKS = Path(__file__).parents[1] / "hooks"
AP = "vfio_ap-passthrough"
ROW = a_matrix("0", "1-2")
AUTOSTART = ("mdevctl", "start-parent-mdevs", "matrix")


class GuestEnv(Protocol):
    """A libvirt daemon with our hook, an mdevctl with our scripts, and IBM's example of a host."""

    python: str
    """The interpreter that has apvfio, as it is called there."""

    @property
    def system(self) -> System:
        """What goes between us and that host."""

    def virsh(self, *words: str, check: bool = True) -> CompletedProcess[str]:
        """Run virsh; with ``check`` a failure fails the test."""

    def run(self, argv: Sequence[str], *, stdin: str = "") -> CompletedProcess[str]:
        """Run a command there."""

    def define(self, name: str, requested: Matrix | None, device: str | None) -> None:
        """Define a small guest with an annotation for ``requested`` and a vfio-ap hostdev of that uuid."""


def shipped(name: str, python: str) -> str:
    """The text of the script ``name``, running ``python``."""
    text = (HOOKS / name).read_text()
    return re.sub(r"^python=.*$", lambda _: f"python={python}", text, count=1, flags=re.MULTILINE)


def device(adapters: Sequence[str], domains: Sequence[str], start: str = "manual") -> str:
    """A definition."""
    attrs = [{"assign_adapter": i} for i in adapters] + [{"assign_domain": i} for i in domains]
    return json.dumps({"mdev_type": AP, "start": start, "attrs": attrs})


def mdevctl(env: GuestEnv, action: str, n: int, definition: str = "", code: int = 0) -> str:
    """Run mdevctl on the n-th device; what it says on standard error."""
    words = ["-p", "matrix", "--jsonfile", "/proc/self/fd/0"] if definition else []
    done = env.run(["mdevctl", action, "-u", mdev(n), *words], stdin=definition)
    assert done.returncode == code, (action, done.stdout, done.stderr)
    return done.stderr


def ledger(env: GuestEnv) -> Ledger:
    return load(env.system.files, env.system.boot_id)


def mdevs(env: GuestEnv) -> dict[str, Matrix]:
    return read_host(env.system.sysfs).mdevs


class MdevctlCases:
    """The cases that every tier has."""

    def test_queues_are_freed_at_the_start_and_come_home_after_the_stop(self, env: GuestEnv) -> None:
        before = state(env)
        mdevctl(env, "define", 1, device(["0x0"], ["1", "2"]))
        assert state(env) == before
        said = mdevctl(env, "start", 1)
        assert said.startswith(
            f"00-apvfio: apvfio: the mediated device {mdev(1)}: the host loses 2 collateral queues"
        )
        assert mdevs(env) == {mdev(1): ROW}
        assert not ledger(env).claims
        assert ledger(env).pending == MaskBits(IdSet([0]), NO_IDS)
        assert mdevctl(env, "stop", 1) == ""
        assert state(env) == before
        mdevctl(env, "undefine", 1)

    def test_a_device_stopped_under_its_guest(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("robbed", ROW, mdev(1))
        env.virsh("start", "--paused", "robbed")
        said = mdevctl(env, "stop", 1)
        lost = "was removed, and the guest has lost 00.0001, 00.0002"
        assert f"guest robbed: its mediated device {mdev(1)} {lost}" in said
        assert state(env) == before
        env.virsh("destroy", "robbed")
        env.virsh("start", "--paused", "robbed")
        assert mdevs(env) == {mdev(1): ROW}
        env.virsh("destroy", "robbed")
        assert state(env) == before


class MoreMdevctlCases(MdevctlCases):
    """And those that take too long where all is emulated."""

    def test_a_start_that_the_policy_forbids(self, env: GuestEnv) -> None:
        env.system.files.write(POLICY, '[reserve]\nqueues = ["00.0002"]\n')
        try:
            before = state(env)
            said = mdevctl(env, "start", 1, device(["0"], ["1", "2"]), code=1)
            assert f"apvfio: the mediated device {mdev(1)}: 00.0002 is reserved for the host." in said
            assert "Traceback" not in said
            assert state(env) == before
        finally:
            env.system.files.remove(POLICY)

    def test_a_start_that_the_kernel_refuses(self, env: GuestEnv) -> None:
        """A list, which s390-tools understand and the kernel does not."""
        before = state(env)
        mdevctl(env, "start", 1, device(["0,1"], ["1"]), code=1)
        assert state(env) == before
        assert not ledger(env).claims

    def test_a_queue_of_a_running_guest(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("held", a_matrix("0", "1"), mdev(2))
        env.virsh("start", "--paused", "held")
        running = state(env)
        said = mdevctl(env, "start", 1, device(["0"], ["1", "2"]), code=1)
        assert f"APQN 0.1 already in use by {mdev(2)} (guest held)." in said
        assert state(env) == running
        # A neighbour in the same row is possible, and each gets back what nobody needs any more.
        mdevctl(env, "start", 3, device(["0"], ["2"]))
        env.virsh("destroy", "held")
        assert mdevs(env) == {mdev(3): a_matrix("0", "2")}
        mdevctl(env, "stop", 3)
        assert state(env) == before

    def test_a_guest_on_a_device_that_mdevctl_made(self, env: GuestEnv) -> None:
        before = state(env)
        mdevctl(env, "start", 1, device(["0"], ["1", "2"]))
        env.define("guest", ROW, mdev(1))
        env.virsh("start", "--paused", "guest")
        assert [lease.created for lease in ledger(env).leases.values()] == [False]
        env.virsh("destroy", "guest")
        assert mdevs(env) == {mdev(1): ROW}
        assert ledger(env).pending
        mdevctl(env, "stop", 1)
        assert state(env) == before

    def test_our_own_calls_of_mdevctl_do_not_wait_for_us(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("kept", ROW, mdev(1))
        env.virsh("start", "--paused", "kept")
        for command in ("define", "undefine"):
            done = env.run([env.python, "-m", "apvfio", command, "kept"])
            assert (done.returncode, done.stderr) == (0, "")
        env.virsh("destroy", "kept")
        assert state(env) == before

    def test_mdevctl_lists_what_a_device_holds(self, env: GuestEnv) -> None:
        mdevctl(env, "start", 1, device(["0x0"], ["1", "0x1b"]))
        listed = json.loads(env.run(["mdevctl", "list", "--dumpjson"]).stdout)
        assert listed[0]["matrix"][0][mdev(1)]["attrs"] == [
            {"assign_adapter": "0"},
            {"assign_domain": "1"},
            {"assign_domain": "27"},
        ]
        mdevctl(env, "stop", 1)

    def test_devices_that_start_by_themselves(self, env: GuestEnv) -> None:
        before = state(env)
        mdevctl(env, "define", 1, device(["0"], ["1", "2"], "auto"))
        mdevctl(env, "define", 2, device(["0", "0xa"], ["4"], "auto"))
        said = mdevctl(env, "define", 3, device(["0xa"], ["4"], "auto"), code=1)
        assert f"APQN 10.4 is defined for autostart by {mdev(2)}." in said
        assert state(env) == before
        done = env.run(AUTOSTART)
        assert done.returncode == 0, done.stderr
        assert mdevs(env) == {mdev(1): ROW, mdev(2): a_matrix("0,10", "4")}
        assert not ledger(env).claims
        for n in (1, 2):
            mdevctl(env, "stop", n)
            mdevctl(env, "undefine", n)
        assert state(env) == before
