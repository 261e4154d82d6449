# SPDX-License-Identifier: Apache-2.0
"""apvfio masks: chzdev's grammar and words, and what chzdev lacks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio import chzdev, chzdev_command
from apvfio.broker import acquire, release
from apvfio.errors import ApvfioError, ConflictError, KernelRefusedError
from apvfio.host import AP_MDEVS
from apvfio.mask import ALL_IDS, NO_IDS, IdSet, parse_edit, parse_list
from apvfio.masks_change import change_masks
from apvfio.matrix import Apqn, Matrix
from apvfio.plan.edit import Change, Wish
from apvfio.sim.kernel import SimKernel
from apvfio.system import RealSystem
from hosts import a_matrix, a_request, mdev
from machines import Machine
from simulated import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IBM_TABLE = """\
DEVICE TYPE ap
  Description        : Cryptographic Adjunct Processor (AP) device
  Modules            : ap
  Active             : yes
  Persistent         : yes

  ATTRIBUTE  ACTIVE        PERSISTENT
  apmask     "1-9,11-255"  "1-9,11-255"
  aqmask     "0,3,5-255"   "0,3,5-255"
"""
IBM_FORMS = (
    ("apmask=-0x0,-0xa", "aqmask=-0x0001,-0x0002,-0x0004"),
    ("apmask=-0,-10", "aqmask=-1,-2,-4"),
    ("apmask=-0,-10", "aqmask=-1-2,-4"),
    ("apmask=1-9,11-255", "aqmask=0,3,5-255"),
)
POLICY = "etc/apvfio/apvfio.toml"
BY_ADAPTER_0 = a_request("0", "1,2,4")
"""A guest that is freed by clearing bit 0 of apmask."""


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def masks(host: SimulatedHost) -> tuple[str, str]:
    with host.opened() as system:
        return system.sysfs.read("bus/ap/apmask").strip(), system.sysfs.read("bus/ap/aqmask").strip()


def owed(host: SimulatedHost) -> object:
    return json.loads(host.read("run/apvfio/ledger.json") or "{}").get("owed")


# As chzdev.


@pytest.mark.parametrize("form", IBM_FORMS)
def test_every_form_in_ibms_text_yields_the_table_of_step_4(
    host: SimulatedHost, form: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("masks", *form) == 0
    assert capsys.readouterr().out == "ap device type configured\n"
    assert host.run("masks") == 0
    assert capsys.readouterr().out == IBM_TABLE
    with host.opened() as system:
        drivers = {q.driver for apqn, q in system.kernel.state.queues.items() if str(apqn) != "01.001b"}
    assert drivers == {"vfio_ap"}


def test_each_form_again_says_so(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    for form in IBM_FORMS:
        host.run("masks", *form)
    assert (
        capsys.readouterr().out == "ap device type configured\n" + 3 * "ap device type already configured\n"
    )


def test_the_stored_file_is_chzdevs(host: SimulatedHost) -> None:
    host.run("masks", *IBM_FORMS[0])
    stored = chzdev.Stored(parse_list("1-9,11-255"), parse_list("0,3,5-255"))
    assert host.read(chzdev.RULE) == chzdev.format_rule(stored)


def test_scopes(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("masks", "-a", "apmask=-3") == 0
    assert host.run("masks", "aqmask=0-4", "--persistent") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Configuring device type in the active configuration only",
        "ap device type configured",
        "Configuring device type in the persistent configuration only",
        "ap device type configured",
    ]
    host.run("masks", "-a", "-p")
    assert (
        capsys.readouterr().out.splitlines()[6:]
        == [
            "  ATTRIBUTE  ACTIVE         PERSISTENT",
            '  apmask     "0-2,4-255"  -',
            '  aqmask     "0-255"      "0-4"',
        ]
        or capsys.readouterr().out == ""
    )
    host.run("masks", "-p")
    assert capsys.readouterr().out.splitlines()[-2:] == ["  ATTRIBUTE  PERSISTENT", '  aqmask     "0-4"']
    host.run("masks", "-a")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "  ATTRIBUTE  ACTIVE",
        '  apmask     "0-2,4-255"',
        '  aqmask     "0-255"',
    ]


def test_relative_changes_apply_to_each_base(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "-p", "apmask=0-9")
    host.run("masks", "-a", "apmask=-20")
    host.run("masks", "apmask=-3,+30")
    capsys.readouterr()
    host.run("masks", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "active": {"apmask": "0-2,4-19,21-255", "aqmask": "0-255"},
        "persistent": {"apmask": "0-2,4-9,30", "aqmask": None},
    }


def test_an_unstored_base_is_the_active_mask_and_that_is_said(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.run("masks", "-a", "apmask=-3")
    capsys.readouterr()
    assert host.run("masks", "-p", "apmask=-4", "aqmask=1") == 0
    assert capsys.readouterr().err == (
        "apvfio: warning: no apmask is stored: what is active is changed and stored instead\n"
    )
    with host.opened() as system:
        assert chzdev.load(system.files) == chzdev.Stored(ALL_IDS - IdSet([3, 4]), IdSet([1]))


def test_what_a_guest_holds_does_not_get_stored(host: SimulatedHost) -> None:
    host.start(a_request("0", "1"))
    assert host.run("masks", "-p", "apmask=-4") == 0
    with host.opened() as system:
        assert chzdev.load(system.files).apmask == ALL_IDS - IdSet([4])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["apmask=9-1"], 6, "the range '9-1' runs backwards"),
        (["aqmask="], 6, "aqmask is '': it is empty"),
        (["apmask=-1,2"], 6, "'2' lacks the sign"),
        (["bla=1"], 2, "'bla=1' is neither apmask=SPEC nor aqmask=SPEC"),
        (["apmask"], 2, "'apmask' is neither"),
        (["apmask=1", "apmask=2"], 2, "apmask is given twice"),
        (["--dry-run"], 2, "--dry-run needs something to change"),
        (["-p", "-r", "apmask"], 6, "no apmask is stored"),
        (["-p", "-r", "aqmask", "--remove", "apmask", "--dry-run"], 6, "no apmask and no aqmask is stored"),
        (["-r", "apmask"], 2, "only a stored mask can be removed. Add --persistent."),
        (["-a", "-r", "apmask"], 2, "only a stored mask can be removed"),
        (["-p", "-r", "bla"], 2, "'bla' is neither apmask nor aqmask"),
        (["-p", "-r", "apmask", "apmask=1"], 2, "apmask is both given and removed"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(
    host: SimulatedHost, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = masks(host)
    assert host.run("masks", *words) == code
    assert says in capsys.readouterr().err
    assert masks(host) == before
    assert host.read(chzdev.RULE) is None


# More than chzdev: what it does to the host is said.


def test_collateral_is_told_before(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "-a", "apmask=-0")
    host.run("masks", "-a", "apmask=+0", "aqmask=-0x1b")
    host.run("masks", "-a", "apmask=-7")
    assert capsys.readouterr().err.splitlines() == [
        "apvfio: the host loses 4 queues: 00.0001, 00.0002, 00.0004, 00.001b",
        "apvfio: the host loses 2 queues: 01.001b, 0a.001b",
        "apvfio: the host gets 3 queues: 00.0001, 00.0002, 00.0004",
        "apvfio: no queue changes hands",
    ]


def test_dry_run_changes_nothing(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    before = masks(host)
    assert host.run("masks", "--dry-run", "apmask=-0", "aqmask=-0-255") == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "would write -0 to /sys/bus/ap/apmask",
        "would write -0-255 to /sys/bus/ap/aqmask",
        "would store apmask 1-255 in /etc/udev/rules.d/41-ap.rules",
        "would store aqmask without any bit in /etc/udev/rules.d/41-ap.rules",
    ]
    assert "the host loses 12 queues" in told.err
    assert (masks(host), host.read(chzdev.RULE)) == (before, None)
    host.run("masks", "--dry-run", "-p", "apmask=1")
    assert capsys.readouterr().out == "would store apmask 1 in /etc/udev/rules.d/41-ap.rules\n"
    host.run("masks", "--dry-run", "-a", "apmask=+0")
    assert capsys.readouterr().out.splitlines()[-1] == "ap device type already configured"


def test_a_mask_is_stored_no_longer(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "apmask=-0", "aqmask=-1")
    before = masks(host)
    capsys.readouterr()
    assert host.run("masks", "-p", "-r", "apmask", "--dry-run") == 0
    assert capsys.readouterr().out == "would remove apmask from /etc/udev/rules.d/41-ap.rules\n"
    assert host.run("masks", "-p", "-r", "apmask", "aqmask=+1") == 0
    assert capsys.readouterr().out == (
        "Configuring device type in the persistent configuration only\nap device type configured\n"
    )
    with host.opened() as system:
        assert chzdev.load(system.files) == (None, ALL_IDS)
    assert host.run("masks", "-p", "-r", "aqmask", "--json") == 0
    assert json.loads(capsys.readouterr().out)["persistent"] == {"apmask": None, "aqmask": None}
    assert host.read(chzdev.RULE) is None
    assert masks(host) == before


def test_a_mask_that_is_stored_for_a_device_stays(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a boot the host would have the queues that a definition starts with."""
    host.run("masks", "apmask=-0")
    attrs = '[{"assign_adapter": "0"}, {"assign_domain": "1"}]'
    definition = f'{{"mdev_type": "vfio_ap-passthrough", "start": "auto", "attrs": {attrs}}}'
    host.write(f"etc/mdevctl.d/matrix/{mdev(1)}", definition)
    capsys.readouterr()
    assert host.run("masks", "-p", "-r", "apmask") == 3
    assert f"mdevctl's definition {mdev(1)} starts at boot and needs 00.0001" in capsys.readouterr().err
    host.write(f"etc/mdevctl.d/matrix/{mdev(1)}", definition.replace("auto", "manual"))
    assert host.run("masks", "-p", "-r", "apmask") == 0


