# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases: a guest that is changed, saved, or shares its device while it has its queues.

Shared by the tiers as `failure_cases`, which has those of the daemon. A device is plugged in and out
of a running guest without any hook: what apvfio promises holds all the same.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.model.matrix import Matrix
from daemon_env import (
    OURS,
    REQUESTED,
    START,
    DaemonEnv,
    Hard,
    apvfio,
    domstate,
    essential,
    eventually,
    kill_qemu,
    leases,
    let_grace_pass,
    recorded,
    set_annotation,
    status,
    with_uuid,
)
from hosts import IBM_ADAPTERS, IBM_DOMAINS, a_matrix, mdev
from lifecycle_cases import state, with_driver

if TYPE_CHECKING:
    from collections.abc import Iterable
    from subprocess import CompletedProcess

HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source></hostdev>"
)
SPACE = "xmlns:ap='urn:apvfio:guest:1'"
ANOTHER = "<guest><matrix adapters='1' domains='4'/></guest>"
TINY = Matrix(IBM_ADAPTERS, IBM_DOMAINS)
"""All queues of the host, one for each of a dozen guests."""


def names(prefix: str) -> dict[str, Matrix]:
    """A dozen guests, and the one queue each of them wants."""
    each = product(TINY.adapters, TINY.domains)
    return {f"{prefix}{i}": a_matrix(str(a), str(d)) for i, (a, d) in enumerate(each)}


class Identities(Hard):
    """A guest is told by its uuid; names, devices and definitions change hands."""

    @essential
    def test_two_guests_with_one_device(self, env: DaemonEnv) -> None:
        env.define("owner", REQUESTED, mdev(1))
        env.define("rival", a_matrix("1", "27"), mdev(1))
        env.define("silent", None, mdev(1))  # no annotation: libvirt alone refuses it
        env.virsh(*START, "owner")
        running = state(env)
        for name, why in (
            ("rival", f"guest rival: the mediated device {mdev(1)} is held by guest owner"),
            ("silent", "is in use by driver QEMU, domain owner"),
        ):
            answer = env.virsh(*START, name, check=False)
            assert answer.returncode == 1
            assert why in answer.stderr
            assert state(env) == running
        env.virsh("undefine", "silent")
        assert state(env) == running
        env.virsh("destroy", "owner")
        env.virsh(*START, "rival")
        assert leases(env) == {"rival": "held"}

    def test_a_clone_gets_a_device_of_its_own(self, env: DaemonEnv) -> None:
        """virt-clone copies annotation and device; what the refused start says helps."""
        env.define("original", REQUESTED, mdev(1))
        env.define("clone", a_matrix("1", "27"), mdev(1))
        env.virsh(*START, "original")
        running = state(env)
        answer = env.virsh(*START, "clone", check=False)
        assert answer.returncode == 1
        remedy = re.search("'apvfio (guest set clone --new-device)'", answer.stderr)
        assert remedy, answer.stderr
        assert state(env) == running
        apvfio(env, *remedy[1].split())
        assert mdev(1) not in env.virsh("dumpxml", "--inactive", "clone").stdout
        env.virsh(*START, "clone")
        assert leases(env) == {"original": "held", "clone": "held"}

    def test_a_guest_changes_its_name(self, env: DaemonEnv) -> None:
        env.define("before", REQUESTED, mdev(1))
        env.virsh(*START, "before")
        assert env.virsh("domrename", "before", "after", check=False).returncode == 1
        env.virsh("destroy", "before")
        env.virsh("domrename", "before", "after")
        try:
            env.virsh(*START, "after")
            assert leases(env) == {"after": "held"}
            env.virsh("destroy", "after")
            assert leases(env) == {}
        finally:
            env.virsh("domrename", "after", "before")

    def test_a_guest_without_definition(self, env: DaemonEnv) -> None:
        before = state(env)
        for end in ("destroy", "crash"):
            env.virsh("create", "--paused", "/proc/self/fd/0", stdin=env.xml("fleeting", REQUESTED, mdev(1)))
            assert leases(env) == {"fleeting": "held"}
            if end == "destroy":
                env.virsh("destroy", "fleeting")
            else:
                kill_qemu(env, "fleeting")
            eventually(lambda: leases(env), {})
            assert state(env) == before
            eventually(lambda: "fleeting" in env.virsh("list", "--all", "--name").stdout, False)

    def test_a_definition_is_replaced_while_the_guest_runs(self, env: DaemonEnv) -> None:
        env.define("twice", REQUESTED, mdev(1))
        env.virsh(*START, "twice")
        uuid = env.virsh("domuuid", "twice").stdout.strip()
        env.virsh("undefine", "twice")
        running = state(env)
        env.define_xml("twice", with_uuid(env.xml("twice", a_matrix("1", "4"), mdev(2)), uuid))
        assert state(env) == running
        env.virsh("destroy", "twice")
        assert leases(env) == {}
        env.virsh(*START, "twice")
        assert state(env).host.mdevs == {mdev(2): a_matrix("1", "4")}


