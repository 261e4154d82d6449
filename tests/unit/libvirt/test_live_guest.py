# SPDX-License-Identifier: Apache-2.0
"""A live change struck at each of its events: host, ledger, annotation and guest agree after the next call.

Events are libvirt's calls, writes to the kernel and writes of files; a process is killed before or after
one, one fails, libvirt's daemon dies at one, the guest is stopped or loses its device at one.
"""

from __future__ import annotations

from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast
from unittest import mock

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.libvirt import live_guest
from apvfio.libvirt.guests import Guest, annotation
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import HELD
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine
from model.befores import cells
from model.crashes import Fault
from model.views import disagreements, still_pending, view
from running_guests import RunningGuest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.matrix import Matrix
    from apvfio.model.request import Request
    from model.befores import Cell

HAS = a_matrix("0,10", "1-2")
OTHER = a_matrix("1,10", "2,4")
KINDS = [cell for cell in cells() if str(cell) in ("6.1 adapters", "7.2 overrides")]
LIMIT = 200


class Verb(NamedTuple):
    """A live change."""

    had: Matrix | None
    """What the guest has before."""
    gets: Matrix | None
    """What it has after it."""

    def before(self, machine: Machine) -> RunningGuest:
        """The guest, with what it has."""
        machine.running = set()
        made = RunningGuest(machine, "g1", guest(1))
        if self.had:
            start_guest(machine, _request(self.had))
            made.open(mdev(1))
            made.annotation = text(self.had)
        return made

    def run(self, one: RunningGuest) -> None:
        """Make the change, in a process that ends with it."""
        assert one.machine.processes
        process = one.machine.processes.start()
        with mock.patch.object(live_guest, "this_process", return_value=process):
            try:
                if self.gets is None:
                    live_guest.take(one.machine, _guest(one))
                else:
                    live_guest.give(one.machine, _guest(one), _request(self.gets), text(self.gets))
            finally:
                one.machine.processes.end(process.pid)


VERBS = {
    "give": Verb(None, HAS),
    "change": Verb(HAS, OTHER),
    "change nothing": Verb(HAS, HAS),
    "take": Verb(HAS, None),
}


def text(matrix: Matrix) -> str:
    """The annotation, qualified, so that it can be read in the guest's XML."""
    return annotation(matrix).replace("<guest>", '<guest xmlns="urn:apvfio:guest:1">')


def _request(matrix: Matrix) -> Request:
    return a_request(str(matrix.adapters), str(matrix.domains), 1)


def _guest(one: RunningGuest) -> Guest:
    return cast("Guest", one)


def settled(one: RunningGuest) -> None:
    """The next call: another process, with a daemon that answers."""
    one.machine = one.machine.process()
    one.answers = True
    reconcile_host(one.machine)
    for lease in live_guest.unreconciled(one.machine):
        live_guest.reconcile_guest(one.machine, lease, _guest(one) if one.pid else None)
    reconcile_host(one.machine)


def has(one: RunningGuest) -> Matrix | None:
    """What the guest has, which ledger, kernel, annotation and guest all say."""
    machine = one.machine
    assert not disagreements(machine)
    assert not still_pending(machine)
    assert not live_guest.unreconciled(machine)
    leases = list(machine.ledger.leases.values())
    devices = view(machine).mdevs
    if not one.plugged:
        assert (leases, devices, one.annotation) == ([], {}, "")
        return None
    (lease,) = leases
    assert (lease.state, lease.live_change, lease.mdev) == (HELD, None, one.plugged)
    assert devices == {lease.mdev: lease.matrix}
    assert one.annotation == text(lease.matrix)
    return lease.matrix


def killed(one: RunningGuest, _path: str) -> None:
    one.machine.faults.dead = True
    raise Killed


def fails(one: RunningGuest, path: str) -> None:
    if path.startswith("libvirt/"):
        raise ApvfioError("libvirt refused: timed out.", guest=one.name)
    Fault(1, EIO, False, path).strike()


