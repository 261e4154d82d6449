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
    START,
    WISH,
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
    def lost(self, house: DaemonEnv) -> str:
        """A guest that has its queues and does not run, and of which libvirt will say nothing more."""
        house.define("lost", WISH, mdev(1))
        with (
            hook_that_is_slow(house, "60-slow", "prepare") as slow,
            meanwhile(lambda: house.virsh(*START, "lost", check=False)) as answer,
        ):
            eventually(slow.there)
            house.crash_daemon()
            assert answer.result().returncode == 1
        house.start_daemon()
        assert domstate(house, "lost") == "shut off"
        told = status(house)
        assert [(lease["guest"], lease["state"]) for lease in told["leases"]] == [("lost", "held")]
        assert told["drift"] == []
        return "lost"

    @essential
    def test_it_can_start_again(self, house: DaemonEnv, lost: str) -> None:
        house.virsh(*START, lost)
        assert state(house).host.mdevs == {mdev(1): WISH}
        house.virsh("destroy", lost)
        assert leases(house) == {}

    def test_it_can_start_with_another_device(self, house: DaemonEnv, lost: str) -> None:
        uuid = house.virsh("domuuid", lost).stdout.strip()
        house.virsh("undefine", lost)
        house.define_xml("heir", with_uuid(house.xml("heir", WISH, mdev(2)), uuid))
        house.virsh(*START, "heir")
        assert state(house).host.mdevs == {mdev(2): WISH}
        assert leases(house) == {"heir": "held"}

    def test_release_ends_it(self, house: DaemonEnv, lost: str) -> None:
        apvfio(house, "release", lost)
        assert leases(house) == {}

    def test_reconcile_ends_it_after_a_while(self, house: DaemonEnv, lost: str) -> None:
        apvfio(house, "reconcile")
        assert leases(house) == {lost: "held"}
        let_grace_pass(house)
        why = "guest lost: it holds queues but does not run, and libvirt has not said when it ended"
        assert [sentence.partition(":")[0] for sentence in status(house)["drift"]] == ["guest lost"]
        assert f"seen: {why}" in apvfio(house, "reconcile")
        assert leases(house) == {}

    def test_another_guest_gets_its_queues_after_a_while(self, house: DaemonEnv, lost: str) -> None:
        house.define("other", WISH, mdev(3))
        answer = house.virsh(*START, "other", check=False)
        assert answer.returncode == 1
        assert f"guest other: 00.0001, 00.0002, 0a.0001, 0a.0002 are held by guest {lost}" in answer.stderr
        let_grace_pass(house)
        house.virsh(*START, "other")
        assert leases(house) == {"other": "held"}


class Orphans(Hard):
    """A hook outlives the daemon that called it, and comes to its turn in another time."""

    @pytest.fixture(params=["before it begins", "while it waits"])
    def orphaned(self, house: DaemonEnv, request: pytest.FixtureRequest) -> Orphaned:
        """How far our hook is when its daemon is killed."""
        return _orphaned_early if request.param == "before it begins" else _orphaned_waiting

    def test_a_start_takes_nothing(self, house: DaemonEnv, orphaned: Orphaned) -> None:
        before = state(house)
        house.define("late", WISH, mdev(1))
        with orphaned(house, "prepare", *START, "late") as orphan:
            house.start_daemon()
            orphan.over()
            eventually(lambda: our_hooks(house, "prepare"), [])
        assert state(house) == before

    def test_a_start_leaves_the_next_one_alone(self, house: DaemonEnv, orphaned: Orphaned) -> None:
        house.define("late", WISH, mdev(1))
        with orphaned(house, "prepare", *START, "late") as orphan:
            house.start_daemon()
            house.virsh(*START, "late")
            running = state(house)
            orphan.over()
            eventually(lambda: our_hooks(house, "prepare"), [])
        assert state(house) == running
        assert leases(house) == {"late": "held"}
        assert domstate(house, "late") == "paused"

    def test_a_stop_takes_its_own_life_home(self, house: DaemonEnv, orphaned: Orphaned) -> None:
        before = state(house)
        house.define("late", WISH, mdev(1))
        house.virsh(*START, "late")
        with orphaned(house, "release", "destroy", "late") as orphan:
            orphan.over()
            eventually(lambda: our_hooks(house, "release"), [])
        house.start_daemon()
        assert domstate(house, "late") == "shut off"
        assert state(house) == before

    def test_a_stop_leaves_the_next_life_alone(self, house: DaemonEnv, orphaned: Orphaned) -> None:
        house.define("late", WISH, mdev(1))
        house.virsh(*START, "late")
        with orphaned(house, "release", "destroy", "late") as orphan:
            house.start_daemon()
            house.virsh(*START, "late")
            running = state(house)
            orphan.over()
            eventually(lambda: our_hooks(house, "release"), [])
        assert state(house) == running
        assert leases(house) == {"late": "held"}


