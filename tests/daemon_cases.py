# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases with its daemon: killed in the midst of a start or a stop, and back again.

Shared by the tiers as `failure_cases`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.store.ledger_file import LEDGER
from apvfio.store.locks import OWN_LOCK
from apvfio.store.policy_file import POLICY
from daemon_env import (
    REQUESTED,
    START,
    Busy,
    DaemonEnv,
    Frozen,
    Hard,
    apvfio,
    domstate,
    essential,
    eventually,
    held_up_interpreter,
    holding_our_lock,
    hook_that_is_slow,
    leases,
    let_grace_pass,
    meanwhile,
    our_hooks,
    qemu_of,
    recorded,
    run_ours_by,
    set_annotation,
    status,
    with_uuid,
)
from hosts import mdev
from lab.libvirtd import write_file
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Orphaned = Callable[..., AbstractContextManager[Busy | Frozen]]


class KilledInPrepare(Hard):
    """The daemon is killed while it waits for the hooks of a start: no stopped, no release ever comes."""

    @pytest.fixture
    def lost(self, env: DaemonEnv) -> str:
        """A guest that has its queues and does not run, and of which libvirt will say nothing more."""
        env.define("lost", REQUESTED, mdev(1))
        with (
            hook_that_is_slow(env, "60-slow", "prepare") as slow,
            meanwhile(lambda: env.virsh(*START, "lost", check=False)) as answer,
        ):
            eventually(slow.there)
            env.crash_daemon()
            assert answer.result().returncode == 1
        env.start_daemon()
        assert domstate(env, "lost") == "shut off"
        told = status(env)
        assert [(lease["guest"], lease["state"]) for lease in told["leases"]] == [("lost", "held")]
        assert told["drift"] == []
        return "lost"

    @essential
    def test_it_can_start_again(self, env: DaemonEnv, lost: str) -> None:
        env.virsh(*START, lost)
        assert state(env).host.mdevs == {mdev(1): REQUESTED}
        env.virsh("destroy", lost)
        assert leases(env) == {}

    def test_it_can_start_with_another_device(self, env: DaemonEnv, lost: str) -> None:
        uuid = env.virsh("domuuid", lost).stdout.strip()
        env.virsh("undefine", lost)
        env.define_xml("heir", with_uuid(env.xml("heir", REQUESTED, mdev(2)), uuid))
        env.virsh(*START, "heir")
        assert state(env).host.mdevs == {mdev(2): REQUESTED}
        assert leases(env) == {"heir": "held"}

    def test_release_ends_it(self, env: DaemonEnv, lost: str) -> None:
        apvfio(env, "release", lost)
        assert leases(env) == {}

    def test_reconcile_ends_it_after_a_while(self, env: DaemonEnv, lost: str) -> None:
        apvfio(env, "reconcile")
        assert leases(env) == {lost: "held"}
        let_grace_pass(env)
        why = "guest lost: it holds queues but does not run, and libvirt has not said when it ended"
        assert [sentence.partition(":")[0] for sentence in status(env)["drift"]] == ["guest lost"]
        assert f"seen: {why}" in apvfio(env, "reconcile")
        assert leases(env) == {}

    def test_another_guest_gets_its_queues_after_a_while(self, env: DaemonEnv, lost: str) -> None:
        env.define("other", REQUESTED, mdev(3))
        answer = env.virsh(*START, "other", check=False)
        assert answer.returncode == 1
        assert f"guest other: 00.0001, 00.0002, 0a.0001, 0a.0002 are held by guest {lost}" in answer.stderr
        let_grace_pass(env)
        env.virsh(*START, "other")
        assert leases(env) == {"other": "held"}


