# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases: a guest dies, a start fails half way, somebody holds a lock.

The same on a simulated host and on real drivers: each tier has a fixture ``house``, a `DaemonEnv`,
and inherits the cases. Those with the daemon are in `daemon_cases`; what changes about a guest while
it has its queues is in `changed_guest_cases`.
"""

from __future__ import annotations

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.store.policy_file import POLICY
from daemon_env import (
    START,
    WISH,
    DaemonEnv,
    Hard,
    apvfio,
    domstate,
    essential,
    eventually,
    holding_our_lock,
    holding_the_s390_lock,
    hook_of_others,
    kill_qemu,
    leases,
    let_grace_pass,
    meanwhile,
    our_hooks,
    recorded,
)
from hosts import mdev
from lifecycle_cases import state


class Endings(Hard):
    """Guests that end, or fail to begin, in other ways than they should."""

    @pytest.fixture
    def guest(self, house: DaemonEnv) -> str:
        """A running guest."""
        house.define("short", WISH, mdev(1))
        house.virsh(*START, "short")
        return "short"

    @essential
    def test_qemu_is_killed(self, house: DaemonEnv, guest: str) -> None:
        kill_qemu(house, guest)
        eventually(lambda: leases(house), {})
        eventually(lambda: domstate(house, guest), "shut off")

    def test_qemu_quits(self, house: DaemonEnv, guest: str) -> None:
        house.virsh("qemu-monitor-command", guest, "--hmp", "quit", check=False)
        eventually(lambda: leases(house), {})
        eventually(lambda: domstate(house, guest), "shut off")

    @pytest.mark.parametrize("at_once", [pytest.param(False, marks=essential), True])
    def test_qemu_ends_while_there_is_no_daemon(self, house: DaemonEnv, guest: str, at_once: bool) -> None:
        (house.crash_daemon if at_once else house.stop_daemon)()
        kill_qemu(house, guest)
        assert leases(house) == {guest: "held"}
        house.start_daemon()
        eventually(lambda: leases(house), {})
        eventually(lambda: domstate(house, guest), "shut off")

    def test_what_a_held_lock_kept_from_coming_home_comes_later(self, house: DaemonEnv, guest: str) -> None:
        house.system.files.write(POLICY, "[time]\nlock-wait = 1")
        with holding_our_lock(house):
            house.virsh("destroy", guest)
        house.system.files.remove(POLICY)
        assert domstate(house, guest) == "shut off"
        assert leases(house) == {guest: "held"}
        let_grace_pass(house)
        apvfio(house, "reconcile")
        assert leases(house) == {}

    def test_pauses_and_resets_move_nothing(self, house: DaemonEnv, guest: str) -> None:
        running = state(house)
        with recorded(house) as operations:
            for verb in ("resume", "suspend", "reset"):
                house.virsh(verb, guest)
                assert state(house) == running
            assert operations(guest) == []

    def test_a_start_that_lacks_a_disk(self, house: DaemonEnv) -> None:
        disk = "<disk type='file'><source file='/nowhere/disk'/><target dev='vda'/></disk></devices>"
        house.define_xml("diskless", house.xml("diskless", WISH, mdev(1)).replace("</devices>", disk))
        self.refused(house, "diskless", "/nowhere/disk")

    @pytest.mark.parametrize("name", ["40-other", "60-other"])
    @pytest.mark.parametrize("operation", ["prepare", "start", pytest.param("started", marks=essential)])
    def test_a_hook_of_others_fails(self, house: DaemonEnv, name: str, operation: str) -> None:
        house.define("unwanted", WISH, mdev(1))
        body = f'[ "$2" != {operation} ] || {{ echo "{name} has said no" >&2; exit 1; }}'
        with hook_of_others(house, name, body):
            self.refused(house, "unwanted", f"{name} has said no")
        house.virsh(*START, "unwanted")

    @essential
    def test_a_hook_of_others_removes_the_device(self, house: DaemonEnv) -> None:
        house.define("robbed", WISH, mdev(1))
        body = f'[ "$2" != prepare ] || echo 1 >/sys/{AP_MDEVS.remove(mdev(1))}'
        with hook_of_others(house, "60-other", body):
            self.refused(house, "robbed", f"mediated device '{mdev(1)}' not found")

    def test_it_is_destroyed_before_it_has_started(self, house: DaemonEnv) -> None:
        house.define("brief", WISH, mdev(1))
        with (
            holding_our_lock(house) as busy,
            meanwhile(lambda: house.virsh(*START, "brief", check=False)) as started,
        ):
            eventually(lambda: bool(our_hooks(house, "prepare")))
            with meanwhile(lambda: house.virsh("destroy", "brief", check=False)) as destroyed:
                busy.over()
            started.result()
            if destroyed.result().returncode:  # it came too early: there was nothing to destroy yet
                house.virsh("destroy", "brief")
        assert leases(house) == {}

    def refused(self, house: DaemonEnv, name: str, why: str) -> None:
        """See a guest fail to start after our hook has prepared it."""
        before = state(house)
        answer = house.virsh(*START, name, check=False)
        assert (answer.returncode, answer.stdout.strip()) == (1, "")
        assert why in answer.stderr
        assert domstate(house, name) == "shut off"
        assert state(house) == before


class HeldLocks(Hard):
    """A tool of s390-tools has their lock when a guest starts."""

    def test_a_short_while_is_waited_for(self, house: DaemonEnv) -> None:
        house.define("patient", WISH, mdev(1))
        with (
            holding_the_s390_lock(house) as busy,
            meanwhile(lambda: house.virsh(*START, "patient", check=False)) as answer,
        ):
            eventually(lambda: bool(our_hooks(house, "prepare")))
            assert state(house).host.mdevs == {}
            busy.over()
            assert answer.result().returncode == 0
        assert state(house).host.mdevs == {mdev(1): WISH}

    def test_a_long_while_is_not_and_the_holder_is_named(self, house: DaemonEnv) -> None:
        before = state(house)
        house.define("patient", WISH, mdev(1))
        house.system.files.write(POLICY, "[time]\nlock-wait = 5")
        try:
            with holding_the_s390_lock(house):
                with open(house.path("/run/lock/s390apconfig.lock"), encoding="ascii") as file:
                    pid = file.read().strip()
                answer = house.virsh(*START, "patient", check=False)
        finally:
            house.system.files.remove(POLICY)
        assert answer.returncode == 1
        assert f"s390apconfig.lock was held by pid {pid} (sh -c " in answer.stderr
        assert "for 5 s. Try again when that has ended." in answer.stderr
        assert state(house) == before
