# SPDX-License-Identifier: Apache-2.0
"""virsh start and destroy under a real libvirtd, with the hook as it is shipped, on a simulated host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

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
def house(hooked_lab: Lab) -> Iterator[LabEnv]:
    house = LabEnv(hooked_lab)
    yield house
    house.clean()


class TestLifecycle(Lifecycle):
    """The common cases."""


class TestCommands:
    """The commands that talk to libvirt, and what they say about its guests."""

    def test_an_annotation_is_set_shown_used_and_cleared(self, house: LabEnv) -> None:
        house.define("web", None, mdev(5))
        done = house.apvfio("guest", "set", "web", "--adapters", "0xa", "--domains", "1-2")
        assert (done.returncode, done.stderr) == (0, "")
        shown = json.loads(house.apvfio("guest", "show", "web", "--json").stdout)
        assert shown == {
            "guest": "web",
            "uuid": guest_uuid("web"),
            "mdev": mdev(5),
            "adapters": "10",
            "domains": "1-2",
            "control_domains": "",
            "criteria": None,
        }
        assert "adapters 10, domains 1-2  can start\n" in house.apvfio("guest", "list").stdout
        planned = json.loads(house.apvfio("plan", "web", "--json").stdout)
        assert (planned["freed_by"], planned["collateral"]) == ("adapters", ["0a.0004", "0a.001b"])

        before = state(house)
        house.virsh("start", "--paused", "web")
        status = json.loads(house.apvfio("status", "--json").stdout)
        assert [lease["guest"] for lease in status["leases"]] == ["web"]
        assert status["drift"] == []
        owners = {queue["queue"]: queue["owner"] for queue in status["queues"]}
        assert (owners["0a.0001"], owners["0a.0004"], owners["00.0001"]) == ("guest web", "free", "host")
        house.virsh("destroy", "web")
        assert state(house) == before

        assert house.apvfio("guest", "clear", "web").returncode == 0
        assert house.apvfio("guest", "clear", "web").returncode == 0
        done = house.apvfio("guest", "show", "web")
        assert (done.returncode, done.stdout) == (6, "")
        assert "has no annotation" in done.stderr
        assert house.apvfio("guest", "list").stdout == ""

    def test_what_is_wrong_is_said_in_a_sentence(self, house: LabEnv) -> None:
        done = house.apvfio("guest", "set", "nobody", "--adapters", "1", "--domains", "1")
        assert (done.returncode, done.stderr.count("\n")) == (6, 1)
        assert "libvirt knows no guest nobody" in done.stderr
        house.define("bare", None, None)
        done = house.apvfio("guest", "set", "bare", "--adapters", "1", "--domains", "1", "--no-hostdev")
        assert done.returncode == 0
        assert "warning: guest bare: it asks for AP queues but has no device" in done.stderr
        done = house.apvfio("plan", "bare", "--json")
        assert done.returncode == 6
        assert json.loads(done.stdout)["error"]["kind"] == "request"
        done = house.apvfio("guest", "list", "-c", "test:///nowhere")
        assert done.returncode == 5
        assert "does not answer" in done.stderr

    def test_what_was_saved_counts_for_the_next_start(self, house: LabEnv) -> None:
        """Not the definition, which is what ``guest set`` and ``guest clear`` change."""
        was, now = a_matrix("0", "1"), a_matrix("10", "2")
        house.define("saved", was, mdev(9))
        house.virsh("start", "--paused", "saved")
        house.virsh("managedsave", "saved")
        for words in (("clear", "saved"), ("set", "saved", "--adapters", "10", "--domains", "2")):
            done = house.apvfio("guest", *words)
            assert done.returncode == 0, done.stderr
            assert "guest saved: its next start restores what 'virsh managedsave' stored" in done.stderr
            assert "run 'virsh managedsave-remove saved'" in done.stderr
        [listed] = json.loads(house.apvfio("guest", "list", "--json").stdout)
        assert (listed["state"], listed["adapters"], listed["domains"]) == ("saved", "0", "1")
        assert json.loads(house.apvfio("guest", "show", "saved", "--json").stdout)["adapters"] == "0"
        assert json.loads(house.apvfio("plan", "saved", "--json").stdout)["queues"] == ["00.0001"]
        checks = json.loads(house.apvfio("doctor", "saved", "--json").stdout)["checks"]
        [check] = [check for check in checks if check["id"] == "saved"]
        assert (check["state"], check["commands"]) == ("warning", [])
        assert "'virsh managedsave-remove' has it start from its definition" in check["remedy"]
        house.virsh("start", "--paused", "saved")
        assert state(house).host.mdevs == {mdev(9): was}
        house.virsh("destroy", "saved")
        [listed] = json.loads(house.apvfio("guest", "list", "--json").stdout)
        assert (listed["state"], listed["adapters"]) == ("shut off", "10")
        house.virsh("start", "--paused", "saved")
        assert state(house).host.mdevs[listed["mdev"]] == now

    def test_a_definition_stands_for_the_annotation(self, house: LabEnv) -> None:
        """Through the real mdevctl, which sees the simulated host."""
        before = state(house)
        house.define("kept", a_matrix("0", "1-2"), mdev(7))
        done = house.apvfio("define", "kept")
        assert (done.returncode, done.stderr) == (0, "")
        listed = house.lab.run(["mdevctl", "list", "--defined"]).stdout
        assert listed.split()[:4] == [mdev(7), "matrix", "vfio_ap-passthrough", "manual"]

        assert house.apvfio("guest", "clear", "kept").returncode == 0
        house.virsh("start", "--paused", "kept")
        assert state(house).host.mdevs == {mdev(7): a_matrix("0", "1-2")}
        assert mdev(7) in house.lab.run(["mdevctl", "list"]).stdout
        house.virsh("destroy", "kept")
        assert state(house) == before

        done = house.apvfio("guest", "set", "kept", "--adapters", "1", "--domains", "4")
        assert done.returncode == 0
        assert "warning: guest kept: its annotation asks for adapters 1, domains 4" in done.stderr
        answer = house.virsh("start", "kept", check=False)
        assert "its annotation asks for adapters 1, domains 4" in answer.stderr
        assert "for adapters 0, domains 1-2" in answer.stderr
        assert house.apvfio("undefine", "kept").returncode == 0
        assert house.lab.run(["mdevctl", "list", "--defined"]).stdout.strip() == ""
        house.virsh("start", "--paused", "kept")
        house.virsh("destroy", "kept")
        assert state(house) == before

    def test_queues_asked_for_by_property(self, house: LabEnv) -> None:
        before = state(house)
        house.define("any", None, mdev(8))
        assert house.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=1,domains=4").returncode == 0
        house.virsh("start", "--paused", "any")
        assert state(house).host.mdevs == {mdev(8): a_matrix("10", "1,2,4,27")}
        house.virsh("destroy", "any")
        assert state(house) == before
        assert house.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=2").returncode == 5
        house.apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=2", "--unchecked")
        answer = house.virsh("start", "any", check=False)
        assert "guest any: " in answer.stderr
        assert "ep11" in answer.stderr
        assert state(house) == before
