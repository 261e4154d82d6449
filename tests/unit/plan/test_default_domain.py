# SPDX-License-Identifier: Apache-2.0
"""The host's default domain (ap_domain): its loss is warned of, and the policy can forbid it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.cli.plan import all_guests_text as everyone_text
from apvfio.engine.edit_masks import change_masks, plan_masks
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.state import look
from apvfio.kernel.usage import read_usage
from apvfio.model.errors import HostError, PolicyError
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Matrix
from apvfio.plan.all_guests import plan_all_guests
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import a_request
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from apvfio.model.request import Request
    from apvfio.plan.all_guests import AllGuests
    from apvfio.plan.start_plan import Plan

KERNELS = tuple(PROFILES)
LAST = "the host loses 00.0001, 01.0001, 0a.0001, the last in its default domain 1 (0x1)"
FORBIDDEN = '[busy]\ndefault-domain = "refuse"\n'
WHOLE_DOMAIN = a_request("0-1,10", "1")


@pytest.fixture(params=KERNELS)
def machine(request: pytest.FixtureRequest) -> Machine:
    """IBM's host, whose default domain is its first, 1."""
    made = Machine(SimKernel.new(request.param, adapters=IBM_ADAPTERS))
    assert made.kernel.read("bus/ap/ap_domain") == "1\n"
    return made


def plan(machine: Machine, request: Request) -> Plan:
    return preview_plan(machine, request)


def test_a_guest_that_takes_the_whole_domain(machine: Machine) -> None:
    assert LAST in plan(machine, WHOLE_DOMAIN).warnings
    machine.files.texts[POLICY] = '[busy]\ndefault-domain = "ignore"\n'
    assert LAST not in plan(machine, WHOLE_DOMAIN).warnings
    machine.files.texts[POLICY] = FORBIDDEN
    before = machine.snapshot()
    with pytest.raises(PolicyError, match="the last in its default domain 1") as caught:
        start_guest(machine, WHOLE_DOMAIN)
    assert [str(queue) for queue in caught.value.queues] == ["00.0001", "01.0001", "0a.0001"]
    assert machine.snapshot() == before


def test_collateral_counts_as_well(machine: Machine) -> None:
    request = a_request("0", "1-2")
    machine.files.texts[POLICY] = 'prefer = "domains"\n'
    assert LAST in plan(machine, request).warnings
    machine.files.texts[POLICY] = 'prefer = "domains"\n' + FORBIDDEN
    assert plan(machine, request).freed_by == "adapters"


def test_what_stays_or_is_gone_already_is_not_warned_of(machine: Machine) -> None:
    machine.files.texts[POLICY] = FORBIDDEN
    assert plan(machine, a_request("0,10", "1")).warnings[:1] != (LAST,)
    machine.kernel.write("bus/ap/ap_domain", "2")
    assert LAST not in plan(machine, WHOLE_DOMAIN).warnings
    machine.kernel.write("bus/ap/ap_domain", "1")
    machine.kernel.write("bus/ap/aqmask", "-1")
    assert plan(machine, WHOLE_DOMAIN).warnings == ()


def test_the_last_queue_of_it(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-0,-10")
    assert "the host loses 01.0001, the last in its default domain 1 (0x1)" in (
        plan(machine, a_request("0-1", "1")).warnings
    )


def test_queues_moved_one_by_one() -> None:
    machine = Machine()
    machine.files.texts[POLICY] = 'mechanism = "overrides"\n'
    found = plan(machine, WHOLE_DOMAIN)
    assert (found.mechanism, found.warnings[:1]) == ("overrides", (LAST,))
    machine.files.texts[POLICY] += FORBIDDEN
    with pytest.raises(PolicyError, match="default domain 1"):
        plan(machine, WHOLE_DOMAIN)
    assert plan(machine, a_request("0-1", "1")).mechanism == "overrides"


def test_two_guests_together(machine: Machine) -> None:
    machine.files.texts[POLICY] = 'prefer = "adapters"\n'
    start_guest(machine, a_request("0-1", "1,4", 1))
    assert any("default domain" in said for said in plan(machine, a_request("10", "1", 2)).warnings)
    machine.files.texts[POLICY] = FORBIDDEN
    with pytest.raises(PolicyError, match="default domain"):
        plan(machine, a_request("10", "1", 2))


@pytest.mark.parametrize("domain", ["-1", ""])
def test_a_host_without_a_default_domain(domain: str) -> None:
    machine = Machine()
    machine.kernel.state.domain = -1
    if not domain:
        texts = machine.sysfs.read

        def read(path: str) -> str:
            if path == "bus/ap/ap_domain":
                raise FileNotFoundError(path)
            return texts(path)

        machine.sysfs.read = read
    assert not any("default" in said for said in plan(machine, WHOLE_DOMAIN).warnings)


def test_a_tree_that_says_nonsense() -> None:
    machine = Machine()
    texts = machine.sysfs.read
    machine.sysfs.read = lambda path: "six\n" if path == "bus/ap/ap_domain" else texts(path)
    with pytest.raises(HostError, match="/sys/bus/ap/ap_domain reads 'six'"):
        plan(machine, WHOLE_DOMAIN)


def test_a_mask_change(machine: Machine) -> None:
    requested = MaskEdit(None, parse_mask_spec("-1"), persistent=False)
    assert LAST in plan_masks(machine, requested).warnings
    machine.files.texts[POLICY] = FORBIDDEN
    with pytest.raises(PolicyError, match=r"would lose .*, the last in"):
        change_masks(machine, requested, lambda _: None)
    stored = MaskEdit(None, parse_mask_spec("-1"), active=False)
    # The next boot chooses another default domain (bus:ap_select_domain).
    assert not any("default" in said for said in plan_masks(machine, stored).warnings)


def test_criteria_leave_it_to_the_host_if_they_must(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-0,-10")
    request = a_request("0", "1")._replace(matrix=Matrix(), criteria=a_criteria("cca"))
    assert plan(machine, request).request.matrix.domains == IdSet([1])
    machine.files.texts[POLICY] = FORBIDDEN
    assert plan(machine, request).request.matrix.domains == IdSet([2])


def everyone(machine: Machine, *requests: Request) -> AllGuests:
    seen = look(machine)
    facts = read_usage(machine, seen.host, [request.matrix for request in requests], seen.policy)
    return plan_all_guests(requests, *seen, facts)


@pytest.mark.parametrize("way", ["", 'mechanism = "overrides"\n'])
def test_all_guests_at_once(machine: Machine, way: str) -> None:
    """No guest alone takes the domain."""
    both = a_request("0-1", "1", 1), a_request("10", "1", 2)
    machine.files.texts[POLICY] = way
    found = everyone(machine, *both)
    assert found.joint_plan
    assert LAST in found.warnings
    assert f"warning: {LAST}" in list(everyone_text(found))
    machine.files.texts[POLICY] = way + FORBIDDEN
    found = everyone(machine, *both)
    assert (found.errors, found.joint_plan) == ((), None)
    assert everyone(machine, both[0]).joint_plan


def test_a_way_is_found_that_leaves_the_domain(machine: Machine) -> None:
    machine.files.texts[POLICY] = FORBIDDEN
    found = everyone(machine, a_request("0", "1-2,4", 1), a_request("10", "1-2,4", 2))
    assert found.joint_plan
    assert found.joint_plan.options == ("adapters", "adapters")
    assert not found.warnings
