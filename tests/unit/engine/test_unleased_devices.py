# SPDX-License-Identifier: Apache-2.0
"""A mediated device without a lease is in a guest's way: the error says what may be done about it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from apvfio.engine import live_change
from apvfio.engine.claim import make_claim
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.model.errors import ConflictError, Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.process import Process
from apvfio.plan.availability import require_no_rival
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, a_request, mdev
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from collections.abc import Callable

THEIRS = mdev(9)
HELD = f"01.0004 is held by the mediated device {THEIRS}."
UNUSED = f"No guest uses it: remove it with 'mdevctl stop -u {THEIRS}', or request other queues."


@pytest.fixture(params=PROFILES)
def machine(request: pytest.FixtureRequest) -> Machine:
    """IBM's host, with a device that somebody made."""
    made = Machine(SimKernel.new(request.param, adapters=IBM_ADAPTERS))
    made.kernel.write("bus/ap/apmask", "-1")
    made.kernel.write(AP_MDEVS.create, THEIRS)
    for kind, number in (("adapter", 1), ("domain", 4)):
        made.kernel.write(f"{AP_MDEVS.device(THEIRS)}/assign_{kind}", str(number))
    return made


def refusal(call: Callable[[], object]) -> ConflictError:
    with pytest.raises(ConflictError) as caught:
        call()
    assert caught.value.code == Exit.CONFLICT
    return caught.value


def test_nobody_uses_it(machine: Machine) -> None:
    before = machine.snapshot()
    for call in (preview_plan, start_guest):
        error = refusal(partial(call, machine, a_request("1", "4")))
        assert (error.sentence, error.remedy) == (HELD, UNUSED)
    assert machine.snapshot() == before
    machine.kernel.write(AP_MDEVS.remove(THEIRS), "1")
    start_guest(machine, a_request("1", "4"))


def test_a_guest_uses_it(machine: Machine) -> None:
    machine.kernel.attach_guest(THEIRS, "theirs")
    error = refusal(lambda: preview_plan(machine, a_request("1", "4")))
    assert error.sentence == HELD
    assert error.remedy == "Stop the guest, which uses that device, or request other queues."


def test_a_process_has_it_open(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "opener", lambda uuid: Process(4712, 1) if uuid == THEIRS else None)
    error = refusal(lambda: preview_plan(machine, a_request("1", "4")))
    assert "'mdevctl stop" not in error.remedy
    assert "Stop the guest of process 4712," in error.remedy


def test_a_running_guest_asks_for_more(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    machine.kernel.attach_guest(mdev(1), "one")
    error = refusal(lambda: live_change.apply_change(machine, a_request("0-1", "4"), Process(4242, 1)))
    assert (error.sentence, error.remedy) == (HELD, UNUSED)


def test_it_is_the_guests_own_with_other_queues(machine: Machine) -> None:
    request = a_request("0", "1")._replace(mdev=THEIRS)
    error = refusal(lambda: preview_plan(machine, request))
    assert f"the mediated device {THEIRS} already exists with adapters 1, domains 4" in error.sentence
    assert error.remedy == (
        f"No guest uses it: remove it with 'mdevctl stop -u {THEIRS}', or make the two agree."
    )


def test_mdevctl_is_about_to_make_it(machine: Machine) -> None:
    make_claim(machine, mdev(5), a_matrix("0", "2"), Process(4242, 1))
    error = refusal(lambda: preview_plan(machine, a_request("0", "2")))
    assert error.sentence == (f"00.0002 is held by the mediated device {mdev(5)}, which mdevctl is starting.")
    assert "stop" not in error.remedy.lower()


@pytest.mark.parametrize(
    ("name", "word"),
    [("db2", "db2"), ("data base", "'data base'"), ("it's", "'it'\\''s'"), ("a;b", "'a;b'")],
)
def test_a_clone_is_told_how_it_gets_its_own(name: str, word: str) -> None:
    request = a_request("0", "1")._replace(guest=name, guest_uuid=mdev(3))
    error = refusal(partial(require_no_rival, request, a_host(), a_ledger(a_lease("0", "1"))))
    assert f"the mediated device {mdev(1)} is held by guest g1" in error.sentence
    assert error.remedy == f"Give this guest its own device: 'apvfio guest set {word} --new-device'."
    for_mdevctl = request._replace(guest="")
    error = refusal(partial(require_no_rival, for_mdevctl, a_host(), a_ledger(a_lease("0", "1"))))
    assert "apvfio" not in error.remedy


def test_without_a_lease_a_device_of_its_own_is_no_rival() -> None:
    require_no_rival(a_request("0", "1"), a_host(mdevs={mdev(1): a_matrix("0", "1")}), NO_LEASES)
