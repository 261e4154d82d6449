# SPDX-License-Identifier: Apache-2.0
"""A host that boots: guests start with it, nothing is left of the boot before, nothing holds libvirt up."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.events.event import KINDS, STARTED
from apvfio.model.ledger import HELD
from boot_container import until
from boot_host import lay_out, switched_on
from hosts import a_matrix, mdev
from lab.guest import guest_xml

if TYPE_CHECKING:
    from apvfio.model.matrix import Matrix
    from boot_container import Computer

POLICY = "/etc/apvfio/apvfio.toml"
AUDIT_LOG = "/var/lib/apvfio/audit.jsonl"
GUESTS: dict[str, tuple[int, Matrix]] = {
    "db1": (1, a_matrix("0,10", "1,2,4")),
    "stored": (2, a_matrix("1", "27")),
    "kept": (3, a_matrix("2", "1-2")),
}
"""Their devices' numbers and their queues. The stored masks free domain 27; "kept" has a definition for an
annotation."""


@pytest.fixture(scope="module")
def host(computer: Computer) -> Computer:
    """A host on which apvfio is installed and the guests are defined, in its second boot."""
    lay_out(computer)
    switched_on(computer)
    before = installation(computer)
    assert "systemctl reload libvirtd" in computer.apvfio("install")
    assert "nothing to do" in computer.apvfio("install")
    computer.apvfio("uninstall")
    assert installation(computer) == before
    computer.apvfio("install")
    for name, (number, matrix) in GUESTS.items():
        computer.virsh("define", "/dev/stdin", stdin=guest_xml(name, matrix, mdev(number)))
        computer.virsh("autostart", name)
    computer.virsh("define", "/dev/stdin", stdin=guest_xml("plain"))
    computer.virsh("autostart", "plain")
    computer.apvfio("define", "kept")
    computer.apvfio("guest", "clear", "kept")
    computer.apvfio("masks", "-p", "aqmask=-27")
    computer.power_off()
    switched_on(computer)
    return computer


def installation(host: Computer) -> set[str]:
    """All files that an installation could have made or changed, and what systemd starts."""
    places = (
        "/etc/libvirt/hooks",
        "/etc/mdevctl.d",
        "/etc/systemd/system",
        "/etc/udev",
        "/usr/local",
        "/usr/lib/mdevctl",
        "/var/lib/apvfio",
        "/run/apvfio",
    )
    return set(host.run("find", *places).stdout.splitlines())


def status(host: Computer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.apvfio("status", "--json"))
    # Guests start in any order and at any time.
    leases = [{**lease, "since": None} for lease in found["leases"]]
    return {**found, "leases": sorted(leases, key=lambda lease: str(lease["guest"]))}


def running(host: Computer) -> set[str]:
    return set(host.virsh("list", "--name").split())


def qemus(host: Computer) -> list[str]:
    return sorted(host.run("pgrep", "-f", "guest=").stdout.split())


def assert_all_guests_have_their_queues(host: Computer) -> None:
    until(lambda: running(host) == {*GUESTS, "plain"})
    now = status(host)
    assert now["drift"] == []
    held = {lease["guest"]: (lease["mdev"], lease["state"]) for lease in now["leases"]}
    assert held == {name: (mdev(number), HELD) for name, (number, _) in GUESTS.items()}
    owners = {queue["queue"]: queue["owner"] for queue in now["queues"]}
    for name, (_, matrix) in GUESTS.items():
        assert {owners[str(queue)] for queue in matrix.queues()} == {f"guest {name}"}
    # What the stored masks free is no pending return.
    assert now["aqmask"] == "0-26,28-255"
    assert now["pending"]["aqmask"] == ""
    assert now["pending"]["apmask"] == "0,2,10"


def prepared(host: Computer) -> str:
    """Which run of the unit was the last."""
    assert host.unit("apvfio-prepare.service", "Result") == "success"
    return host.unit("apvfio-prepare.service", "InvocationID")


def assert_prepared_before_the_daemon(host: Computer) -> None:
    ended = host.unit("apvfio-prepare.service", "InactiveEnterTimestampMonotonic")
    begun = host.unit("libvirtd.service", "ExecMainStartTimestampMonotonic")
    assert 0 < int(ended) <= int(begun)


class TestBoot:
    """One after the other, on one host."""

    def test_guests_start_with_the_host(self, host: Computer) -> None:
        assert_all_guests_have_their_queues(host)
        assert_prepared_before_the_daemon(host)
        assert host.did("systemctl", "--failed", "--quiet") == ""
        assert os.stat(host.path("/")).st_dev  # the machine's files are there, its /run is its own
        assert host.did("stat", "--format=%a", "/run/apvfio", "/run/apvfio/deferred") == "700\n700\n"

    def test_a_power_failure_leaves_nothing_behind(self, host: Computer) -> None:
        before = status(host)
        host.lose_power()
        switched_on(host)
        assert_all_guests_have_their_queues(host)
        assert_prepared_before_the_daemon(host)
        assert status(host) == before

    def test_the_journal_tells_who_has_what(self, host: Computer) -> None:
        ours = ("journalctl", "--boot", "--no-pager", "SYSLOG_IDENTIFIER=apvfio", f"APVFIO_EVENT={STARTED}")
        entries = [json.loads(line) for line in host.did(*ours, "--output=json").splitlines()]
        assert sorted(entry["APVFIO_GUEST"] for entry in entries) == sorted(GUESTS)
        for entry in entries:
            number, matrix = GUESTS[entry["APVFIO_GUEST"]]
            assert (entry["MESSAGE_ID"], entry["APVFIO_MDEV"]) == (KINDS[STARTED].message_id, mdev(number))
            queues = entry["APVFIO_QUEUE"]
            assert sorted(map(str, matrix.queues())) == ([queues] if isinstance(queues, str) else queues)
        assert " Subject: A guest has AP queues\n" in host.did(*ours, "--catalog")

    def test_the_audit_log_tells_who_had_a_queue_in_which_boot(self, host: Computer) -> None:
        lines = host.apvfio("log", "--queue", "01.001b").splitlines()[1:]
        assert [line.split()[-1] for line in lines] == ["stored"] * len(lines)
        assert ["still" in line for line in lines] == [False] * (len(lines) - 1) + [True]
        # The power failure ended a span; that was found out by the boot after it.
        assert "<= " in lines[-2]

    def test_the_timer_measures(self, host: Computer) -> None:
        assert host.unit("apvfio-metrics.timer", "UnitFileState") == "disabled"
        host.did("mkdir", "--parents", "/var/lib/prometheus/node-exporter")
        host.did("systemctl", "enable", "--now", "apvfio-metrics.timer")
        assert host.unit("apvfio-metrics.timer", "ActiveState") == "active"
        host.did("systemctl", "start", "apvfio-metrics.service")
        written = "/var/lib/prometheus/node-exporter/apvfio.prom"
        assert host.did("stat", "--format=%a %U", written) == "644 root\n"
        lines = host.did("cat", written).splitlines()
        assert "apvfio_up 1" in lines
        held = sum(sum(1 for _ in matrix.queues()) for _, matrix in GUESTS.values())
        assert f'apvfio_queues{{owner="guest"}} {held}' in lines

    @pytest.mark.parametrize(
        "how", [("restart", "libvirtd"), ("kill", "--signal=KILL", "--kill-whom=main", "libvirtd")]
    )
    def test_a_new_daemon_reconciles_and_harms_no_guest(self, host: Computer, how: tuple[str, ...]) -> None:
        before, pids, last = status(host), qemus(host), prepared(host)
        assert len(pids) >= len(GUESTS) + 1
        host.did("systemctl", *how)
        until(lambda: host.unit("apvfio-prepare.service", "InvocationID") != last)
        until(lambda: host.unit("libvirtd.service", "ActiveState") == "active")
        assert prepared(host) != last
        assert running(host) == {*GUESTS, "plain"}
        assert (qemus(host), status(host)) == (pids, before)

    def test_what_a_release_has_no_time_for_the_unit_does(self, host: Computer) -> None:
        """The hook removes the device and leaves the masks, which takes the kernel a while to return."""
        last = host.unit("apvfio-reconcile.service", "InvocationID")
        host.virsh("destroy", "db1")
        until(lambda: host.unit("apvfio-reconcile.service", "InvocationID") != last)
        until(lambda: host.unit("apvfio-reconcile.service", "ActiveState") == "inactive")
        log = host.log("apvfio-reconcile.service")
        assert "remove  echo" not in log
        assert "return  echo +0,+10 > /sys/bus/ap/apmask" in log
        now = status(host)
        assert (now["pending"]["apmask"], now["drift"]) == ("2", [])
        assert "db1" not in [lease["guest"] for lease in now["leases"]]
        assert host.did("ls", "/run/apvfio/deferred") == ""

    def test_a_guest_may_start_again_before_the_unit_is_done(self, host: Computer) -> None:
        host.virsh("start", "db1")
        for _ in range(3):
            host.virsh("destroy", "db1")
            host.virsh("start", "db1")
        until(lambda: host.did("ls", "/run/apvfio/deferred") == "")
        until(lambda: host.unit("apvfio-reconcile.service", "ActiveState") == "inactive")
        assert_all_guests_have_their_queues(host)
        assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"

    def test_nobody_watches_so_the_hook_does_it(self, host: Computer) -> None:
        host.did("systemctl", "stop", "apvfio-reconcile.path")
        host.did("rmdir", "/run/apvfio/deferred")
        host.virsh("destroy", "stored")
        host.virsh("destroy", "kept")
        now = status(host)
        assert [lease["guest"] for lease in now["leases"]] == ["db1"]
        assert now["pending"]["apmask"] == "0,10"
        host.did("systemctl", "start", "apvfio-reconcile.path")
        host.virsh("start", "stored")
        host.virsh("start", "kept")

    def test_a_guest_that_died_with_the_daemon_is_no_loss(self, host: Computer) -> None:
        """The daemon comes back, finds it gone, and tells the hook."""
        host.did("systemctl", "stop", "libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket")
        host.did("pkill", "--signal", "KILL", "--full", "guest=db1")
        host.did("systemctl", "start", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd.service")
        until(lambda: "db1" not in [lease["guest"] for lease in status(host)["leases"]])
        until(lambda: status(host)["pending"]["apmask"] == "2")
        # A daemon starts guests by itself only once a boot.
        host.virsh("start", "db1")
        assert_all_guests_have_their_queues(host)

    def test_a_damaged_ledger_does_not_keep_libvirt_from_starting(self, host: Computer) -> None:
        host.did("cp", "/run/apvfio/ledger.json", "/run/apvfio/kept.json")
        host.did("tee", "/run/apvfio/ledger.json", stdin="{")
        host.did("systemctl", "restart", "libvirtd")
        assert host.unit("apvfio-prepare.service", "Result") == "exit-code"
        assert "apvfio: /run/apvfio/ledger.json is damaged" in host.log("apvfio-prepare.service")
        assert running(host) == {*GUESTS, "plain"}
        host.did("mv", "/run/apvfio/kept.json", "/run/apvfio/ledger.json")
        host.did("systemctl", "restart", "libvirtd")
        assert_all_guests_have_their_queues(host)

    def test_apvfio_leaves_a_host_when_nobody_needs_it(self, host: Computer) -> None:
        # What the guests' reconnect left to the unit is served.
        until(lambda: not any("/deferred/" in path for path in installation(host)))
        there, now = installation(host), status(host)
        command = os.path.join(os.path.dirname(sys.executable), "apvfio")
        answer = host.run(command, "uninstall")
        assert (answer.returncode, status(host)) == (3, now)
        assert (
            "guests db1, kept, stored hold queues, which nothing returns after apvfio is removed"
            in answer.stderr
        )
        assert installation(host) == there
        assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
        # What is handed over now nobody takes up, until the last reconcile does.
        host.did("systemctl", "stop", "apvfio-reconcile.path")
        for name in GUESTS:
            host.virsh("destroy", name)
        assert status(host)["pending"]["apmask"] == "0,2,10"
        assert f"The audit log stays in {AUDIT_LOG}" in host.apvfio("uninstall")
        gone = there - installation(host)
        assert "/etc/libvirt/hooks/qemu.d" in gone
        assert "/run/apvfio" in gone
        assert host.unit("apvfio-reconcile.path", "LoadState") == "not-found"
        left = {path for path in installation(host) if "apvfio" in path}
        assert left == {os.path.dirname(AUDIT_LOG), AUDIT_LOG}
        now = status(host)
        assert (now["apmask"], now["aqmask"]) == ("0-255", "0-26,28-255")
        assert (now["leases"], now["drift"]) == ([], [])
        answer = host.run("virsh", "start", "db1")
        assert (answer.returncode, "mediated device" in answer.stderr) == (1, True)
        host.apvfio("install")
        for name in GUESTS:
            host.virsh("start", name)
        assert_all_guests_have_their_queues(host)

    def test_a_host_without_the_hardware_boots_as_ever(self, host: Computer) -> None:
        host.power_off()
        switched_on(host, hardware="/dev/null")
        until(lambda: "plain" in running(host))
        assert running(host) == {"plain"}
        assert prepared(host)
        assert "this host has no AP bus: nothing to do\n" in host.log("apvfio-prepare.service")
        assert host.did("systemctl", "is-system-running") == "running\n"
        answer = host.run("virsh", "start", "db1")
        assert (answer.returncode, "this host has no AP bus" in answer.stderr) == (1, True)
