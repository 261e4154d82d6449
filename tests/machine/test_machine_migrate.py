# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate`` of a KVM guest whose QEMU has a real vfio_ap device, between two daemons.

Both are on one kernel, where a device exists once, so two hosts cannot both hold one for the guest. While
it is here a simulated host stands for the destination's queues, and when it is there the real one does.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon_env import REQUESTED, START, eventually, leases
from hosts import IBM_DOMAINS, mdev
from lifecycle_cases import state
from migration_env import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from machine_env import MachineEnv

NAME = "traveller"
SECOND = Path("/run/second")
SIM = SECOND / "host.json"
PID = SECOND / "run/libvirt/libvirtd.pid"
PRIVATE = (
    "run/libvirt",
    "run/apvfio",
    "var/lib/libvirt",
    "var/log/libvirt",
    "var/cache/libvirt",
    "etc/libvirt",
)
URI = f"qemu+unix:///system?socket={SECOND}/run/libvirt/libvirt-sock"
HOOK = SECOND / "etc/libvirt/hooks/qemu.d/50-apvfio"
OURS = f"""\
#!/bin/sh
[ ! -e {SIM} ] || export APVFIO_SIM={SIM}
exec {SECOND}/qemu "$@"
"""
START_SECOND = """\
set -e
for name in "$@"; do mount --bind "/run/second/$name" "/$name"; done
mkdir -p /run/libvirt/qemu /var/log/libvirt/qemu
virtlogd -d -p /run/libvirt/virtlogd.pid
exec libvirtd -d -p /run/libvirt/libvirtd.pid
"""
SOCKETS = Path("/run/way")
LATE = """\
import sys
from apvfio.migration import migrate
migrate.Mover._plug_on_arrival = lambda mover: None
from apvfio.cli.main import main
sys.exit(main())
"""
"""The program, which plugs the device in when the guest has left: there is one kernel."""
STAYS = "Nothing is held for it at the destination. It runs here with its queues."


@pytest.fixture(scope="module")
def _second() -> Iterator[None]:
    """Another libvirt daemon, with directories of its own."""
    Path("/run/apvfio").mkdir(mode=0o700, exist_ok=True)
    for name in PRIVATE:
        (SECOND / name).mkdir(parents=True, mode=0o700 if name == "run/apvfio" else 0o755, exist_ok=True)
    SOCKETS.mkdir(mode=0o777, exist_ok=True)
    SOCKETS.chmod(0o1777)
    subprocess.run(["cp", "-r", "/etc/libvirt/.", SECOND / "etc/libvirt"], check=True)
    with open(SECOND / "etc/libvirt/libvirtd.conf", "a", encoding="utf-8") as settings:
        settings.write('\nhost_uuid = "11111111-2222-4333-8444-555555555555"\n')
    # Both daemons have one /proc, and a host's own QEMU would protect the lease of a guest that has left it.
    # The process of an ordinary user is no guest of the system: so the other host's is told from this one's.
    with open(SECOND / "etc/libvirt/qemu.conf", "a", encoding="utf-8") as settings:
        settings.write('\nuser = "+1000"\ngroup = "kvm"\n')
    HOOK.rename(SECOND / "qemu")
    HOOK.write_text(OURS)
    HOOK.chmod(0o755)
    start = ["unshare", "-m", "--propagation", "private", "sh", "-c", START_SECOND, "sh", *PRIVATE]
    subprocess.run(start, check=True, stdin=subprocess.DEVNULL)
    asking = ["virsh", "-q", "-c", URI, "version"]
    eventually(lambda: subprocess.run(asking, capture_output=True, check=False).returncode, 0)
    yield
    os.kill(int(PID.read_text()), signal.SIGTERM)


@pytest.fixture
def started(env: MachineEnv, _second: None) -> Iterator[None]:
    """A running guest with its queues, and a simulated destination; in the end all is home."""
    before = state(env)
    words = ["--adapters", "0=accel,1=cca,0xa=ep11", "--domains", ",".join(map(str, IBM_DOMAINS)), "--force"]
    done = env.run([env.python, "-m", "apvfio", "sim", "new", str(SIM), *words])
    assert done.returncode == 0, done.stderr
    env.define(NAME, REQUESTED, mdev(1))
    env.virsh(*START, NAME)
    yield
    there(env, "destroy", NAME, check=False)
    there(env, "undefine", NAME, check=False)
    env.clean()
    eventually(lambda: leases(env), {})
    assert state(env) == before


def there(env: MachineEnv, *words: str, check: bool = True) -> CompletedProcess[str]:
    """virsh at the destination."""
    done = env.run(["virsh", "-q", "-c", URI, *words])
    assert not check or done.returncode == 0, done.stderr
    return done


def migrate(env: MachineEnv, at: list[str], *words: str, dies: str = "") -> CompletedProcess[str]:
    """Run the command, or until it is killed after a step."""
    way = f"unix://{SOCKETS}/{len(list(SOCKETS.iterdir()))}{dies[:1]}"
    program = ["env", f"DIES={dies} after", sys.executable, "-c", DRIVER if dies else LATE]
    ways = ["--migrate-uri", way, "--back-uri", f"{way}b"]
    return env.run([*program, "migrate", *ways, "--at", shlex.join(at), *words, NAME, URI])


def simulated(env: MachineEnv) -> list[str]:
    """apvfio at the destination, while the guest is here."""
    return [env.python, "-m", "apvfio", "--sim", str(SIM)]


def real(env: MachineEnv) -> list[str]:
    """apvfio at the destination, when the guest is there."""
    return ["nsenter", f"--mount=/proc/{int(PID.read_text())}/ns/mnt", env.python, "-m", "apvfio"]


def test_it_moves_and_gets_a_real_device_there(env: MachineEnv, started: None) -> None:
    done = migrate(env, simulated(env), dies="move")
    assert done.returncode == -signal.SIGKILL, done
    assert there(env, "domstate", NAME).stdout.strip() == "paused"
    assert (leases(env), state(env).host.mdevs) == ({}, {})
    SIM.unlink()
    done = migrate(env, real(env))
    assert done.returncode == 0, done
    assert state(env).host.mdevs == {mdev(1): REQUESTED}
    assert mdev(1) in there(env, "dumpxml", NAME).stdout
    assert env.system.sysfs.read("bus/ap/devices/00.0001/status").strip() == "in use"
    there(env, "destroy", NAME)
    assert state(env).host.mdevs == {}


def test_it_comes_back_to_its_real_device(env: MachineEnv, started: None) -> None:
    """The device that the simulated host has made cannot be plugged in: the guest moves twice."""
    running = state(env)
    done = migrate(env, simulated(env))
    assert done.returncode == 1, done
    assert f"mediated device '{mdev(1)}' not found" in done.stderr
    assert STAYS in done.stderr
    assert state(env) == running
    assert mdev(1) in env.virsh("dumpxml", NAME).stdout
    assert NAME not in there(env, "list", "--all", "--name").stdout.split()


def test_it_stays_with_its_real_device(env: MachineEnv, started: None) -> None:
    """The destination does not let it in: the device goes out and in again."""
    running = state(env)
    HOOK.write_text('#!/bin/sh\n[ "$2" != prepare ]\n')
    try:
        done = migrate(env, simulated(env))
    finally:
        HOOK.write_text(OURS)
    assert done.returncode == 1, done
    assert STAYS in done.stderr
    assert state(env) == running
    assert mdev(1) in env.virsh("dumpxml", NAME).stdout
