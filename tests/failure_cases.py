# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases: a guest dies, a start fails half way, somebody holds a lock.

The same on a simulated host and on real drivers: each tier has a fixture ``env``, a `DaemonEnv`,
and inherits the cases. Those with the daemon are in `daemon_cases`; what changes about a guest while
it has its queues is in `changed_guest_cases`.
"""

from __future__ import annotations

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.store.policy_file import POLICY
from daemon_env import (
    REQUESTED,
    START,
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
    def guest(self, env: DaemonEnv) -> str:
        """A running guest."""
        env.define("short", REQUESTED, mdev(1))
        env.virsh(*START, "short")
        return "short"

    @essential
    def test_qemu_is_killed(self, env: DaemonEnv, guest: str) -> None:
        kill_qemu(env, guest)
        eventually(lambda: leases(env), {})
        eventually(lambda: domstate(env, guest), "shut off")

    def test_qemu_quits(self, env: DaemonEnv, guest: str) -> None:
        env.virsh("qemu-monitor-command", guest, "--hmp", "quit", check=False)
        eventually(lambda: leases(env), {})
        eventually(lambda: domstate(env, guest), "shut off")

    @pytest.mark.parametrize("at_once", [pytest.param(False, marks=essential), True])
    def test_qemu_ends_while_there_is_no_daemon(self, env: DaemonEnv, guest: str, at_once: bool) -> None:
        (env.crash_daemon if at_once else env.stop_daemon)()
        kill_qemu(env, guest)
        assert leases(env) == {guest: "held"}
        env.start_daemon()
        eventually(lambda: leases(env), {})
        eventually(lambda: domstate(env, guest), "shut off")

    def test_what_a_held_lock_kept_from_coming_home_comes_later(self, env: DaemonEnv, guest: str) -> None:
        env.system.files.write(POLICY, "[time]\nlock-wait = 1")
        with holding_our_lock(env):
            env.virsh("destroy", guest)
        env.system.files.remove(POLICY)
        assert domstate(env, guest) == "shut off"
        assert leases(env) == {guest: "held"}
        let_grace_pass(env)
        apvfio(env, "reconcile")
        assert leases(env) == {}

    def test_pauses_and_resets_move_nothing(self, env: DaemonEnv, guest: str) -> None:
        running = state(env)
        with recorded(env) as operations:
            for verb in ("resume", "suspend", "reset"):
                env.virsh(verb, guest)
                assert state(env) == running
            assert operations(guest) == []

    def test_a_start_that_lacks_a_disk(self, env: DaemonEnv) -> None:
        disk = "<disk type='file'><source file='/nowhere/disk'/><target dev='vda'/></disk></devices>"
        env.define_xml("diskless", env.xml("diskless", REQUESTED, mdev(1)).replace("</devices>", disk))
        self.refused(env, "diskless", "/nowhere/disk")

    @pytest.mark.parametrize("name", ["40-other", "60-other"])
    @pytest.mark.parametrize("operation", ["prepare", "start", pytest.param("started", marks=essential)])
    def test_a_hook_of_others_fails(self, env: DaemonEnv, name: str, operation: str) -> None:
        env.define("unwanted", REQUESTED, mdev(1))
        body = f'[ "$2" != {operation} ] || {{ echo "{name} has said no" >&2; exit 1; }}'
        with hook_of_others(env, name, body):
            self.refused(env, "unwanted", f"{name} has said no")
        env.virsh(*START, "unwanted")

    @essential
    def test_a_hook_of_others_removes_the_device(self, env: DaemonEnv) -> None:
        env.define("robbed", REQUESTED, mdev(1))
        body = f'[ "$2" != prepare ] || echo 1 >/sys/{AP_MDEVS.remove(mdev(1))}'
        with hook_of_others(env, "60-other", body):
            self.refused(env, "robbed", f"mediated device '{mdev(1)}' not found")

    def test_it_is_destroyed_before_it_has_started(self, env: DaemonEnv) -> None:
        env.define("brief", REQUESTED, mdev(1))
        with (
            holding_our_lock(env) as busy,
            meanwhile(lambda: env.virsh(*START, "brief", check=False)) as started,
        ):
            eventually(lambda: bool(our_hooks(env, "prepare")))
            with meanwhile(lambda: env.virsh("destroy", "brief", check=False)) as destroyed:
                busy.over()
            started.result()
            if destroyed.result().returncode:  # it came too early: there was nothing to destroy yet
                env.virsh("destroy", "brief")
        assert leases(env) == {}

    def refused(self, env: DaemonEnv, name: str, why: str) -> None:
        """See a guest fail to start after our hook has prepared it."""
        before = state(env)
        answer = env.virsh(*START, name, check=False)
        assert (answer.returncode, answer.stdout.strip()) == (1, "")
        assert why in answer.stderr
        assert domstate(env, name) == "shut off"
        assert state(env) == before


class HeldLocks(Hard):
    """A tool of s390-tools has their lock when a guest starts."""

    def test_a_short_while_is_waited_for(self, env: DaemonEnv) -> None:
        env.define("patient", REQUESTED, mdev(1))
        with (
            holding_the_s390_lock(env) as busy,
            meanwhile(lambda: env.virsh(*START, "patient", check=False)) as answer,
        ):
            eventually(lambda: bool(our_hooks(env, "prepare")))
            assert state(env).host.mdevs == {}
            busy.over()
            assert answer.result().returncode == 0
        assert state(env).host.mdevs == {mdev(1): REQUESTED}

    def test_a_long_while_is_not_and_the_holder_is_named(self, env: DaemonEnv) -> None:
        before = state(env)
        env.define("patient", REQUESTED, mdev(1))
        env.system.files.write(POLICY, "[time]\nlock-wait = 5")
        try:
            with holding_the_s390_lock(env):
                with open(env.path("/run/lock/s390apconfig.lock"), encoding="ascii") as file:
                    pid = file.read().strip()
                answer = env.virsh(*START, "patient", check=False)
        finally:
            env.system.files.remove(POLICY)
        assert answer.returncode == 1
        assert f"s390apconfig.lock was held by pid {pid} (sh -c " in answer.stderr
        assert "for 5 s. Try again when that has ended." in answer.stderr
        assert state(env) == before