class Annotations(Hard):
    """The annotation changes between start and stop: the ledger counts."""

    @pytest.mark.parametrize("text", ["", ANOTHER, "<guest><matrix domains='x'/></guest>"])
    @pytest.mark.parametrize("where", ["--live", "--config"])
    def test_the_annotation_changes(self, env: DaemonEnv, text: str, where: str) -> None:
        before = state(env)
        env.define("edited", REQUESTED, mdev(1))
        env.virsh(*START, "edited")
        running = state(env)
        set_annotation(env, "edited", text, where)
        assert state(env) == running
        env.virsh("destroy", "edited")
        assert state(env) == before
        if where == "--live":
            return
        answer = env.virsh(*START, "edited", check=False)
        if text == ANOTHER:
            assert answer.returncode == 0
            assert state(env).host.mdevs == {mdev(1): a_matrix("1", "4")}
            return
        assert answer.returncode == 1
        why = "<matrix> has no attribute adapters" if text else f"mediated device '{mdev(1)}' not found"
        assert why in answer.stderr
        assert state(env) == before

    @pytest.mark.parametrize("device", [None, mdev(1)])
    def test_an_annotation_without_its_wrapper(self, env: DaemonEnv, device: str | None) -> None:
        """Whatever has apvfio's namespace is meant: it is not ignored, and can be repaired."""
        before = state(env)
        xml = env.xml("bare", REQUESTED, device).replace("</ap:guest>", "")
        env.define_xml("bare", re.sub("<ap:guest[^>]*><ap:matrix", f"<ap:matrix {SPACE}", xml))
        answer = env.virsh(*START, "bare", check=False)
        assert answer.returncode == 1
        assert "guest bare: the element <matrix> of apvfio's namespace is in <metadata>" in answer.stderr
        assert state(env) == before
        apvfio(env, "guest", "set", "bare", "--adapters", "1", "--domains", "4")
        env.virsh(*START, "bare")
        assert leases(env) == {"bare": "held"}


class Unplugging(Hard):
    """A device is plugged out while its guest runs: libvirt calls no hook."""

    @pytest.fixture
    def device(self, env: DaemonEnv) -> str:
        """A file inside with the device's XML."""
        path = "/run/device.xml"
        with open(env.path(path), "w", encoding="utf-8") as file:
            file.write(HOSTDEV.format(mdev(1)))
        return path

    def detach(self, env: DaemonEnv, device: str) -> None:
        env.virsh("detach-device", "plugged", device, "--live")
        eventually(lambda: mdev(1) in env.virsh("dumpxml", "plugged").stdout, False)

    def test_the_queues_stay_until_the_guest_ends(self, env: DaemonEnv, device: str) -> None:
        before = state(env)
        env.define("plugged", REQUESTED, mdev(1))
        env.define("other", REQUESTED, mdev(2))
        env.virsh(*START, "plugged")
        running = state(env)
        with recorded(env) as operations:
            self.detach(env, device)
            assert state(env) == running
            answer = env.virsh(*START, "other", check=False)
            assert "are held by guest plugged" in answer.stderr
            assert operations("plugged") == []
        env.virsh("destroy", "plugged")
        assert state(env) == before

    def test_out_with_the_annotation(self, env: DaemonEnv, device: str) -> None:
        """Nothing in the XML says any more that the guest is ours."""
        before = state(env)
        env.define("plugged", REQUESTED, mdev(1))
        env.virsh(*START, "plugged")
        set_annotation(env, "plugged", "", "--live")
        self.detach(env, device)
        env.virsh("destroy", "plugged")
        assert state(env) == before

    def test_out_and_returned_by_a_reconcile(self, env: DaemonEnv, device: str) -> None:
        """A release does not ask libvirt what the guest has: that it runs protects its queues."""
        before = state(env)
        env.define("plugged", REQUESTED, mdev(1))
        env.virsh(*START, "plugged")
        running = state(env)
        self.detach(env, device)
        refused = env.run([env.python, "-m", "apvfio", "release", "plugged"])
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "guest plugged: it still runs (process " in refused.stderr
        assert state(env) == running
        let_grace_pass(env)
        apvfio(env, "reconcile")
        assert state(env) == before
        assert domstate(env, "plugged") == "paused"
        env.virsh("destroy", "plugged")
        assert state(env) == before

    def test_in_from_another_guest(self, env: DaemonEnv, device: str) -> None:
        env.define("owner", REQUESTED, mdev(1))
        env.define("plain", None, None)
        env.virsh(*START, "owner")
        env.virsh(*START, "plain")
        running = state(env)
        answer = env.virsh("attach-device", "plain", device, "--live", check=False)
        assert "is in use by driver QEMU, domain owner" in answer.stderr
        env.virsh("destroy", "plain")
        assert state(env) == running


