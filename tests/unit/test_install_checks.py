# SPDX-License-Identifier: Apache-2.0
"""What an installation finds wrong with a machine, on machines made up for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from apvfio.cli.main import main
from apvfio.errors import Exit
from apvfio.install import checks, commands, programs
from apvfio.install.contents import CALLOUTS, HOOK, Choices

PYTHON = "/usr/bin/python3"


class Programs:
    """The programs of a machine, and what they answer."""

    def __init__(self) -> None:
        self.answers = {
            "virtqemud": (0, "virtqemud (libvirt) 11.3.0"),
            PYTHON: (0, ""),
            "modinfo": (0, "/lib/modules/vfio_ap.ko"),
            "mdevctl": (0, "mdevctl 1.4.0"),
            "lszdev": (0, "lszdev: Configure z Systems specific devices version 2.40.0"),
        }
        self.ran: list[tuple[str, ...]] = []

    def find(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.answers else None

    def run(self, words: tuple[str, ...]) -> tuple[int, str]:
        self.ran.append(tuple(words))
        return self.answers.get(words[0], (127, "is not installed"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, fs: FakeFilesystem) -> Programs:
    """A machine where everything is as it should be; its files are those of ``fs``."""
    made = Programs()
    monkeypatch.setattr(programs, "find", made.find)
    monkeypatch.setattr(programs, "run", made.run)
    fs.create_dir("/sys/bus/ap")
    fs.create_dir("/sys/devices/vfio_ap")
    return made


def found(choices: Choices | None = None) -> list[tuple[bool, str]]:
    return [(f.hinders, f.sentence) for f in checks.check(choices or Choices())]


def test_nothing_is_wrong(machine: Programs) -> None:
    assert found(Choices(callout=True)) == []


@pytest.mark.parametrize(
    ("program", "answer", "hinders", "says"),
    [
        ("virtqemud", None, True, "libvirt's daemon for QEMU is not installed"),
        ("virtqemud", (0, "virtqemud (libvirt) 6.4.9"), True, "libvirt 6.4.9 does not run scripts in qemu.d"),
        (PYTHON, (1, "Traceback\nModuleNotFoundError: No module named 'apvfio'"), True, "No module named"),
        (PYTHON, (127, ""), True, "cannot run apvfio: exit code 127"),
        ("mdevctl", None, False, "mdevctl is not installed"),
        ("lszdev", (0, "version 2.32.0"), False, "s390-tools 2.32.0 sleeps for seconds"),
    ],
)
def test_programs(
    machine: Programs, program: str, answer: tuple[int, str] | None, hinders: bool, says: str
) -> None:
    if answer is None:
        del machine.answers[program]
    else:
        machine.answers[program] = answer
    ((hinders_found, sentence),) = found()
    assert (hinders_found, says in sentence) == (hinders, True)


def test_the_older_daemon_will_do(machine: Programs) -> None:
    machine.answers["libvirtd"] = machine.answers.pop("virtqemud")
    assert found() == []
    assert checks.daemon() == "libvirtd"


@pytest.mark.parametrize("version", ["6.5.0", "10.0", "what"])
def test_versions_that_are_fine_or_cannot_be_told(machine: Programs, version: str) -> None:
    machine.answers["virtqemud"] = (0, version)
    assert found() == []


def test_apparmor(machine: Programs, fs: FakeFilesystem) -> None:
    fs.create_file("/sys/module/apparmor/parameters/enabled", contents="Y\n")
    fs.create_file("/usr/bin/python3.11")
    fs.create_symlink("/usr/lib/apvfio/bin/python3", "/usr/bin/python3.11")
    fs.create_file("/opt/python/bin/python3")
    for path in ("/usr/lib/apvfio/bin/python3", "/opt/python/bin/python3"):
        machine.answers[path] = (0, "")
    assert found(Choices(python="/usr/lib/apvfio/bin/python3")) == []
    ((hinders, sentence),) = found(Choices(python="/opt/python/bin/python3"))
    assert (hinders, sentence) == (
        True,
        "AppArmor keeps libvirt's daemon from running /opt/python/bin/python3.",
    )
    fs.remove("/sys/module/apparmor/parameters/enabled")
    assert found(Choices(python="/opt/python/bin/python3")) == []


def test_selinux(machine: Programs, fs: FakeFilesystem) -> None:
    fs.create_file("/sys/fs/selinux/enforce", contents="1")
    ((hinders, sentence),) = found()
    assert (hinders, "SELinux is enforcing" in sentence) == (False, True)


def test_other_hooks(machine: Programs, fs: FakeFilesystem) -> None:
    directory = os.path.dirname(f"/{HOOK}")
    ours = "#!/bin/sh\nexec python3 -m apvfio.hook\n"
    fs.create_file(f"/{HOOK}", contents=ours, st_mode=0o100755)
    fs.create_file(f"{directory}/10-other", contents="#!/bin/sh\n", st_mode=0o100755)
    fs.create_file(f"{directory}/README", contents="apvfio.hook", st_mode=0o100644)
    assert found() == []
    fs.create_file(f"{directory}/10-other~", contents="#!/bin/sh\n", st_mode=0o100755)
    fs.create_file("/etc/libvirt/hooks/qemu", contents=ours, st_mode=0o100755)
    assert found() == [
        (True, "/etc/libvirt/hooks/qemu runs apvfio, too: each guest would be served twice."),
        (False, f"libvirt runs {directory}/10-other~ like any other script there."),
    ]


def test_the_kernel(machine: Programs, fs: FakeFilesystem) -> None:
    fs.rmdir("/sys/devices/vfio_ap")
    assert found() == []
    fs.rmdir("/sys/bus/ap")
    assert found() == [(False, "this machine has no AP bus.")]
    machine.answers["modinfo"] = (1, "not found")
    assert found() == [(False, "this kernel has no module vfio_ap.")]


def test_callouts_of_an_old_mdevctl(machine: Programs, fs: FakeFilesystem) -> None:
    fs.create_file(f"/{CALLOUTS[1]}/ap-check.sh")
    fs.create_file(f"/{CALLOUTS[1]}/00-apvfio")
    assert found(Choices(callout=True)) == []
    machine.answers["mdevctl"] = (0, "mdevctl 1.2.0")
    ((hinders, sentence),) = found(Choices(callout=True))
    assert not hinders
    assert f"may be /{CALLOUTS[1]}/ap-check.sh" in sentence
    assert found() == []


def test_a_machine_that_will_not_do_is_left_alone(
    machine: Programs, fs: FakeFilesystem, capsys: pytest.CaptureFixture[str]
) -> None:
    fs.add_real_directory(Path(__file__).parents[2] / "hooks")
    fs.add_real_directory(Path(__file__).parents[2] / "man")
    del machine.answers["virtqemud"]
    assert main(["install", "--python", PYTHON]) == Exit.HOST
    assert "libvirt's daemon for QEMU is not installed. Install libvirt" in capsys.readouterr().err
    assert not os.path.exists(f"/{HOOK}")


def test_commands_of_a_host_with_everything(machine: Programs, fs: FakeFilesystem) -> None:
    for name in ("systemctl", "udevadm", "restorecon", "systemd-tmpfiles"):
        machine.answers[name] = (0, "")
    fs.create_dir("/run/systemd/system")
    fs.create_dir("/sys/fs/selinux")
    assert [str(command) for command in commands.after_install(Choices())] == [
        "restorecon -R /etc/libvirt/hooks/qemu.d",
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/apvfio.conf",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "systemctl enable --now apvfio-reconcile.path",
        "systemctl enable apvfio-prepare.service",
    ]
    assert [str(command) for command in (*commands.before_uninstall(), *commands.after_uninstall())] == [
        "systemctl disable --now apvfio-reconcile.path apvfio-prepare.service",
        "systemctl daemon-reload",
        "udevadm control --reload",
    ]


def test_commands_of_a_host_with_nothing(machine: Programs) -> None:
    assert commands.after_install(Choices()) == commands.before_uninstall() == []
    assert commands.after_uninstall() == []
    assert commands.enabled()


def test_real_programs() -> None:
    assert programs.run(["sh", "-c", "echo so; exit 3"]) == (3, "so")
    assert programs.run(["no-such-program"]) == (127, "no-such-program is not installed")
    assert programs.run([sys.executable, "-c", "print('1.2')"]) == (0, "1.2")
    assert programs.version("sh", "-c", "echo tool 12.30.1-rc, since 2.0") == (12, 30, 1)
    assert programs.version("false") is None
