# SPDX-License-Identifier: Apache-2.0
"""`apvfio masks` beside the real chzdev and lszdev, on one host."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.model import persistent_masks
from apvfio.model.errors import Exit
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.store import masks_file
from hosts import mdev
from mdevctl_cases import device
from real_tools import tool_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_tools import ToolHost, Tools

ALL = "0x" + "f" * 64
FORMS = [
    ("apmask=-0x0,-0xa", "aqmask=-0x0001,-0x0002,-0x0004"),
    ("apmask=-0,-10", "aqmask=-1,-2,-4"),
    ("apmask=-0,-10", "aqmask=-1-2,-4"),
    ("apmask=1-9,11-255", "aqmask=0,3,5-255"),
]
SCOPES = [(), ("-a",), ("-p",)]


@pytest.fixture(scope="module")
def shared(tools: Tools) -> Iterator[ToolHost]:
    with tool_host(tools) as made:
        yield made


@pytest.fixture
def host(shared: ToolHost) -> ToolHost:
    """A host with full masks and none stored."""
    reset(shared)
    return shared


def reset(host: ToolHost) -> None:
    host.system.files.remove(persistent_masks.RULE)
    for name in ("apmask", "aqmask"):
        host.system.sysfs.write(f"bus/ap/{name}", ALL)


def state(host: ToolHost) -> list[str]:
    masks = [host.system.sysfs.read(f"bus/ap/{name}") for name in ("apmask", "aqmask")]
    return [host.masks(), *masks, host.system.files.read(persistent_masks.RULE) or ""]


def ours(host: ToolHost, *words: str, code: int = 0) -> str:
    """Run ``apvfio masks`` so that it stores by itself, as where there is no chzdev."""
    return host.apvfio("--root", host.root, "masks", *words, code=code).stdout


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_ibms_procedure_does_what_chzdev_does(
    host: ToolHost, form: tuple[str, ...], scope: tuple[str, ...]
) -> None:
    said = host.run("chzdev", "--type", "ap", *form, *scope).stdout
    theirs = state(host)
    reset(host)
    assert ours(host, *form, *scope) == said
    assert state(host) == theirs
    assert ours(host, *form, *scope).endswith("ap device type already configured\n")


@pytest.mark.parametrize("scope", SCOPES)
def test_the_table_is_lszdevs(host: ToolHost, scope: tuple[str, ...]) -> None:
    for change in (
        (),
        ("apmask=-3",),
        ("-a", "aqmask=5-9"),
        ("-p", "apmask=+3", "aqmask=0,2-255"),
        ("aqmask=-0-255",),
    ):
        if change:
            host.run("chzdev", "--type", "ap", *change)
        assert ours(host, *scope) == host.run("lszdev", "--type", "ap", *scope).stdout


def test_the_masks_are_changed_in_turns(host: ToolHost) -> None:
    """Whoever stored or cleared it, the other goes on from there."""
    ours(host, "apmask=-3")
    host.run("chzdev", "--type", "ap", "apmask=-4", "aqmask=-1")
    ours(host, "-p", "apmask=+3")
    host.run("chzdev", "--type", "ap", "-a", "apmask=+4")
    ours(host, "aqmask=-200-255")
    host.run("chzdev", "--type", "ap", "-p", "aqmask=+255")
    assert masks_file.load(host.system.files) == (parse_list("0-3,5-255"), parse_list("0,2-199,255"))
    assert ours(host) == host.masks()
    assert [line.split()[1] for line in host.masks().splitlines()[-2:]] == ['"0-2,4-255"', '"0,2-199"']


def test_a_stored_mask_is_removed_as_by_chzdev(host: ToolHost) -> None:
    def stored(program: str) -> Iterator[list[str]]:
        reset(host)
        host.run("chzdev", "--type", "ap", "-p", "apmask=-3", "aqmask=-4")
        for name in ("apmask", "aqmask"):
            words = ["-p", "--remove", name]
            if program == "chzdev":
                host.run("chzdev", "--type", "ap", *words)
            else:
                ours(host, *words)
            yield state(host)

    assert [*stored("chzdev")] == [*stored("apvfio")]
    assert host.system.files.read(persistent_masks.RULE) is None
    host.run("chzdev", "--type", "ap", "-p", "-r", "apmask", code=7)
    ours(host, "-p", "-r", "apmask", code=Exit.REQUEST)
    host.run("chzdev", "--type", "ap", "-r", "apmask", code=1)
    ours(host, "-r", "apmask", code=Exit.USAGE)


def test_a_stored_mask_that_a_definition_needs_is_removed_by_chzdev_only(host: ToolHost) -> None:
    host.run("chzdev", "--type", "ap", "-p", "apmask=-0")
    host.mdevctl("define", 1, device(["0"], ["1"], "auto"))
    try:
        stored = state(host)
        assert mdev(1) in host.apvfio("masks", "-p", "-r", "apmask", code=Exit.CONFLICT).stderr
        assert state(host) == stored
        host.run("chzdev", "--type", "ap", "-p", "-r", "apmask")
        assert host.system.files.read(persistent_masks.RULE) is None
    finally:
        host.mdevctl("undefine", 1)


def test_a_dry_run_of_ours_changes_nothing_and_one_of_chzdevs_does(host: ToolHost) -> None:
    before = state(host)
    ours(host, "--dry-run", "apmask=-0")
    assert state(host) == before
    host.run("chzdev", "--type", "ap", "--dry-run", "apmask=-0")
    assert host.system.sysfs.read("bus/ap/apmask").startswith("0x7f")


def test_the_machines_own_rules_stay_as_they_are(host: ToolHost) -> None:
    """The namespace has an /etc of the machine's, but for what is the simulated host's."""
    own = Path("/etc/udev/rules.d")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in own.glob("*"))
    host.run("chzdev", "--type", "ap", "-p", "apmask=-0")
    host.apvfio("masks", "-p", "aqmask=-0")
    assert host.path(f"/{persistent_masks.RULE}").exists()
    assert sorted((path.name, path.stat().st_mtime_ns) for path in own.glob("*")) == before


def test_where_there_is_a_chzdev_it_stores(host: ToolHost) -> None:
    done = host.apvfio("masks", "apmask=-0", "aqmask=-0-255", "--yes")
    assert done.stdout == "ap device type configured\n"
    assert masks_file.load(host.system.files) == (parse_list("1-255"), NO_IDS)
    assert host.apvfio("masks").stdout == host.masks()
    host.apvfio("masks", "-p", "-r", "aqmask", "apmask=5", "--yes")
    assert masks_file.load(host.system.files) == (IdSet([5]), None)
    host.apvfio("masks", "-p", "-r", "apmask")
    assert host.system.files.read(persistent_masks.RULE) is None


def test_what_chzdev_says_against_it_is_passed_on(host: ToolHost) -> None:
    """A conflict that chzdev alone sees: it counts the queues of a device that the kernel would not make."""
    host.apvfio("masks", "-p", "apmask=-0")
    file = f"etc/mdevctl.d/matrix/{mdev(1)}"
    strange = json.loads(device(["0"], ["1"], "auto"))
    strange["attrs"].append({"assign_domain": "999"})
    host.system.files.write(file, json.dumps(strange), 0o644)
    try:
        done = host.apvfio("masks", "-p", "apmask=+0", code=Exit.CONFLICT)
        assert "chzdev could not store the masks (exit code 9): " in done.stderr
        assert f"persistent apmask conflicts with defined autostart mdev {mdev(1)} APQN 0.1" in done.stderr
    finally:
        host.system.files.remove(file)
    assert masks_file.load(host.system.files) == (parse_list("1-255"), None)


def test_both_refuse_what_a_device_needs(host: ToolHost) -> None:
    """And for the same queues: those of devices that are there, and those of devices that start at boot."""
    host.run("chzdev", "--type", "ap", "apmask=-0,-10", "aqmask=-1")
    host.mdevctl("define", 1, device(["0"], ["2"], "auto"))
    host.mdevctl("start", 1)
    before = state(host)
    try:
        for scope in ("-a", "-p"):
            theirs = host.run("chzdev", "--type", "ap", scope, "apmask=+0", code=9).stderr
            assert f"{mdev(1)} APQN 0.2" in theirs
            mine = host.apvfio("--root", host.root, "masks", scope, "apmask=+0", code=Exit.CONFLICT).stderr
            assert mdev(1) in mine
            assert "00.0002" in mine
            assert state(host) == before
            for fine in ("apmask=+10", "apmask=-1"):
                host.run("chzdev", "--type", "ap", scope, fine)
                ours(host, scope, fine)
                host.run("chzdev", "--type", "ap", scope, "apmask=-10,+1")
    finally:
        host.mdevctl("stop", 1)
        host.mdevctl("undefine", 1)


def test_a_refusal_of_the_kernel_that_chzdev_does_not_see(host: ToolHost) -> None:
    """The bit of a device with an adapter and a domain is shut on 7.2, even if no queue of it would move."""
    host.run("chzdev", "--type", "ap", "-a", "apmask=-0", "aqmask=-1")
    host.mdevctl("start", 1, device(["0"], ["1"]))
    before = state(host)
    try:
        assert host.run("chzdev", "--type", "ap", "-a", "apmask=+0").stdout.endswith(
            "ap device type configured\n"
        )
        assert state(host) == before
        host.apvfio("masks", "-a", "apmask=+0", code=Exit.CONFLICT)
        assert state(host) == before
    finally:
        host.mdevctl("stop", 1)


@pytest.mark.parametrize("mask", ["0x12", "nonsense", "0x" + "g" * 64])
def test_a_broken_rule_file_ends_lszdev_with_an_assertion_and_is_named_here(
    host: ToolHost, mask: str
) -> None:
    rule = persistent_masks.format_rule(persistent_masks.StoredMasks(NO_IDS)).replace(f"0x{'0' * 64}", mask)
    host.system.files.write(persistent_masks.RULE, rule, 0o644)
    assert host.run("lszdev", "--type", "ap", code=None).returncode == -signal.SIGABRT
    # It has left the lock behind.
    said = host.apvfio("masks", code=Exit.REQUEST).stderr
    assert said.startswith(f"apvfio: /{persistent_masks.RULE} stores an invalid mask: {mask!r}.")
    host.apvfio("masks", "-a", "apmask=-0", code=Exit.REQUEST)


def test_a_long_mask_is_cut_by_both(host: ToolHost) -> None:
    rule = persistent_masks.format_rule(persistent_masks.StoredMasks(NO_IDS)).replace(
        f"0x{'0' * 64}", f"0x{'1' * 70}"
    )
    host.system.files.write(persistent_masks.RULE, rule, 0o644)
    assert ours(host) == host.masks()


def test_rules_of_other_hands(host: ToolHost) -> None:
    """Which entries count, and which of several: not quite what udev would make of them."""
    other = "0x7f" + "f" * 62
    for line in (
        f'ATTR{{../../bus/ap/apmask}}="{other}"',
        f"ATTR{{/sys/bus/ap/apmask}} = '{other}'",
        f'  ATTR{{my_apmask_too}}+="{other}", RUN+="true"',
        f'KERNEL=="ap", ATTR{{../../bus/ap/apmask}}="{other}"',
        f'ATTR{{../../bus/ap/apmask}}="{ALL}"\nATTR{{../../bus/ap/apmask}}="{other}"',
        f'# ATTR{{../../bus/ap/apmask}}="{other}"',
    ):
        host.system.files.write(persistent_masks.RULE, f"{line}\n", 0o644)
        assert ours(host) == host.masks(), line