class Orphans(Hard):
    """A hook outlives the daemon that called it, and comes to its turn in another time."""

    @pytest.fixture(params=["before it begins", "while it waits"])
    def orphaned(self, env: DaemonEnv, request: pytest.FixtureRequest) -> Orphaned:
        """How far our hook is when its daemon is killed."""
        return _orphaned_early if request.param == "before it begins" else _orphaned_waiting

    def test_a_start_takes_nothing(self, env: DaemonEnv, orphaned: Orphaned) -> None:
        before = state(env)
        env.define("late", REQUESTED, mdev(1))
        with orphaned(env, "prepare", *START, "late") as orphan:
            env.start_daemon()
            orphan.over()
            eventually(lambda: our_hooks(env, "prepare"), [])
        assert state(env) == before

    def test_a_start_leaves_the_next_one_alone(self, env: DaemonEnv, orphaned: Orphaned) -> None:
        env.define("late", REQUESTED, mdev(1))
        with orphaned(env, "prepare", *START, "late") as orphan:
            env.start_daemon()
            env.virsh(*START, "late")
            running = state(env)
            orphan.over()
            eventually(lambda: our_hooks(env, "prepare"), [])
        assert state(env) == running
        assert leases(env) == {"late": "held"}
        assert domstate(env, "late") == "paused"

    def test_a_stop_takes_its_own_life_home(self, env: DaemonEnv, orphaned: Orphaned) -> None:
        before = state(env)
        env.define("late", REQUESTED, mdev(1))
        env.virsh(*START, "late")
        with orphaned(env, "release", "destroy", "late") as orphan:
            orphan.over()
            eventually(lambda: our_hooks(env, "release"), [])
        env.start_daemon()
        assert domstate(env, "late") == "shut off"
        assert state(env) == before

    def test_a_stop_leaves_the_next_life_alone(self, env: DaemonEnv, orphaned: Orphaned) -> None:
        env.define("late", REQUESTED, mdev(1))
        env.virsh(*START, "late")
        with orphaned(env, "release", "destroy", "late") as orphan:
            env.start_daemon()
            env.virsh(*START, "late")
            running = state(env)
            orphan.over()
            eventually(lambda: our_hooks(env, "release"), [])
        assert state(env) == running
        assert leases(env) == {"late": "held"}


@contextmanager
def _orphaned_early(env: DaemonEnv, operation: str, *words: str) -> Iterator[Busy]:
    """Kill the daemon when the interpreter of our hook for ``words`` has not begun; it does when told."""
    with held_up_interpreter(env) as busy:
        with meanwhile(lambda: env.virsh(*words, check=False)) as answer:
            eventually(lambda: busy.there() and bool(our_hooks(env, operation)))
            env.crash_daemon()
            assert answer.result().returncode == 1
        run_ours_by(env, env.python)
        yield busy


@contextmanager
def _orphaned_waiting(env: DaemonEnv, operation: str, *words: str) -> Iterator[Frozen]:
    """Kill the daemon while our hook for ``words`` waits for the lock; it is frozen until told."""
    frozen = Frozen(env)
    try:
        with (
            holding_our_lock(env),
            meanwhile(lambda: env.virsh(*words, check=False)) as answer,
        ):
            eventually(lambda: any(_at_the_lock(env, pid) for pid in our_hooks(env, operation)))
            env.crash_daemon()
            assert answer.result().returncode == 1
            frozen.freeze(our_hooks(env, operation))
        yield frozen
    finally:
        frozen.over()


def _at_the_lock(env: DaemonEnv, pid: str) -> bool:
    """Whether the process inside has the file of apvfio's lock open."""
    done = env.run(["sh", "-c", 'readlink /proc/"$1"/fd/*', "sh", pid])
    return f"/{OWN_LOCK}" in done.stdout.split()


def _damaged_ledger(env: DaemonEnv) -> None:
    env.system.files.write(LEDGER, '{"version": 1, "boot_id": "')


def _newer_ledger(env: DaemonEnv) -> None:
    env.system.files.write(LEDGER, '{"version": 99}')


def _broken_policy(env: DaemonEnv) -> None:
    env.system.files.write(POLICY, "[reserve]\nqueues = 7")


