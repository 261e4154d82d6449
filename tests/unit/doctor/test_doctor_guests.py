# SPDX-License-Identifier: Apache-2.0
"""Guests that would not get their queues: the doctor says why, and its commands open the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.store.definitions import FOLDER
from doctor_env import Patient, faults, patient
from hosts import a_matrix, a_request, mdev
from lab.guest import guest_uuid, guest_xml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apvfio.model.matrix import Matrix
    from doctor_env import Found

POLICY = "etc/apvfio/apvfio.toml"
DB1 = guest_xml("db1", a_matrix("0,10", "1-2"), mdev(1))


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Patient]:
    with patient(tmp_path, capsys) as made:
        yield made


def first(host: Patient, code: int, name: str, says: str, who: str = "db1") -> Found:
    """The first fault of a guest, which is that one; the summary of all guests has it, too."""
    found, checks = host.examined(who)
    fault = faults(checks)[0]
    assert (found, fault["id"], fault["guest"]) == (code, name, who), faults(checks)
    assert says in fault["message"]
    assert fault["remedy"]
    assert name in [check["id"] for check in faults(host.examined()[1])]
    return fault


def repaired(host: Patient, fault: Found, who: str = "db1") -> None:
    assert fault["commands"]
    for command in fault["commands"]:
        host.carry_out(command)
    code, checks = host.examined(who)
    assert (code, faults(checks)) == (0, [])


@pytest.mark.parametrize(
    ("old", "new", "name", "says"),
    [
        ('adapters="0,10"', 'adapters="0,300"', "annotation", "300"),
        ('adapters="0,10"', "", "annotation", "has no attribute adapters"),
        ('adapters="0,10"', 'adaptors="0"', "annotation", "has no attribute adapters"),
        ('adapters="0,10"', 'adapters="0" colour="red"', "annotation", "does not fit its schema"),
        ("<ap:matrix", "<ap:any mode='fast'/><ap:matrix", "annotation", "schema"),
        ("urn:apvfio:guest:1", "urn:apvfio:guest:2", "annotation", "reads only urn:apvfio:guest:1"),
        (
            "<metadata>",
            "<metadata><x:matrix xmlns:x='urn:apvfio:host:1'/>",
            "annotation",
            "has the namespace",
        ),
        ('<ap:matrix adapters="0,10" domains="1-2"/>', "<ap:any mode='fast'/>", "annotation", "'fast'"),
        ("<hostdev", "<hostdev hidden='1'", "", ""),
        ("type='mdev' model='vfio-ap'", "type='mdev' model='vfio-ccw'", "device", "has no mediated device"),
    ],
)
def test_xml_that_makes_no_sense(host: Patient, old: str, new: str, name: str, says: str) -> None:
    assert old in DB1
    host.define_xml(DB1.replace(old, new))
    if not name:
        assert host.examined("db1")[0] == 0  # libvirt drops what it does not know
        return
    fault = first(host, Exit.REQUEST, name, says)
    assert fault["commands"]
    assert all(
        re.search(r"virsh -c test:///default (edit|attach-device) db1\b", c) for c in fault["commands"]
    )
    assert host.examined("db1")[1][-1]["state"] == "skipped"


def test_the_line_is_that_of_libvirts_xml(host: Patient) -> None:
    host.define_xml(DB1.replace('adapters="0,10"', 'adapters="0" colour="red"'))
    fault = first(host, Exit.REQUEST, "annotation", "schema")
    number = re.search(r"\(line (\d+) of 'virsh dumpxml --inactive'\)", fault["message"])
    assert number
    assert "colour" in host.domain("db1").XMLDesc(2).splitlines()[int(number[1]) - 1]


def test_the_device_that_is_suggested_is_the_guests_own(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"), device="")
    host.define("db2", a_matrix("1", "1"), device="")
    uuids = set()
    for name in ("db1", "db2"):
        (command,) = first(host, Exit.REQUEST, "device", "has no mediated device", name)["commands"]
        found = re.fullmatch(
            r"echo '(<hostdev .*uuid='\"'\"'(.*)'\"'\"'/></source></hostdev>)' \| "
            rf"virsh -c test:///default attach-device {name} /dev/stdin --config",
            command,
        )
        assert found, command
        uuids.add(found[2])
        host.define(name, a_matrix("0" if name == "db1" else "1", "1"), device=found[2])
        assert host.examined(name)[0] == 0
    assert len(uuids) == 2


def test_a_definition_that_contradicts(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    assert host.run("define", "--connect", "test:///default", "db1") == 0
    host.define("db1", a_matrix("0", "2"))
    repaired(host, first(host, Exit.REQUEST, "definition", "mdevctl's definition"))


def test_a_definition_that_is_none(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.write(f"{FOLDER}/{mdev(1)}", "{")
    first(host, Exit.REQUEST, "definition", "cannot be used")


def test_a_device_of_which_nobody_says_what_it_holds(host: Patient) -> None:
    """No ids are invented: those that it had before are known, or none are named."""
    host.define("db1")
    fault = first(host, Exit.REQUEST, "annotation", "no annotation or definition says which queues")
    assert fault["commands"] == []
    host.start(a_request("10", "2,27")._replace(guest="db1", guest_uuid=guest_uuid("db1")))
    assert host.run("release", "db1") == 0
    fault = first(host, Exit.REQUEST, "annotation", "no annotation or definition says which queues")
    assert "guest set" in fault["commands"][0]
    repaired(host, fault)
    assert 'adapters="10" domains="2,27"' in host.domain("db1").XMLDesc().replace("'", '"')


def test_a_redefined_guest_that_holds_queues(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.domain("db1").create()
    host.start(a_request("0", "1")._replace(guest="db1", guest_uuid=guest_uuid("db1")))
    for device, ends in (
        (mdev(1), "libvirt will not find its device"),
        ("", "its next start is without them"),
    ):
        host.define("db1", device=device)
        fault = first(host, Exit.REQUEST, "annotation", "its definition does not request them")
        assert fault["message"].endswith(f": {ends}.")
    repaired(host, fault)


def test_a_device_that_is_another_guests(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.start(a_request("0", "1")._replace(guest="db1", guest_uuid=guest_uuid("db1")))
    host.define("db2", device=mdev(1))
    fault = first(host, Exit.CONFLICT, "held", "is that of guest db1", "db2")
    assert fault["commands"] == ["virsh -c test:///default edit db2"]


def test_a_device_that_somebody_else_made(host: Patient) -> None:
    host.define("db1")
    host.write("sys/bus/ap/apmask", "-1")
    host.make_mdev(mdev(1), a_matrix("1", "1"))
    code, checks = host.examined("db1")
    assert (code, faults(checks)) == (0, [])
    assert "apvfio did not create, with 01.0001" in checks[-1]["message"]


def test_a_guest_without_any_of_it(host: Patient) -> None:
    host.define("db1", device="")
    assert host.examined("db1")[0] == 0
    assert host.examined("db1")[1][-1]["message"] == "it requests no AP queues, and starts without any"


def test_a_guest_that_is_not_there(host: Patient) -> None:
    code, checks = host.examined("nobody")
    assert (code, checks[-1]["id"]) == (Exit.REQUEST, "guest")
    assert checks[-1]["commands"] == ["virsh -c test:///default list --all"]


def test_an_adapter_that_is_not_there(host: Patient) -> None:
    host.define("db1", a_matrix("0,5", "1"))
    repaired(host, first(host, Exit.HOST, "absent", "no adapter 5"))


def test_an_adapter_that_the_bus_has_not_found(host: Patient) -> None:
    with host.opened() as system:
        system.kernel.state.hardware.adapters[5] = "cca"
        # It did not answer when the bus looked for it last.
        system.kernel.state.config = system.kernel.state.hardware.config()
    host.define("db1", a_matrix("0,5", "1"))
    repaired(host, first(host, Exit.HOST, "absent", "though this partition has it"))


def test_a_control_domain_is_no_usage_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = SimKernel.new(domains=IdSet([1, 2]), control_domains=IdSet([1, 2, 7]))
    with patient(tmp_path, capsys, kernel) as host:
        host.define("db1", a_matrix("0", "1,7"))
        fault = first(host, Exit.HOST, "absent", "domains 7 as control domains only")
        with host.opened() as system:
            system.kernel.state.hardware.domains |= IdSet([7])
        repaired(host, fault)


def test_queues_of_a_running_guest(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.start(a_request("0", "1-2", 2))
    fault = first(host, Exit.CONFLICT, "held", "held by guest g2")
    assert fault["remedy"].startswith("Wait until guest g2 has stopped, or request other queues;")
    assert fault["commands"] == [f"apvfio --sim {host.path} queues"]
    assert host.run("release", "g2") == 0
    assert host.examined("db1")[0] == 0


def test_queues_of_somebody_elses_device(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(9), a_matrix("0", "1"))
    fault = first(host, Exit.CONFLICT, "held", f"held by the mediated device {mdev(9)}")
    for command in fault["commands"]:
        host.carry_out(command)
    assert host.examined("db1")[0] == 0


def test_queues_of_a_guest_that_apvfio_does_not_serve(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.define("byhand", device=mdev(9))
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(9), a_matrix("0", "1"))
    with host.opened() as system:
        system.kernel.attach_guest(mdev(9), "byhand")
    fault = first(host, Exit.CONFLICT, "held", mdev(9))
    assert fault["remedy"].startswith("Wait until the device is no longer in use, or")
    assert fault["commands"] == [f"apvfio --sim {host.path} queues"]


def test_a_device_of_a_guest_that_is_off_is_not_removed(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.define("byhand", device=mdev(9))
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(9), a_matrix("0", "1"))
    fault = first(host, Exit.CONFLICT, "held", mdev(9))
    assert fault["commands"] == [f"apvfio --sim {host.path} queues"]


def test_its_device_is_there_and_holds_something_else(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(1), a_matrix("0", "2"))
    fault = first(host, Exit.CONFLICT, "held", "already exists")
    host.carry_out(fault["commands"][0])
    assert host.examined("db1")[0] == 0


@pytest.mark.parametrize(
    ("policy", "files", "says"),
    [
        ('[reserve]\nadapters = "0"\n', {}, "reserved for the host"),
        (
            '[reserve]\nqueues = ["00.0004", "01.0001"]\n',
            {},
            "can be freed only together with queues reserved",
        ),
        ("[keep]\naccel = 4\n", {}, "leaving the host"),
        ("", {"etc/zkey/repository/disk.info": "apqns = 00.0001\n"}, "zkey's key 'disk' needs"),
    ],
)
def test_queues_that_the_host_needs(host: Patient, policy: str, files: dict[str, str], says: str) -> None:
    host.define("db1", a_matrix("0", "1"))
    for path, text in {POLICY: policy, **files}.items():
        host.write(path, text)
    fault = first(host, Exit.POLICY, "refused", says)
    assert fault["commands"] == ["${EDITOR:-vi} /etc/apvfio/apvfio.toml"]
    host.write(POLICY, '[busy]\nzkey = "ignore"\n')
    assert host.examined("db1")[0] == 0


REQUESTED = DB1.replace('<ap:matrix adapters="0,10" domains="1-2"/>', '<ap:any mode="ep11" adapters="{}"{}/>')


@pytest.mark.parametrize(
    ("adapters", "more"), [("2", ""), ("1", ' mkvp="0x0123456789abcdef0123456789abcdef"')]
)
def test_criteria_that_nothing_satisfies(host: Patient, adapters: str, more: str) -> None:
    host.define_xml(REQUESTED.format(adapters, more))
    first(host, Exit.HOST, "criteria", "")
    host.define_xml(REQUESTED.format("1", ""))
    assert host.examined("db1")[0] == 0


def test_criteria_for_a_card_that_is_off(host: Patient) -> None:
    host.define_xml(REQUESTED.format("1", ""))
    with host.opened() as system:
        system.kernel.configure(10, configured=False)
    code, checks = host.examined("db1")
    assert (code, faults(checks)[0]["id"]) == (Exit.HOST, "criteria")
    card = next(check for check in checks if check["id"] == "cards")
    for command in card["commands"]:
        host.carry_out(command)
    assert host.examined("db1")[0] == 0


def test_a_named_adapter_that_is_off(host: Patient) -> None:
    host.define("db1", a_matrix("10", "1"))
    host.write("sys/bus/ap/devices/card0a/config", "0")
    code, checks = host.examined("db1")
    assert (code, [c["id"] for c in faults(checks)]) == (0, ["cards-asked"])
    repaired(host, faults(checks)[0])


def test_overrides_need_every_queue(host: Patient) -> None:
    host.write(POLICY, "over-provisioning = true\n")
    host.define("db1", a_matrix("0,5", "1"))
    assert host.examined("db1")[0] == 0
    assert host.run("mechanism", "overrides") == 0
    first(host, Exit.HOST, "absent", "by driver_override a guest can get only queues")


def test_guests_that_exclude_each_other(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.define("db2", a_matrix("0", "1-2"), mdev(2))
    host.define("db3", a_matrix("1", "1"))
    code, checks = host.examined()
    ids = [(c["id"], c["guest"]) for c in faults(checks)]
    assert (code, sorted(ids)) == (0, [("same-device", "db1"), ("same-queues", "db1")])
    queues = next(c for c in checks if c["id"] == "same-queues")
    assert queues["queues"] == ["00.0001"]
    assert queues["commands"] == [f"apvfio --sim {host.path} plan --all --connect test:///default"]
    host.carry_out(queues["commands"][0])
    for name in ("db1", "db2"):
        host.domain(name).setAutostart(1)
    fault = first(host, Exit.CONFLICT, "same-queues", "both start with the host", "db2")
    assert "also guest db1's" in fault["message"]
    assert all(c["guest"] != "db3" for c in faults(host.examined("db2")[1]))


def test_a_machine_that_has_no_queues(host: Patient) -> None:
    host.define_xml(DB1.replace("arch='s390x' machine='s390-ccw-virtio'", "arch='x86_64' machine='pc'"))
    first(host, Exit.REQUEST, "machine", "only s390-ccw-virtio")


def test_a_processor_without_the_instructions(host: Patient) -> None:
    features = "<feature policy='disable' name='apft'/><feature policy='require' name='ap'/>"
    cpu = f"<cpu mode='host-model'>{features}</cpu>"
    host.define_xml(DB1.replace("<devices>", f"{cpu}<devices>"))
    assert "disables apft:" in first(host, Exit.REQUEST, "cpu", "disables")["message"]


def test_a_guest_that_runs(host: Patient) -> None:
    host.define("db1", device="")
    host.domain("db1").create()
    host.define("db1", a_matrix("0", "1"))
    code, checks = host.examined("db1")
    assert (code, faults(checks)[0]["id"]) == (0, "start")
    assert "runs without the queues" in faults(checks)[0]["message"]
    assert "'apvfio guest set --live'" in faults(checks)[0]["remedy"]
    assert host.text("db1").endswith("\nNo problems found, but guest db1 runs without its queues.\n")
    host.start(a_request("0", "1")._replace(guest="db1", guest_uuid=guest_uuid("db1")))
    code, checks = host.examined("db1")
    assert (code, faults(checks)) == (0, [])
    assert checks[-1]["message"] == "it runs and has 1 queue: adapters 0, domains 1"


def test_a_guest_is_named_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By UUID and by libvirt's id; a name that is nearly right gets a suggestion."""
    with patient(tmp_path, capsys) as host:
        host.define("db1", a_matrix("0", "1"))
        assert host.examined("db1") == host.examined(guest_uuid("db1"))
        host.domain("db1").create()
        assert host.examined("db1") == host.examined(str(host.domain("db1").ID()))
        assert "Did you mean db1? List all guests." in host.text("db11")