@contextmanager
def _orphaned_early(house: DaemonEnv, operation: str, *words: str) -> Iterator[Busy]:
    """Kill the daemon when the interpreter of our hook for ``words`` has not begun; it does when told."""
    with held_up_interpreter(house) as busy:
        with meanwhile(lambda: house.virsh(*words, check=False)) as answer:
            eventually(lambda: busy.there() and bool(our_hooks(house, operation)))
            house.crash_daemon()
            assert answer.result().returncode == 1
        run_ours_by(house, house.python)
        yield busy


@contextmanager
def _orphaned_waiting(house: DaemonEnv, operation: str, *words: str) -> Iterator[Frozen]:
    """Kill the daemon while our hook for ``words`` waits for the lock; it is frozen until told."""
    frozen = Frozen(house)
    try:
        with (
            holding_our_lock(house),
            meanwhile(lambda: house.virsh(*words, check=False)) as answer,
        ):
            eventually(lambda: any(_at_the_lock(house, pid) for pid in our_hooks(house, operation)))
            house.crash_daemon()
            assert answer.result().returncode == 1
            frozen.freeze(our_hooks(house, operation))
        yield frozen
    finally:
        frozen.over()


def _at_the_lock(house: DaemonEnv, pid: str) -> bool:
    """Whether the process inside has the file of apvfio's lock open."""
    done = house.run(["sh", "-c", 'readlink /proc/"$1"/fd/*', "sh", pid])
    return f"/{OWN_LOCK}" in done.stdout.split()


def _damaged_ledger(house: DaemonEnv) -> None:
    house.system.files.write(LEDGER, '{"version": 1, "boot_id": "')


def _newer_ledger(house: DaemonEnv) -> None:
    house.system.files.write(LEDGER, '{"version": 99}')


def _broken_policy(house: DaemonEnv) -> None:
    house.system.files.write(POLICY, "[reserve]\nqueues = 7")


def _masks_changed(house: DaemonEnv) -> None:
    house.system.sysfs.write("bus/ap/apmask", "-1,-0x77")


def _annotation_spoilt(house: DaemonEnv) -> None:
    # Of a guest that runs only the daemon can change it: `Reconnects` does so before the daemon ends.
    return


def _no_interpreter(house: DaemonEnv) -> None:
    run_ours_by(house, "/nowhere/python3")


def _interpreter_killed(house: DaemonEnv) -> None:
    write_file(house.path("/run/killed/python3"), b"#!/bin/sh\nkill -9 $$\n", 0o755)
    run_ours_by(house, "/run/killed/python3")


def _nothing(house: DaemonEnv) -> None:
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
    def test_the_guest_runs_on(self, house: DaemonEnv, harm: Callable[[DaemonEnv], None]) -> None:
        house.define("long", WISH, mdev(1))
        house.virsh(*START, "long")
        good = {path: house.system.files.read(path) for path in (LEDGER, POLICY)}
        if harm is _annotation_spoilt:
            set_annotation(house, "long", "<guest><matrix adapters='9-1'/></guest>", "--live")
        try:
            self.restart(house, lambda: harm(house))
        finally:
            run_ours_by(house, house.python)
            for path, text in good.items():
                restore(house, path, text)
            if harm is _masks_changed:
                house.system.sysfs.write("bus/ap/apmask", "+1,+0x77")
        assert state(house).host.mdevs == {mdev(1): WISH}
        house.virsh("destroy", "long")
        assert leases(house) == {}

    def test_the_guest_runs_on_while_the_lock_is_held(self, house: DaemonEnv) -> None:
        house.system.files.write(POLICY, "[time]\nlock-wait = 1")
        house.define("long", WISH, mdev(1))
        house.virsh(*START, "long")
        with holding_our_lock(house):
            self.restart(house, lambda: None)
        house.system.files.remove(POLICY)

    @essential
    def test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(self, house: DaemonEnv) -> None:
        house.define("robbed", WISH, mdev(1))
        house.virsh(*START, "robbed")
        house.stop_daemon()
        house.system.sysfs.write(AP_MDEVS.remove(mdev(1)), "1")
        with recorded(house) as operations:
            house.start_daemon()
            eventually(lambda: operations("robbed"), ["stopped", "release"])
        eventually(lambda: domstate(house, "robbed"), "shut off")
        assert leases(house) == {}

    def test_a_reload_touches_nothing(self, house: DaemonEnv) -> None:
        house.define("long", WISH, mdev(1))
        house.virsh(*START, "long")
        running = state(house)
        with recorded(house) as operations:
            house.reload_daemon()
            assert domstate(house, "long") == "paused"
            assert operations("long") == []
        assert state(house) == running

    def restart(self, house: DaemonEnv, harm: Callable[[], None]) -> None:
        """End the daemon, do harm, start it, and see that the guest ``long`` is still the same."""
        qemu = qemu_of(house, "long")
        with recorded(house) as operations:
            house.stop_daemon()
            harm()
            house.start_daemon()
            eventually(lambda: operations("long"), ["reconnect"])
            assert domstate(house, "long") == "paused"
            assert qemu_of(house, "long") == qemu
            assert operations("long") == ["reconnect"]


def restore(house: DaemonEnv, path: str, text: str | None) -> None:
    """Make a file what it was."""
    if text is None:
        house.system.files.remove(path)
    else:
        house.system.files.write(path, text)