def test_json_of_a_change(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("masks", "--json", "-a", "apmask=-0") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {
        "changed": True,
        "active": {"apmask": "1-255", "aqmask": "0-255"},
        "lost": ["00.0001", "00.0002", "00.0004", "00.001b"],
        "returned": [],
        "steps": [{"op": "free", "path": "/sys/bus/ap/apmask", "value": "-0"}],
        "warnings": [],
    }
    assert told.err == ""
    host.run("masks", "--json", "-p", "apmask=+0")
    assert json.loads(capsys.readouterr().out)["persistent"] == {"apmask": "0-255", "aqmask": None}


def test_without_vfio_ap_freed_queues_have_no_driver_and_come_back_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(vfio_ap=False))
    host.run("masks", "-a", "apmask=-0")
    assert "vfio_ap is not loaded: the freed queues will have no driver" in capsys.readouterr().err
    host.run("masks", "-a", "apmask=+0")
    with host.opened() as system:
        assert {queue.driver for queue in system.kernel.state.queues.values()} == {"cex4queue"}


# More than chzdev: what must not be is refused, before the first write.


@pytest.mark.parametrize(("profile", "code"), [("7.2", 3), ("6.12", 0), ("6.1", 0)])
def test_a_bit_that_only_7_2_refuses(
    tmp_path: Path, profile: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # Both masks keep 00.0001 from the host: one of them may be set, says every kernel before 7.
    host = SimulatedHost(tmp_path, SimKernel.new(profile))
    host.run("masks", "-a", "apmask=-0", "aqmask=-1")
    host.make_mdev(mdev(3), a_matrix("0", "1"))
    capsys.readouterr()
    assert host.run("masks", "-a", "apmask=+0") == code
    if code:
        assert capsys.readouterr().err == (
            f"apvfio: apmask 0 (00) cannot go to the host: the mediated device {mdev(3)} holds 00.0001. "
            "Stop the guest or remove the mediated device first.\n"
        )
    assert (masks(host)[0][2] == "7") == bool(code)


@pytest.mark.parametrize("profile", ["7.2", "6.12"])
def test_bits_that_every_kernel_refuses(
    tmp_path: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(profile))
    host.run("masks", "-a", "apmask=-0", "aqmask=-1")
    host.make_mdev(mdev(3), a_matrix("0", "1-2"))
    before = masks(host)
    for words in (["apmask=+0"], ["apmask=+0", "aqmask=+1"]):
        capsys.readouterr()
        assert host.run("masks", "--json", *words) == 3
        error = json.loads(capsys.readouterr().out)
        assert error["kind"] == "conflict"
        assert mdev(3) in error["error"]
        assert "00.0002" in error["queues"]
        assert (masks(host), host.read(chzdev.RULE)) == (before, None)


def test_on_6_12_bits_swap_places_for_a_device(tmp_path: Path) -> None:
    # 00.0001 is kept by apmask alone; clearing aqmask first lets apmask go back.
    host = SimulatedHost(tmp_path, SimKernel.new("6.12"))
    host.run("masks", "-a", "apmask=-0")
    host.make_mdev(mdev(3), a_matrix("0", "1"))
    assert host.run("masks", "-a", "apmask=+0", "aqmask=-1") == 0
    assert [mask[2] for mask in masks(host)] == ["f", "b"]


def test_one_dimension_of_a_device_holds_nothing(host: SimulatedHost) -> None:
    host.run("masks", "-a", "apmask=-0")
    host.make_mdev(mdev(3), a_matrix("0", "1")._replace(domains=NO_IDS))
    assert host.run("masks", "-a", "apmask=+0") == 0


def test_a_lease_keeps_its_bits(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0,10", "1,2,4"))
    assert host.run("masks", "-a", "apmask=+10,+0") == 3
    assert "apmask 0,10 (00, 0a) cannot go to the host: guest g1 holds 00.0001" in capsys.readouterr().err
    # Even if somebody has removed its device.
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(1)}/remove", "1")
    assert host.run("masks", "-a", "apmask=+10") == 3
    assert "guest g1 holds 0a.0001, 0a.0002, 0a.0004. Stop the guest first." in capsys.readouterr().err


def test_a_lease_freed_by_domains_keeps_those(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0,1,10", "1"))
    assert host.run("masks", "-a", "aqmask=0-255") == 3
    assert "aqmask 1 (0001) cannot go to the host: guest g1 holds" in capsys.readouterr().err


def test_a_guest_is_named_beside_its_device(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "-a", "aqmask=-1")
    host.start(a_request("0", "1"))
    assert host.run("masks", "-a", "apmask=-0") == 0
    assert "apmask 0 (00) cannot be set again before the mediated device" in capsys.readouterr().err
    assert host.run("masks", "-a", "apmask=+0") == 3
    assert f"the mediated device {mdev(1)} of guest g1 holds 00.0001" in capsys.readouterr().err


@pytest.mark.parametrize("scope", ["-a", "-p"])
@pytest.mark.parametrize(
    "reserve",
    ['queues = ["01.001b"]', 'adapters = "1"', 'domains = "0x1b"', 'queues = ["01.00fe", "01.001b"]'],
)
def test_reserved_queues_stay_with_the_host(
    host: SimulatedHost, scope: str, reserve: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(POLICY, f"[reserve]\n{reserve}\n")
    before = masks(host)
    assert host.run("masks", scope, "apmask=-1", "aqmask=-0x1b") == 4
    err = capsys.readouterr().err
    assert "01.001b" in err
    assert "for which the policy reserves" in err
    assert (masks(host), host.read(chzdev.RULE)) == (before, None)


def test_a_reserved_queue_may_come_back(host: SimulatedHost) -> None:
    host.run("masks", "-a", "apmask=-1")
    host.write(POLICY, '[reserve]\nadapters = "1"\n')
    assert host.run("masks", "-a", "apmask=+1") == 0


def test_overrides_shut_the_masks(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("sys/bus/ap/devices/0a.0001/driver_override", "vfio_ap")
    assert host.run("masks", "-a", "apmask=-1") == 5
    assert "moved by driver_override (0a.0001), which shuts the AP masks" in capsys.readouterr().err
    assert host.run("masks", "-p", "apmask=-1") == 0


def test_a_host_that_is_to_use_overrides_is_warned_of(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(POLICY, 'mode = "overrides"\n')
    assert host.run("masks", "-a", "apmask=-20") == 0
    assert "which stays shut until all mask bits are set again" in capsys.readouterr().err
    # It is shut now: no news.
    assert host.run("masks", "-a", "apmask=-21") == 0
    assert "shut" not in capsys.readouterr().err


def definition(**changes: object) -> str:
    attrs = [{"assign_adapter": "0x0a"}, {"assign_domain": "1,0x4"}, {"assign_control_domain": "1"}]
    return json.dumps({"mdev_type": "vfio_ap-passthrough", "start": "auto", "attrs": attrs} | changes)


def test_a_device_that_starts_at_boot_keeps_its_queues(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", definition())
    host.write("etc/mdevctl.d/matrix/notes", definition())
    before = host.read(chzdev.RULE)
    assert host.run("masks", "-p", "apmask=+10") == 3
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"apvfio: mdevctl's definition {mdev(4)} starts at boot and needs 0a.0001, 0a.0004, which the stored "
        "masks would leave to the host. Change the definition first."
    )
    assert host.read(chzdev.RULE) == before
    # Bits that are no news, or go to nobody's queues, are none of its business.
    assert host.run("masks", "-p", "apmask=+11", "aqmask=-1") == 0
    assert host.run("masks", "-p", "aqmask=-4") == 0
    assert host.run("masks", "-p", "apmask=+10") == 0


@pytest.mark.parametrize(
    "text",
    [
        definition(start="manual"),
        definition(mdev_type="i915"),
        definition(attrs=[{"assign_adapter": "0xa"}]),
        definition(attrs=[{"assign_adapter": "ten"}, {"assign_domain": "1"}]),
        definition(attrs="0xa"),
        definition(attrs=[{"assign_adapter": 10}, {"assign_domain": 1}]),
        "[]",
        "{",
        "[" * 100_000,
    ],
)
def test_other_definitions_do_not_count(host: SimulatedHost, text: str) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", text)
    assert host.run("masks", "-p", "apmask=+10") == 0


def test_a_definition_may_be_three_masks(host: SimulatedHost) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    config = a_matrix("10", "1").as_ap_config()
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", definition(attrs=[{"ap_config": config}]))
    assert host.run("masks", "-p", "apmask=+10") == 3


# Debts.


def test_a_bit_set_by_hand_is_owed_no_more(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    host.make_mdev(mdev(9), a_matrix("0", "27"))
    with host.opened() as system:
        release(system, BY_ADAPTER_0.guest_uuid)
    assert owed(host) == {"apmask": "0", "aqmask": "", "overrides": {}}
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(9)}/remove", "1")
    assert host.run("masks", "-a", "apmask=+0") == 0
    assert owed(host) == {"apmask": "", "aqmask": "", "overrides": {}}


@pytest.mark.parametrize("spec", ["apmask=-0", "apmask=1-255", "apmask=-0-3,+1-3"])
def test_a_bit_cleared_by_hand_stays_clear_after_its_guest(
    host: SimulatedHost, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-a", spec) == 0
    told = capsys.readouterr()
    assert "apmask 0 (00) will stay clear when its guests stop, as it is cleared by hand now" in told.err
    assert told.out.endswith("ap device type configured\n")
    with host.opened() as system:
        release(system, BY_ADAPTER_0.guest_uuid)
    assert masks(host)[0][2] == "7"


def test_other_bits_stay_owed(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-a", "apmask=-5", "aqmask=-27,+27") == 0
    assert owed(host) == {"apmask": "0", "aqmask": "", "overrides": {}}


def test_a_persistent_change_leaves_debts_alone(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-p", "apmask=-0") == 0
    assert owed(host) == {"apmask": "0", "aqmask": "", "overrides": {}}


# When the kernel, or the disk, says no in the middle.


def wish(apmask: str | None, aqmask: str | None, *, persistent: bool = False) -> Wish:
    apmask_edit, aqmask_edit = (parse_edit(text) if text else None for text in (apmask, aqmask))
    return Wish(apmask_edit, aqmask_edit, active=True, persistent=persistent)


def ignore(_: Change) -> None:
    pass


def make_mdev(machine: Machine, matrix: Matrix) -> None:
    machine.kernel.write(AP_MDEVS.create, mdev(8))
    for kind, ids in zip(("adapter", "domain"), matrix, strict=False):
        for i in ids:
            machine.kernel.write(f"{AP_MDEVS.device(mdev(8))}/assign_{kind}", str(i))


def test_if_the_second_mask_is_refused_the_first_goes_back() -> None:
    machine = Machine()
    acquire(machine, BY_ADAPTER_0)
    machine.kernel.write("bus/ap/aqmask", "-27")
    before = machine.ledger
    # Somebody makes a device between our look and our second write.
    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "27")))
    with pytest.raises(KernelRefusedError, match="a mediated device still holds one of these ids"):
        change_masks(machine, wish("-0,-10,-20-22", "+27"), ignore)
    assert machine.host.apmask == ALL_IDS - IdSet([0])
    assert machine.host.aqmask == ALL_IDS - IdSet([27])
    assert machine.host.drivers[Apqn(10, 2)] == "cex4queue"
    assert machine.ledger == before


def test_what_cannot_be_undone_is_told() -> None:
    machine = Machine()

    machine.kernel.write("bus/ap/aqmask", "-1")
    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "1")))
    with pytest.raises(KernelRefusedError, match=r"Not all is as it was before: the kernel refused '\+1'"):
        change_masks(machine, wish("-1", "+1"), ignore)


def test_a_set_bit_is_undone_too() -> None:
    machine = Machine()
    machine.kernel.write("bus/ap/apmask", "-3")
    machine.kernel.write("bus/ap/aqmask", "-1")

    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "1")))
    with pytest.raises(KernelRefusedError):
        change_masks(machine, wish("+3", "+1"), ignore)
    assert machine.host.apmask == ALL_IDS - IdSet([3])


