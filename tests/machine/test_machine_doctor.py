# SPDX-License-Identifier: Apache-2.0
"""The doctor on the real kernel: it names what is broken, and its commands, run by a shell, repair it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from machine_env import MachineEnv

AP = "/sys/bus/ap"
MATRIX = "/sys/devices/vfio_ap/matrix"
Found = dict[str, Any]
_USUAL: set[str] = set()
"""The faults that the machine has of itself: nothing is installed in it."""


class Surgery:
    """The machine, the doctor, and a shell."""

    def __init__(self, env: MachineEnv, directory: Path) -> None:
        self.env = env
        self.bin = directory
        shim = directory / "apvfio"
        shim.write_text(f'#!/bin/sh\nexec {env.python} -m apvfio "$@"\n')
        shim.chmod(0o755)
        self.usual = _USUAL or {check["message"] for check in self.faults()}
        # It takes the machine some seconds to say so.
        _USUAL.update(self.usual)

    def shell(self, script: str) -> None:
        # An administrator edits as the doctor says: takes out the line that keeps the module out.
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "EDITOR": "sed -i /vfio_ap/d",
        }
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (script, done.stderr)

    def examined(self, *words: str) -> tuple[int, list[Found]]:
        done = self.env.run([self.env.python, "-m", "apvfio", "doctor", "--json", *words])
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)["checks"]

    def faults(self, *words: str) -> list[Found]:
        checks = self.examined(*words)[1]
        return [c for kind in ("problem", "warning") for c in checks if c["state"] == kind]

    def new(self) -> list[Found]:
        """The faults that the machine does not have of itself."""
        return [fault for fault in self.faults() if fault["message"] not in self.usual]


@pytest.fixture
def surgery(env: MachineEnv, tmp_path: Path) -> Iterator[Surgery]:
    made = Surgery(env, tmp_path)
    before = state(env)
    yield made
    env.clean()
    assert state(env) == before


def module_kept_out(surgery: Surgery) -> None:
    surgery.shell("echo 'install vfio_ap /bin/false' >/etc/modprobe.d/local.conf; rmmod vfio_ap")
    with pytest.raises(AssertionError):
        surgery.shell("modprobe vfio_ap")


def queue_unbound(surgery: Surgery) -> None:
    surgery.shell(f"echo 01.0002 >{AP}/drivers/cex4queue/unbind")


def override_left(surgery: Surgery) -> None:
    if not os.path.exists(f"{AP}/devices/01.0002/driver_override"):
        pytest.skip("this kernel has no driver_override for queues")
    for words in ("vfio_ap >devices/01.0002/driver_override", "01.0002 >drivers/cex4queue/unbind"):
        surgery.shell(f"cd {AP} && echo {words}")
    surgery.shell(f"echo 01.0002 >{AP}/drivers_probe")


def device_of_another(surgery: Surgery) -> None:
    surgery.shell(
        f"echo -1 >{AP}/apmask; echo {mdev(9)} >{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create"
    )
    surgery.shell(f"cd {MATRIX}/{mdev(9)} && echo 1 >assign_adapter && echo 2 >assign_domain")


FAULTS: list[tuple[Callable[[Surgery], None], str]] = [
    (module_kept_out, "vfio-ap"),
    (queue_unbound, "drivers"),
    (override_left, "overrides"),
    (device_of_another, "foreign-devices"),
]


@pytest.mark.parametrize(("break_it", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_it_is_named_first_and_repaired(
    surgery: Surgery, break_it: Callable[[Surgery], None], name: str
) -> None:
    break_it(surgery)
    found = surgery.new()
    assert found[0]["id"] == name, found
    for _ in range(4):
        if not found:
            break
        for command in found[0]["commands"]:
            surgery.shell(command)
        found = surgery.new()
    assert found == []


def test_a_guest_before_and_while_it_runs(surgery: Surgery) -> None:
    env = surgery.env
    env.define("db1", a_matrix("0,10", "1-2"), mdev(1))
    checks = surgery.examined("db1")[1]
    assert [c for c in checks if c["state"] == "problem" and c["message"] not in surgery.usual] == []
    assert checks[-1]["message"].startswith("a start gives it 4 queues (adapters 0,10, domains 1-2)")
    env.virsh("start", "--paused", "db1")
    env.define("db2", a_matrix("0", "1"), mdev(2))
    # A guest that shares its queues waits, which is no fault of the host; nobody stops the one that runs.
    checks = surgery.examined()[1]
    waits = next(c for c in checks if c["guest"] == "db2")
    assert (waits["state"], waits["commands"]) == ("ok", [])
    runs = next(c for c in checks if c["id"] == "start" and c["guest"] == "db1")
    assert runs["message"] == "it runs and has 4 queues: adapters 0,10, domains 1-2"
    held = next(c for c in surgery.examined("db2")[1] if c["id"] == "held")
    assert held["state"] == "problem"
    assert "db1" not in " ".join(held["commands"])
