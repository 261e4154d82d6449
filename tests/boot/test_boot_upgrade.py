# SPDX-License-Identifier: Apache-2.0
"""Upgrade and downgrade of the Debian package while guests start, run and stop: nothing is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.ledger import HELD
from boot_container import until
from boot_host import lay_out, switched_on
from built_packages import NEXT_LEDGER, next_version
from hosts import a_matrix, mdev
from lab.guest import guest_xml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boot_container import Computer

MODULES = "/usr/lib/python3/dist-packages/apvfio"
LOCK = "/run/apvfio/lock"
OLD, NEW = "/old.deb", "/new.deb"
ASIDE = "/usr/lib/python3/dist-packages/aside"


@pytest.fixture(scope="module")
def host(computer: Computer, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """A host with two guests, and two versions of the package that can be installed."""
    lay_out(computer)
    computer.write(OLD, package.read_bytes())
    computer.write(NEW, next_version(package, tmp_path_factory.mktemp("next")).read_bytes())
    switched_on(computer)
    # With it the image of a container forbids its packages to start anything.
    computer.did("rm", "--force", "/usr/sbin/policy-rc.d")
    computer.virsh("define", "/dev/stdin", stdin=guest_xml("db1", a_matrix("0,10", "1,2,4"), mdev(1)))
    computer.virsh("define", "/dev/stdin", stdin=guest_xml("db2", a_matrix("1", "27"), mdev(2)))
    return computer


@pytest.fixture
def old(host: Computer) -> Iterator[Computer]:
    """The host with the older version, and no guest that runs, before and after."""
    # As docs/install.md has a downgrade.
    host.did("dpkg", "--remove", "apvfio")
    host.did("dpkg", "--install", OLD)
    assert status(host)["leases"] == []
    yield host
    for name in running(host):
        host.virsh("destroy", name)
    until(lambda: all_returned(host))
    host.run("dpkg", "--configure", "apvfio")


def status(host: Computer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.did("apvfio", "status", "--json"))
    return found


def running(host: Computer) -> list[str]:
    return host.virsh("list", "--name").split()


def all_returned(host: Computer) -> bool:
    """Whether the host has all its queues, and nothing is left to do."""
    now = status(host)
    return (
        now["leases"] == []
        and now["drift"] == []
        and now["apmask"] == "0-255"
        and not any(now["pending"].values())
        and records(host) == []
    )


def records(host: Computer) -> list[str]:
    return host.did("find", "/run/apvfio", "/var/lib/apvfio", "-name", "stopped.*").split()


def held(host: Computer) -> set[str]:
    now = status(host)
    assert now["drift"] == []
    assert {lease["state"] for lease in now["leases"]} <= {HELD}
    return {lease["guest"] for lease in now["leases"]}


def one_sentence(said: str, sentence: str) -> bool:
    """Whether libvirt passes on one line of apvfio's, which begins so."""
    lines = [line for line in said.splitlines() if line.strip()]
    return len(lines) <= 2 and "Traceback" not in said and f": apvfio: {sentence}" in said


class Held:
    """A virsh command whose hook waits for apvfio's lock."""

    def __init__(self, host: Computer, command: str, hook: str) -> None:
        self._host = host
        host.did("systemd-run", "--quiet", "--unit=holder", "flock", LOCK, "sleep", "600")
        until(lambda: self._waiting("sleep 600"))
        words = f"virsh -q {command} >/run/said 2>&1; echo $? >/run/code"
        host.did("rm", "--force", "/run/code")
        host.did("systemd-run", "--quiet", "--unit=caller", "sh", "-c", words)
        until(lambda: self._waiting(hook))

    def _waiting(self, command: str) -> bool:
        look = 'for pid in $(pgrep -f "$1"); do ls -l /proc/$pid/fd; done 2>/dev/null | grep -q "$2"'
        return self._host.run("sh", "-c", look, "sh", command, LOCK).returncode == 0

    def let_go(self) -> tuple[int, str]:
        """Free the lock; the command's exit code and what it has said."""
        self._host.did("systemctl", "stop", "holder")
        until(lambda: self._host.run("test", "-s", "/run/code").returncode == 0)
        return int(self._host.did("cat", "/run/code")), self._host.did("cat", "/run/said")


