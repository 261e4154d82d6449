# SPDX-License-Identifier: Apache-2.0
"""What machines that cannot be had here are told: the judges, on facts made up for them."""

from __future__ import annotations

import os
from math import inf
from typing import Any

import pytest

from apvfio.doctor.check import PROBLEM, WARNING, Check, of_error, skipped
from apvfio.doctor.checks.guest import judge_guest
from apvfio.doctor.checks.host import judge_host
from apvfio.doctor.checks.kernel import judge_kernel
from apvfio.doctor.checks.libvirt import judge_libvirt
from apvfio.doctor.checks.machine import judge_tools, judge_units
from apvfio.doctor.checks.store import judge_store
from apvfio.doctor.collect import machine as look
from apvfio.doctor.facts import (
    BLACKLISTED,
    NO_MODULE,
    SEEN,
    UNSEEN,
    UNSURE,
    DaemonFacts,
    DomainFacts,
    Facts,
    GuestFacts,
    GuestShutdown,
    HookFacts,
    KernelFacts,
    MachineFacts,
    OtherHook,
    Partition,
    S390Lock,
    StoreFacts,
    UnitFacts,
    Unseen,
    XmlFacts,
)
from apvfio.doctor.remedies import Words
from apvfio.doctor.run_checks import Examination
from apvfio.doctor.text import lines
from apvfio.install import checks as installation
from apvfio.install.checks import Finding
from apvfio.install.file_changes import CHANGED, NEW, SAME, Found
from apvfio.install.installed_files import HOOK, PACKAGED
from apvfio.model.errors import ApvfioError, HostError
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Apqn
from apvfio.model.persistent_masks import StoredMasks
from apvfio.model.policy import Policy
from hosts import NO_LEASES, a_host, a_matrix, a_request

NOWHERE = Partition(NO_IDS, NO_IDS, NO_IDS)
KERNEL = KernelFacts("s390x", a_host(), NOWHERE, (), {}, True, True, False, "", "", True, True, frozenset())
KEEPING = StoreFacts(None, Policy(), NO_LEASES, StoredMasks(), "", None, ())
Q = Apqn(0, 1)
UNITS = tuple(UnitFacts(name, True, True, False, True) for name in ("one.service", "two.path"))
MACHINE = MachineFacts((), (), HookFacts("same"), (), None, SEEN, False, UNITS, 0, "")
WELL = Facts(KERNEL, KEEPING, MACHINE, (), {}, session=False, rights=True, mdevctl=True)
JUDGES = (judge_kernel, judge_store, judge_libvirt, judge_tools, judge_units, judge_host)


def faults(facts: Facts) -> list[Check]:
    checks = [check for judge in JUDGES for check in judge(facts, Words())]
    return [check for check in checks if check.state in (PROBLEM, WARNING)]


def on(**changes: Any) -> Facts:
    return WELL._replace(machine=MACHINE._replace(**changes))


def with_kernel(**changes: Any) -> Facts:
    return WELL._replace(kernel=KERNEL._replace(**changes))


def with_keeping(**changes: Any) -> Facts:
    return WELL._replace(store=KEEPING._replace(**changes))


def test_nothing_is_wrong() -> None:
    assert faults(WELL) == []


