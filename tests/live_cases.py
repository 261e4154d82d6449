# SPDX-License-Identifier: Apache-2.0
"""A guest is given its queues, others, and none, by ``apvfio guest`` and with a real libvirtd.

Shared by the tiers as `failure_cases` is: what the guest sees must be the same on the simulated kernel and
on the real one, under a guest whose QEMU has the device open.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from apvfio.kernel.snapshot import read_guest_queues
from daemon_env import (
    START,
    DaemonEnv,
    Hard,
    apvfio,
    domstate,
    essential,
    leases,
    meanwhile,
    recorded,
    status,
)
from hosts import a_matrix, mdev
from lifecycle_cases import State, state

_CHANGE_AND = """\
import os, sys, time
from apvfio.engine import live_change
from apvfio.libvirt.live_guest import this_process
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.store.system import RealSystem
guest, uuid, mdev = sys.argv[1:4]
matrix = Matrix(parse_list("1,10"), parse_list("2,4"))
done = live_change.apply_change(RealSystem(), Request(guest, uuid, mdev, matrix), this_process())
print("changed", flush=True)
"""
_DIES = "os._exit(9)\n"
_WAITS = """\
open("/run/changed", "w").close()
while os.path.exists("/run/changed"): time.sleep(0.02)
print(len(live_change.commit(RealSystem(), done).ledger.leases))
"""


_CLEAR_AND_DIE = """\
import os, sys
from apvfio.libvirt import hotplug, live_guest
from apvfio.libvirt.guests import Guests
from apvfio.store.system import RealSystem
hotplug.detach = lambda guest: os._exit(9)
live_guest.take(RealSystem(), Guests("qemu:///system").find(sys.argv[1]))
"""
_DRAIN_AND_DIE = """\
import os, sys
from apvfio.engine import live_change
from apvfio.libvirt import drain
from apvfio.libvirt.guests import Guests
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Area
from apvfio.store.system import RealSystem
live_change.commit = lambda *_: os._exit(9)
with Guests("qemu:///system") as guests:
    drain.drain(RealSystem(), Area(domains=parse_list(sys.argv[1])), drain.by_uuid(guests.all()))
