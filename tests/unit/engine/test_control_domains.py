# SPDX-License-Identifier: Apache-2.0
"""Control domains: a guest gets those that the host controls, so no other may be requested."""

from __future__ import annotations

import errno
import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.engine import live_change
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.state import look
from apvfio.kernel.snapshot import read_host
from apvfio.kernel.usage import read_usage
from apvfio.libvirt import hook
from apvfio.migration import destination
from apvfio.model.errors import ApvfioError, Exit, HostError
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.policy import Policy
from apvfio.model.process import Process
from apvfio.plan.all_guests import plan_all_guests
from apvfio.plan.start_plan import make_plan
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from domain_xml import MDEV, domain
from hosts import IBM_DOMAINS, NO_LEASES, a_host, a_matrix, a_request, mdev
from libvirt_test_driver import URI, driver
from memory_host import IBM_ADAPTERS, Machine
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apvfio.model.request import Request

KERNELS = tuple(PROFILES)
CONTROLLED = IdSet([1])
"""What the host controls; its usage domains are 1, 2, 4 and 27."""
WHY = "this host has no control domain 2 (0x2); it has 1."
ANNOTATION = '<ap:matrix adapters="0" domains="1" control-domains="{}"/>'
CRITERIA = '<ap:any mode="cca" control-domains="{}"/>'
ALLOWED = "over-provisioning = true\n"
MASK = "bus/ap/ap_control_domain_mask"


def a_kernel(profile: str = "7.2", max_domain: int = 255) -> SimKernel:
    return SimKernel.new(
        profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS, control_domains=CONTROLLED, max_domain=max_domain
    )


@pytest.fixture(params=KERNELS)
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(a_kernel(request.param, max_domain=84))


def wanting(control: str, adapters: str = "0", domains: str = "1", n: int = 1) -> Request:
    request = a_request(adapters, domains, n)
    return request._replace(matrix=request.matrix._replace(control_domains=parse_list(control)))


def by_criteria(control: str) -> Request:
    return a_request("0", "1")._replace(
        matrix=a_matrix("0", "1")._replace(adapters=IdSet()),
        criteria=a_criteria("cca", control_domains=parse_list(control)),
    )


def refused(machine: Machine, call: Callable[[], object], says: str = WHY) -> None:
    before = machine.snapshot()
    with pytest.raises(HostError) as caught:
        call()
    assert says in caught.value.sentence
    assert caught.value.code == Exit.HOST
    assert caught.value.remedy
    assert machine.snapshot() == before


def controlled_by_guest(machine: Machine) -> IdSet:
    return machine.kernel.state.mdevs[mdev(1)].guest_matrix.control_domains


@pytest.mark.parametrize("request_for", [wanting, by_criteria])
def test_a_start(machine: Machine, request_for: Callable[[str], Request]) -> None:
    for call in (preview_plan, start_guest):
        refused(machine, partial(call, machine, request_for("1-2")))
        refused(machine, partial(call, machine, request_for("85")), "largest possible is 84")
    start_guest(machine, request_for("1"))
    assert controlled_by_guest(machine) == CONTROLLED


@pytest.mark.parametrize("request_for", [wanting, by_criteria])
def test_over_provisioning(machine: Machine, request_for: Callable[[str], Request]) -> None:
    machine.files.texts[POLICY] = ALLOWED
    refused(machine, partial(start_guest, machine, request_for("1,85")), "largest possible is 84")
    said = "the guest starts without control domains 2-3, which this host does not control yet"
    assert said in preview_plan(machine, request_for("1-3")).warnings
    start_guest(machine, request_for("1-3"))
    assert controlled_by_guest(machine) == CONTROLLED
    machine.kernel.set_domains(IBM_DOMAINS, parse_list("1-2"))
    assert controlled_by_guest(machine) == parse_list("1-2")


