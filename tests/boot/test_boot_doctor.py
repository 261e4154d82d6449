# SPDX-License-Identifier: Apache-2.0
"""The doctor on a host that boots: from a fresh one to one without problems, by its own commands alone."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.errors import Exit
from boot_container import CHECKOUT, until
from boot_host import lay_out, switched_on
from hosts import a_matrix, mdev
from lab.guest import guest_xml

if TYPE_CHECKING:
    from boot_container import Computer

APVFIO = os.path.join(os.path.dirname(sys.executable), "apvfio")
HOOK = "/etc/libvirt/hooks/qemu.d/50-apvfio"
PAGE = len(os.listdir(os.path.join(CHECKOUT, "cockpit")))
"""Files of the page for Cockpit."""
RULE = "/usr/local/lib/udev/rules.d/90-apvfio.rules"
LEDGER = "/run/apvfio/ledger.json"
COCKPIT = "/usr/share/cockpit"
Found = dict[str, Any]


@pytest.fixture(scope="module")
def host(computer: Computer) -> Computer:
    """A host on which libvirt runs, without cockpit, and apvfio is not installed."""
    lay_out(computer)
    computer.symlink(APVFIO, "/usr/bin/apvfio")
    switched_on(computer)
    computer.did("mv", COCKPIT, f"{COCKPIT}.kept")
    computer.virsh("define", "/dev/stdin", stdin=guest_xml("db1", a_matrix("0", "1-2"), mdev(1)))
    return computer


def examined(host: Computer, *words: str) -> tuple[int, list[Found]]:
    """The exit code, and the faults: problems, then warnings."""
    done = host.run(APVFIO, "doctor", "--json", *words)
    assert done.stderr == ""
    checks = json.loads(done.stdout)["checks"]
    faults = [c for state in ("problem", "warning") for c in checks if c["state"] == state]
    return done.returncode, [fault for fault in faults if fault["id"] not in ("exposed", "kvm")]


def repair(host: Computer, fault: Found) -> None:
    assert fault["commands"]
    for command in fault["commands"]:
        host.did("sh", "-c", command)


def first(host: Computer, name: str, code: int = 0) -> Found:
    found, faults = examined(host)
    assert (found, faults[0]["id"]) == (code, name), faults
    return faults[0]


class TestDoctor:
    """One after the other, on one host."""

    def test_it_leads_to_an_installation_that_works(self, host: Computer) -> None:
        fault = first(host, "hook", Exit.HOST)
        assert fault["commands"] == ["apvfio install"]
        assert host.run("virsh", "start", "db1").returncode != 0
        # Of what comes within a second of the daemon's start nobody can tell whether it saw that.
        time.sleep(1.5)
        repair(host, fault)
        # The daemon has been running since before there was a hook.
        host.did("virsh", "list")
        fault = first(host, "hook-seen", Exit.HOST)
        assert fault["commands"] == ["systemctl reload libvirtd"]
        assert "mediated device" in host.run("virsh", "start", "db1").stderr
        repair(host, fault)
        assert examined(host) == (0, [])
        assert examined(host, "db1") == (0, [])
        # systemd forgets when it last ran ExecReload, and not that the service was reloaded.
        host.did("systemctl", "daemon-reload")
        assert examined(host) == (0, [])
        host.did("systemctl", "daemon-reexec")
        assert examined(host) == (0, [])
        host.did("virsh", "start", "db1")
        assert examined(host, "db1") == (0, [])
        host.did("virsh", "destroy", "db1")

    def test_a_restarted_daemon_knows_the_hook(self, host: Computer) -> None:
        host.did("systemctl", "restart", "libvirtd")
        assert examined(host) == (0, [])

    def test_a_unit_that_is_switched_off(self, host: Computer) -> None:
        host.did("systemctl", "disable", "--now", "apvfio-reconcile.path")
        repair(host, first(host, "units"))
        assert examined(host) == (0, [])

    def test_a_unit_that_has_failed(self, host: Computer) -> None:
        host.did("sh", "-c", f"cp -p {LEDGER} {LEDGER}.kept; echo '{{' >{LEDGER}")
        host.run("systemctl", "start", "apvfio-reconcile.service")
        assert first(host, "ledger", Exit.HOST)
        host.did("mv", f"{LEDGER}.kept", LEDGER)
        fault = first(host, "units")
        assert "apvfio-reconcile.service has failed" in fault["message"]
        repair(host, fault)
        assert examined(host) == (0, [])

    def test_cockpit_that_came_later(self, host: Computer) -> None:
        host.did("mv", f"{COCKPIT}.kept", COCKPIT)
        fault = first(host, "files")
        assert f"/cockpit/apvfio/manifest.json and {PAGE - 1} more: not installed." in fault["message"]
        repair(host, fault)
        assert examined(host) == (0, [])

    def test_a_file_that_is_gone(self, host: Computer) -> None:
        host.did("rm", RULE)
        fault = first(host, "files")
        assert fault["message"] == f"{RULE}: not installed."
        repair(host, fault)
        assert examined(host) == (0, [])

    def test_a_hook_of_another_version(self, host: Computer) -> None:
        host.did("sed", "-i", "s/^# Operation/# An operation/; s/^# change/# of old/", HOOK)
        host.did("sh", "-c", f"echo '# more' >>{HOOK}")
        repair(host, first(host, "hook"))
        assert examined(host) == (0, [])

    def test_a_hook_that_is_a_link(self, host: Computer) -> None:
        host.did("mv", HOOK, "/etc/libvirt/kept")
        host.did("ln", "-s", "/etc/libvirt/kept", HOOK)
        repair(host, first(host, "hook"))
        host.did("rm", "/etc/libvirt/kept")
        assert examined(host) == (0, [])

    def test_somebody_elses_file_in_its_place(self, host: Computer) -> None:
        host.did("sh", "-c", f"printf '#!/bin/sh\\nexit 0\\n' >{HOOK}")
        repair(host, first(host, "hook", Exit.CONFLICT))
        assert examined(host) == (0, [])

    def test_work_that_nobody_takes_up(self, host: Computer) -> None:
        host.did("systemctl", "stop", "apvfio-reconcile.path")
        host.did("sh", "-c", "mkdir -p /run/apvfio/deferred; touch /run/apvfio/deferred/1.db1")
        _, faults = examined(host)
        assert [fault["id"] for fault in faults] == ["units", "deferred-returns"]
        repair(host, faults[0])
        until(lambda: host.did("ls", "/run/apvfio/deferred") == "")
        assert examined(host) == (0, [])

    def test_a_daemon_that_is_down(self, host: Computer) -> None:
        host.did("systemctl", "stop", "libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket")
        fault = first(host, "connection", Exit.HOST)
        repair(host, fault)
        assert examined(host) == (0, [])