"""
_ACQUIRE_AND_DIE = """\
import os, sys
from apvfio.engine.start import start_guest
from apvfio.model.ledger import LiveChange
from apvfio.libvirt.live_guest import this_process
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.store.system import RealSystem
guest, uuid, mdev = sys.argv[1:4]
matrix = Matrix(parse_list("1,10"), parse_list("2,4"))
live = LiveChange(this_process(), "<guest/>")
start_guest(RealSystem(), Request(guest, uuid, mdev, matrix), live=live)
os._exit(9)
"""


def guest_queues(env: DaemonEnv, uuid: str) -> set[str]:
    """What the guest sees."""
    matrix = state(env).host.mdevs[uuid]
    return set(map(str, read_guest_queues(env.system.sysfs, uuid, matrix) or ()))


def names(adapters: str, domains: str) -> set[str]:
    """The queues of a rectangle."""
    return set(map(str, a_matrix(adapters, domains).queues()))


def refused(env: DaemonEnv, *words: str) -> tuple[int, str]:
    """Run our command, which fails; its exit code and what it says."""
    done = env.run([env.python, "-m", "apvfio", *words])
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


class LiveChanges(Hard):
    """Adapters and domains come and go while the guest runs."""

    changes: tuple[tuple[str, str], ...] = (
        ("0", "1-2,4"),
        ("0-1", "1-2,4"),
        ("1", "2,4"),
        ("0,10", "2"),
        ("10", "1,27"),
    )
    """The adapters and domains that it gets, one pair after the other."""

    @pytest.fixture
    def before(self, env: DaemonEnv) -> State:
        return state(env)

    @pytest.fixture
    def device(self, env: DaemonEnv, before: State) -> str:
        """A running guest with adapter 0 and domains 1 and 2; its device's uuid, made for it."""
        env.define("changed", None, None)
        apvfio(env, "guest", "set", "changed", "--adapters", "0", "--domains", "1-2")
        env.virsh(*START, "changed")
        (uuid,) = state(env).host.mdevs
        assert guest_queues(env, uuid) == names("0", "1-2")
        return uuid

    @essential
    def test_set_start_change_and_stop(self, env: DaemonEnv, before: State, device: str) -> None:
        asked: dict[str, Any] = {}
        with recorded(env) as operations:
            for adapters, domains in self.changes:
                apvfio(env, "guest", "set", "changed", "--adapters", adapters, "--domains", domains, "--live")
                assert state(env).host.mdevs == {device: a_matrix(adapters, domains)}
                assert guest_queues(env, device) == names(adapters, domains)
                assert status(env)["drift"] == []
                asked = json.loads(apvfio(env, "guest", "show", "changed", "--live", "--json"))
                assert a_matrix(asked["adapters"], asked["domains"]) == a_matrix(adapters, domains)
            assert operations("changed") == []
        assert json.loads(apvfio(env, "guest", "show", "changed", "--json"))["adapters"] == "0"
        env.virsh("destroy", "changed")
        assert state(env) == before
        env.virsh(*START, "changed")
        assert guest_queues(env, device) == names("0", "1-2")
        env.virsh("destroy", "changed")
        assert state(env) == before

    def test_what_is_given_up_another_guest_gets(self, env: DaemonEnv, before: State, device: str) -> None:
        env.define("next", a_matrix("0", "2"), mdev(2))
        assert env.virsh(*START, "next", check=False).returncode == 1
        words = ("--adapters", "0", "--domains", "1")
        apvfio(env, "guest", "set", "changed", *words, "--live", "--config")
        env.virsh(*START, "next")
        code, said = refused(env, "guest", "set", "changed", "--adapters", "0", "--domains", "1-2", "--live")
        assert (code, "guest changed: 00.0002 is held by guest next" in said) == (3, True)
        assert guest_queues(env, device) == names("0", "1")
        for name in ("changed", "next"):
            env.virsh("destroy", name)
        assert state(env) == before
        env.virsh(*START, "changed")
        assert guest_queues(env, device) == names("0", "1")

    @essential
    def test_who_dies_in_the_midst_has_changed_nothing(
        self, env: DaemonEnv, before: State, device: str
    ) -> None:
        running = state(env)
        done = self.python(env, _CHANGE_AND + _DIES, device)
        assert (done.returncode, done.stdout) == (9, "changed\n")
        assert guest_queues(env, device) == names("1,10", "2,4")
        assert leases(env) == {"changed": "changing"}
        apvfio(env, "reconcile")
        assert guest_queues(env, device) == names("0", "1-2")
        assert state(env) == running
        env.virsh("destroy", "changed")
        assert state(env) == before

    @essential
    def test_it_ends_in_the_midst(self, env: DaemonEnv, before: State, device: str) -> None:
        import os
        import time

        path = env.path("/run/changed")
        with meanwhile(lambda: self.python(env, _CHANGE_AND + _WAITS, device)) as done:
            while not os.path.exists(path) and not done.done():
                time.sleep(0.05)
            env.virsh("destroy", "changed")
            os.unlink(path)
            assert done.result().stdout == "changed\n0\n", done.result()
        assert state(env) == before
        assert domstate(env, "changed") == "shut off"

    @essential
    def test_all_is_taken_from_it(self, env: DaemonEnv, before: State, device: str) -> None:
        assert device in apvfio(env, "guest", "clear", "changed", "--live", "--config")
        assert state(env) == before
        assert device not in env.virsh("dumpxml", "changed").stdout
        assert "urn:apvfio" not in env.virsh("dumpxml", "changed").stdout
        assert domstate(env, "changed") == "paused"
        env.virsh("destroy", "changed")
        env.virsh(*START, "changed")
        assert state(env) == before

    def python(self, env: DaemonEnv, script: str, device: str) -> Any:
        uuid = env.virsh("domuuid", "changed").stdout.strip()
        return env.run([env.python, "-c", script, "changed", uuid, device])


class Drains(Hard):
    """A running guest by criteria leaves a domain before a planned change, and gets it back after it."""

    @pytest.fixture
    def before(self, env: DaemonEnv) -> State:
        return state(env)

    @pytest.fixture
    def device(self, env: DaemonEnv, before: State) -> str:
        """A running guest with two domains of the only adapter in mode ep11; its device's uuid."""
        env.define("moved", None, None)
        apvfio(env, "guest", "set", "moved", "--any", "mode=ep11,domains=2")
        env.virsh(*START, "moved")
        (uuid,) = state(env).host.mdevs
        assert state(env).host.mdevs == {uuid: a_matrix("10", "1-2")}
        return uuid

    @essential
    def test_off_a_domain_and_back(self, env: DaemonEnv, before: State, device: str) -> None:
        with recorded(env) as operations:
            assert "moved guest moved" in apvfio(env, "drain", "--domain", "1", "--yes")
            assert state(env).host.mdevs == {device: a_matrix("10", "2,4")}
            assert guest_queues(env, device) == names("10", "2,4")
            assert operations("moved") == []
        env.define("named", a_matrix("0", "1"), mdev(2))
        done = env.virsh(*START, "named", check=False)
        assert (done.returncode, "00.0001 is drained for a planned change." in done.stderr) == (1, True)
        apvfio(env, "reconcile")
        assert guest_queues(env, device) == names("10", "2,4")
        assert "moved back guest moved" in apvfio(env, "drain", "--restore", "--yes")
        assert guest_queues(env, device) == names("10", "1-2")
        assert status(env)["drift"] == []
        env.virsh(*START, "named")
        for name in ("named", "moved"):
            env.virsh("destroy", name)
        assert state(env) == before

    def test_who_dies_in_the_midst_is_not_lost(self, env: DaemonEnv, before: State, device: str) -> None:
        done = env.run([env.python, "-c", _DRAIN_AND_DIE, "1"])
        assert done.returncode == 9, done.stderr
        assert leases(env) == {"moved": "changing"}
        apvfio(env, "drain", "--domain", "1", "--yes")
        assert guest_queues(env, device) == names("10", "2,4")
        apvfio(env, "drain", "--restore", "--yes")
        assert guest_queues(env, device) == names("10", "1-2")
        env.virsh("destroy", "moved")
        assert state(env) == before

    def test_a_guest_that_names_its_queues_must_be_stopped(self, env: DaemonEnv, before: State) -> None:
        env.define("named", a_matrix("0", "1"), mdev(2))
        env.virsh(*START, "named")
        done = env.run([env.python, "-m", "apvfio", "drain", "--adapter", "0", "--yes"])
        assert (done.returncode, "virsh shutdown named" in done.stdout) == (3, True)
        env.virsh("destroy", "named")
        assert "no guest or mediated device has queues of adapter 0 (00)" in apvfio(
            env, "drain", "--adapter", "0", "--yes"
        )
        assert "virsh start named" in apvfio(env, "drain", "--restore", "--yes")
        env.virsh(*START, "named")
        env.virsh("destroy", "named")
        assert state(env) == before


