# SPDX-License-Identifier: Apache-2.0
"""The doctor beside a real libvirtd: what it says is what virsh meets, and a shell mends it as it says."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.errors import Exit
from hosts import a_matrix, mdev
from lab.guest import guest_xml
from lab.hook import hook_script
from lab_env import LabEnv
from other_user import as_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.model.matrix import Matrix
    from lab.lab import Lab
    from lab_env import MakeLab

HOOK = "/etc/libvirt/hooks/qemu.d/50-apvfio"
POLICY = "/etc/apvfio/apvfio.toml"
LOCK = "/run/lock/s390apconfig.lock"
SHARED = [
    *(
        "/",
        "/bin",
        "/etc",
        "/etc/libvirt",
        "/etc/libvirt/hooks",
        "/lib",
        "/root",
        "/run",
        "/run/lock",
        "/sbin",
    ),
    *("/tmp", "/usr", "/usr/bin", "/usr/lib", "/var", "/var/lib", "/var/tmp"),
]
Found = dict[str, Any]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as made:
        yield made


class Ward:
    """A lab, the doctor in it, and a shell for what it prescribes."""

    def __init__(self, env: LabEnv, directory: Path) -> None:
        self.env = env
        self.bin = directory / "bin"
        self.bin.mkdir()
        (self.bin / "apvfio").write_text(f'#!/bin/sh\nexec {sys.executable} -m apvfio "$@"\n')
        (self.bin / "apvfio").chmod(0o755)
        self.editor = "false"
        self.usual = {c["message"] for c in self.faults()}

    def shell(self, script: str) -> str:
        """Run a script as the administrator would."""
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "EDITOR": self.editor, "LC_ALL": "C.UTF-8"}
        done = self.env.lab.run(["sh", "-c", script], 60.0, env=environment)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def examined(self, *words: str) -> tuple[int, list[Found]]:
        done = self.env.apvfio("doctor", "--json", *words)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)["checks"]

    def faults(self, *words: str) -> list[Found]:
        """Problems, then warnings."""
        checks = self.examined(*words)[1]
        return [c for state in ("problem", "warning") for c in checks if c["state"] == state]

    def first(self, *words: str) -> tuple[int, Found]:
        """The exit code and the first fault that is not one of the lab itself."""
        code, _ = self.examined(*words)
        return code, next(c for c in self.faults(*words) if c["message"] not in self.usual)

    def repair(self, check: Found) -> None:
        """Paste all commands at once; no directory that others use is another one afterwards."""
        assert check["commands"]
        shared = f"stat -c '%n %a %u %g' {' '.join(SHARED)}"
        before = self.shell(shared)
        self.shell("set -e\n" + "\n".join(check["commands"]))
        assert self.shell(shared) == before

    def refuses(self, guest: str) -> str:
        """That libvirt does not start the guest; what it says."""
        done = self.env.virsh("start", guest, check=False)
        assert done.returncode != 0
        return done.stderr

    def starts(self, guest: str) -> None:
        """That it starts, with queues, and stops."""
        self.env.virsh("start", guest)
        assert guest in self.env.apvfio("status").stdout
        self.env.virsh("destroy", guest)


@pytest.fixture
def ward(lab: Lab, tmp_path: Path) -> Iterator[Ward]:
    env = LabEnv(lab)
    ward = Ward(env, tmp_path)
    yield ward
    env.clean()
    assert {c["message"] for c in ward.faults()} == ward.usual


def test_nothing_stops_a_guest_of_the_lab(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0,10", "1-2"), mdev(1))
    code, checks = ward.examined("db1")
    assert (code, [c for c in checks if c["state"] == "problem"]) == (0, [])
    assert checks[-1]["message"].startswith("a start gives it 4 queues")
    states = {c["id"]: c["state"] for c in checks}
    assert [states[name] for name in ("hook", "hook-seen", "python", "connection", "libvirt")] == ["ok"] * 5
    ward.env.virsh("start", "db1")
    code, checks = ward.examined("db1")
    assert (code, checks[-1]["message"]) == (0, "it runs and has 4 queues: adapters 0,10, domains 1-2")
    ward.env.define("db2", a_matrix("0", "1"), mdev(2))
    code, fault = ward.first("db2")
    assert (code, fault["id"]) == (Exit.CONFLICT, "held")
    # No guest is stopped for another.
    assert fault["commands"] == ["apvfio queues"]
    assert "held by guest db1" in ward.refuses("db2")
    ward.env.virsh("destroy", "db1")
    ward.starts("db2")


def hook_not_executable(ward: Ward) -> None:
    ward.shell(f"chmod a-x {HOOK}")


def foreign_hook_without_interpreter(ward: Ward) -> None:
    ward.shell(
        "printf '#!/usr/bin/no-such-shell\\n' >/etc/libvirt/hooks/qemu && chmod +x /etc/libvirt/hooks/qemu"
    )


def foreign_hook_that_is_no_script(ward: Ward) -> None:
    ward.shell(f"echo exit 0 >{HOOK}.orig && chmod +x {HOOK}.orig")


def hook_of_dos(ward: Ward) -> None:
    ward.shell(
        "printf '#!/bin/sh\\r\\nexit 0\\r\\n' >/etc/libvirt/hooks/qemu && chmod +x /etc/libvirt/hooks/qemu"
    )


def hook_by_link(ward: Ward) -> None:
    """What the link leads to is somebody's, and stays as it is."""
    ward.shell("printf '#!/usr/bin/no-such-shell\\n' >/etc/libvirt/shared && chmod 755 /etc/libvirt/shared")
    ward.shell(f"ln -s /etc/libvirt/shared {HOOK}.link")