class Plugging(Unplugging):
    """A device is plugged in as well, which takes a QEMU that has AP queues."""

    @essential
    def test_out_and_in(self, env: DaemonEnv, device: str) -> None:
        before = state(env)
        env.define("plugged", REQUESTED, mdev(1))
        env.virsh(*START, "plugged")
        running = state(env)
        with recorded(env) as operations:
            self.detach(env, device)
            env.virsh("attach-device", "plugged", device, "--live")
            assert operations("plugged") == []
        assert state(env) == running
        env.virsh("destroy", "plugged")
        assert state(env) == before

    @essential
    def test_in_from_somebody_else(self, env: DaemonEnv, device: str) -> None:
        """A device that the administrator made is his: it stays when the guest ends."""
        before = state(env)
        sysfs = env.system.sysfs
        env.define("plain", None, None)
        env.virsh(*START, "plain")
        sysfs.write("bus/ap/apmask", "-1")
        sysfs.write(AP_MDEVS.create, mdev(1))
        for kind, number in (("adapter", "1"), ("domain", "4")):
            sysfs.write(f"{AP_MDEVS.device(mdev(1))}/assign_{kind}", number)
        env.virsh("attach-device", "plain", device, "--live")
        held = state(env)
        env.define("other", a_matrix("1", "4"), mdev(2))
        answer = env.virsh(*START, "other", check=False)
        assert f"01.0004 is held by the mediated device {mdev(1)}" in answer.stderr
        env.virsh("destroy", "plain")
        assert state(env) == held
        sysfs.write(AP_MDEVS.remove(mdev(1)), "1")
        sysfs.write("bus/ap/apmask", "+1")
        assert state(env) == before


class Saving(Hard):
    """A guest's memory goes to disk and comes back."""

    def test_a_guest_without_comes_back_as_it_was(self, env: DaemonEnv) -> None:
        """At restore libvirt takes whatever a hook prints for the guest's XML."""
        before = state(env)
        env.define("memory", None, None)
        env.virsh(*START, "memory")
        xml = env.virsh("dumpxml", "memory").stdout
        with recorded(env) as operations:
            env.virsh("save", "memory", "/var/lib/libvirt/saved")
            env.virsh("restore", "--paused", "/var/lib/libvirt/saved")
            env.virsh("managedsave", "memory")
            env.virsh(*START, "memory")
            assert operations("memory").count("restore") == 2
        assert uncounted(env.virsh("dumpxml", "memory").stdout) == uncounted(xml)
        with open(env.path("/var/log/libvirt/qemu/memory.log"), encoding="utf-8") as log:
            assert "hook-script" not in log.read()
        assert state(env) == before

    def test_nothing_is_printed(self, env: DaemonEnv) -> None:
        before = state(env)
        for operation in ("migrate", "restore", "attach", "start", "started", "stopped"):
            for xml in (env.xml("moved", REQUESTED, mdev(1)), env.xml("moved", None, None), "no xml", ""):
                done = env.run([OURS, "moved", operation, "begin", "-"], stdin=xml)
                assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert state(env) == before


class NotSaved(Hard):
    """QEMU does not save a guest with a vfio-ap device, so libvirt does not, either."""

    @pytest.mark.parametrize(
        "verb", [pytest.param(("save", "/var/lib/libvirt/saved"), marks=essential), ("managedsave",)]
    )
    def test_a_guest_with_queues_is_not_saved(self, env: DaemonEnv, verb: tuple[str, ...]) -> None:
        env.define("kept", REQUESTED, mdev(1))
        env.virsh(*START, "kept")
        running = state(env)
        answer = env.virsh(verb[0], "kept", *verb[1:], check=False)
        assert answer.returncode == 1
        assert "migrat" in answer.stderr
        assert state(env) == running
        assert domstate(env, "kept") == "paused"