def test_an_upgrade_in_the_middle_of_a_start(old: Computer) -> None:
    """Its process has loaded modules of the one version, and finds those of the other."""
    start = Held(old, "start db1", "db1 prepare begin")
    old.did("dpkg", "--unpack", NEW)
    code, said = start.let_go()
    assert (code, running(old)) in ((0, ["db1"]), (1, []))
    assert code == 0 or one_sentence(said, "apvfio's modules do not fit together: "), said
    old.did("dpkg", "--configure", "apvfio")
    if code:
        until(lambda: all_returned(old))
        old.virsh("start", "db1")
    assert held(old) == {"db1"}


def test_an_upgrade_in_the_middle_of_a_stop(old: Computer) -> None:
    old.virsh("start", "db1")
    stop = Held(old, "destroy db1", "db1 release end")
    old.did("dpkg", "--unpack", NEW)
    assert stop.let_go()[0] == 0
    old.did("dpkg", "--configure", "apvfio")
    until(lambda: all_returned(old))


def test_guests_start_run_and_stop_between_unpacking_and_configuration(old: Computer) -> None:
    """The hook is the old one, which is a configuration file, and its modules are new."""
    old.virsh("start", "db1")
    old.did("dpkg", "--unpack", NEW)
    hooks = old.did("ls", "/etc/libvirt/hooks/qemu.d").split()
    assert hooks == ["50-apvfio", "50-apvfio.dpkg-new"]
    old.did("systemctl", "restart", "libvirtd")
    until(lambda: running(old) == ["db1"])
    old.virsh("start", "db2")
    assert held(old) == {"db1", "db2"}
    old.virsh("destroy", "db1")
    until(lambda: held(old) == {"db2"})
    old.did("dpkg", "--configure", "apvfio")
    assert held(old) == {"db2"}


def test_while_files_are_missing_nothing_is_lost(old: Computer) -> None:
    old.virsh("start", "db1")
    old.did("dpkg", "--unpack", NEW)
    for missing in ("libvirt/hook.py", "libvirt", "engine", ""):
        path = f"{MODULES}/{missing}".rstrip("/")
        old.did("mv", path, ASIDE)
        answer = old.run("virsh", "start", "db2")
        assert answer.returncode == 1
        assert one_sentence(answer.stderr, "apvfio's modules do not fit together: "), answer.stderr
        old.did("systemctl", "restart", "libvirtd")
        until(lambda: running(old) == ["db1"])
        if not missing:
            old.virsh("destroy", "db1")
            assert len(records(old)) == 1
        old.did("mv", ASIDE, path)
    old.did("dpkg", "--configure", "apvfio")
    until(lambda: all_returned(old))


def test_a_downgrade_loses_nothing_and_says_what_to_do(old: Computer) -> None:
    old.did("dpkg", "--install", NEW)
    old.virsh("start", "db1")
    old.did("dpkg", "--install", OLD)
    sentence = f"/run/apvfio/ledger.json was written by a newer apvfio (version {NEXT_LEDGER}). "
    answer = old.run("virsh", "start", "db2")
    assert answer.returncode == 1
    assert one_sentence(answer.stderr, f"guest db2: {sentence}"), answer.stderr
    for command in (("status",), ("release", "db1"), ("reconcile",), ("uninstall", "--package")):
        answer = old.run("apvfio", *command)
        assert answer.returncode == 1
        assert answer.stderr.startswith(f"apvfio: {sentence}"), answer.stderr
        assert answer.stderr.count("\n") == 1
    assert old.run("dpkg", "--remove", "apvfio").returncode != 0
    # The daemon tells the hook that the guest runs.
    old.did("systemctl", "restart", "libvirtd")
    until(lambda: running(old) == ["db1"])
    old.virsh("destroy", "db1")
    assert len(records(old)) == 1
    old.did("dpkg", "--install", NEW)
    until(lambda: all_returned(old))
    old.virsh("start", "db2")
    assert held(old) == {"db2"}
