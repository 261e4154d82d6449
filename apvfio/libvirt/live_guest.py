# SPDX-License-Identifier: Apache-2.0
"""Give a running guest queues, other queues, or none: its device and its annotation change together.

Ledger and host are changed first, then libvirt changes the guest. The ledger has a `LiveChange` from the
first write to the last. A change that libvirt refuses is undone. After a crash, the next call completes or
undoes the change (`reconcile_guest`): a guest with its device keeps queues and annotation, a guest without it
loses both.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine import live_change
from apvfio.engine.live_change import note_live, release_unplugged
from apvfio.engine.preview import preview_plan
from apvfio.engine.signs_of_life import busy_queues
from apvfio.engine.start import start_guest
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import hotplug
from apvfio.model.errors import ApvfioError, ConflictError, HostError, RequestError, printable
from apvfio.model.ledger import HELD, LiveChange
from apvfio.plan.secure_execution import to_bind
from apvfio.store.ledger_file import load
from apvfio.store.processes import command_line, find_process, now, should_run
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest, Guests
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Matrix
    from apvfio.model.process import Process
    from apvfio.model.request import Request
    from apvfio.plan.live_change import LivePlan
    from apvfio.plan.start_plan import Plan

    Edit = Callable[[], Callable[[], None]]
    """Changes the guest's definition; returns the function that undoes the change."""


class _Life(NamedTuple):
    """A guest as it runs before a change."""

    guest: Guest
    number: int
    """libvirt's, of this run."""
    annotation: str

    @classmethod
    def of(cls, guest: Guest) -> _Life:
        return cls(guest, guest.life, guest.annotation_text(live=True))

    @property
    def goes_on(self) -> bool:
        """Whether it runs, and was not started again; False if libvirt does not say so."""
        try:
            return self.guest.life == self.number
        except ApvfioError:
            return False

    def restore_annotation(self) -> bool:
        """Whether the running guest has its annotation again; a life begun meanwhile has the definition's."""
        try:
            text = self.annotation if self.goes_on else self.guest.annotation_text(live=False)
            self.guest.set_annotation(text, live=True)
        except ApvfioError:
            return False
        return True


def lease_of(system: System, guest: Guest) -> Lease | None:
    """Return the lease of the running ``guest``, None without one; ConflictError if its device is foreign."""
    if not guest.active:
        raise RequestError(
            "it does not run.", guest=guest.name, remedy="Omit --live to change its next start."
        )
    leases = load(system.files, system.boot_id).of_guest(guest.uuid)
    device = hotplug.attached(guest)
    if device and device not in {lease.mdev for lease in leases}:
        if device not in read_host(system.sysfs).mdevs:
            sentence = f"its mediated device {device} is gone: it has no queues."
            raise ConflictError(sentence, guest=guest.name, remedy="Shut it down and start it again.")
        sentence = f"apvfio did not create its device {device}, and does not change it."
        remedy = "Unplug that device first, or change it where it was made."
        raise ConflictError(sentence, guest=guest.name, remedy=remedy)
    return leases[0] if leases else None


def plan(system: System, guest: Guest, request: Request) -> Plan | LivePlan:
    """What `give` would do now; changes nothing."""
    if lease_of(system, guest):
        return live_change.plan_change(system, request, this_process())
    found = preview_plan(system, request)
    if not request.secure:
        return found
    return found._replace(warnings=(*found.warnings, to_bind(list(found.request.matrix.queues()))))


def give(
    system: System,
    guest: Guest,
    request: Request,
    annotation: str,
    edit: Edit | None = None,
    *,
    wanted: Matrix | None = None,
) -> None:
    """Give the running ``guest`` the queues of ``request`` instead of its present ones, and ``annotation``.

    With ``wanted``, of all queues that satisfy its criteria it gets these. ``edit`` changes its definition as
    well. When this returns, all changes are made. After an ApvfioError from any step, the guest has its
    former queues, annotation and definition.
    """
    reconcile_here(system, guest)
    life = _Life.of(guest)
    changed: LivePlan | None = None
    lease = lease_of(system, guest)
    if lease:
        changed = live_change.apply_change(system, request, this_process(), life.annotation, wanted=wanted)
        if not changed.idle:
            lease = changed.plan.lease._replace(live_change=LiveChange(this_process(), life.annotation))
    else:
        lease = start_guest(system, request, live=LiveChange(this_process(), annotation))
    back: Callable[[], None] | None = None
    annotated = False
    try:
        hotplug.attach(guest, request.mdev)
        annotated = True
        guest.set_annotation(annotation, live=True)
        if edit:
            back = edit()
        _require_attached(life, request.mdev)
        _commit(system, lease, changed)
    except BaseException as error:
        if not isinstance(error, ApvfioError) and _is_done(system, lease):
            raise
        with suppress(ApvfioError):
            if back:
                back()
        restored = not annotated or life.restore_annotation()
        if changed:
            _change_back(system, life, lease, changed, restored=restored)
        else:
            _give_up(system, life, lease)
        if isinstance(error, ApvfioError):
            raise error.for_guest(guest.name) from None
        raise
    _require_kept(system, life, request.mdev)


