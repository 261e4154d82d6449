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
from apvfio.model.ids import parse_list
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
_ACQUIRE_AND_DIE = """\
import os, sys
from apvfio.engine.start import start_guest
from apvfio.model.ledger import LiveChange
from apvfio.libvirt.live_guest import this_process
from apvfio.model.ids import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.store.system import RealSystem
guest, uuid, mdev = sys.argv[1:4]
matrix = Matrix(parse_list("1,10"), parse_list("2,4"))
live = LiveChange(this_process(), "<guest/>")
start_guest(RealSystem(), Request(guest, uuid, mdev, matrix), live=live)
os._exit(9)
"""


def guest_queues(house: DaemonEnv, uuid: str) -> set[str]:
    """What the guest sees."""
    matrix = state(house).host.mdevs[uuid]
    return set(map(str, read_guest_queues(house.system.sysfs, uuid, matrix) or ()))


def names(adapters: str, domains: str) -> set[str]:
    """The queues of a rectangle."""
    return set(map(str, a_matrix(adapters, domains).queues()))


def refused(house: DaemonEnv, *words: str) -> tuple[int, str]:
    """Run our command, which fails; its exit code and what it says."""
    done = house.run([house.python, "-m", "apvfio", *words])
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
    def before(self, house: DaemonEnv) -> State:
        return state(house)

    @pytest.fixture
    def device(self, house: DaemonEnv, before: State) -> str:
        """A running guest with adapter 0 and domains 1 and 2; its device's uuid, made for it."""
        house.define("changed", None, None)
        apvfio(house, "guest", "set", "changed", "--adapters", "0", "--domains", "1-2")
        house.virsh(*START, "changed")
        (uuid,) = state(house).host.mdevs
        assert guest_queues(house, uuid) == names("0", "1-2")
        return uuid

    @essential
    def test_set_start_change_and_stop(self, house: DaemonEnv, before: State, device: str) -> None:
        asked: dict[str, Any] = {}
        with recorded(house) as operations:
            for adapters, domains in self.changes:
                apvfio(
                    house, "guest", "set", "changed", "--adapters", adapters, "--domains", domains, "--live"
                )
                assert state(house).host.mdevs == {device: a_matrix(adapters, domains)}
                assert guest_queues(house, device) == names(adapters, domains)
                assert status(house)["drift"] == []
                asked = json.loads(apvfio(house, "guest", "show", "changed", "--live", "--json"))
                assert a_matrix(asked["adapters"], asked["domains"]) == a_matrix(adapters, domains)
            assert operations("changed") == []
        assert json.loads(apvfio(house, "guest", "show", "changed", "--json"))["adapters"] == "0"
        house.virsh("destroy", "changed")
        assert state(house) == before
        house.virsh(*START, "changed")
        assert guest_queues(house, device) == names("0", "1-2")
        house.virsh("destroy", "changed")
        assert state(house) == before

    def test_what_is_given_up_another_guest_gets(self, house: DaemonEnv, before: State, device: str) -> None:
        house.define("next", a_matrix("0", "2"), mdev(2))
        assert house.virsh(*START, "next", check=False).returncode == 1
        words = ("--adapters", "0", "--domains", "1")
        apvfio(house, "guest", "set", "changed", *words, "--live", "--config")
        house.virsh(*START, "next")
        code, said = refused(
            house, "guest", "set", "changed", "--adapters", "0", "--domains", "1-2", "--live"
        )
        assert (code, "guest changed: 00.0002 is held by guest next" in said) == (3, True)
        assert guest_queues(house, device) == names("0", "1")
        for name in ("changed", "next"):
            house.virsh("destroy", name)
        assert state(house) == before
        house.virsh(*START, "changed")
        assert guest_queues(house, device) == names("0", "1")

    @essential
    def test_who_dies_in_the_midst_has_changed_nothing(
        self, house: DaemonEnv, before: State, device: str
    ) -> None:
        running = state(house)
        done = self.python(house, _CHANGE_AND + _DIES, device)
        assert (done.returncode, done.stdout) == (9, "changed\n")
        assert guest_queues(house, device) == names("1,10", "2,4")
        assert leases(house) == {"changed": "changing"}
        apvfio(house, "reconcile")
        assert guest_queues(house, device) == names("0", "1-2")
        assert state(house) == running
        house.virsh("destroy", "changed")
        assert state(house) == before

    @essential
    def test_it_ends_in_the_midst(self, house: DaemonEnv, before: State, device: str) -> None:
        import os
        import time

        path = house.path("/run/changed")
        with meanwhile(lambda: self.python(house, _CHANGE_AND + _WAITS, device)) as done:
            while not os.path.exists(path) and not done.done():
                time.sleep(0.05)
            house.virsh("destroy", "changed")
            os.unlink(path)
            assert done.result().stdout == "changed\n0\n", done.result()
        assert state(house) == before
        assert domstate(house, "changed") == "shut off"

    @essential
    def test_all_is_taken_from_it(self, house: DaemonEnv, before: State, device: str) -> None:
        assert device in apvfio(house, "guest", "clear", "changed", "--live", "--config")
        assert state(house) == before
        assert device not in house.virsh("dumpxml", "changed").stdout
        assert "urn:apvfio" not in house.virsh("dumpxml", "changed").stdout
        assert domstate(house, "changed") == "paused"
        house.virsh("destroy", "changed")
        house.virsh(*START, "changed")
        assert state(house) == before

    def python(self, house: DaemonEnv, script: str, device: str) -> Any:
        uuid = house.virsh("domuuid", "changed").stdout.strip()
        return house.run([house.python, "-c", script, "changed", uuid, device])