def test_a_mask_that_another_program_changes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    real = machine.kernel.write

    def stubborn(path: str, text: str) -> None:
        if path != "bus/ap/apmask":
            real(path, text)

    monkeypatch.setattr(machine.kernel, "write", stubborn)
    with pytest.raises(ApvfioError, match=r"/sys/bus/ap/apmask reads 0-255 after '-1' was written"):
        change_masks(machine, wish("-1", None), ignore)


def test_a_store_that_fails_says_what_is_changed_already() -> None:
    machine = Machine()

    def full() -> None:
        raise ApvfioError("the disk is full.", remedy="Make room.")

    machine.faults.arm(2, full)
    with pytest.raises(
        ApvfioError, match=r"Make room\. The active masks are changed; only storing them failed"
    ):
        change_masks(machine, wish("-5", None, persistent=True), ignore)
    assert machine.host.apmask == ALL_IDS - IdSet([5])
    machine.faults.arm(1, full)
    with pytest.raises(ApvfioError, match=r"Make room\.$"):
        change_masks(machine, wish("-6", None, persistent=True)._replace(active=False), ignore)


def test_all_is_done_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    held: list[int] = []

    @contextmanager
    def lock() -> Iterator[None]:
        yield
        held.append(machine.faults.count)

    monkeypatch.setattr(machine, "lock", lock)
    change_masks(machine, wish("-5", "-6", persistent=True), ignore)
    assert held == [3]


