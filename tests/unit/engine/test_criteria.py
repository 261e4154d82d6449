# SPDX-License-Identifier: Apache-2.0
"""Guests that request queues by property, on the simulated kernel."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.plan_start import planned
from apvfio.engine.preview import preview_plan
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.state import State
from apvfio.engine.stop import release_guest
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ConflictError, Exit, HostError, PolicyError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.ledger_file import LEDGER
from apvfio.store.mkvps_file import load
from apvfio.store.mkvps_note import MKVPS
from apvfio.store.policy_file import POLICY
from apvfio.view.clock import utc
from criteria import a_criteria
from domain_xml import domain
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

    from apvfio.plan.start_plan import Plan

KEY = "4b" * 16
EP11_CARDS = {0: "ep11", 1: "ep11", 2: "cca"}


def asking(wanted: Criteria, n: int = 1) -> Request:
    return Request(f"g{n}", guest(n), mdev(n), Matrix(), criteria=wanted)


def a_machine(profile: str = "7.2", domains: int = 3) -> Machine:
    return Machine(SimKernel.new(profile, adapters=EP11_CARDS, domains=IdSet(range(domains))))


def load_key(machine: Machine, queue: Apqn, key: str = KEY) -> None:
    machine.kernel.state.queues[queue].mkvps = f"WK CUR: valid 0x{key}{'00' * 16}\nWK NEW: empty -"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_guest_gets_queues_of_a_kind_and_the_same_ones_again(profile: str) -> None:
    machine = a_machine(profile)
    before = machine.host
    wanted = a_criteria("ep11", adapters=2, control_domains=IdSet([1]))
    found = start_guest(machine, asking(wanted))
    assert found.matrix == Matrix(IdSet([0, 1]), IdSet([0]), IdSet([1]))
    assert machine.host.mdevs == {mdev(1): found.matrix}
    # A second guest is given others; when the first has gone, it is not tempted by the lower ids.
    other = start_guest(machine, asking(a_criteria("ep11"), 2)).matrix
    assert not list(other.overlap(found.matrix).queues())
    for n in (1, 2):
        release_guest(machine, guest(n))
    assert machine.host == before
    assert start_guest(machine, asking(a_criteria("ep11"), 2)).matrix == other
    assert json.loads(machine.files.texts[LEDGER])["last_given"][guest(1)] == {
        "adapters": "0-1",
        "domains": "0",
        "control_domains": "",
    }


def test_a_boot_forgets_what_guests_had() -> None:
    machine = a_machine()
    start_guest(machine, a_request("0", "0", 2))
    assert start_guest(machine, asking(a_criteria("ep11"))).matrix == a_matrix("0", "1")
    fresh = a_machine()
    fresh.files.texts = dict(machine.files.texts)
    fresh.boot_id = "another"
    assert start_guest(fresh, asking(a_criteria("ep11"))).matrix == a_matrix("0", "0")


def test_starting_twice_is_starting_once() -> None:
    machine = a_machine()
    start_guest(machine, asking(a_criteria("ep11", 2, 2)))
    before = machine.snapshot()
    machine.sysfs.written.clear()
    start_guest(machine, asking(a_criteria("ep11", 2, 2)))
    assert machine.sysfs.written == []
    assert machine.snapshot() == before


def test_what_a_guest_had_is_remembered_only_when_it_has_started() -> None:
    machine = a_machine()
    machine.faults.arm(3, lambda: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        start_guest(machine, asking(a_criteria("ep11")))
    assert machine.ledger.last_given == {}
    machine.faults.arm(0, lambda: None)
    reconcile_host(machine)
    assert not machine.ledger.leases


def test_a_master_key_is_read_while_the_host_has_the_queue_and_remembered() -> None:
    machine = a_machine()
    load_key(machine, Apqn(1, 1))
    load_key(machine, Apqn(1, 2), "00" * 16)
    wanted = a_criteria("ep11", mkvp=KEY)
    assert preview_plan(machine, asking(wanted)).request.matrix == a_matrix("1", "1")
    assert machine.files.texts.keys() == {MKVPS}
    start_guest(machine, asking(wanted))
    found = load(machine.files)
    assert found[Apqn(1, 1)].registers == f"WK CUR: valid 0x{KEY}{'00' * 16}\nWK NEW: empty -"
    assert utc(time.time() - 60) <= found[Apqn(1, 1)].seen <= utc(time.time())
    # Those that do not answer are not remembered as keyless.
    assert found.keys() == {Apqn(1, 1), Apqn(1, 2)}
    # Away from the host it cannot be read; another guest can request it all the same once it is free.
    release_guest(machine, guest(1))
    machine.kernel.write("bus/ap/aqmask", "-1")
    assert not machine.kernel.exists("bus/ap/devices/01.0001/mkvps")
    said = preview_plan(machine, asking(wanted, 2)).warnings
    assert [
        text
        for text in said
        if re.match(r"the master key of 01\.0001 cannot be read now.* since 20..-", text)
    ]
    assert start_guest(machine, asking(wanted, 2)).matrix == a_matrix("1", "1")
    assert "cannot be read now" in machine.files.texts["var/lib/apvfio/audit.jsonl"]
    with pytest.raises(HostError, match=r"held by no other guest or device: .*held by guest g2: 01\.0001"):
        start_guest(machine, asking(wanted, 3))


def test_a_key_that_was_never_read_is_unknown() -> None:
    machine = a_machine(domains=1)
    machine.kernel.write("bus/ap/apmask", "-0,-1")
    with pytest.raises(HostError, match=r"key unknown, .*: 00\.0000, 01\.0000"):
        start_guest(machine, asking(a_criteria("ep11", mkvp=KEY)))


def test_no_key_is_read_for_criteria_that_name_none_but_those_of_the_queues_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = a_machine()

    asked = []

    def read(path: str) -> str:
        asked.append(path)
        return machine.kernel.read(path)

    monkeypatch.setattr(machine.sysfs, "read", read)
    preview_plan(machine, asking(a_criteria("ep11")))
    assert [path for path in asked if path.endswith("mkvps")] == ["bus/ap/devices/00.0000/mkvps"]


def test_the_generation_of_the_cards() -> None:
    machine = a_machine()
    machine.kernel.state.cards[0].hwtype = 13
    assert preview_plan(machine, asking(a_criteria("ep11", min_generation=8))).request.matrix == a_matrix(
        "1", "0"
    )
    assert preview_plan(machine, asking(a_criteria("ep11", min_generation=7))).request.matrix == a_matrix(
        "0", "0"
    )
    before = machine.snapshot()
    with pytest.raises(
        HostError, match=r"guest g1: .*generation 9 or later: none \(00 is CEX7, 01 is CEX8\)\."
    ):
        start_guest(machine, asking(a_criteria("ep11", min_generation=9)))
    assert machine.snapshot() == before


def test_cards_that_do_not_work_are_left_out() -> None:
    machine = a_machine()
    machine.kernel.write("devices/ap/card00/config", "0")
    assert preview_plan(machine, asking(a_criteria("ep11"))).request.matrix == a_matrix("1", "0")


def test_where_queues_move_one_by_one() -> None:
    machine = a_machine()
    machine.files.texts[POLICY] = 'mechanism = "overrides"\n'
    before = machine.host
    found = start_guest(machine, asking(a_criteria("ep11", 2, 2)))
    assert found.matrix == a_matrix("0-1", "0-1")
    assert machine.host.overrides.keys() == set(found.matrix.queues())
    assert start_guest(machine, asking(a_criteria("ep11", 2), 2)).matrix == a_matrix("0-1", "2")
    for n in (1, 2):
        release_guest(machine, guest(n))
    assert machine.host == before


def test_what_the_policy_keeps_for_the_host_is_chosen_around() -> None:
    machine = a_machine()
    machine.files.texts[POLICY] = '[reserve]\nqueues = ["00.0000"]\n'
    assert start_guest(machine, asking(a_criteria("ep11"))).matrix == a_matrix("0", "1")
    # Freed by its domain it costs the host two of six, by its adapter three.
    machine = a_machine()
    machine.files.texts[POLICY] = "[keep]\nep11 = 4\n"
    assert preview_plan(machine, asking(a_criteria("ep11"))).freed_by == "domains"
    machine.files.texts[POLICY] = "[keep]\nep11 = 5\n"
    with pytest.raises(PolicyError, match=r"guest g1: .* the host 4 queues of mode ep11 where 5 must stay"):
        start_guest(machine, asking(a_criteria("ep11")))


def test_a_queue_that_a_key_of_zkey_needs_is_chosen_around() -> None:
    machine = a_machine()
    machine.files.texts["etc/zkey/repository/vol1.info"] = "apqns=00.0000\nvolumes=/dev/dasdb:crypt\n"
    assert start_guest(machine, asking(a_criteria("ep11"))).matrix == a_matrix("0", "1")


def test_a_device_that_another_guest_has_is_a_conflict() -> None:
    machine = a_machine()
    start_guest(machine, asking(a_criteria("ep11"), 2))
    with pytest.raises(ConflictError, match="is held by guest g2"):
        start_guest(machine, asking(a_criteria("ep11"))._replace(mdev=mdev(2)))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    xml = tmp_path / "db1.xml"
    xml.write_bytes(domain('<ap:any mode="ep11" domains="2"/>'))
    assert host.run("plan", "--xml", str(xml)) == Exit.OK
    out = capsys.readouterr().out
    assert "criteria     any 1 adapter x 2 domains, ep11\nqueues       adapters 10, domains 1-2\n" in out
    assert host.run("plan", "--xml", str(xml), "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out)["queues"] == ["0a.0001", "0a.0002"]
    assert host.run("define", "--xml", str(xml)) == Exit.REQUEST
    assert "guest db1: it requests queues by criteria" in capsys.readouterr().err
    xml.write_bytes(domain('<ap:any mode="ep11" adapters="2"/>'))
    assert host.run("plan", "--xml", str(xml)) == Exit.HOST
    assert "guest db1: no rectangle of 2 adapters x 1 domain" in capsys.readouterr().err


def test_all_guests_planned_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    words = ["plan", "--all", "--json"]
    for n, asked in enumerate(
        (
            '<ap:any mode="ep11"/>',
            '<ap:matrix adapters="10" domains="1"/>',
            '<ap:any mode="ep11"/>',
            '<ap:any mode="ep11" adapters="3"/>',
        )
    ):
        uuid = f"0000000{n}-1111-4111-8111-111111111111"
        devices = (
            "<hostdev mode='subsystem' type='mdev' model='vfio-ap'>"
            f"<source><address uuid='{mdev(n)}'/></source></hostdev>"
        )
        xml = tmp_path / f"g{n}.xml"
        xml.write_bytes(domain(asked, devices=devices, name=f"g{n}", uuid=uuid))
        words += ["--xml", str(xml)]
    assert host.run(*words) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    queues = {entry["guest"]: entry["queues"] for entry in document["guests"]}
    assert queues == {"g1": ["0a.0001"], "g0": ["0a.0002"], "g2": ["0a.0004"]}
    assert document["conflicts"] == []
    assert [error["guest"] for error in document["errors"]] == ["g3"]


def test_a_dumped_host_keeps_its_keys_and_generations(tmp_path: Path) -> None:
    kernel = SimKernel.new(adapters=EP11_CARDS, domains=IdSet([0, 1]))
    kernel.state.queues[Apqn(1, 1)].mkvps = f"WK CUR: valid 0x{KEY}{'00' * 16}\nWK NEW: empty -"
    kernel.state.cards[0].hwtype = 13
    host = SimulatedHost(tmp_path, kernel)
    copy = str(tmp_path / "copy.json")
    assert host.run("dump", copy) == Exit.OK
    host.path = copy
    with host.opened() as system:
        assert preview_plan(system, asking(a_criteria("ep11", mkvp=KEY))).request.matrix == a_matrix("1", "1")
        assert system.sysfs.read("devices/ap/card00/type") == "CEX7P\n"


def test_a_key_of_zkey_beside_the_choice_is_chosen_around() -> None:
    machine = a_machine()
    # Needed on both ways to free 00.0000: its adapter's and its domain's neighbour.
    machine.files.texts["etc/zkey/repository/vol1.info"] = "apqns=00.0001,02.0000\nvolumes=/dev/dasdb:crypt\n"
    assert start_guest(machine, asking(a_criteria("ep11"))).matrix == a_matrix("0", "2")
    assert machine.host.drivers[Apqn(0, 1)] == machine.host.drivers[Apqn(2, 0)] == "cex4queue"


def test_a_queue_it_shall_not_have_may_go_with_it() -> None:
    machine = a_machine()
    # Of adapter 0 only 00.0002 is not spoken for; what it requests itself may be refused one by one.
    machine.files.texts["etc/zkey/repository/vol1.info"] = "apqns=00.0000,00.0001\nvolumes=/dev/dasdb:crypt\n"
    assert start_guest(machine, asking(a_criteria("ep11", domains=2))).matrix == a_matrix("1", "0-1")


@pytest.mark.parametrize(
    ("blamed", "limit", "tries"),
    [([], 32, 1), (["00.0000"], 32, 3), (["02.0000"], 32, 2), (None, 32, 6), (None, 4, 4)],
)
def test_a_refusal_of_every_choice_ends_with_the_first(
    blamed: list[str] | None, limit: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that blames no queue, one it was given first, one beside it, or whatever is chosen."""
    monkeypatch.setattr("apvfio.engine.plan_start.TRIES", limit)
    machine = a_machine()
    refused = []

    def make(named: Request, _warned: tuple[str, ...]) -> Plan:
        refused.append(named.matrix)
        queues = map(Apqn.parse, blamed) if blamed is not None else named.matrix.queues()
        raise PolicyError(f"refusal {len(refused)}.", queues=[queue for queue in queues if queue])

    with pytest.raises(PolicyError, match=r"refusal 1\."):
        planned(machine, asking(a_criteria("ep11")), State(machine.host, machine.ledger, Policy()), make)
    assert len(refused) == tries