def take(system: System, guest: Guest, edit: Edit | None = None) -> str | None:
    """Take device and annotation from the running ``guest``, and return its queues.

    Return the device's uuid if it had one; ``edit`` and errors are as with `give`. Once the device is
    unplugged, the queues are returned, whatever else fails.
    """
    reconcile_here(system, guest)
    life = _Life.of(guest)
    lease = lease_of(system, guest)
    if lease:
        lease = note_live(system, lease, LiveChange(this_process(), life.annotation))
        if lease is None:
            raise ConflictError("another call is changing its queues.", guest=guest.name, remedy="Try again.")
    back: Callable[[], None] | None = None
    try:
        guest.set_annotation("", live=True)
        if edit:
            back = edit()
        device = hotplug.detach(guest)
    except BaseException:
        if lease and not has_device(system, lease, guest):
            release_unplugged(system, lease)
            raise
        with suppress(ApvfioError):
            if back:
                back()
        if life.goes_on:
            with suppress(ApvfioError):
                guest.set_annotation(life.annotation, live=True)
                if lease:
                    note_live(system, lease, None)
        raise
    if lease:
        release_unplugged(system, lease)
    return device


def unreconciled(system: System) -> list[Lease]:
    """Return the leases of running guests that may lack their device, and those with an interrupted change.

    For the first, no sign shows that the guest has its device: libvirt knows (`has_device`).
    """
    running = system.running_guests() or {}
    leases = load(system.files, system.boot_id).leases.values()
    held = [lease for lease in leases if lease.state == HELD]
    left = [lease for lease in held if lease.live_change and not system.lives(lease.live_change.changer)]
    return left + [
        lease
        for lease in held
        if not (lease.live_change or lease.expected)
        and lease.uuid in running
        and should_run(lease, now())
        and not _shows(system, lease)
        and not _arrived(system, running[lease.uuid])
    ]


def _arrived(system: System, process: Process) -> bool:
    """Return whether the guest came by a migration, whose last step plugs in its device."""
    return on_this_machine(system) and b"-incoming" in command_line(process.pid)


def reconcile_here(system: System, guest: Guest) -> None:
    """Complete or undo an earlier live change of the running ``guest`` before the next one."""
    for lease in unreconciled(system):
        if lease.uuid == guest.uuid:
            reconcile_guest(system, lease, guest)


def reconcile_guest(system: System, lease: Lease, guest: Guest | None) -> str:
    """Complete or undo an interrupted live change; return what was done, in a sentence, or ''.

    ``guest`` is None if libvirt has nothing to change: the guest has ended, or the host is not this machine.
    ApvfioError if libvirt does not answer or refuses: the next call tries again.
    """
    name = _name(lease)
    if has_device(system, lease, guest):
        if lease.live_change is None:
            return ""
        if guest:
            guest.set_annotation(lease.live_change.annotation, live=True)
        note_live(system, lease, None)
        return f"{name}: an interrupted live change was completed; the guest has {lease.matrix}"
    mine: Lease | None = lease
    if lease.live_change is None:
        mine = note_live(system, lease, LiveChange(this_process(), ""))
    if mine is None:
        return ""
    if guest:
        guest.set_annotation("", live=True)
    release_unplugged(system, mine)
    return f"{name}: it runs without its mediated device {lease.mdev}; its queues are returned"


def has_device(system: System, lease: Lease, guest: Guest | None) -> bool:
    """Whether the guest of ``lease`` has its device, by the kernel's signs or libvirt's word.

    The kernel alone decides where libvirt does not answer.
    """
    if _shows(system, lease):
        return True
    try:
        return guest is not None and guest.active and hotplug.attached(guest) == lease.mdev
    except ApvfioError:
        return False


def differences(system: System) -> list[str]:
    """How running guests differ from the ledger, in sentences, as far as libvirt answers."""
    leases = unreconciled(system)
    left = "a live change of it was interrupted: 'reconcile' completes or undoes it"
    found = [f"{_name(lease)}: {left}" for lease in leases if lease.live_change]
    unplugged = [lease for lease in leases if not lease.live_change]
    with suppress(ApvfioError), _libvirt_of(system, unplugged) as guests:
        for lease in unplugged:
            if not has_device(system, lease, guests.running(lease.uuid) if guests else None):
                lacks = f"it runs without its mediated device {lease.mdev}: 'reconcile' returns its queues"
                found.append(f"{_name(lease)}: {lacks}")
    return found