# The real chzdev, where there is one.


CHZDEV = """\
#!/bin/sh
echo "$*" > {root}/argv
env > {root}/env
{action}
"""


@pytest.fixture
def with_chzdev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("apvfio.chzdev_command.find_chzdev", lambda _: str(tmp_path / "chzdev"))
    return tmp_path


def fake_chzdev(root: Path, action: str) -> None:
    (root / "chzdev").write_text(CHZDEV.format(root=root, action=action))
    (root / "chzdev").chmod(0o755)


class StoringMachine(Machine):
    """A machine whose chzdev leaves its result in a file of the test's."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        (root / "result").write_text(chzdev.format_rule(chzdev.Stored(ALL_IDS - IdSet([5]), NO_IDS)))
        real = self.files.read

        def read(path: str) -> str | None:
            done = root / "argv"
            return (root / "result").read_text() if path == chzdev.RULE and done.exists() else real(path)

        self.files.read = read  # type: ignore[method-assign]


def test_chzdev_stores_absolute_masks(with_chzdev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_chzdev(with_chzdev, "echo ap device type configured")
    machine = StoringMachine(with_chzdev)
    monkeypatch.setenv("SYSFS_ROOT", "/elsewhere")
    change_masks(machine, wish("-5", "-0-255", persistent=True), ignore)
    argv = (with_chzdev / "argv").read_text()
    assert argv == "--type ap --persistent --yes apmask=0-4,6-255 aqmask=-0-255\n"
    assert "SYSFS_ROOT" not in (with_chzdev / "env").read_text()
    assert chzdev.RULE not in machine.files.texts


def test_chzdev_is_run_when_the_lock_is_free_again(
    with_chzdev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes the lock itself, and would wait 99 s for us.
    fake_chzdev(with_chzdev, f"test ! -e {with_chzdev}/locked")
    machine = StoringMachine(with_chzdev)

    @contextmanager
    def lock() -> Iterator[None]:
        (with_chzdev / "locked").touch()
        yield
        (with_chzdev / "locked").unlink()

    monkeypatch.setattr(machine, "lock", lock)
    change_masks(machine, wish("-5", "-0-255", persistent=True), ignore)
    assert (with_chzdev / "argv").exists()


def test_only_a_real_machine_has_a_chzdev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_chzdev(tmp_path, "")
    monkeypatch.setattr(chzdev_command, "PLACES", (str(tmp_path / "none"), str(tmp_path / "chzdev")))
    assert chzdev_command.find_chzdev(RealSystem("/")) == str(tmp_path / "chzdev")
    assert chzdev_command.find_chzdev(RealSystem(str(tmp_path))) is None
    assert chzdev_command.find_chzdev(Machine()) is None
    monkeypatch.setattr(chzdev_command, "PLACES", (str(tmp_path / "none"),))
    assert chzdev_command.find_chzdev(RealSystem("/")) is None


def test_chzdev_is_not_run_for_nothing(with_chzdev: Path) -> None:
    fake_chzdev(with_chzdev, "exit 1")
    change_masks(Machine(), wish("-5", None), ignore)
    assert not (with_chzdev / "argv").exists()


@pytest.mark.parametrize(
    ("action", "kind", "says"),
    [
        ("echo chzdev: conflicts with mdev >&2; exit 9", ConflictError, "exit code 9.*conflicts with mdev"),
        ("exit 15", ApvfioError, "could not store the masks .exit code 15"),
        ("true", ApvfioError, "chzdev reported success, but /etc/udev/rules.d/41-ap.rules does not hold"),
    ],
)
def test_chzdev_is_not_believed(with_chzdev: Path, action: str, kind: type[ApvfioError], says: str) -> None:
    fake_chzdev(with_chzdev, action)
    with pytest.raises(kind, match=says):
        change_masks(Machine(), wish("-5", None, persistent=True), ignore)


def test_a_chzdev_that_does_not_run(with_chzdev: Path) -> None:
    (with_chzdev / "chzdev").write_text("no program")
    (with_chzdev / "chzdev").chmod(0o755)
    with pytest.raises(ApvfioError, match="could not be run"):
        change_masks(Machine(), wish("-5", None, persistent=True), ignore)