NO_BUS = Unseen(HostError("this host has no AP bus.", remedy="Load it with 'modprobe ap'."))
NONSENSE = Unseen(HostError("/sys/bus/ap/apmask makes no sense.", remedy="Look what this tree is."))
NO_VFIO_AP = a_host(vfio_ap=False)
SILENT = Unseen(HostError("libvirt does not answer.", remedy="Check that its daemon runs."))
VIRTQEMUD = DaemonFacts("virtqemud", 7, 0.0)
OTHER = OtherHook("/etc/libvirt/hooks/qemu", "it is empty")
FAILED = UNITS[0]._replace(failed=True)
SUSPENDS = GuestShutdown("suspend", "/etc/default/libvirt-guests")
PLAIN = GuestFacts(DomainFacts("db1", b""), XmlFacts(), None)
REQUESTING = PLAIN._replace(request=a_request("0", "1"))
CASES = [
    (with_kernel(host=NO_BUS, bus=False), "ap-bus", PROBLEM, "modprobe ap"),
    (with_kernel(host=NONSENSE), "ap-bus", PROBLEM, ""),
    (with_kernel(host=NO_BUS, machine="x86_64"), "ap-bus", PROBLEM, ""),
    (with_kernel(vfio_node=False), "vfio", PROBLEM, "modprobe vfio"),
    (with_kernel(host=NO_VFIO_AP), "vfio-ap", PROBLEM, "modprobe vfio_ap"),
    (with_kernel(guest_matrix=False), "guest-matrix", PROBLEM, ""),
    (with_kernel(host=NO_VFIO_AP, module=NO_MODULE), "vfio-ap", PROBLEM, ""),
    (
        with_kernel(host=NO_VFIO_AP, module=BLACKLISTED, blocked_by="/etc/modprobe.d/a.conf: install"),
        "vfio-ap",
        PROBLEM,
        "modprobe --ignore-install vfio_ap",
    ),
    (with_keeping(lock_holder="process 7 (apvfio reconcile)"), "lock", PROBLEM, "ps -fp 7"),
    (with_keeping(lock_holder="an unknown process"), "lock", PROBLEM, ""),
    (with_keeping(s390_lock=S390Lock(7, "vi", 90)), "s390-lock", PROBLEM, "ps -fp 7"),
    (with_keeping(s390_lock=S390Lock(7, "chzdev -t ap", 90)), "s390-lock", PROBLEM, "ps -fp 7"),
    (with_keeping(s390_lock=S390Lock(0, "", 9)), "s390-lock", PROBLEM, "sleep 111"),
    (on()._replace(guests=SILENT), "connection", PROBLEM, "systemctl start libvirtd"),
    (on(daemon=VIRTQEMUD)._replace(guests=SILENT), "connection", PROBLEM, "systemctl restart virtqemud"),
    (on(hook=HookFacts("missing")), "hook", PROBLEM, "apvfio install"),
    (on(hook=HookFacts("changed")), "hook", WARNING, "apvfio install"),
    (on(hook=HookFacts("changed", packaged=True)), "hook", WARNING, ""),
    (on(hook=HookFacts("left over")), "hook", WARNING, ""),
    (
        on(hook=HookFacts("same", label="etc_t"), enforcing=True),
        "hook-label",
        WARNING,
        f"restorecon -v /{HOOK}",
    ),
    (on(other_hooks=(OTHER,)), "other-hooks", PROBLEM, "chmod a-x /etc/libvirt/hooks/qemu"),
    (on(found=(Found("usr/lib/x", NEW),)), "files", WARNING, "apvfio install"),
    (on(found=(Found("usr/lib/x", NEW),), hook=HookFacts("same", packaged=True)), "files", WARNING, ""),
    (on(found=Unseen(ApvfioError("no."))), "files", WARNING, ""),
    (on(units=(UNITS[0]._replace(loaded=False),)), "units", WARNING, "apvfio install"),
    (on(units=(UNITS[0]._replace(enabled=False),)), "units", WARNING, "systemctl enable --now one.service"),
    (on(units=(FAILED,)), "units", WARNING, "journalctl -b -u one.service --no-pager"),
    (
        on(guest_shutdown=SUSPENDS)._replace(guests=(REQUESTING,)),
        "libvirt-guests",
        WARNING,
        "echo ON_SHUTDOWN=shutdown >> /etc/default/libvirt-guests",
    ),
    (on(deferred_for=900.0), "deferred-returns", WARNING, "systemctl start apvfio-reconcile.service"),
]  # fmt: skip


def test_a_guest_that_libvirt_did_not_tell_of_is_not_judged() -> None:
    """It may run, and have its queues."""
    found = Examination(
        (of_error("connection", SILENT.error), skipped("guest", "libvirt does not answer")),
    )
    assert list(lines(found, "db1"))[-1] == "1 problem, and guest db1 was not checked."
    assert list(lines(found))[-1] == "1 problem."


@pytest.mark.parametrize(("facts", "name", "state", "command"), CASES)
def test_one_fault_is_one_finding(facts: Facts, name: str, state: str, command: str) -> None:
    (fault,) = faults(facts)
    assert (fault.id, fault.state, fault.commands[:1]) == (name, state, (command,) if command else ())
    assert fault.remedy