def reconcile_all(system: System) -> tuple[list[str], list[str]]:
    """Complete or undo interrupted live changes; return, in sentences, what was done and what failed."""
    done, left, leases = [], [], unreconciled(system)
    try:
        with _libvirt_of(system, leases) as guests:
            while leases:
                guest = guests.running(leases[0].uuid) if guests else None
                done.append(reconcile_guest(system, leases[0], guest))
                del leases[0]
    except ApvfioError as error:
        left = [f"{_name(lease)}: its live change: {error}" for lease in leases if lease.live_change]
    return list(filter(None, done)), left


@contextmanager
def _libvirt_of(system: System, leases: list[Lease]) -> Iterator[Guests | None]:
    """This machine's libvirt if there are ``leases``; another host has the kernel's signs alone."""
    if leases and on_this_machine(system):
        from apvfio.libvirt.guests import DEFAULT_URI, Guests  # noqa: PLC0415  most calls need no libvirt

        with Guests(DEFAULT_URI) as guests:
            yield guests
    else:
        yield None


def this_process() -> Process:
    """The process that changes a guest."""
    found = find_process(os.getpid())
    if found is None:
        raise HostError("/proc does not show this process.", remedy="Mount /proc.")
    return found


def _name(lease: Lease) -> str:
    return f"guest {printable(lease.guest)}"


def _shows(system: System, lease: Lease) -> bool:
    return bool(busy_queues(system.sysfs, lease)) or system.opener(lease.mdev) is not None


def _commit(system: System, lease: Lease, changed: LivePlan | None) -> None:
    """Make the change final; ApvfioError if the guest has lost its lease, or the ledger cannot be written."""
    failure = _ended()
    try:
        if changed is None:
            note_live(system, lease, None)
        elif not changed.idle:
            live_change.commit(system, changed)
    except ApvfioError as error:
        # If the change is final nevertheless, the next call returns the queues that the guest gave up.
        failure = error
    if not _is_done(system, lease):
        raise failure


def _is_done(system: System, lease: Lease) -> bool:
    """Return whether the guest holds what ``lease`` gives it, and no live change is under way."""
    found = load(system.files, system.boot_id).leases.get(lease.mdev)
    aim = lease._replace(state=HELD, before=None, live_change=None)
    return found is not None and found._replace(freed_by=aim.freed_by) == aim


def _require_attached(life: _Life, mdev: str) -> None:
    if life.guest.life != life.number:
        raise _ended()
    if hotplug.attached(life.guest) != mdev:
        raise _unplugged(mdev)


def _require_kept(system: System, life: _Life, mdev: str) -> None:
    """The last look, after which the guest is on its own; a lost device is reconciled, and an error."""
    lease = load(system.files, system.boot_id).leases.get(mdev)
    try:
        if lease is None or has_device(system, lease, life.guest) or not life.goes_on:
            return  # what ended with its life is its stop's to return
    except ApvfioError:
        return
    with suppress(ApvfioError):
        reconcile_guest(system, lease, life.guest)
    raise _unplugged(mdev).for_guest(life.guest.name)


def _unplugged(mdev: str) -> ApvfioError:
    sentence = f"its mediated device {mdev} was unplugged during the change."
    return ApvfioError(sentence, remedy="Find out who unplugs it, then try again.")


def _ended() -> ApvfioError:
    return ApvfioError(
        "it was stopped during the change.", remedy="Start it, if it does not run, and try again."
    )


def _give_up(system: System, life: _Life, lease: Lease) -> None:
    """Take back what the guest would have got; the next call repeats what fails here."""
    with suppress(ApvfioError):
        if load(system.files, system.boot_id).leases.get(lease.mdev) != lease:
            return  # it ended with its life
        with suppress(ApvfioError):
            hotplug.detach(life.guest)
        if has_device(system, lease, life.guest):
            return
        release_unplugged(system, lease)


def _change_back(system: System, life: _Life, lease: Lease, changed: LivePlan, *, restored: bool) -> None:
    """Give the guest its former queues; the next call repeats what fails here."""
    with suppress(ApvfioError):
        if not changed.idle:
            live_change.roll_back(system, changed)
    if not life.goes_on:
        return
    with suppress(ApvfioError):
        if not has_device(system, lease, life.guest):
            reconcile_guest(system, lease, life.guest)
        elif restored:
            note_live(system, lease, None)
