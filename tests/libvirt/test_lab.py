# SPDX-License-Identifier: Apache-2.0
"""The lab itself: real libvirt and real mdevctl take the simulated host for their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from apvfio.model.matrix import Matrix
from apvfio.sim import fuse
from lab import namespace
from lab.guest import guest_uuid, guest_xml
from lab.lab import Lab
from lab.libvirtd import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab_env import MakeLab

UUID = "5d1c7b60-8a1e-4b4f-9d0c-0123456789ab"
AP = f"ap-{UUID}"
LIFE = ["prepare begin -", "start begin -", "started begin -", "stopped end -", "release end -"]


@pytest.fixture
def calls(recorder: Lab) -> Iterator[Path]:
    """The hook's record, empty at first."""
    from pathlib import Path

    log = Path(recorder.path("/run/hook.log"))
    log.write_text("")
    yield log
    for name in recorder.virsh("list", "--all", "--name").stdout.split():
        recorder.virsh("destroy", name)
        recorder.virsh("undefine", name)


def operations(calls: Path, guest: str) -> list[str]:
    return [line.removeprefix(f"{guest} ") for line in calls.read_text().splitlines()]


def machine_traces() -> set[str]:
    """What a lab might leave on the machine."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        traces = {line.split()[4] for line in mounts}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                words = file.read()
        except OSError:
            continue
        if any(word in words for word in ("lab.inside", "libvirtd", "virtlogd", "apvfio-lab-")):
            traces.add(f"{pid} {words}")
    places = (
        "/dev/vfio",
        "/run",
        "/run/lock",
        "/run/libvirt",
        "/etc",
        "/etc/libvirt/hooks",
    )
    for place in filter(os.path.isdir, places):
        traces |= {f"{place}/{name}" for name in os.listdir(place)}
    # Other tests run at the same time, and have files of their own in these two.
    traces |= {f"/tmp/{name}" for name in os.listdir("/tmp") if name.startswith("apvfio-lab-")}
    return traces | {f"/run/apvfio/{name}" for name in _own_files()}


def _own_files() -> set[str]:
    """What is in /run/apvfio, but for the locks of migrations that other tests try."""
    found = os.listdir("/run/apvfio") if os.path.isdir("/run/apvfio") else []
    return {name for name in found if not name.startswith("migrate-")}


def test_a_guest_starts_and_ends(recorder: Lab, calls: Path) -> None:
    assert recorder.define(guest_xml("plain")).stderr == ""
    assert recorder.virsh("start", "plain").stderr == ""
    assert recorder.virsh("domstate", "plain").stdout.split() == ["running"]
    assert recorder.virsh("destroy", "plain").stderr == ""
    assert operations(calls, "plain") == LIFE


def test_a_guest_gets_the_device_that_the_hook_made(recorder: Lab, calls: Path) -> None:
    sysfs = recorder.host().sysfs
    before = sysfs.read("bus/ap/apmask")
    matrix = Matrix()
    recorder.define(guest_xml(AP, matrix, UUID))
    started = recorder.virsh("start", "--paused", AP)
    assert (started.returncode, started.stderr) == (0, "")
    assert recorder.virsh("domstate", AP).stdout.split() == ["paused"]
    assert sysfs.list("bus/mdev/devices") == [UUID]
    assert sysfs.read(f"bus/mdev/devices/{UUID}/matrix") == "0a.0001\n"
    assert "left out: -device" in recorder.libvirtd.guest_log(AP)
    assert recorder.run(["mdevctl", "list"]).stdout.split() == [
        UUID,
        "matrix",
        "vfio_ap-passthrough",
        "manual",
    ]
    assert recorder.virsh("destroy", AP).returncode == 0
    assert operations(calls, AP) == LIFE
    assert sysfs.list("bus/mdev/devices") == []
    assert sysfs.read("bus/ap/apmask") == before


def test_libvirt_refuses_a_device_that_is_not_there(recorder: Lab, calls: Path) -> None:
    recorder.define(guest_xml("without", mdev=UUID))
    started = recorder.virsh("start", "without")
    assert started.returncode == 1
    assert f"mediated device '{UUID}' not found" in started.stderr
    assert operations(calls, "without") == ["prepare begin -", "stopped end -", "release end -"]


def test_the_annotation_reaches_the_hook(recorder: Lab, calls: Path) -> None:
    from apvfio.domain.request import parse_domain
    from apvfio.model.mask_grammar import parse_list

    requested = Matrix(parse_list("0,0xa"), parse_list("1-2,4"), parse_list("4"))
    recorder.run(["rm", "/run/hook.xml"])
    recorder.define(guest_xml("wish", requested, UUID))
    assert recorder.virsh("start", "wish").returncode == 1
    with open(recorder.path("/run/hook.xml"), "rb") as file:
        first = file.read().partition(b"</domain>")
    request = parse_domain(first[0] + first[1])
    assert request
    assert (request.guest, request.guest_uuid) == ("wish", guest_uuid("wish"))
    assert (request.mdev, request.matrix) == (UUID, requested)


def test_mdevctl_knows_the_type_and_makes_devices(recorder: Lab) -> None:
    types = recorder.run(["mdevctl", "types", "--dumpjson"])
    assert '"device_api": "vfio-ap"' in types.stdout
    words = ["--uuid", UUID, "--parent", "matrix", "--type", "vfio_ap-passthrough"]
    assert recorder.run(["mdevctl", "define", *words]).stderr == ""
    assert recorder.host().files.list("etc/mdevctl.d/matrix") == [UUID]
    assert recorder.run(["mdevctl", "start", "--uuid", UUID]).stderr == ""
    assert UUID in recorder.run(["mdevctl", "list"]).stdout
    assert recorder.run(["mdevctl", "stop", "--uuid", UUID]).returncode == 0
    assert recorder.run(["mdevctl", "undefine", "--uuid", UUID]).returncode == 0
    assert recorder.host().sysfs.list("bus/mdev/devices") == []


def eventually(said: Callable[[], object], expected: object) -> None:
    """libvirtd takes up its guests again, and sees QEMU's end, in threads of its own."""
    deadline = time.monotonic() + 10
    while said() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said() == expected


