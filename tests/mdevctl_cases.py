# SPDX-License-Identifier: Apache-2.0
"""What the real mdevctl with our callout and notifier must do, on a simulated host and on real drivers alike.

Each tier has a fixture ``house`` of its own, with both scripts in place, and inherits the cases.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apvfio.kernel.snapshot import read_host
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.ledger import MaskBits
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

    def define(self, name: str, wish: Matrix | None, device: str | None) -> None:
        """Define a small guest with an annotation for ``wish`` and a vfio-ap hostdev of that uuid."""


def shipped(name: str, python: str) -> str:
    """The text of the script ``name``, running ``python``."""
    text = (HOOKS / name).read_text()
    return re.sub(r"^python=.*$", lambda _: f"python={python}", text, count=1, flags=re.MULTILINE)


def device(adapters: Sequence[str], domains: Sequence[str], start: str = "manual") -> str:
    """A definition."""
    attrs = [{"assign_adapter": i} for i in adapters] + [{"assign_domain": i} for i in domains]
    return json.dumps({"mdev_type": AP, "start": start, "attrs": attrs})


def mdevctl(house: GuestEnv, action: str, n: int, definition: str = "", code: int = 0) -> str:
    """Run mdevctl on the n-th device; what it says on standard error."""
    words = ["-p", "matrix", "--jsonfile", "/proc/self/fd/0"] if definition else []
    done = house.run(["mdevctl", action, "-u", mdev(n), *words], stdin=definition)
    assert done.returncode == code, (action, done.stdout, done.stderr)
    return done.stderr


def ledger(house: GuestEnv) -> Ledger:
    return load(house.system.files, house.system.boot_id)


def mdevs(house: GuestEnv) -> dict[str, Matrix]:
    return read_host(house.system.sysfs).mdevs


class MdevctlCases:
    """The cases that every tier has."""

    def test_queues_are_freed_at_the_start_and_come_home_after_the_stop(self, house: GuestEnv) -> None:
        before = state(house)
        mdevctl(house, "define", 1, device(["0x0"], ["1", "2"]))
        assert state(house) == before
        said = mdevctl(house, "start", 1)
        assert said.startswith(f"00-apvfio: apvfio: the mediated device {mdev(1)}: the host loses 2 queues")
        assert mdevs(house) == {mdev(1): ROW}
        assert not ledger(house).claims
        assert ledger(house).pending == MaskBits(IdSet([0]), NO_IDS)
        assert mdevctl(house, "stop", 1) == ""
        assert state(house) == before
        mdevctl(house, "undefine", 1)

    def test_a_device_stopped_under_its_guest(self, house: GuestEnv) -> None:
        before = state(house)
        house.define("robbed", ROW, mdev(1))
        house.virsh("start", "--paused", "robbed")
        said = mdevctl(house, "stop", 1)
        assert f"guest robbed: its mediated device {mdev(1)} was removed, and 00.0001, 00.0002 went" in said
        assert state(house) == before
        house.virsh("destroy", "robbed")
        house.virsh("start", "--paused", "robbed")
        assert mdevs(house) == {mdev(1): ROW}
        house.virsh("destroy", "robbed")
        assert state(house) == before


class MoreMdevctlCases(MdevctlCases):
    """And those that take too long where all is emulated."""

    def test_a_start_that_the_policy_forbids(self, house: GuestEnv) -> None:
        house.system.files.write(POLICY, '[reserve]\nqueues = ["00.0002"]\n')
        try:
            before = state(house)
            said = mdevctl(house, "start", 1, device(["0"], ["1", "2"]), code=1)
            assert f"apvfio: the mediated device {mdev(1)}: 00.0002 is reserved for the host." in said
            assert "Traceback" not in said
            assert state(house) == before
        finally:
            house.system.files.remove(POLICY)

    def test_a_start_that_the_kernel_refuses(self, house: GuestEnv) -> None:
        """A list, which s390-tools understand and the kernel does not."""
        before = state(house)
        mdevctl(house, "start", 1, device(["0,1"], ["1"]), code=1)
        assert state(house) == before
        assert not ledger(house).claims

    def test_a_queue_of_a_running_guest(self, house: GuestEnv) -> None:
        before = state(house)
        house.define("held", a_matrix("0", "1"), mdev(2))
        house.virsh("start", "--paused", "held")
        running = state(house)
        said = mdevctl(house, "start", 1, device(["0"], ["1", "2"]), code=1)
        assert f"APQN 0.1 already in use by {mdev(2)} (guest held)." in said
        assert state(house) == running
        # A neighbour in the same row is possible, and each gets back what nobody needs any more.
        mdevctl(house, "start", 3, device(["0"], ["2"]))
        house.virsh("destroy", "held")
        assert mdevs(house) == {mdev(3): a_matrix("0", "2")}
        mdevctl(house, "stop", 3)
        assert state(house) == before

    def test_a_guest_on_a_device_that_mdevctl_made(self, house: GuestEnv) -> None:
        before = state(house)
        mdevctl(house, "start", 1, device(["0"], ["1", "2"]))
        house.define("guest", ROW, mdev(1))
        house.virsh("start", "--paused", "guest")
        assert [lease.created for lease in ledger(house).leases.values()] == [False]
        house.virsh("destroy", "guest")
        assert mdevs(house) == {mdev(1): ROW}
        assert ledger(house).pending
        mdevctl(house, "stop", 1)
        assert state(house) == before

    def test_our_own_calls_of_mdevctl_do_not_wait_for_us(self, house: GuestEnv) -> None:
        before = state(house)
        house.define("kept", ROW, mdev(1))
        house.virsh("start", "--paused", "kept")
        for command in ("define", "undefine"):
            done = house.run([house.python, "-m", "apvfio", command, "kept"])
            assert (done.returncode, done.stderr) == (0, "")
        house.virsh("destroy", "kept")
        assert state(house) == before

    def test_mdevctl_lists_what_a_device_holds(self, house: GuestEnv) -> None:
        mdevctl(house, "start", 1, device(["0x0"], ["1", "0x1b"]))
        listed = json.loads(house.run(["mdevctl", "list", "--dumpjson"]).stdout)
        assert listed[0]["matrix"][0][mdev(1)]["attrs"] == [
            {"assign_adapter": "0"},
            {"assign_domain": "1"},
            {"assign_domain": "27"},
        ]
        mdevctl(house, "stop", 1)

    def test_devices_that_start_by_themselves(self, house: GuestEnv) -> None:
        before = state(house)
        mdevctl(house, "define", 1, device(["0"], ["1", "2"], "auto"))
        mdevctl(house, "define", 2, device(["0", "0xa"], ["4"], "auto"))
        said = mdevctl(house, "define", 3, device(["0xa"], ["4"], "auto"), code=1)
        assert f"APQN 10.4 is defined for autostart by {mdev(2)}." in said
        assert state(house) == before
        done = house.run(AUTOSTART)
        assert done.returncode == 0, done.stderr
        assert mdevs(house) == {mdev(1): ROW, mdev(2): a_matrix("0,10", "4")}
        assert not ledger(house).claims
        for n in (1, 2):
            mdevctl(house, "stop", n)
            mdevctl(house, "undefine", n)
        assert state(house) == before
