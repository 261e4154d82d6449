# SPDX-License-Identifier: Apache-2.0
"""virsh start and destroy under a real libvirtd, with the hook as it is shipped, on a simulated host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from hosts import a_matrix, mdev
from lab.guest import guest_uuid
from lab.hook import hook_script
from lab_env import LabEnv
from lifecycle_cases import Lifecycle, state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lab import Lab
    from lab_env import MakeLab


@pytest.fixture(scope="module")
def hooked_lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as lab:
        yield lab


@pytest.fixture
def env(hooked_lab: Lab) -> Iterator[LabEnv]:
    env = LabEnv(hooked_lab)
    yield env
    env.clean()


class TestLifecycle(Lifecycle):
    """The common cases."""


class TestCommands:
    """The commands that talk to libvirt, and what they say about its guests."""

    def test_an_annotation_is_set_shown_used_and_cleared(self, env: LabEnv) -> None:
        env.define("web", None, mdev(5))
        done = env.apvfio("guest", "set", "web", "--adapters", "0xa", "--domains", "1-2")
        assert (done.returncode, done.stderr) == (0, "")
        shown = json.loads(env.apvfio("guest", "show", "web", "--json").stdout)
        assert shown == {
            "guest": "web",
            "uuid": guest_uuid("web"),
            "secure_execution": False,
            "mdev": mdev(5),
            "adapters": "10",
            "domains": "1-2",
            "control_domains": "",
            "criteria": None,
        }
        assert "adapters 10, domains 1-2  can start\n" in env.apvfio("guest", "list").stdout
        planned = json.loads(env.apvfio("plan", "web", "--json").stdout)
        assert (planned["freed_by"], planned["collateral"]) == ("adapters", ["0a.0004", "0a.001b"])

        before = state(env)
        env.virsh("start", "--paused", "web")
        status = json.loads(env.apvfio("status", "--json").stdout)
        assert [lease["guest"] for lease in status["leases"]] == ["web"]
        assert status["drift"] == []
        owners = {queue["queue"]: queue["owner"] for queue in status["queues"]}
        assert (owners["0a.0001"], owners["0a.0004"], owners["00.0001"]) == ("guest web", "free", "host")
        env.virsh("destroy", "web")
        assert state(env) == before

        assert env.apvfio("guest", "clear", "web").returncode == 0
        assert env.apvfio("guest", "clear", "web").returncode == 0
        done = env.apvfio("guest", "show", "web")
        assert (done.returncode, done.stdout) == (6, "")
        assert "has no annotation" in done.stderr
        assert env.apvfio("guest", "list").stdout == ""

    def test_what_is_wrong_is_said_in_a_sentence(self, env: LabEnv) -> None:
        done = env.apvfio("guest", "set", "nobody", "--adapters", "1", "--domains", "1")
        assert (done.returncode, done.stderr.count("\n")) == (6, 1)
        assert "libvirt knows no guest nobody" in done.stderr
        env.define("bare", None, None)
        done = env.apvfio("guest", "set", "bare", "--adapters", "1", "--domains", "1", "--no-hostdev")
        assert done.returncode == 0
        assert "warning: guest bare: it requests AP queues but has no mediated device" in done.stderr
        done = env.apvfio("plan", "bare", "--json")
        assert done.returncode == 6
        assert json.loads(done.stdout)["error"]["kind"] == "request"
        done = env.apvfio("guest", "list", "-c", "test:///nowhere")
        assert done.returncode == 5
        assert "does not answer" in done.stderr

    def test_what_was_saved_counts_for_the_next_start(self, env: LabEnv) -> None:
        """Not the definition, which is what ``guest set`` and ``guest clear`` change."""
        was, now = a_matrix("0", "1"), a_matrix("10", "2")
        env.define("saved", was, mdev(9))
        env.virsh("start", "--paused", "saved")
        env.virsh("managedsave", "saved")
        for words in (("clear", "saved"), ("set", "saved", "--adapters", "10", "--domains", "2")):
            done = env.apvfio("guest", *words)
            assert done.returncode == 0, done.stderr
            assert "guest saved: its next start restores what 'virsh managedsave' stored" in done.stderr
            assert "run 'virsh managedsave-remove saved'" in done.stderr
        [listed] = json.loads(env.apvfio("guest", "list", "--json").stdout)
        assert (listed["state"], listed["adapters"], listed["domains"]) == ("saved", "0", "1")
        assert json.loads(env.apvfio("guest", "show", "saved", "--json").stdout)["adapters"] == "0"
        assert json.loads(env.apvfio("plan", "saved", "--json").stdout)["queues"] == ["00.0001"]
        checks = json.loads(env.apvfio("doctor", "saved", "--json").stdout)["checks"]
        [check] = [check for check in checks if check["id"] == "saved"]
        assert (check["state"], check["commands"]) == ("warning", [])
        assert "run 'virsh managedsave-remove': the guest then starts from its definition" in check["remedy"]
        env.virsh("start", "--paused", "saved")
        assert state(env).host.mdevs == {mdev(9): was}
        env.virsh("destroy", "saved")
        [listed] = json.loads(env.apvfio("guest", "list", "--json").stdout)
        assert (listed["state"], listed["adapters"]) == ("shut off", "10")
        env.virsh("start", "--paused", "saved")
        assert state(env).host.mdevs[listed["mdev"]] == now

    def test_a_definition_stands_for_the_annotation(self, env: LabEnv) -> None:
        """Through the real mdevctl, which sees the simulated host."""
        before = state(env)
        env.define("kept", a_matrix("0", "1-2"), mdev(7))
        done = env.apvfio("define", "kept")
        assert (done.returncode, done.stderr) == (0, "")
        listed = env.lab.run(["mdevctl", "list", "--defined"]).stdout
        assert listed.split()[:4] == [mdev(7), "matrix", "vfio_ap-passthrough", "manual"]

        assert env.apvfio("guest", "clear", "kept").returncode == 0
        env.virsh("start", "--paused", "kept")
        assert state(env).host.mdevs == {mdev(7): a_matrix("0", "1-2")}
        assert mdev(7) in env.lab.run(["mdevctl", "list"]).stdout
        env.virsh("destroy", "kept")
        assert state(env) == before

        done = env.apvfio("guest", "set", "kept", "--adapters", "1", "--domains", "4")
        assert done.returncode == 0
        assert "warning: guest kept: its annotation requests adapters 1, domains 4" in done.stderr
        answer = env.virsh("start", "kept", check=False)
        assert "its annotation requests adapters 1, domains 4" in answer.stderr
        assert "has adapters 0, domains 1-2" in answer.stderr
        assert env.apvfio("undefine", "kept").returncode == 0
        assert env.lab.run(["mdevctl", "list", "--defined"]).stdout.strip() == ""
        env.virsh("start", "--paused", "kept")
        env.virsh("destroy", "kept")
        assert state(env) == before

    def test_queues_asked_for_by_property(self, env: LabEnv) -> None:
        before = state(env)
        env.define("any", None, mdev(8))
        assert env.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=1,domains=4").returncode == 0
        env.virsh("start", "--paused", "any")
        assert state(env).host.mdevs == {mdev(8): a_matrix("10", "1,2,4,27")}
        env.virsh("destroy", "any")
        assert state(env) == before
        assert env.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=2").returncode == 5
        env.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=2", "--unchecked")
        answer = env.virsh("start", "any", check=False)
        assert "guest any: " in answer.stderr
        assert "ep11" in answer.stderr
        assert state(env) == before

    def test_adapters_of_several_kinds(self, env: LabEnv) -> None:
        before = state(env)
        env.define("kinds", None, mdev(9))
        kinds = ("--cards", "mode=cca,adapters=1", "--cards", "mode=ep11,adapters=1")
        words = ("guest", "set", "kinds", "--any", "domains=2", *kinds, "--control-domains", "usage")
        assert env.apvfio(*words).returncode == 0
        env.virsh("start", "--paused", "kinds")
        assert state(env).host.mdevs == {mdev(9): Matrix(IdSet([1, 10]), IdSet([1, 2]), IdSet([1, 2]))}
        # The annotation of the running guest has its kinds, and keeps what is not named.
        assert env.apvfio("guest", "set", "kinds", "--any", "domains=1", "--live").returncode == 0
        assert state(env).host.mdevs == {mdev(9): Matrix(IdSet([1, 10]), IdSet([1]), IdSet([1]))}
        shown = json.loads(env.apvfio("guest", "show", "kinds", "--live", "--json").stdout)
        assert shown["criteria"] == {"any": "domains=1", "cards": [word for word in kinds if "=" in word]}
        env.virsh("destroy", "kinds")
        assert state(env) == before
        assert env.apvfio("guest", "set", "kinds", "--cards", "mode=ep11,adapters=2").returncode == 5
