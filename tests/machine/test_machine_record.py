# SPDX-License-Identifier: Apache-2.0
"""What stays on record of guests on the real drivers: who had a queue when, and the host in numbers."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from machine_env import MachineEnv


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


def log(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("python3", "-m", "apvfio", "log", "--json", *words))
    return found


def queues() -> dict[str, int]:
    """The host's queues by their owner, as the metrics have them; their sum and the host's are lszcrypt's."""
    text = run("python3", "-m", "apvfio", "metrics")
    found = {owner: int(n) for owner, n in re.findall(r'^apvfio_queues\{owner="(\w+)"\} (\d+)$', text, re.M)}
    rows = [line.split() for line in run("lszcrypt", "-V").splitlines() if re.match(r"[0-9a-f]{2}\.", line)]
    assert sum(found.values()) == len(rows)
    assert found["host"] == sum(row[-1] == "cex4queue" for row in rows)
    return found


def test_who_had_a_queue_and_who_was_refused_it(env: MachineEnv) -> None:
    before = state(env), queues()
    env.define("recorded", a_matrix("0", "1-2"), mdev(21))
    env.define("envious", a_matrix("0-1", "2"), mdev(22))
    env.virsh("start", "--paused", "recorded")
    assert env.virsh("start", "--paused", "envious", check=False).returncode == 1
    assert queues()["guest"] == 2
    (now,) = [span for span in log("--queue", "00.0002") if span["guest"] == "recorded"]
    assert (now["mdev"], now["end"]) == (mdev(21), None)
    env.virsh("destroy", "recorded")
    (then,) = [span for span in log("--queue", "00.0002") if span["guest"] == "recorded"]
    assert then["begin"] == now["begin"] <= then["end"]
    assert [event["kind"] for event in log("--guest", "recorded")] == ["planned", "started", "stopped"]
    (refused,) = log("--guest", "envious")
    assert refused["kind"] == "refused"
    assert "00.0002 is held by guest recorded" in refused["text"]
    assert (state(env), queues()) == before
