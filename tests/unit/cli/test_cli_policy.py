# SPDX-License-Identifier: Apache-2.0
"""``apvfio policy``: what it prints is a valid policy, and a mistake is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.store.policy_file import POLICY, parse_policy
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

SET = """mechanism = "masks"
[reserve]
queues = ["01.001b", "0f.0001"]
domains = "27,0x1c"
[keep]
cca = 2
[busy]
zcrypt-nodes = "warn"
[time]
lock-wait = 9
"""


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


@pytest.mark.parametrize("text", ["", SET])
def test_what_is_shown_is_the_policy(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    host.write(POLICY, text)
    assert host.run("policy", "show") == Exit.OK
    assert parse_policy(capsys.readouterr().out) == parse_policy(text)


def test_the_file_is_checked(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("policy", "check") == Exit.OK
    assert "does not exist: the defaults apply" in capsys.readouterr().out
    host.write(POLICY, SET)
    assert host.run("policy", "check") == Exit.OK
    assert capsys.readouterr().out == (f"/{POLICY} is valid\nreserved, but not on this host: 0f.0001\n")
    host.write(POLICY, SET.replace("lock-wait", "lockwait"))
    assert host.run("policy", "check") == host.run("policy", "show") == Exit.REQUEST
    assert "did you mean lock-wait?" in capsys.readouterr().err