def test_what_is_well_is_not_told_of() -> None:
    for facts in (
        with_keeping(s390_lock=S390Lock(7, "chzdev", 1)),
        with_keeping(s390_lock=S390Lock(7, "", 500)),
        with_keeping(s390_lock=S390Lock(0, "", 500)),
        with_keeping(s390_lock=S390Lock(0, "", 110)),
        on(hook=HookFacts("same", label="virt_hook_t"), enforcing=True),
        on(guest_shutdown=SUSPENDS)._replace(guests=(PLAIN,)),
        on(guest_shutdown=SUSPENDS._replace(action="shutdown"))._replace(guests=(REQUESTING,)),
        on(hook=HookFacts("same", label="etc_t")),
        on(units=None),
        on(found=(Found("usr/lib/x", SAME),)),
        on(ap_check="/usr/lib/mdevctl/scripts.d/callouts/ap-check"),
    ):
        assert faults(facts) == []


def test_masks_of_the_boot_are_meant() -> None:
    narrow = a_host(apmask=IdSet(range(10)))
    (fault,) = faults(with_kernel(host=narrow))
    assert (fault.id, fault.commands) == ("masks", ("apvfio masks --active apmask=+10",))
    assert faults(with_kernel(host=narrow, boot_masks=True)) == []


def test_ap_check_on_a_host_of_overrides() -> None:
    overrides = {Apqn(1, 2): "vfio_ap"}
    host = a_host(overrides=overrides, mdevs={"x": a_matrix("1", "2")})
    facts = on(ap_check="/x/ap-check")._replace(
        kernel=KERNEL._replace(host=host, overrides=overrides, attached=frozenset("x"))
    )
    (fault,) = faults(facts)
    # While a guest has queues that command would be refused.
    assert (fault.id, fault.commands) == ("ap-check", ())
    fault = faults(facts._replace(kernel=facts.kernel._replace(host=a_host(overrides=overrides))))[-1]
    assert (fault.id, fault.commands) == ("ap-check", ("apvfio mechanism masks",))


@pytest.mark.parametrize(
    "name", ["libvirt", "python", "selinux", "apparmor", "exposed", "mdevctl", "callouts"]
)
@pytest.mark.parametrize("hinders", [True, False])
def test_what_install_finds_is_told_here_too(name: str, hinders: bool) -> None:
    finding = Finding(hinders, "this is so.", "Change it.", name, ("change it",))
    (fault,) = faults(on(findings=(finding,)))
    assert fault[:5] == (name, PROBLEM if hinders else WARNING, "this is so.", "Change it.", ("change it",))


def test_a_second_copy_of_the_hook_stops_no_start() -> None:
    finding = Finding(
        True, "it runs twice.", "Keep libvirt from running it.", "other-hooks", ("chmod a-x /x",)
    )
    (fault,) = faults(on(findings=(finding,)))
    assert (fault.id, fault.state) == ("other-hooks", WARNING)


def test_a_hook_that_may_not_have_been_executable_is_only_a_warning() -> None:
    daemon = DaemonFacts("libvirtd", 7, 0.0)
    for seen, state in ((UNSEEN, PROBLEM), (UNSURE, WARNING)):
        (fault,) = faults(on(daemon=daemon, hook_seen=seen))
        assert (fault.id, fault.state, fault.commands) == ("hook-seen", state, ("systemctl reload libvirtd",))


def test_what_changes_the_hooks_times_reloads_the_daemon() -> None:
    """Or the doctor would take the hook for one that the daemon has not seen."""
    daemon = DaemonFacts("libvirtd", 7, 0.0)
    for hook, enforcing in ((HookFacts("not executable"), False), (HookFacts("same", label="etc_t"), True)):
        (fault,) = faults(on(daemon=daemon, hook=hook, enforcing=enforcing))
        assert fault.commands[1:] == ("systemctl reload libvirtd",)


