# SPDX-License-Identifier: Apache-2.0
"""apvfio masks: chzdev's grammar and words, and what chzdev lacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.stop import release_guest
from apvfio.model import persistent_masks
from apvfio.model.errors import Exit
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.sim.kernel import SimKernel
from apvfio.store import masks_file
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
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


def pending(host: SimulatedHost) -> object:
    return json.loads(host.read("run/apvfio/ledger.json") or "{}").get("pending")


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
    stored = persistent_masks.StoredMasks(parse_list("1-9,11-255"), parse_list("0,3,5-255"))
    assert host.read(persistent_masks.RULE) == persistent_masks.format_rule(stored)


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
    assert capsys.readouterr().out.splitlines()[6:] == [
        "  ATTRIBUTE  ACTIVE       PERSISTENT",
        '  apmask     "0-2,4-255"  -',
        '  aqmask     "0-255"      "0-4"',
    ]
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
        "apvfio: warning: no apmask is stored: the active value is changed and stored\n"
    )
    with host.opened() as system:
        assert masks_file.load(system.files) == persistent_masks.StoredMasks(
            ALL_IDS - IdSet([3, 4]), IdSet([1])
        )


def test_what_a_guest_holds_does_not_get_stored(host: SimulatedHost) -> None:
    host.start(a_request("0", "1"))
    assert host.run("masks", "-p", "apmask=-4") == 0
    with host.opened() as system:
        assert masks_file.load(system.files).apmask == ALL_IDS - IdSet([4])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["apmask=9-1"], 6, "the range '9-1' runs backwards"),
        (["aqmask="], 6, "aqmask is '': it is empty"),
        (["apmask=-1,2"], 6, "'2' has no sign"),
        (["bla=1"], 2, "'bla=1' is neither apmask=SPEC nor aqmask=SPEC"),
        (["apmask"], 2, "'apmask' is neither"),
        (["apmask=1", "apmask=2"], 2, "apmask is given twice"),
        (["--dry-run"], 2, "--dry-run requires a change"),
        (["-p", "-r", "apmask"], 6, "no apmask is stored"),
        (["-p", "-r", "aqmask", "--remove", "apmask", "--dry-run"], 6, "no apmask and no aqmask is stored"),
        (["-r", "apmask"], 2, "--remove removes stored masks only. Add --persistent."),
        (["-a", "-r", "apmask"], 2, "--remove removes stored masks only"),
        (["-p", "-r", "bla"], 2, "'bla' is neither apmask nor aqmask"),
        (["-p", "-r", "apmask", "apmask=1"], 2, "apmask is both changed and removed"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(
    host: SimulatedHost, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = masks(host)
    assert host.run("masks", *words) == code
    assert says in capsys.readouterr().err
    assert masks(host) == before
    assert host.read(persistent_masks.RULE) is None


# More than chzdev: what it does to the host is said.


def test_collateral_is_told_before(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "-a", "apmask=-0")
    host.run("masks", "-a", "apmask=+0", "aqmask=-0x1b")
    host.run("masks", "-a", "apmask=-7")
    assert capsys.readouterr().err.splitlines() == [
        "apvfio: the host loses 4 queues: 00.0001, 00.0002, 00.0004, 00.001b",
        "apvfio: the host loses 2 queues: 01.001b, 0a.001b",
        "apvfio: the host gets 3 queues: 00.0001, 00.0002, 00.0004",
        "apvfio: the host neither loses nor gets a queue",
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
    assert "the host would lose 12 queues" in told.err
    assert (masks(host), host.read(persistent_masks.RULE)) == (before, None)
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
        assert masks_file.load(system.files) == (None, ALL_IDS)
    assert host.run("masks", "-p", "-r", "aqmask", "--json") == 0
    assert json.loads(capsys.readouterr().out)["persistent"] == {"apmask": None, "aqmask": None}
    assert host.read(persistent_masks.RULE) is None
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
    document = json.loads(told.out)
    assert len(document.pop("state")) == 64
    assert document == {
        "changed": True,
        "active": {"apmask": "1-255", "aqmask": "0-255"},
        "freed": ["00.0001", "00.0002", "00.0004", "00.001b"],
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


# Pending returns.


def test_a_bit_set_by_hand_is_no_pending_return(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    host.make_mdev(mdev(9), a_matrix("0", "27"))
    with host.opened() as system:
        release_guest(system, BY_ADAPTER_0.guest_uuid)
    assert pending(host) == {"apmask": "0", "aqmask": "", "overrides": {}}
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(9)}/remove", "1")
    assert host.run("masks", "-a", "apmask=+0") == 0
    assert pending(host) == {"apmask": "", "aqmask": "", "overrides": {}}


@pytest.mark.parametrize("spec", ["apmask=-0", "apmask=1-255", "apmask=-0-3,+1-3"])
def test_a_bit_cleared_by_hand_stays_clear_after_its_guest(
    host: SimulatedHost, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-a", spec) == 0
    told = capsys.readouterr()
    assert "apmask 0 (00) will stay clear when its guests stop, because this command clears it" in told.err
    assert told.out.endswith("ap device type configured\n")
    with host.opened() as system:
        release_guest(system, BY_ADAPTER_0.guest_uuid)
    assert masks(host)[0][2] == "7"


def test_other_bits_stay_pending(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-a", "apmask=-5", "aqmask=-27,+27") == 0
    assert pending(host) == {"apmask": "0", "aqmask": "", "overrides": {}}


def test_a_persistent_change_leaves_pending_returns_alone(host: SimulatedHost) -> None:
    host.start(BY_ADAPTER_0)
    assert host.run("masks", "-p", "apmask=-0") == 0
    assert pending(host) == {"apmask": "0", "aqmask": "", "overrides": {}}


@pytest.mark.parametrize("scope", ["--active", "--persistent"])
def test_the_last_queues_are_taken_with_yes_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scope: str
) -> None:
    host = SimulatedHost(tmp_path)
    before = host.read("sys/bus/ap/apmask")
    assert host.run("masks", "apmask=-0-255", scope) == Exit.USAGE
    assert host.read("sys/bus/ap/apmask") == before
    assert "asks for confirmation" in capsys.readouterr().err
    assert host.run("masks", "apmask=-0-255", scope, "--yes") == Exit.OK