def test_without_libvirt_a_simulated_host_is_examined_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with patient(tmp_path, capsys) as host:
        file = tmp_path / "db1.xml"
        file.write_text(DB1)
        capsys.readouterr()
        assert host.run("doctor", "--xml", str(file)) == 0
        clear = "\nNo problems found: nothing keeps guest db1 from its queues.\n"
        assert capsys.readouterr().out.endswith(clear)
        assert host.run("doctor", "--connect", "test:///no/such/file") == 0
        out = capsys.readouterr().out
        assert "not checked: libvirt at test:///no/such/file does not answer" in out
        assert host.run("doctor", "db1", "--xml", str(file)) == Exit.USAGE
        assert host.run("doctor", "--xml", str(tmp_path)) == Exit.USAGE
        file.write_text("<domain")
        assert host.run("doctor", "--xml", str(file)) == Exit.REQUEST


def test_names_are_only_text(host: Patient) -> None:
    for name in ("-c", "$(touch pwned)", "a b"):
        host.define(name, a_matrix("0", "1"), device="")
        code, checks = host.examined("--", name)
        fault = faults(checks)[0]
        assert (code, fault["id"], fault["guest"]) == (Exit.REQUEST, "device", name)
        quoted = {"-c": "--domain=-c", "$(touch pwned)": "'$(touch pwned)'", "a b": "'a b'"}[name]
        assert f"attach-device {quoted} /dev/stdin" in fault["commands"][0]