def test_a_foreign_hook_is_not_made_executable(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, state in (("#!/bin/sh\n", "foreign"), ("#!/bin/sh\n# apvfio.libvirt.hook\n", "not executable")):
        (tmp_path / "hook").write_text(text)
        monkeypatch.setattr(look, "HOOK", f"{tmp_path}/hook".lstrip("/"))
        assert look.look_at_hook(text, ()).state == state


def test_a_hook_of_a_package_that_is_not_installed_is_left_over(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"#!/bin/sh\n# {PACKAGED}\n# apvfio.libvirt.hook\n"
    (tmp_path / "hook").write_text(text)
    (tmp_path / "hook").chmod(0o755)
    monkeypatch.setattr(look, "HOOK", f"{tmp_path}/hook".lstrip("/"))
    assert look.look_at_hook(text, ()).state == "left over"
    assert look.look_at_hook(text, (), of_package=True).state == "changed"


REINSTALL = "apt-get install --reinstall apvfio"
ASIDE = f"mv -T --backup=numbered /{HOOK} /etc/libvirt/50-apvfio.not-ours"


@pytest.mark.parametrize(
    ("state", "before"),
    [
        ("missing", ()),
        ("foreign", (ASIDE,)),
        ("irregular", (ASIDE,)),
        ("link", (ASIDE,)),
        ("changed", (ASIDE,)),
    ],
)
def test_beside_the_package_nothing_is_installed(state: str, before: tuple[str, ...]) -> None:
    """'apvfio install' would be refused."""
    hook = HookFacts(state, packaged=True)
    daemon = DaemonFacts("libvirtd", 7, 0.0)
    fault = next(one for one in faults(on(hook=hook, reinstall=REINSTALL, daemon=daemon)) if one.id == "hook")
    assert fault.commands == (*before, REINSTALL, "systemctl reload libvirtd")
    assert fault.remedy.endswith(("Reinstall the package.", "Put the file itself there."))


def test_a_changed_file_of_the_package_below_etc_is_moved_away() -> None:
    """dpkg would keep it."""
    notifier, unit = "etc/mdevctl.d/scripts.d/notifiers/50-apvfio", "usr/lib/systemd/system/x.service"
    found = tuple(Found(path, CHANGED) for path in (notifier, unit))
    hook = HookFacts("same", packaged=True)
    (fault,) = faults(on(found=found, hook=hook, reinstall=REINSTALL))
    assert fault.commands == (
        f"mv -T --backup=numbered /{notifier} /etc/mdevctl.d/scripts.d/50-apvfio.not-ours",
        REINSTALL,
    )


def test_what_an_installation_would_solve_the_package_does() -> None:
    finding = Finding(True, "it cannot run.", "Install it.", "python", ("apvfio install",))
    hook = HookFacts("same", packaged=True)
    (fault,) = faults(on(findings=(finding,), hook=hook, reinstall=REINSTALL))
    assert fault.commands == (REINSTALL,)


@pytest.mark.parametrize(
    ("hook", "directory", "had", "seen"),
    [
        (50.0, 50.0, {}, SEEN),
        (150.0, 150.0, {}, UNSEEN),
        (150.0, 50.0, {}, UNSURE),
        (150.0, 150.0, {Q: "g"}, SEEN),
    ],
)
def test_what_tells_whether_the_daemon_saw_a_hook(
    hook: float, directory: float, had: dict[Apqn, str], seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {f"/{HOOK}": hook, os.path.dirname(f"/{HOOK}"): directory}
    monkeypatch.setattr(look, "changed_at", lambda path: times.get(path, inf))
    assert (
        look.has_seen_hook(DaemonFacts("libvirtd", 7, 100.0), (), NO_LEASES._replace(last_holder=had)) == seen
    )


def test_kvm_is_for_its_own_guests_only() -> None:
    without = with_kernel(kvm=False)
    for kind, found in (("kvm", ["kvm"]), ("qemu", [])):
        guest = GuestFacts(DomainFacts("g", b""), XmlFacts(annotated=True, kind=kind), a_request("0", "1"))
        checks = judge_guest(guest, without, Words())
        assert [check.id for check in checks if check.state == PROBLEM] == found


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"#!/bin/sh\n", ""),
        (b"#! /bin/sh -e\n", ""),
        (b"#!/usr/bin/env sh\n", ""),
        (b"\x7fELF...", ""),
        (b"", "it is empty"),
        (b"echo\n", "no #! line"),
        (b"#!\n", "names no interpreter"),
        (b"#!/bin/sh\r\n", "carriage return"),
        (b"#!/no/such\n", "/no/such does not exist"),
        (b"#!/usr/bin/env no-such\n", "no-such does not exist"),
    ],
)
def test_scripts_that_cannot_be_started(
    head: bytes, says: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qemu").write_bytes(head)
    (tmp_path / "qemu").chmod(0o755)
    monkeypatch.setattr(installation, "HOOKS", str(tmp_path))
    fault = next(hook.fault for hook in look.look_at_other_hooks() if hook.path == f"{tmp_path}/qemu")
    assert says in fault if says else fault == ""
