# SPDX-License-Identifier: Apache-2.0
"""The command line on a simulated host in a file: plan, reconcile, release, and how errors are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from apvfio.cli.main import main
from apvfio.libvirt import hook
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.policy import Times
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from domain_xml import MDEV, UUID, domain
from hosts import IBM_DOMAINS, a_matrix, guest, mdev
from memory_host import IBM_ADAPTERS
from other_user import as_nobody


@pytest.fixture
def sim(tmp_path: Path) -> str:
    path = str(tmp_path / "host.json")
    create_sim(path, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    return path


@pytest.fixture
def xml(tmp_path: Path) -> str:
    path = tmp_path / "db1.xml"
    path.write_bytes(domain())
    return str(path)


def start(sim: str, document: bytes | None = None) -> int:
    with open_sim(sim) as system:
        return hook.main(["db1", "prepare", "begin", "-"], system, document or domain())


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_plan_changes_nothing_and_says_everything(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(sim, encoding="ascii") as file:
        before = file.read()
    assert main(["--sim", sim, "plan", "--xml", xml]) == Exit.OK
    out, err = said(capsys)
    assert err == ""
    assert "freed by     adapters: 2 mask bits; collateral queues: 00.001b, 0a.001b\n" in out
    assert "alternative  domains: 3 mask bits; collateral queues: 01.0001, 01.0002, 01.0004\n" in out
    assert "free    echo -0,-10 > /sys/bus/ap/apmask\n" in out
    assert "chzdev --type ap --active apmask=-0,-10\n" in out
    assert main(["--sim", sim, "plan", "--xml", xml, "--json"]) == Exit.OK
    plan = json.loads(said(capsys)[0])
    assert (plan["guest"], plan["mdev"], plan["freed_by"]) == ("db1", MDEV.lower(), "adapters")
    with open(sim, encoding="ascii") as file:
        assert file.read() == before


def test_a_plan_read_from_standard_input(sim: str, xml: str) -> None:
    with open(xml, "rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "apvfio", "--sim", sim, "plan", "--xml", "-", "--json"],
            stdin=file,
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert json.loads(done.stdout)["collateral"] == ["00.001b", "0a.001b"]


def test_a_guest_that_libvirt_forgot_is_released_by_hand(
    sim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(sim) == Exit.OK
    assert main(["--sim", sim, "release", "nobody"]) == Exit.REQUEST
    assert "Guests with a lease: db1." in said(capsys)[1]
    assert main(["--sim", sim, "release", "db1"]) == Exit.OK
    assert said(capsys)[0].splitlines() == [
        f"remove  echo 1 > /sys/{AP_MDEVS.remove(MDEV.lower())}",
        "return  echo +0,+10 > /sys/bus/ap/apmask",
    ]
    assert start(sim) == Exit.OK
    assert main(["--sim", sim, "release", UUID, "--json"]) == Exit.OK
    document = json.loads(said(capsys)[0])
    assert [step["op"] for step in document["steps"]] == ["remove", "return"]
    assert document["pending"] == {"apmask": "", "aqmask": "", "overrides": {}}


def test_two_guests_of_one_name_are_told_apart_by_uuid(sim: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = domain('<ap:matrix adapters="1" domains="27"/>', uuid=guest(2)).replace(
        MDEV.encode(), mdev(2).encode()
    )
    assert start(sim) == start(sim, other) == Exit.OK
    assert main(["--sim", sim, "release", "db1"]) == Exit.USAGE
    assert guest(2) in said(capsys)[1]
    assert main(["--sim", sim, "release", guest(2)]) == Exit.OK


def test_a_device_in_use_is_not_released_without_force(
    sim: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apvfio.engine.stop.read_times", lambda _: Times(release_wait=0))
    start(sim)
    with open_sim(sim) as system:
        system.kernel.attach_guest(MDEV.lower(), "vm")
    assert main(["--sim", sim, "release", "db1"]) == Exit.CONFLICT
    assert "guest db1: it still has 00.0001 and 5 more in use. Stop the guest first." in said(capsys)[1]
    assert main(["--sim", sim, "release", "db1", "--force", "--yes"]) == Exit.OK


def test_reconcile_says_what_it_did_and_what_stays_pending(
    sim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--sim", sim, "reconcile"]) == Exit.OK
    assert said(capsys)[0] == "nothing to do\n"
    start(sim)
    with open_sim(sim) as system:
        system.sysfs.write(AP_MDEVS.create, mdev(9))
        config = f"{AP_MDEVS.device(mdev(9))}/ap_config"
        system.sysfs.write(config, a_matrix("0", "27").as_ap_config())
    main(["--sim", sim, "release", "db1"])
    device = f"the mediated device {mdev(9)}, which is not apvfio's"
    assert f"still pending: apmask 0 (held by {device})\n" in said(capsys)[0]
    with open_sim(sim) as system:
        system.sysfs.write(AP_MDEVS.remove(mdev(9)), "1")
    assert main(["--sim", sim, "reconcile", "-n"]) == Exit.OK
    assert said(capsys)[0].splitlines()[1:] == ["would return  echo +0 > /sys/bus/ap/apmask"]
    assert main(["--sim", sim, "reconcile"]) == Exit.OK
    assert said(capsys)[0].splitlines() == [
        "seen: apmask 0 (00) is a pending return that is due: 'reconcile' sets it",
        "return  echo +0 > /sys/bus/ap/apmask",
    ]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["plan"], Exit.USAGE, "plan takes either a guest's name or --xml FILE"),
        (["plan", "x", "--xml", "y"], Exit.USAGE, "plan takes either"),
        (["plan", "--xml", "/no/such"], Exit.USAGE, "No such file"),
        (["plan", "--xml", "/dev/null"], Exit.REQUEST, "not well-formed"),
        (["frobnicate"], Exit.USAGE, "invalid choice"),
        ([], Exit.USAGE, "required: COMMAND"),
        (["plan", "--unknown"], Exit.USAGE, "unrecognized arguments: --unknown. See 'apvfio plan --help'"),
        (
            ["guest", "list", "--sim", "f"],
            Exit.USAGE,
            "before the command: 'apvfio --sim FILE guest list'",
        ),
        (["status", "--root=/x"], Exit.USAGE, "Write it before the command: 'apvfio --root DIR status'"),
        (["guest", "set", "x", "--adapters", "9-1", "--domains", "1"], Exit.REQUEST, "runs backwards"),
        (["guest", "list", "-c", "nonsense:///"], Exit.HOST, "does not answer"),
    ],
)
def test_every_error_is_one_sentence_with_its_code(
    sim: str, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--sim", sim, *words]) == code
    out, err = said(capsys)
    assert out == ""
    assert says in err
    assert err.startswith("apvfio: ")
    assert err.count("\n") == 1


def test_an_error_under_json_is_an_object(
    sim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(sim)
    path = tmp_path / "two.xml"
    path.write_bytes(domain(uuid=guest(2), name="two").replace(MDEV.encode(), mdev(2).encode()))
    assert main(["--sim", sim, "plan", "--xml", str(path), "--json"]) == Exit.CONFLICT
    out, err = said(capsys)
    document: dict[str, Any] = json.loads(out)
    assert err == ""
    assert list(document["error"]) == ["kind", "message", "guest", "queues", "remedy"]
    assert (document["error"]["kind"], document["error"]["guest"]) == ("conflict", "two")
    assert document["error"]["queues"] == ["00.0001", "00.0002", "00.0004", "0a.0001", "0a.0002", "0a.0004"]
    assert main(["--sim", sim, "no-such", "--json"]) == Exit.USAGE
    assert json.loads(said(capsys)[0])["error"]["kind"] == "usage"


def test_a_machine_without_the_ap_bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["queues"], ["reconcile"], ["masks"], ["release", "x"]):
        assert main(["--root", str(tmp_path), *words]) in (Exit.HOST, Exit.REQUEST)
        assert said(capsys)[1].count("\n") == 1
    assert main(["--root", str(tmp_path), "status"]) == Exit.HOST
    assert "this host has no AP bus" in said(capsys)[1]


def test_a_host_whose_vfio_ap_is_not_loaded(sim: str, xml: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_sim(sim) as system:
        system.kernel.unload("vfio_ap")
    assert main(["--sim", sim, "plan", "--xml", xml]) == Exit.HOST
    assert "Load it with 'modprobe vfio_ap'." in said(capsys)[1]
    assert start(sim) == Exit.HOST


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_is_not_root_is_told_so() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        copy, root = Path(directory, "copy"), Path(directory, "root")
        for made in (copy, root):
            made.mkdir(mode=0o755)
        command = as_nobody(copy, "--root", str(root))
        for words in (["reconcile"], ["release", "db1"], ["masks", "-a", "apmask=-3"]):
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode in (Exit.HOST, Exit.REQUEST), done.stderr
            assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_accident(sim: str) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", sys.executable, "-m", "apvfio", "--sim", sim, "queues"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


def test_an_unforeseen_fault_asks_for_a_report(
    sim: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: object, *, hurry: bool, progress: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("apvfio.cli.reconcile.reconcile_host", fault)
    assert main(["--sim", sim, "reconcile"]) == Exit.FAILURE
    assert "unexpected ZeroDivisionError: by design. Please report this" in said(capsys)[1]
    monkeypatch.setenv("APVFIO_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["--sim", sim, "reconcile"])


def test_the_demo_runs_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == Exit.OK
    out = said(capsys)[0]
    assert out.startswith("The hook runs in this process")
    assert [line for line in out.splitlines() if line.startswith("== ")] == [
        "== Before",
        "== While it runs",
        "== After",
    ]
    before, during, after = (part.partition("\n")[2] for part in out.split("== ")[1:])
    assert "guest db1  6 queues" in during
    assert "12 queues" in before.partition("$ ")[0]
    assert "12 queues" in after