class PluggedIn(Hard):
    """A guest that runs without a device gets one, which takes a QEMU that has AP queues."""

    @essential
    def test_in_and_out(self, env: DaemonEnv) -> None:
        before = state(env)
        env.define("plain", None, None)
        env.virsh(*START, "plain")
        words = ("guest", "set", "plain", "--adapters", "0,10", "--domains", "1", "--live")
        with recorded(env) as operations:
            for _ in range(2):
                apvfio(env, *words)
                (device,) = state(env).host.mdevs
                assert guest_queues(env, device) == names("0,10", "1")
                assert status(env)["drift"] == []
            assert operations("plain") == []
        # Its definition has nothing of all that; what it runs with is released all the same.
        assert device not in env.virsh("dumpxml", "--inactive", "plain").stdout
        env.virsh("destroy", "plain")
        assert state(env) == before
        env.virsh(*START, "plain")
        apvfio(env, *words)
        assert device in apvfio(env, "guest", "clear", "plain", "--live")
        assert state(env) == before
        env.virsh("destroy", "plain")
        assert state(env) == before


class Interrupted(Hard):
    """A live change ends before it is complete, and the next call completes or undoes it."""

    @essential
    def test_before_the_device_is_plugged_in(self, env: DaemonEnv) -> None:
        before = state(env)
        env.define("plain", None, None)
        env.virsh(*START, "plain")
        xml = env.virsh("dumpxml", "plain").stdout
        uuid = env.virsh("domuuid", "plain").stdout.strip()
        done = env.run([env.python, "-c", _ACQUIRE_AND_DIE, "plain", uuid, mdev(7)])
        assert done.returncode == 9, done.stderr
        assert leases(env) == {"plain": "held"}
        left = "guest plain: a live change of it was interrupted: 'reconcile' completes or undoes it"
        assert status(env)["drift"] == [left]
        assert "runs without its mediated device" in apvfio(env, "reconcile")
        assert state(env) == before
        assert env.virsh("dumpxml", "plain").stdout == xml
        assert "nothing to do" in apvfio(env, "reconcile")

    @essential
    def test_before_anything_is_unplugged(self, env: DaemonEnv) -> None:
        """The guest has its device, so it keeps its queues, and has the annotation that it had."""
        env.define("plugged", None, None)
        apvfio(env, "guest", "set", "plugged", "--adapters", "0", "--domains", "1-2")
        env.virsh(*START, "plugged")
        running = state(env)
        asked = apvfio(env, "guest", "show", "plugged", "--live", "--json")
        done = env.run([env.python, "-c", _CLEAR_AND_DIE, "plugged"])
        assert done.returncode == 9, done.stderr
        assert "urn:apvfio" not in env.virsh("dumpxml", "plugged").stdout
        apvfio(env, "reconcile")
        assert state(env) == running
        assert apvfio(env, "guest", "show", "plugged", "--live", "--json") == asked
        assert status(env)["drift"] == []


class NotPluggedIn(Hard):
    """Where libvirt or QEMU refuses the device, nothing is left of it."""

    def test_nothing_is_left(self, env: DaemonEnv) -> None:
        before = state(env)
        env.define("plain", None, None)
        env.virsh(*START, "plain")
        xml = env.virsh("dumpxml", "plain").stdout
        definition = env.virsh("dumpxml", "--inactive", "plain").stdout
        words = ("--adapters", "0,10", "--domains", "1", "--live", "--config")
        code, said = refused(env, "guest", "set", "plain", *words)
        assert (code, "guest plain: libvirt refused: " in said) == (1, True)
        assert state(env) == before
        assert env.virsh("dumpxml", "plain").stdout == xml
        assert env.virsh("dumpxml", "--inactive", "plain").stdout == definition