def test_guests_in_files_run_if_the_host_says_so(host: Patient, tmp_path: Path) -> None:
    """libvirt is not asked about them."""

    def file(name: str, wanted: Matrix | None, device: str) -> str:
        path = tmp_path / f"{name}-{bool(wanted)}.xml"
        path.write_text(guest_xml(name, wanted, device))
        return str(path)

    def examined(*files: str) -> tuple[int, list[Found]]:
        return host.examined(*(word for path in files for word in ("--xml", path)))

    one, two = file("db1", a_matrix("0", "1"), mdev(1)), file("db2", a_matrix("0", "1"), mdev(2))
    assert main(["sim", "start", host.path, one]) == 0
    code, checks = examined(one)
    assert (code, checks[-1]["message"]) == (0, "it runs and has 1 queue: adapters 0, domains 1")
    assert examined(two)[0] == Exit.CONFLICT
    code, checks = examined(one, two)
    assert (code, faults(checks)) == (0, [])
    assert "it waits until a running guest stops: 00.0001 is held by guest db1" in checks[-1]["message"]
    for device in (mdev(1), ""):
        code, checks = examined(file("db1", None, device))
        assert (code, faults(checks)[0]["id"]) == (Exit.REQUEST, "annotation")
    with host.opened() as system:
        known, system.processes = system.processes, None
    code, checks = examined(one)
    assert (code, checks[-1]["message"]) == (0, "it runs and has 1 queue: adapters 0, domains 1"), (
        "as in a dump"
    )
    with host.opened() as system:
        system.processes = known
    host.write(f"sys/{AP_MDEVS.remove(mdev(1))}", "1")
    code, checks = examined(one)
    assert (code, faults(checks)[0]["id"]) == (Exit.HOST, "start")
    assert f"its mediated device {mdev(1)} is gone" in faults(checks)[0]["message"]
    assert main(["sim", "stop", host.path, "db1"]) == 0
    code, checks = examined(two)
    assert (code, faults(checks)) == (0, [])