def _masks_changed(env: DaemonEnv) -> None:
    env.system.sysfs.write("bus/ap/apmask", "-1,-0x77")


def _annotation_spoilt(env: DaemonEnv) -> None:
    # Of a guest that runs only the daemon can change it: `Reconnects` does so before the daemon ends.
    return


def _no_interpreter(env: DaemonEnv) -> None:
    run_ours_by(env, "/nowhere/python3")


def _interpreter_killed(env: DaemonEnv) -> None:
    write_file(env.path("/run/killed/python3"), b"#!/bin/sh\nkill -9 $$\n", 0o755)
    run_ours_by(env, "/run/killed/python3")


def _nothing(env: DaemonEnv) -> None:
    return


class Reconnects(Hard):
    """A daemon that comes back asks the hook for each running guest, and kills the one that is refused."""

    @pytest.mark.parametrize(
        "harm",
        [
            _nothing,
            pytest.param(_damaged_ledger, marks=essential),
            _newer_ledger,
            _broken_policy,
            _masks_changed,
            _annotation_spoilt,
            _no_interpreter,
            _interpreter_killed,
        ],
    )
    def test_the_guest_runs_on(self, env: DaemonEnv, harm: Callable[[DaemonEnv], None]) -> None:
        env.define("long", REQUESTED, mdev(1))
        env.virsh(*START, "long")
        good = {path: env.system.files.read(path) for path in (LEDGER, POLICY)}
        if harm is _annotation_spoilt:
            set_annotation(env, "long", "<guest><matrix adapters='9-1'/></guest>", "--live")
        try:
            self.restart(env, lambda: harm(env))
        finally:
            run_ours_by(env, env.python)
            for path, text in good.items():
                restore(env, path, text)
            if harm is _masks_changed:
                env.system.sysfs.write("bus/ap/apmask", "+1,+0x77")
        assert state(env).host.mdevs == {mdev(1): REQUESTED}
        env.virsh("destroy", "long")
        assert leases(env) == {}

    def test_the_guest_runs_on_while_the_lock_is_held(self, env: DaemonEnv) -> None:
        env.system.files.write(POLICY, "[time]\nlock-wait = 1")
        env.define("long", REQUESTED, mdev(1))
        env.virsh(*START, "long")
        with holding_our_lock(env):
            self.restart(env, lambda: None)
        env.system.files.remove(POLICY)

    @essential
    def test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(self, env: DaemonEnv) -> None:
        env.define("robbed", REQUESTED, mdev(1))
        env.virsh(*START, "robbed")
        env.stop_daemon()
        env.system.sysfs.write(AP_MDEVS.remove(mdev(1)), "1")
        with recorded(env) as operations:
            env.start_daemon()
            eventually(lambda: operations("robbed"), ["stopped", "release"])
        eventually(lambda: domstate(env, "robbed"), "shut off")
        assert leases(env) == {}

    def test_a_reload_touches_nothing(self, env: DaemonEnv) -> None:
        env.define("long", REQUESTED, mdev(1))
        env.virsh(*START, "long")
        running = state(env)
        with recorded(env) as operations:
            env.reload_daemon()
            assert domstate(env, "long") == "paused"
            assert operations("long") == []
        assert state(env) == running

    def restart(self, env: DaemonEnv, harm: Callable[[], None]) -> None:
        """End the daemon, do harm, start it, and see that the guest ``long`` is still the same."""
        qemu = qemu_of(env, "long")
        with recorded(env) as operations:
            env.stop_daemon()
            harm()
            env.start_daemon()
            eventually(lambda: operations("long"), ["reconnect"])
            assert domstate(env, "long") == "paused"
            assert qemu_of(env, "long") == qemu
            assert operations("long") == ["reconnect"]


def restore(env: DaemonEnv, path: str, text: str | None) -> None:
    """Make a file what it was."""
    if text is None:
        env.system.files.remove(path)
    else:
        env.system.files.write(path, text)