def open_directory(ward: Ward) -> None:
    ward.shell("chmod 0777 /run/apvfio")


def ledger_damaged(ward: Ward) -> None:
    ward.shell("echo '{' >/run/apvfio/ledger.json && chmod 600 /run/apvfio/ledger.json")


def policy_misspelt(ward: Ward) -> None:
    ward.shell(f"mkdir -p /etc/apvfio; echo 'over-provisoning = true' >{POLICY}")
    ward.editor = "sed -i s/provisoning/provisioning/"


def lock_is_a_link(ward: Ward) -> None:
    ward.shell(f"ln -s /nowhere {LOCK}")


def device_of_another(ward: Ward) -> None:
    ward.shell("echo -1 >/sys/bus/ap/apmask")
    ward.shell(f"echo {mdev(9)} >/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create")
    for name, number in (("adapter", 1), ("domain", 4)):
        ward.shell(f"echo {number} >/sys/devices/vfio_ap/matrix/{mdev(9)}/assign_{name}")
    ward.env.define("own", a_matrix("1", "4"), mdev(3))


FAULTS: list[tuple[Callable[[Ward], None], str, int, str]] = [
    (hook_not_executable, "hook", Exit.HOST, "mediated device"),
    (foreign_hook_without_interpreter, "other-hooks", Exit.HOST, "Hook script execution failed"),
    (foreign_hook_that_is_no_script, "other-hooks", Exit.HOST, "Hook script execution failed"),
    (hook_of_dos, "other-hooks", Exit.HOST, "Hook script execution failed"),
    (hook_by_link, "other-hooks", Exit.HOST, "Hook script execution failed"),
    (open_directory, "run-directory", Exit.HOST, "others may have put files"),
    (ledger_damaged, "ledger", Exit.HOST, "is damaged"),
    (policy_misspelt, "policy", Exit.REQUEST, "unknown key"),
    (lock_is_a_link, "s390-lock", Exit.HOST, "symbolic link"),
]


