# SPDX-License-Identifier: Apache-2.0
"""Other tools (mdevctl, s390-tools), and apvfio's systemd units."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from apvfio.doctor.check import ok, skipped, warning
from apvfio.doctor.checks.kernel import changeable
from apvfio.doctor.checks.libvirt import STANDS_FOR_ANOTHER, of_findings, put_back
from apvfio.doctor.facts import SUSPEND, Unseen
from apvfio.install.checks import aside
from apvfio.install.file_changes import CHANGED, FOREIGN, NEW
from apvfio.install.installed_files import HOOK
from apvfio.model.errors import printable
from apvfio.model.host import OVERRIDES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, MachineFacts, UnitFacts
    from apvfio.doctor.remedies import Words

_UNHEARD = 600
_SHOWN = 4


def judge_tools(facts: Facts, words: Words) -> Iterator[Check]:
    """What other tools make of this host."""
    machine = facts.machine
    if machine is None:
        yield skipped("mdevctl", STANDS_FOR_ANOTHER)
        return
    well = {
        "mdevctl": "mdevctl is installed",
        "s390-tools": "no conflict with s390-tools",
    }
    yield from of_findings(machine, ("mdevctl", "s390-tools", "callouts"), well)
    if machine.ap_check and facts.host and facts.host.mechanism == OVERRIDES:
        sentence = f"{machine.ap_check} refuses mdevctl's devices, as queues are freed by driver_override."
        if changeable(facts):
            remedy = "To use mdevctl, change to masks."
            yield warning("ap-check", sentence, remedy, words.apvfio("mechanism", "masks"))
        else:
            remedy = "To use mdevctl, change to masks once no guest or device has queues."
            yield warning("ap-check", sentence, remedy)


def judge_units(facts: Facts, words: Words) -> Iterator[Check]:  # noqa: ARG001
    """Judge the installed files other than the hook, and the state of the units."""
    machine = facts.machine
    if machine is None:
        yield skipped("units", STANDS_FOR_ANOTHER)
        return
    yield from _files(machine)
    if machine.units is None:
        yield skipped("units", "systemd does not run here; the hook does all the work itself")
        return
    faults = [check for unit in machine.units for check in _unit(unit, machine)]
    yield from faults or [ok("units", "the units are enabled, and none has failed")]
    yield from _guest_shutdown(facts, machine)
    if machine.deferred_for > _UNHEARD:
        yield warning(
            "deferred-returns",
            f"a deferred return has waited for {machine.deferred_for:.0f} s.",
            "Start the unit, and check why it did not run.",
            "systemctl start apvfio-reconcile.service",
            "journalctl -b -u apvfio-reconcile.service --no-pager",
        )


def _guest_shutdown(facts: Facts, machine: MachineFacts) -> Iterator[Check]:
    """A managed save needs a migration to a file, which QEMU refuses for a guest with a vfio-ap device."""
    shutdown = machine.guest_shutdown
    concerned = [
        guest.domain.name for guest in facts.known_guests if guest.request is not None or guest.attached
    ]
    if shutdown is None or shutdown.action != SUSPEND or not concerned:
        return
    names = ", ".join(map(printable, concerned[:_SHOWN])) + (", ..." if len(concerned) > _SHOWN else "")
    yield warning(
        "libvirt-guests",
        "when the host shuts down, libvirt-guests stores the memory of running guests (ON_SHUTDOWN=suspend), "
        f"and libvirt cannot store that of a guest with AP queues: {names}.",
        "Have libvirt-guests shut down all guests instead.",
        f"echo ON_SHUTDOWN=shutdown >> {shutdown.configuration}",
    )


def _files(machine: MachineFacts) -> Iterator[Check]:
    if isinstance(machine.found, Unseen):
        error = machine.found.error
        yield warning("files", error.sentence, error.remedy or "Install apvfio again.")
        return
    others = [found for found in machine.found if found.path != HOOK]
    for state, what in ((NEW, "not installed"), (CHANGED, "not of this version"), (FOREIGN, "not apvfio's")):
        paths = [f"/{found.path}" for found in others if found.state == state]
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            remedy = "Reinstall the package." if machine.hook.packaged else "Install again."
            # Not in the same directory: mdevctl runs every file in it.
            again = list(put_back(machine))
            # A package manager keeps changed files below /etc.
            kept = [p for p in paths if state == FOREIGN or (state == CHANGED and _is_kept(p, machine))]
            first = [aside(path, os.path.dirname(os.path.dirname(path))) for path in kept]
            commands = [*first, *again] if again or state == FOREIGN else []
            yield warning("files", f"{paths[0]}{more}: {what}.", remedy, *commands)
    if all(found.state not in (NEW, CHANGED, FOREIGN) for found in others):
        yield ok("files", "units, rules and manuals are installed")


def _is_kept(path: str, machine: MachineFacts) -> bool:
    return machine.hook.packaged and path.startswith("/etc/")


def _unit(unit: UnitFacts, machine: MachineFacts) -> Iterator[Check]:
    if not unit.loaded:
        sentence = f"systemd does not know {unit.name}."
        remedy = f"{'Reinstall the package' if machine.hook.packaged else 'Install it'}, or reload systemd."
        yield warning("units", sentence, remedy, *put_back(machine), "systemctl daemon-reload")
    elif not unit.enabled or not unit.active:
        what = "not enabled" if not unit.enabled else "not running"
        yield warning("units", f"{unit.name} is {what}.", "Enable it.", f"systemctl enable --now {unit.name}")
    elif unit.failed:
        yield warning(
            "units",
            f"{unit.name} has failed.",
            "Find out why, and start it again.",
            f"journalctl -b -u {unit.name} --no-pager",
            f"systemctl restart {unit.name}",
        )