class PluggedIn(Hard):
    """A guest that runs without a device gets one, which takes a QEMU that has AP queues."""

    @essential
    def test_in_and_out(self, house: DaemonEnv) -> None:
        before = state(house)
        house.define("plain", None, None)
        house.virsh(*START, "plain")
        words = ("guest", "set", "plain", "--adapters", "0,10", "--domains", "1", "--live")
        with recorded(house) as operations:
            for _ in range(2):
                apvfio(house, *words)
                (device,) = state(house).host.mdevs
                assert guest_queues(house, device) == names("0,10", "1")
                assert status(house)["drift"] == []
            assert operations("plain") == []
        # Its definition has nothing of all that; what it runs with is released all the same.
        assert device not in house.virsh("dumpxml", "--inactive", "plain").stdout
        house.virsh("destroy", "plain")
        assert state(house) == before
        house.virsh(*START, "plain")
        apvfio(house, *words)
        assert device in apvfio(house, "guest", "clear", "plain", "--live")
        assert state(house) == before
        house.virsh("destroy", "plain")
        assert state(house) == before


class Interrupted(Hard):
    """A live change ends before it is complete, and the next call settles it."""

    @essential
    def test_before_the_device_is_plugged_in(self, house: DaemonEnv) -> None:
        before = state(house)
        house.define("plain", None, None)
        house.virsh(*START, "plain")
        xml = house.virsh("dumpxml", "plain").stdout
        uuid = house.virsh("domuuid", "plain").stdout.strip()
        done = house.run([house.python, "-c", _ACQUIRE_AND_DIE, "plain", uuid, mdev(7)])
        assert done.returncode == 9, done.stderr
        assert leases(house) == {"plain": "held"}
        left = "guest plain: a live change of it was interrupted: 'reconcile' completes or undoes it"
        assert status(house)["drift"] == [left]
        assert "runs without its mediated device" in apvfio(house, "reconcile")
        assert state(house) == before
        assert house.virsh("dumpxml", "plain").stdout == xml
        assert "nothing to do" in apvfio(house, "reconcile")

    @essential
    def test_before_anything_is_unplugged(self, house: DaemonEnv) -> None:
        """The guest has its device, so it keeps its queues, and has the annotation that it had."""
        house.define("plugged", None, None)
        apvfio(house, "guest", "set", "plugged", "--adapters", "0", "--domains", "1-2")
        house.virsh(*START, "plugged")
        running = state(house)
        asked = apvfio(house, "guest", "show", "plugged", "--live", "--json")
        done = house.run([house.python, "-c", _CLEAR_AND_DIE, "plugged"])
        assert done.returncode == 9, done.stderr
        assert "urn:apvfio" not in house.virsh("dumpxml", "plugged").stdout
        apvfio(house, "reconcile")
        assert state(house) == running
        assert apvfio(house, "guest", "show", "plugged", "--live", "--json") == asked
        assert status(house)["drift"] == []


class NotPluggedIn(Hard):
    """Where libvirt or QEMU refuses the device, nothing is left of it."""

    def test_nothing_is_left(self, house: DaemonEnv) -> None:
        before = state(house)
        house.define("plain", None, None)
        house.virsh(*START, "plain")
        xml = house.virsh("dumpxml", "plain").stdout
        definition = house.virsh("dumpxml", "--inactive", "plain").stdout
        words = ("--adapters", "0,10", "--domains", "1", "--live", "--config")
        code, said = refused(house, "guest", "set", "plain", *words)
        assert (code, "guest plain: libvirt refused: " in said) == (1, True)
        assert state(house) == before
        assert house.virsh("dumpxml", "plain").stdout == xml
        assert house.virsh("dumpxml", "--inactive", "plain").stdout == definition