@pytest.mark.parametrize(
    ("break_it", "name", "code", "says"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_stops_every_guest(
    ward: Ward, break_it: Callable[[Ward], None], name: str, code: int, says: str
) -> None:
    ward.env.define("db1", a_matrix("0,10", "1-2"), mdev(1))
    break_it(ward)
    found, fault = ward.first("db1")
    assert (found, fault["id"], fault["state"]) == (code, name, "problem"), fault
    # It is the reason indeed: libvirt meets it, too.
    if says:
        assert says in ward.refuses("db1")
    ward.repair(ward.first("db1")[1])
    assert ward.examined("db1")[0] == 0
    ward.starts("db1")
    if name == "other-hooks" and "link" in fault["message"]:
        assert ward.shell("stat -c %a /etc/libvirt/shared") == "755\n"
    left = f"{HOOK}.orig {HOOK}.link /etc/libvirt/*.not-ours /etc/libvirt/shared {LOCK}.not-a-lock"
    ward.shell(f"rm -f /etc/libvirt/hooks/qemu {left} {POLICY} /run/apvfio/ledger.json.damaged")
    if name == "hook":
        # The hook is newer than the daemon now, and what shows that it was there before may go.
        ward.env.stop_daemon()
        ward.env.start_daemon()


def test_an_annotation_is_edited(ward: Ward) -> None:
    ward.env.define_xml(
        "db1", guest_xml("db1", a_matrix("0", "1"), mdev(1)).replace('domains="1"', 'domains="1x"')
    )
    code, fault = ward.first("db1")
    assert (code, fault["id"]) == (Exit.REQUEST, "annotation")
    number = re.search(r"\(line (\d+) of", fault["message"])
    assert number
    lines = ward.env.virsh("dumpxml", "--inactive", "db1").stdout.splitlines()
    assert "1x" in lines[int(number[1]) - 1]
    assert "1x" in ward.refuses("db1")
    ward.editor = "sed -i s/1x/1/"
    ward.repair(fault)
    ward.starts("db1")


@pytest.mark.parametrize(
    ("requested", "device", "code", "name", "says"),
    [
        (a_matrix("0", "1"), "", Exit.REQUEST, "device", "has no mediated device"),
        (None, mdev(1), Exit.REQUEST, "annotation", "not found"),
        (a_matrix("0,7", "1"), mdev(1), Exit.HOST, "absent", "no adapter 7"),
    ],
)
def test_what_one_guest_lacks(
    ward: Ward, requested: Matrix | None, device: str, code: int, name: str, says: str
) -> None:
    ward.env.define("db1", requested, device)
    found, fault = ward.first("db1")
    assert (found, fault["id"]) == (code, name)
    assert says in ward.refuses("db1")
    if not fault["commands"]:
        return  # nobody knows which queues are meant
    ward.repair(fault)
    ward.starts("db1")


def test_a_second_copy_of_the_hook(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    copy = "/etc/libvirt/hooks/qemu.d/60-apvfio"
    ward.shell(f"cp -p {HOOK} {copy}")
    code, fault = ward.first("db1")
    assert (code, fault["id"], fault["state"]) == (0, "other-hooks", "warning")
    assert "served twice" in fault["message"]
    ward.starts("db1")
    ward.repair(fault)
    ward.starts("db1")
    ward.shell(f"rm {copy}")


def test_a_hook_that_others_may_write(ward: Ward) -> None:
    ward.shell("printf '#!/bin/sh\\n' >/etc/libvirt/hooks/qemu && chmod 0777 /etc/libvirt/hooks/qemu")
    code, fault = ward.first()
    assert (code, fault["id"], fault["state"]) == (0, "exposed", "warning")
    assert "users other than root can write /etc/libvirt/hooks/qemu" in fault["message"]
    ward.repair(fault)
    assert ward.shell("stat -c '%a %U' /etc/libvirt/hooks/qemu") == "755 root\n"
    ward.shell("rm /etc/libvirt/hooks/qemu")


def test_a_lock_of_a_process_that_has_ended(ward: Ward) -> None:
    """Its number is that of another process by now."""
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.shell(f"sleep 600 >/dev/null 2>&1 & echo $! >{LOCK}; echo $! >/run/sleeper")
    ward.shell(f"touch -d '1 minute ago' {LOCK}")
    code, checks = ward.examined("db1")
    (lock,) = (check for check in checks if check["id"] == "s390-lock")
    assert (code, lock["state"]) == (0, "ok")
    ward.starts("db1")
    ward.shell("kill $(cat /run/sleeper); rm /run/sleeper")


def test_a_guest_that_runs_without_its_queues(ward: Ward) -> None:
    ward.env.define("db1", None, "")
    ward.env.virsh("start", "db1")
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    code, fault = ward.first("db1")
    assert (code, fault["id"], fault["state"]) == (0, "start", "warning")
    ward.env.virsh("destroy", "db1")
    ward.starts("db1")


def test_a_clone_gets_a_device_of_its_own(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.env.define("clone", a_matrix("1", "1"), mdev(1))
    ward.env.virsh("start", "db1")
    before = ward.env.virsh("dumpxml", "--inactive", "db1").stdout
    code, fault = ward.first("clone")
    assert (code, fault["id"]) == (Exit.CONFLICT, "held")
    assert fault["commands"] == ["apvfio guest set --new-device clone"]
    ward.refuses("clone")
    ward.repair(fault)
    ward.starts("clone")
    assert ward.env.virsh("dumpxml", "--inactive", "db1").stdout == before
    ward.env.virsh("destroy", "db1")


def test_somebody_elses_device(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("1", "4"), mdev(1))
    device_of_another(ward)
    code, fault = ward.first("db1")
    assert (code, fault["id"]) == (Exit.CONFLICT, "held")
    assert mdev(9) in ward.refuses("db1")
    ward.repair(fault)
    ward.starts("db1")
    masks = next(c for c in ward.faults() if c["id"] == "masks")
    ward.repair(masks)
    assert "masks" not in [c["id"] for c in ward.faults()]
    ward.env.virsh("undefine", "own")


def test_guests_whose_qemu_is_gone(ward: Ward) -> None:
    """The ledger has a guest that no process is; it came by it long ago."""
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.env.virsh("start", "db1")
    ward.shell("cp -p /run/apvfio/ledger.json /run/ledger.kept")
    ward.env.virsh("destroy", "db1")
    ward.shell('sed -E \'s/"since": [0-9]+/"since": 1/\' /run/ledger.kept >/run/apvfio/ledger.json')
    fault = next(c for c in ward.faults() if c["id"] == "drift")
    assert fault["commands"] == ["apvfio reconcile"]
    ward.repair(fault)
    ward.shell("rm /run/ledger.kept")


def test_a_lock_that_a_tool_holds_is_left_alone(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.shell(f"mkdir -p /etc/apvfio; printf '[time]\\nlock-wait = 1\\n' >{POLICY}")
    ward.shell("cp /bin/sleep /run/chzdev")
    ward.shell(f"/run/chzdev 600 >/dev/null 2>&1 & echo $! >{LOCK}")
    time.sleep(1.5)
    code, fault = ward.first("db1")
    assert (code, fault["id"]) == (Exit.CONFLICT, "s390-lock")
    assert fault["commands"] == [f"ps -fp {ward.shell(f'cat {LOCK}').strip()}"]
    assert "was held by pid" in ward.refuses("db1")
    ward.shell(f"kill $(cat {LOCK}); rm {LOCK} /run/chzdev {POLICY}")


def test_our_own_lock_is_held(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.shell("touch /run/apvfio/lock; chmod 600 /run/apvfio/lock")
    ward.shell("flock /run/apvfio/lock sleep 600 >/dev/null 2>&1 & echo $! >/run/holder; sleep 0.5")
    ward.shell("cat /run/holder >/run/apvfio/lock")
    code, fault = ward.first("db1")
    assert (code, fault["id"]) == (Exit.CONFLICT, "lock")
    assert "sleep 600" in fault["message"]
    (command,) = fault["commands"]
    assert "flock" in ward.shell(command)
    ward.shell("kill $(cat /run/holder) $(pgrep -P $(cat /run/holder)); rm /run/holder")
    assert ward.examined("db1")[0] == 0


def test_the_daemon_is_down(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.env.stop_daemon()
    try:
        code, fault = ward.first("db1")
        assert (code, fault["id"]) == (Exit.HOST, "connection")
        assert "does not answer" in fault["message"]
    finally:
        ward.env.start_daemon()
    assert ward.examined("db1")[0] == 0


def test_the_session_daemon_is_the_wrong_one(ward: Ward) -> None:
    checks = ward.examined("--connect", "qemu:///session")[1]
    assert "session daemon" in next(c for c in checks if c["id"] == "connection")["message"]


def test_an_ordinary_user_hears_what_he_could_not_see(ward: Ward) -> None:
    ward.env.define("db1", a_matrix("0", "1"), mdev(1))
    ward.shell("chmod 0700 /etc/apvfio")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        done = ward.env.run(as_nobody(Path(directory), "doctor", "--json", "db1"))
    assert done.stderr == ""
    states = {(c["id"], c["state"]) for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0
    assert ("ledger", "skipped") in states
    assert ("start", "skipped") in states
    assert "check-failed" not in {name for name, _ in states}


def test_a_tree_and_its_commands(ward: Ward, lab: Lab, tmp_path: Path) -> None:
    """From outside the lab its host is a tree; the commands are for that."""
    root = lab.host().root
    file = tmp_path / "db1.xml"
    file.write_text(guest_xml("db1", a_matrix("0", "1"), mdev(1)))
    ward.shell("echo 0 >/sys/bus/ap/devices/card00/config")
    done = ward.env.lab.run([sys.executable, "-m", "apvfio", "doctor"])
    assert "card00/config" in done.stdout
    from apvfio.doctor.facts import DomainFacts
    from apvfio.doctor.remedies import Words
    from apvfio.doctor.run_checks import examine

    found = examine(
        lab.host(), lambda: [DomainFacts("db1", file.read_bytes())], Words(root=root), guest="db1"
    )
    (card,) = (check for check in found.checks if check.id == "cards-asked")
    assert card.commands == (f"echo 1 > {root}/sys/bus/ap/devices/card00/config",)
    assert os.system(card.commands[0]) == 0
    time.sleep(0.1)
    again = examine(
        lab.host(), lambda: [DomainFacts("db1", file.read_bytes())], Words(root=root), guest="db1"
    )
    assert again.code == 0
    assert [c.id for c in again.checks if c.state == "warning"] == []