@pytest.mark.parametrize("annotation", [ANNOTATION, CRITERIA])
def test_the_hook_and_a_migration(
    machine: Machine, annotation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = domain(annotation.format("1-2"))
    refused(machine, partial(destination.preview, machine, xml))
    refused(machine, partial(destination.expect, machine, xml))
    before = machine.snapshot()
    assert hook.main(["db1", "prepare", "begin", "-"], machine, xml) == Exit.HOST
    assert f"guest db1: {WHY}" in capsys.readouterr().err
    assert machine.snapshot()[0] == before[0]
    assert not machine.ledger.leases
    assert hook.main(["db1", "prepare", "begin", "-"], machine, domain(annotation.format("1"))) == Exit.OK
    assert machine.kernel.state.mdevs[MDEV.lower()].guest_matrix.control_domains == CONTROLLED


def test_a_running_guest(machine: Machine) -> None:
    start_guest(machine, wanting("1"))
    machine.kernel.attach_guest(mdev(1), "one")
    me = Process(4242, 1)
    refused(machine, lambda: live_change.apply_change(machine, wanting("1-2"), me))
    refused(machine, lambda: live_change.plan_change(machine, wanting("2", "0-1"), me))
    machine.files.texts[POLICY] = ALLOWED
    found = live_change.apply_change(machine, wanting("1-2"), me)
    assert any("without control domain 2," in said for said in found.plan.warnings)
    live_change.commit(machine, found)
    assert controlled_by_guest(machine) == CONTROLLED
    live_change.commit(machine, live_change.apply_change(machine, a_request("0", "1"), me))
    assert not controlled_by_guest(machine)


def test_all_guests_at_once(machine: Machine) -> None:
    requests = [wanting("1-2", n=1), wanting("1", "1", "4", n=2)]
    seen = look(machine)
    facts = read_usage(machine, seen.host, [request.matrix for request in requests], seen.policy)
    found = plan_all_guests(requests, *seen, facts)
    assert [error.sentence for error in found.errors] == [WHY]
    found = plan_all_guests(requests, *seen._replace(policy=Policy(over_provisioning=True)), facts)
    assert "guest g1: the guest starts without control domain 2, which" in " ".join(found.warnings)


# What trees say.


def reading(machine: Machine, text: str | None) -> Machine:
    read = machine.sysfs.read

    def answer(path: str) -> str:
        if path != MASK:
            return read(path)
        if text is None:
            raise OSError(errno.ENOENT, path)
        return text

    machine.sysfs.read = answer
    return machine


def test_without_the_configuration_no_guest_controls_any(machine: Machine) -> None:
    reading(machine, "not supported\n")
    refused(machine, lambda: start_guest(machine, wanting("1")), "it has none.")
    assert preview_plan(machine, a_request("0", "1")).warnings


def test_a_tree_that_does_not_say(machine: Machine) -> None:
    reading(machine, None)
    assert read_host(machine.sysfs).control_domains is None
    refused(machine, lambda: preview_plan(machine, wanting("85")), "largest possible is 84")
    assert not any("control" in said for said in preview_plan(machine, wanting("1-2")).warnings)


@pytest.mark.parametrize("text", ["0x41\n", "\n", "yes", "0x" + "g" * 64, f"0x{'0' * 65}"])
def test_a_tree_that_says_nonsense(machine: Machine, text: str) -> None:
    reading(machine, text)
    for request in (wanting("1"), a_request("0", "1")):
        with pytest.raises(HostError, match=f"/sys/{MASK} reads"):
            preview_plan(machine, request)


def test_ids_are_checked_beside_everything_else() -> None:
    host = a_host(control_domains=CONTROLLED)
    for matrix in (a_matrix("0", "1"), a_matrix("3", "1"), a_matrix("0", "9")):
        request = wanting("2")._replace(matrix=matrix._replace(control_domains=IdSet([2])))
        with pytest.raises(ApvfioError) as caught:
            make_plan(request, host, NO_LEASES, Policy())
        assert caught.value.code == Exit.HOST


def test_a_domain_that_is_for_control_only(machine: Machine) -> None:
    machine.kernel.set_domains(IdSet([1]), parse_list("1-2"))
    refused(machine, lambda: start_guest(machine, wanting("1-2", domains="2")), "no domain 2 (0x2)")
    start_guest(machine, wanting("1-2"))
    assert controlled_by_guest(machine) == parse_list("1-2")


# The commands.


@pytest.mark.parametrize("profile", KERNELS)
@pytest.mark.parametrize("annotation", [ANNOTATION, CRITERIA])
def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str, annotation: str
) -> None:
    host = SimulatedHost(tmp_path, a_kernel(profile))
    xml = tmp_path / "db1.xml"
    xml.write_bytes(domain(annotation.format("1-2")))
    copy = tmp_path / "copy.json"
    assert host.run("dump", str(copy)) == Exit.OK
    for path in (host.path, str(copy)):
        capsys.readouterr()
        assert main(["--sim", path, "plan", "--xml", str(xml), "--json"]) == Exit.HOST
        assert json.loads(capsys.readouterr().out)["error"]["message"] == WHY
        assert main(["--sim", path, "plan", "--all", "--xml", str(xml)]) == Exit.OK
        assert f"cannot start: guest db1: {WHY}" in capsys.readouterr().out
        assert main(["--sim", path, "doctor", "--xml", str(xml), "--json"]) == Exit.HOST
        checks = json.loads(capsys.readouterr().out)["checks"]
        assert any(WHY in check["message"] for check in checks if check["state"] == "problem")
    host.write(POLICY, ALLOWED)
    assert host.run("plan", "--xml", str(xml)) == Exit.OK
    assert "without control domain 2, which this host does not control yet" in capsys.readouterr().out


@pytest.mark.parametrize("profile", KERNELS)
@pytest.mark.parametrize("words", [("--adapters", "0", "--domains", "1"), ("--any", "mode=cca")])
def test_guests_of_libvirt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str, words: tuple[str, ...]
) -> None:
    host = SimulatedHost(tmp_path, a_kernel(profile))
    with driver() as libvirtd:
        libvirtd.define("db1", 1)
        libvirtd.define("db2", 2, wanting("1-2").matrix, mdev(2))
        assert host.run("guest", "set", "db1", *words, "--control-domains", "1-2", "-c", URI) == Exit.HOST
        assert f"guest db1: {WHY}" in capsys.readouterr().err
        assert host.run("guest", "set", "db1", *words, "--control-domains", "1", "-c", URI) == Exit.OK
        capsys.readouterr()
        assert host.run("guest", "list", "--json", "-c", URI) == Exit.OK
        guests = {one["guest"]: one for one in json.loads(capsys.readouterr().out)}
        assert guests["db1"]["can_start"] is True
        assert (guests["db2"]["can_start"], guests["db2"]["error"]["message"]) == (False, WHY)
