# SPDX-License-Identifier: Apache-2.0
"""``--if-state``: a plan is carried out only on the state that it was made on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.libvirt.guests import PREFIX
from apvfio.model.errors import ApvfioError, Exit
from apvfio.model.host import AP_MDEVS
from hosts import a_matrix, a_request, mdev
from libvirt_test_driver import URI, Driver, definition, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

STARTING = ("guest", "set", "db1", "--adapters", "0", "--domains", "1", "-c", URI)
UNCHECKED = (*STARTING, "--unchecked")
CLEARING = ("guest", "clear", "db1", "-c", URI)


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    made = SimulatedHost(tmp_path)
    made.start(a_request("0", "1,2", n=7))
    return made


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        yield made


def told(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str, code: int = Exit.OK) -> Any:
    capsys.readouterr()
    assert host.run(*words, "--json") == code
    return json.loads(capsys.readouterr().out)


def planned(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The state that the command's dry run tells."""
    state = told(host, capsys, *words, "--dry-run")["state"]
    assert isinstance(state, str)
    return state


def somebody_starts(host: SimulatedHost) -> None:
    host.start(a_request("10", "4", n=3))


def somebody_changes_a_mask(host: SimulatedHost) -> None:
    assert host.run("masks", "-a", "aqmask=-100") == Exit.OK


def somebody_stores_a_mask(host: SimulatedHost) -> None:
    assert host.run("masks", "-p", "apmask=-3") == Exit.OK


def somebody_changes_the_policy(host: SimulatedHost) -> None:
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["0a.001b"]\n')


def somebody_makes_a_device(host: SimulatedHost) -> None:
    host.write(f"sys/{AP_MDEVS.create}", mdev(5))


OTHERS = [
    somebody_starts,
    somebody_changes_a_mask,
    somebody_stores_a_mask,
    somebody_changes_the_policy,
    somebody_makes_a_device,
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("words", [("masks", "apmask=-1"), ("release", "g7"), ("reconcile",)], ids=str)
def test_a_change_of_the_host_refuses_the_plan(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], other: Any
) -> None:
    state = planned(host, capsys, *words)
    other(host)
    with open(host.path, encoding="utf-8") as file:
        before = file.read()
    error = told(host, capsys, *words, "--if-state", state, code=Exit.CONFLICT)
    assert error["error"]["message"] == "the host or the guest has changed since the plan was made."
    assert error["error"]["remedy"]
    with open(host.path, encoding="utf-8") as file:
        assert file.read() == before
    assert told(host, capsys, *words, "--if-state", planned(host, capsys, *words))


@pytest.mark.parametrize("words", [("masks", "apmask=-1"), ("release", "g7"), ("reconcile",)], ids=str)
def test_on_the_same_state_the_plan_is_carried_out(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    state = planned(host, capsys, *words)
    # To look is no change.
    host.run("status")
    host.run("queues")
    done = told(host, capsys, *words, "--if-state", state)
    assert done["state"] == state
    assert (planned(host, capsys, "masks", "apmask=-2") == state) is (words == ("reconcile",))


@pytest.mark.parametrize("words", [STARTING, UNCHECKED, CLEARING], ids=["set", "unchecked", "clear"])
def test_a_change_of_the_definition_refuses_the_plan(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    domain = libvirtd.define("db1", 1, a_matrix("10", "4"))
    host.run("release", "g7")
    state = planned(host, capsys, *words)
    libvirtd.define("db1", 1, a_matrix("10", "27"))
    before = definition(domain)
    told(host, capsys, *words, "--if-state", state, code=Exit.CONFLICT)
    assert definition(domain) == before
    told(host, capsys, *words, "--if-state", planned(host, capsys, *words))
    assert definition(domain) != before


def test_only_what_is_planned_on_counts(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that is not asked may change; a guest that was started is another one."""
    domain = libvirtd.define("db1", 1)
    host.run("release", "g7")
    states = {words: planned(host, capsys, *words) for words in (STARTING, UNCHECKED, CLEARING)}
    somebody_starts(host)
    told(host, capsys, *STARTING, "--if-state", states[STARTING], code=Exit.CONFLICT)
    assert f"<{PREFIX}:" not in definition(domain)
    assert planned(host, capsys, *UNCHECKED) == states[UNCHECKED]
    assert planned(host, capsys, *CLEARING) == states[CLEARING]
    domain.create()
    told(host, capsys, *UNCHECKED, "--if-state", states[UNCHECKED], code=Exit.CONFLICT)


def test_a_set_that_fails_is_one_document(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error after the plan does not follow another document."""
    libvirtd.define("db1", 1)
    host.run("release", "g7")
    state = planned(host, capsys, *STARTING)

    def refused(*_: object) -> None:
        raise ApvfioError("libvirt refused: no.", guest="db1")

    with monkeypatch.context() as patch:
        patch.setattr("apvfio.libvirt.guests.Guest.define", refused)
        error = told(host, capsys, *STARTING, "--if-state", state, code=Exit.FAILURE)
        assert error["error"]["message"] == "libvirt refused: no."
    told(host, capsys, *STARTING, "--if-state", state)


@pytest.mark.parametrize("state", ["", "0", "G" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "'; true"])
def test_what_is_no_state_is_said(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    error = told(host, capsys, "reconcile", "--if-state", state, code=Exit.USAGE)
    assert "is not a state that --dry-run --json prints" in error["error"]["message"]


def test_to_look_needs_no_state(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    error = told(host, capsys, "masks", "--if-state", "0" * 64, code=Exit.USAGE)
    assert error["error"]["message"] == "--if-state requires a change to make."