def daemon_dies(one: RunningGuest, path: str) -> None:
    one.answers = False
    if path.startswith("libvirt/"):
        raise ApvfioError("libvirt refused: client socket is closed.", guest=one.name)


def stops(one: RunningGuest, path: str) -> None:
    if one.pid:
        one.stop()
        one.annotation = ""
        if path.startswith("libvirt/"):  # elsewhere the hook waits for the lock
            release_guest(one.machine.process(), one.uuid)


def restarts(one: RunningGuest, path: str) -> None:
    stops(one, path)
    one.start()


def unplugged(one: RunningGuest, _path: str) -> None:
    if one.plugged:
        one.let_go()


STRIKES = {
    "killed": killed,
    "fails": fails,
    "daemon dies": daemon_dies,
    "stops": stops,
    "is started again": restarts,
    "is unplugged": unplugged,
}


def strikes(path: str) -> Iterator[tuple[str, bool]]:
    """What can happen at an event, and whether when it has taken effect."""
    for what in ("killed", "fails", "daemon dies"):
        yield from ((what, False), (what, True))
    yield from (("stops", False), ("is unplugged", False))
    if path.startswith("libvirt/"):
        yield "is started again", False


@pytest.mark.parametrize("cell", KINDS, ids=str)
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_all_agree_whatever_happens_at_any_event(name: str, cell: Cell, stride: int) -> None:
    verb = VERBS[name]
    start = cell.machine()
    begun = verb.before(start)
    counted = begun.on(start.twin())
    verb.run(counted)
    assert has(counted) == verb.gets
    paths = counted.machine.faults.paths
    assert 3 < len(paths) < LIMIT
    for n, path in enumerate(paths, 1):
        # What libvirt is called for is few and different each time.
        if n % stride and not path.startswith("libvirt/"):
            continue
        for what, late in strikes(path):
            one = begun.on(start.twin())
            told = f"{name}: {what} {'after' if late else 'before'} {n} {path}"
            one.machine.faults.arm(n, partial(STRIKES[what], one, path), late=late)
            try:
                verb.run(one)
                result = "done"
            except Killed:
                result = "killed"
            except ApvfioError as error:
                result = f"refused: {error}"
            one.machine.faults.arm(0, lambda: None)
            one.machine.faults.dead = False
            _check(verb, one, what, result, told)


def _check(verb: Verb, one: RunningGuest, what: str, result: str, told: str) -> None:
    if what in ("stops", "is started again") and not one.pid:  # the hook, if it had to wait
        release_guest(one.machine.process(), one.uuid)
    try:
        settled(one)
        now = has(one)
    except AssertionError as error:
        raise AssertionError(f"{told}: {result}: {error}") from None
    if what == "is unplugged" and result != "done":
        assert now in (None, verb.had), told
    elif what in ("stops", "is started again"):
        assert now == (verb.gets if result == "done" and one.pid else None), told
    elif result == "done":
        assert now == verb.gets or what == "is unplugged", (told, now)
    elif result.startswith("refused") and what == "fails" and verb.gets:
        assert now == verb.had, (told, now)
    else:
        assert now in (verb.had, verb.gets), (told, now)


@pytest.mark.parametrize("what", ["stops", "is started again", "is unplugged"])
@pytest.mark.parametrize("name", ["give", "change"])
def test_success_means_that_the_guest_has_it(name: str, what: str) -> None:
    """Whatever happens before the last look, a change that came to nothing is an error."""
    verb = VERBS[name]
    start = KINDS[0].machine()
    begun = verb.before(start)
    counted = begun.on(start.twin())
    verb.run(counted)
    last = max(n for n, path in enumerate(counted.machine.faults.paths, 1) if path == "libvirt/setMetadata")
    for n in range(1, last + 1):
        one = begun.on(start.twin())
        one.machine.faults.arm(n, partial(STRIKES[what], one, counted.machine.faults.paths[n - 1]))
        try:
            verb.run(one)
        except ApvfioError:
            continue
        assert one.plugged == mdev(1), n
        assert has(one) == verb.gets
