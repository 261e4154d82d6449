# SPDX-License-Identifier: Apache-2.0
"""What an installation finds wrong with a machine, on machines made up for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from apvfio.cli.main import main
from apvfio.install import checks, manifest, reload_commands
from apvfio.install.installed_files import CALLOUTS, HOOK, NOTIFIER, PATH_UNIT, PREPARE_UNIT, Choices
from apvfio.mdev import programs
from apvfio.model.errors import Exit
from apvfio.store.system import RealSystem

PYTHON = "/usr/bin/python3"
SHIPPED_HOOK = Path(__file__).parents[3].joinpath("hooks/qemu").read_text()
PACKAGE = "/usr/lib/python3/dist-packages/apvfio"


class Programs:
    """The programs of a machine, and what they answer."""

    def __init__(self) -> None:
        self.answers = {
            "virtqemud": (0, "virtqemud (libvirt) 11.3.0"),
            PYTHON: (0, f"{PACKAGE}/__init__.py"),
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
    monkeypatch.setattr(programs, "ask", made.run)
    fs.create_dir("/sys/bus/ap")
    fs.create_dir("/sys/devices/vfio_ap")
    fs.create_file(f"{PACKAGE}/__init__.py", st_mode=0o100644)
    fs.create_file(PYTHON, st_mode=0o100755)
    for directory in (*Path(PACKAGE).parents, Path(PACKAGE), *Path(PYTHON).parents):
        os.chmod(directory, 0o755)
        os.chown(directory, 0, 0)
    os.chown(PYTHON, 0, 0)
    os.chown(f"{PACKAGE}/__init__.py", 0, 0)
    return made


def found(choices: Choices | None = None) -> list[tuple[bool, str]]:
    return [(f.hinders, f.sentence) for f in checks.check(choices or Choices())]


def test_nothing_is_wrong(machine: Programs) -> None:
    for place in CALLOUTS:
        assert found(Choices(callouts=place)) == []


@pytest.mark.parametrize(
    ("program", "answer", "hinders", "says"),
    [
        ("virtqemud", None, True, "libvirt's daemon for QEMU is not installed"),
        ("virtqemud", (0, "virtqemud (libvirt) 6.4.9"), True, "libvirt 6.4.9 does not run scripts in qemu.d"),
        (PYTHON, (1, "Traceback\nModuleNotFoundError: No module named 'apvfio'"), True, "No module named"),
        (PYTHON, (127, ""), True, "cannot run apvfio: exit code 127"),
        ("virtqemud", (0, "what"), False, "virtqemud does not report its version"),
        ("mdevctl", None, False, "mdevctl is not installed"),
        (
            "mdevctl",
            (1, "Error: no /etc/mdevctl.d"),
            False,
            "mdevctl does not run: Error: no /etc/mdevctl.d.",
        ),
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


def test_of_two_daemons_the_active_one_counts(machine: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.answers["libvirtd"] = (0, "libvirtd (libvirt) 6.4.0")
    machine.answers["systemctl"] = (3, "")
    assert (checks.daemon(), checks.daemon_to_reload()) == ("virtqemud", None)
    active = ("systemctl", "is-active", "-q", "libvirtd.service")
    run = machine.run
    monkeypatch.setattr(programs, "ask", lambda words: (0, "") if tuple(words[:4]) == active else run(words))
    assert (checks.daemon(), checks.daemon_to_reload()) == ("libvirtd", "libvirtd")
    ((hinders, sentence),) = found()
    assert (hinders, "libvirt 6.4.0" in sentence) == (True, True)


@pytest.mark.parametrize("version", ["6.5.0", "10.0"])
def test_versions_that_are_fine(machine: Programs, version: str) -> None:
    machine.answers["virtqemud"] = (0, version)
    assert found() == []


def test_a_prefix_where_nobody_looks(machine: Programs) -> None:
    assert found(Choices(prefix="/usr")) == []
    assert found(Choices(prefix="/opt")) == [(True, "systemd and udev read nothing below /opt.")]


@pytest.mark.parametrize("path", [PACKAGE, PYTHON, "/usr/lib"])
def test_what_others_may_write_root_should_not_run(machine: Programs, path: str) -> None:
    mode = os.stat(path).st_mode
    os.chmod(path, mode | 0o020)
    ((hinders, sentence),) = found()
    assert (hinders, sentence.startswith(f"{path}, which root runs, is owned or writable")) == (False, True)
    os.chmod(path, mode)
    os.chown(path, 1000, 0)
    assert len(found()) == 1


def test_apparmor(machine: Programs, fs: FakeFilesystem) -> None:
    fs.create_file("/sys/module/apparmor/parameters/enabled", contents="Y\n")
    fs.create_file("/usr/bin/python3.11", st_mode=0o100755)
    fs.create_symlink("/usr/lib/apvfio/bin/python3", "/usr/bin/python3.11")
    fs.create_file("/opt/python/bin/python3", st_mode=0o100755)
    for directory in ("/opt", "/opt/python", "/opt/python/bin"):
        os.chmod(directory, 0o755)
    for path in ("/usr/lib/apvfio/bin/python3", "/opt/python/bin/python3"):
        machine.answers[path] = (0, "")
    assert found(Choices(python="/usr/lib/apvfio/bin/python3")) == []
    ((hinders, sentence),) = found(Choices(python="/opt/python/bin/python3"))
    assert (hinders, sentence) == (
        True,
        "AppArmor prevents libvirt's daemon from running /opt/python/bin/python3.",
    )
    profiles = fs.create_file("/sys/kernel/security/apparmor/profiles", contents="man_filter (enforce)\n")
    assert found(Choices(python="/opt/python/bin/python3")) == []
    for line, harm in (
        ("libvirtd (complain)", 0),
        ("virtqemud (enforce)", 1),
        ("/usr/sbin/libvirtd (enforce)", 1),
    ):
        profiles.set_contents(f"man_filter (enforce)\n{line}\n")
        assert len(found(Choices(python="/opt/python/bin/python3"))) == harm
    fs.remove("/sys/module/apparmor/parameters/enabled")
    assert found(Choices(python="/opt/python/bin/python3")) == []


def test_another_user_may_lack_the_rights(machine: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where apvfio is in /root: root runs the hook, and it works."""
    machine.answers[PYTHON] = (127, f"{PYTHON}: Permission denied")
    for uid, hinders in ((65534, False), (0, True)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        (finding,) = checks.check(Choices(python=PYTHON))
        assert (finding.id, finding.hinders) == ("python", hinders)
        assert "Permission denied" in finding.sentence


def test_selinux(machine: Programs, fs: FakeFilesystem) -> None:
    fs.create_file("/sys/fs/selinux/enforce", contents="1")
    ((hinders, sentence),) = found()
    assert (hinders, "SELinux is enforcing" in sentence) == (False, True)


def test_other_hooks(machine: Programs, fs: FakeFilesystem) -> None:
    directory = os.path.dirname(f"/{HOOK}")
    ours = "#!/bin/sh\nexec python3 -m apvfio.libvirt.hook\n"
    fs.create_file(f"/{HOOK}", contents=ours, st_mode=0o100755)
    fs.create_file(f"{directory}/10-other", contents="#!/bin/sh\n", st_mode=0o100755)
    fs.create_file(f"{directory}/README", contents="apvfio.libvirt.hook", st_mode=0o100644)
    assert found() == []
    fs.create_file(f"{directory}/10-other~", contents="#!/bin/sh\n", st_mode=0o100755)
    fs.create_file("/etc/libvirt/hooks/qemu", contents=ours, st_mode=0o100755)
    assert found() == [
        (True, "/etc/libvirt/hooks/qemu runs apvfio, too: each guest would be served twice."),
        (False, f"libvirt runs {directory}/10-other~ like any other script there."),
    ]
    fs.remove(f"{directory}/10-other~")
    fs.remove("/etc/libvirt/hooks/qemu")
    for name in ("50-apvfio.dpkg-old", "60-apvfio"):
        fs.create_file(f"{directory}/{name}", contents=SHIPPED_HOOK, st_mode=0o100755)
    assert found() == [
        (
            False,
            f"{directory}/50-apvfio.dpkg-old is a copy of apvfio's hook, which does nothing under this name.",
        ),
        (True, f"{directory}/60-apvfio runs apvfio, too: each guest would be served twice."),
    ]


def test_the_kernel(machine: Programs, fs: FakeFilesystem) -> None:
    fs.rmdir("/sys/devices/vfio_ap")
    assert found() == []
    fs.rmdir("/sys/bus/ap")
    assert found() == [(False, "this machine has no AP bus.")]
    machine.answers["modinfo"] = (1, "not found")
    assert found() == [(False, "this kernel has no module vfio_ap.")]
    del machine.answers["modinfo"]
    assert found() == [(False, "this machine has no AP bus.")]


def test_other_callouts(machine: Programs, fs: FakeFilesystem) -> None:
    for place in CALLOUTS:
        fs.create_file(f"/{place}/ap-check")
        fs.create_file(f"/{place}/00-apvfio")
    assert found(Choices(callouts=CALLOUTS[0])) == []
    ((hinders, sentence),) = found(Choices(callouts=CALLOUTS[1]))
    assert (hinders, f"may be /{CALLOUTS[1]}/ap-check" in sentence) == (False, True)
    fs.create_file(f"/{CALLOUTS[0]}/00-a")
    ((hinders, sentence),) = found(Choices(callouts=CALLOUTS[0]))
    assert (hinders, f"asks /{CALLOUTS[0]}/00-a before" in sentence) == (False, True)
    assert found() == []


@pytest.mark.parametrize(("version", "place"), [("1.2.0", 1), ("1.3.0", 0), ("1.4.0", 0), ("what", 0)])
def test_the_callout_goes_where_mdevctl_looks(machine: Programs, version: str, place: int) -> None:
    machine.answers["mdevctl"] = (0, f"mdevctl {version}")
    assert checks.place_for_callout() == CALLOUTS[place]


def test_a_machine_that_will_not_do_is_left_alone(
    machine: Programs, fs: FakeFilesystem, capsys: pytest.CaptureFixture[str]
) -> None:
    fs.add_real_directory(Path(__file__).parents[3] / "hooks")
    fs.add_real_directory(Path(__file__).parents[3] / "man")
    del machine.answers["virtqemud"]
    assert main(["install", "--python", PYTHON, "--prefix", "/opt"]) == Exit.HOST
    said = capsys.readouterr().err
    # All that hinders is told at once.
    assert "libvirt's daemon for QEMU is not installed. Install libvirt" in said
    assert "read nothing below /opt" in said
    machine.answers["virtqemud"] = (0, "virtqemud (libvirt) 11.3.0")
    del machine.answers["mdevctl"]
    assert main(["install", "--python", PYTHON, "--callout"]) == Exit.HOST
    assert "mdevctl, which --callout requires, is not installed." in capsys.readouterr().err
    assert not os.path.exists(f"/{HOOK}")
    assert not os.path.exists("/var/lib/apvfio")


def installed(machine: Programs, fs: FakeFilesystem, *options: str) -> int:
    """Install on the machine, from what is really shipped."""
    for place in ("hooks", "man"):
        real = Path(__file__).parents[3] / place
        if not fs.exists(real):
            fs.add_real_directory(real)
    machine.ran = []
    return main(["install", "--python", PYTHON, *options])


def told(machine: Programs) -> list[str]:
    """The commands that have changed something."""
    asking = {"virtqemud", "modinfo", "mdevctl", "lszdev", PYTHON}
    ran = [words for words in machine.ran if words[0] not in asking and not words[1].startswith("is-")]
    return [" ".join(words) for words in ran]


def test_commands_of_a_host_with_everything(machine: Programs, fs: FakeFilesystem) -> None:
    for name in ("systemctl", "udevadm", "restorecon", "systemd-tmpfiles", "journalctl"):
        machine.answers[name] = (0, "")
    fs.create_dir("/run/systemd/system")
    fs.create_file("/run/udev/control")
    fs.create_dir("/sys/fs/selinux")
    assert installed(machine, fs) == 0
    labels, *others = told(machine)
    assert labels.startswith(
        f"restorecon -R {os.path.dirname(f'/{HOOK}')} /{NOTIFIER} /usr/local/lib/systemd"
    )
    assert others == [
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/apvfio.conf",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "journalctl --update-catalog",
        "systemctl enable --now apvfio-reconcile.path apvfio-prepare.service",
    ]
    assert installed(machine, fs) == 0
    assert told(machine) == []
    # A unit that somebody has disabled is enabled again.
    machine.answers["systemctl"] = (1, "Failed")
    assert installed(machine, fs) == Exit.FAILURE
    machine.answers["systemctl"] = (0, "")
    machine.ran = []
    # pyfakefs has no flock; that the AP bus is missing shows that nothing was paid.
    fs.rmdir("/sys/bus/ap")
    paths = list(manifest.load(RealSystem().files).files)
    removal = [
        str(c) for c in (*reload_commands.before_removal(paths), *reload_commands.after_removal(paths))
    ]
    assert removal == [
        "systemctl disable --now apvfio-reconcile.path apvfio-prepare.service apvfio-metrics.timer",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "journalctl --update-catalog",
    ]
    fs.remove("/run/udev/control")
    assert [str(c) for c in reload_commands.after_removal(paths)] == [removal[1], removal[3]]


def test_each_unit_is_asked_for(machine: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemctl says yes for several if one is enabled."""
    machine.answers["systemctl"] = (0, "")
    on = {PATH_UNIT, PREPARE_UNIT}
    monkeypatch.setattr(programs, "ask", lambda words: (0 if on & set(words) else 1, ""))
    assert reload_commands.enabled()
    on.remove(PREPARE_UNIT)
    assert not reload_commands.enabled()


def test_a_command_that_fails_is_told_of(
    machine: Programs, fs: FakeFilesystem, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.answers["systemctl"] = (1, "so and so\nFailed to connect to bus.")
    assert installed(machine, fs) == Exit.FAILURE
    assert (
        "apvfio: 'systemctl enable apvfio-reconcile.path apvfio-prepare.service' failed: "
        "Failed to connect to bus. Run it again by hand.\n" in capsys.readouterr().err
    )
    assert os.path.exists(f"/{HOOK}")


def test_commands_of_a_host_with_nothing(machine: Programs, fs: FakeFilesystem) -> None:
    assert installed(machine, fs) == 0
    assert told(machine) == []
    paths = list(manifest.load(RealSystem().files).files)
    assert reload_commands.before_removal(paths) == reload_commands.after_removal(paths) == []
    assert reload_commands.enabled()


def test_without_mdevctl_there_is_nobody_to_notify(machine: Programs, fs: FakeFilesystem) -> None:
    del machine.answers["mdevctl"]
    assert installed(machine, fs) == 0
    assert os.path.exists(f"/{HOOK}")
    assert not os.path.exists(f"/{NOTIFIER}")


def test_libvirt_must_look_for_its_first_hook(
    machine: Programs, fs: FakeFilesystem, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.answers["systemctl"] = (0, "")
    assert installed(machine, fs) == 0
    assert "systemctl reload virtqemud. Running guests are not affected." in capsys.readouterr().out
    # It knows of hooks, and reads the directory again whenever it runs them.
    assert installed(machine, fs) == 0
    os.unlink(f"/{HOOK}")
    fs.create_file("/etc/libvirt/hooks/qemu", contents="#!/bin/sh\n", st_mode=0o100755)
    assert installed(machine, fs) == 0
    assert "reload virtqemud" not in capsys.readouterr().out


def test_real_programs() -> None:
    assert programs.ask(["sh", "-c", "echo so; exit 3"]) == (3, "so")
    assert programs.ask(["no-such-program"]) == (127, "no-such-program is not installed")
    assert programs.ask([sys.executable, "-c", "print('1.2')"]) == (0, "1.2")
    assert programs.version("sh", "-c", "echo tool 12.30.1-rc, since 2.0") == (12, 30, 1)
    assert programs.version("false") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that are root's")
def test_what_others_may_write(tmp_path: Path) -> None:
    """In a directory such as /tmp nobody can replace what is root's; and no command touches a directory."""
    shared, open_to_all = tmp_path / "shared", tmp_path / "open"
    for directory, mode in ((shared, 0o1777), (open_to_all, 0o777)):
        directory.mkdir()
        directory.chmod(mode)
        (directory / "file").write_text("")
    assert checks.exposed(str(shared / "file")) is None
    assert checks.exposed(str(open_to_all / "file")) == str(open_to_all)
    (found,) = checks.writable([str(open_to_all / "file")])
    assert (found.id, found.commands) == ("exposed", ())
    (shared / "file").chmod(0o666)
    assert checks.exposed(str(shared / "file")) == str(shared / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that are root's")
def test_a_hook_that_others_may_write_has_commands_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "HOOKS", str(tmp_path))
    hook, link = tmp_path / "qemu", tmp_path / "link"
    hook.write_text("")
    hook.chmod(0o777)
    link.symlink_to(hook)
    (found,) = checks.writable([str(hook)])
    assert found.commands == (f"chown root {hook}", f"chmod go-w {hook}")
    assert checks.not_run(str(hook), link=False) == f"chmod a-x {hook}"
    assert checks.not_run(str(link), link=True) == (
        f"mv -T --backup=numbered {link} /etc/libvirt/link.not-ours"
    )