class Saved(Hard):
    """Where QEMU does save it, a guest has its queues while it runs, and not while it sleeps."""

    def test_a_guest_sleeps_without_its_queues(self, env: DaemonEnv) -> None:
        before = state(env)
        env.define("asleep", REQUESTED, mdev(1))
        env.define("thief", REQUESTED, mdev(2))
        env.virsh(*START, "asleep")
        running = state(env)
        env.virsh("managedsave", "asleep")
        assert state(env) == before
        env.virsh(*START, "thief")
        answer = env.virsh(*START, "asleep", check=False)
        assert answer.returncode == 1
        assert "guest asleep: 00.0001, 00.0002, 0a.0001, 0a.0002 are held by guest thief" in answer.stderr
        env.virsh("destroy", "thief")
        with recorded(env) as operations:
            env.virsh(*START, "asleep")
            assert operations("asleep")[:2] == ["restore", "prepare"]
        assert state(env) == running


class Crowds(Hard):
    """Many guests at once."""

    several = 12
    """How many guests the daemon starts."""
    pairs = 12
    """How many queues have two guests that want them: all, where a start takes no time."""

    @essential
    def test_several_start_with_the_daemon(self, env: DaemonEnv) -> None:
        requests = dict(list(names("auto").items())[: self.several])
        for number, (name, requested) in enumerate(requests.items()):
            env.define(name, requested, mdev(number))
            env.virsh("autostart", name)
        env.stop_daemon()
        # As after a boot: libvirt notes there that it has started all of them.
        env.run(["rm", "-f", "/run/libvirt/qemu/autostarted"])
        env.start_daemon()
        eventually(lambda: leases(env), dict.fromkeys(requests, "held"))
        eventually(lambda: set(env.virsh("list", "--name").stdout.split()), set(requests))
        running = state(env).host
        assert running.mdevs == {
            mdev(number): requested for number, requested in enumerate(requests.values())
        }
        wanted = {str(queue) for requested in requests.values() for queue in requested.queues()}
        assert wanted <= with_driver(running, "vfio_ap")
        assert status(env)["drift"] == []

    def test_rivals_start_and_stop_at_once(self, env: DaemonEnv) -> None:
        """Each queue is wanted twice: one of the two gets it, the other is told who has it."""
        both = names("left"), names("right")
        requests = {name: requested for side in both for name, requested in list(side.items())[: self.pairs]}
        for number, (name, requested) in enumerate(requests.items()):
            env.define(name, requested, mdev(number))
        starts = at_once(env, requests, *START)
        won = {name for name, done in starts.items() if done.returncode == 0}
        assert {re.sub("left|right", "", name) for name in won} == {str(i) for i in range(self.pairs)}
        assert len(won) == self.pairs
        assert leases(env) == dict.fromkeys(won, "held")
        for name, done in starts.items():
            other = name.replace("left", "-").replace("right", "left").replace("-", "right")
            assert done.returncode == 0 or f"held by guest {other}." in done.stderr
        first = {name for name in won if int(re.sub("[a-z]", "", name)) % 2}
        stops = at_once(env, first, "destroy")
        assert {done.returncode for done in stops.values()} == {0}
        assert leases(env) == dict.fromkeys(won - first, "held")
        again = at_once(env, first, *START)
        assert {done.returncode for done in again.values()} == {0}
        assert leases(env) == dict.fromkeys(won, "held")
        assert status(env)["drift"] == []
        at_once(env, won, "destroy")
        assert leases(env) == {}


def at_once(env: DaemonEnv, guests: Iterable[str], *verb: str) -> dict[str, CompletedProcess[str]]:
    """Run virsh for many guests at the same time; what came of it."""
    chosen = sorted(guests)
    with ThreadPoolExecutor(len(chosen)) as pool:
        done = pool.map(lambda name: env.virsh(*verb, name, check=False), chosen)
        return dict(zip(chosen, done))


def uncounted(xml: str) -> str:
    """The domain's XML without what changes from start to start."""
    return re.sub("id='[0-9]+'|domain-[0-9]+|\\+[0-9]+:\\+[0-9]+", "", xml)