def test_guests_survive_a_new_daemon_and_end_with_their_qemu(recorder: Lab, calls: Path) -> None:
    recorder.define(guest_xml("long"))
    recorder.virsh("start", "long")
    life = LIFE[:3]
    for end in (recorder.libvirtd.stop, recorder.libvirtd.crash):
        end()
        assert recorder.virsh("domstate", "long").returncode == 1
        recorder.libvirtd.start()
        assert recorder.virsh("domstate", "long").stdout.split() == ["running"]
        life += ["reconnect begin -"]
        eventually(lambda: operations(calls, "long"), life)
    with open(recorder.path("/run/libvirt/qemu/long.pid"), encoding="ascii") as file:
        recorder.kill(int(file.read()), signal.SIGKILL)
    eventually(lambda: operations(calls, "long"), [*life, *LIFE[3:]])
    eventually(lambda: "shut off" in recorder.virsh("domstate", "long").stdout, True)


def test_commands_end_in_time(recorder: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        recorder.run(["sleep", "33"], timeout=0.3)
    assert "sleep" not in recorder.run(["cat", *(f"/proc/{n}/cmdline" for n in range(1, 200))]).stdout
    done = recorder.run(["sh", "-c", 'cat; echo "$WHAT" >&2; exit 3'], stdin="in", env={"WHAT": "err"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "err\n")


def test_a_lab_keeps_its_host_and_leaves_no_trace(tmp_path: Path, make_lab: MakeLab) -> None:
    from apvfio.sim.host_file import create_sim, open_sim
    from apvfio.sim.kernel import SimKernel

    with make_lab(None):
        pass
    before = machine_traces()
    file = str(tmp_path / "host.json")
    create_sim(file, SimKernel.new())
    with pytest.raises(RuntimeError), Lab(file=file) as lab:  # noqa: PT012
        lab.run(["sh", "-c", "echo -0 > /sys/bus/ap/apmask; echo kept > /etc/apvfio/kept"])
        assert machine_traces() != before
        raise RuntimeError
    assert machine_traces() == before
    with open_sim(file) as system:
        assert system.sysfs.read("bus/ap/apmask").startswith("0x7f")
        assert system.files.read("etc/apvfio/kept") == "kept\n"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match=r"the lab needs the rights of root\. Run it as root\."):
        Lab().__enter__()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(fuse, "load_library", lambda: None)
    monkeypatch.setattr(namespace, "PATH", "/nowhere")
    with pytest.raises(
        HostError, match=r"the lab needs libvirtd, .*\. Install libvirt-clients, .*util-linux"
    ):
        Lab().__enter__()


def test_a_daemon_that_cannot_start_is_said(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_lab(None):
        pass
    monkeypatch.setitem(COMMANDS, "libvirtd", "libvirt-daemon-system")
    monkeypatch.setattr("lab.libvirtd.SETTINGS", {"etc/libvirt/libvirtd.conf": "nonsense"})
    before = machine_traces()
    with pytest.raises(HostError, match="the lab's libvirtd does not start: "):
        Lab().__enter__()
    assert machine_traces() == before


CHROOT = """\
set -e
mount -t tmpfs tmpfs "$1"
for name in $(find / -maxdepth 1 -mindepth 1 -type d -o -maxdepth 1 -type l); do
    if [ -L "$name" ]; then cp -P "$name" "$1"; continue; fi
    mkdir "$1$name"
    mount --rbind "$name" "$1$name"
done
PYTHONPATH="$3" exec chroot "$1" "$2" -m lab.demo
"""


def test_the_demo_in_a_chroot_does_without_the_lab(tmp_path: Path) -> None:
    """nsenter would leave the chroot. The first process of these namespaces is one outside of it."""
    words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", 'sh -c "$0" "$@"; exit $?']
    done = subprocess.run(
        [*words, CHROOT, "sh", tmp_path, sys.executable, Path(__file__).parents[1]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Without libvirt: the lab cannot be had in a chroot: ")


def test_the_demo_shows_the_matrix_before_during_and_after() -> None:
    before = machine_traces()
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "Without libvirt" in done.stdout and os.environ.get("CI") != "true":
        pytest.skip(done.stdout.partition("\n")[0])
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line for line in done.stdout.splitlines() if line.startswith(("$ ", "== "))]
    assert [line.partition(" db1.xml")[0] for line in shown] == [
        "== Before",
        "$ virsh define",
        "$ apvfio plan db1",
        "$ virsh start db1",
        "== While it runs",
        "$ virsh destroy db1",
        "== After",
    ]
    assert "guest db1  6 queues" in done.stdout.partition("== While it runs")[2].partition("== After")[0]
    assert not machine_traces() - before
