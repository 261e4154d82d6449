# SPDX-License-Identifier: Apache-2.0
"""Our tables beside those of the real chzdev, lszdev and lszcrypt, on the real drivers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv

ALL = "0x" + "f" * 64
RULES = Path("/etc/udev/rules.d/41-ap.rules")


def run(*words: str, code: int = 0) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def apvfio(*words: str, code: int = 0) -> str:
    return run("python3", "-m", "apvfio", *words, code=code)


@pytest.fixture(autouse=True)
def default_masks() -> Iterator[None]:
    yield
    RULES.unlink(missing_ok=True)
    for name in ("apmask", "aqmask"):
        Path(f"/sys/bus/ap/{name}").write_text(ALL)


FORMS = [
    ("apmask=-0x0,-0xa", "aqmask=-0x0001,-0x0002,-0x0004"),
    ("apmask=-0,-10", "aqmask=-1,-2,-4"),
    ("apmask=-0,-10", "aqmask=-1-2,-4"),
    ("apmask=1-9,11-255", "aqmask=0,3,5-255"),
]


@pytest.mark.parametrize(
    ("form", "scope"), [*((form, ()) for form in FORMS), (FORMS[2], ("-a",)), (FORMS[2], ("-p",))]
)
def test_every_form_of_ibms_procedure_does_what_chzdev_does(
    form: tuple[str, ...], scope: tuple[str, ...]
) -> None:
    def state() -> list[str]:
        masks = [Path(f"/sys/bus/ap/{name}").read_text() for name in ("apmask", "aqmask")]
        return [run("lszdev", "--type", "ap"), *masks, RULES.read_text() if RULES.exists() else ""]

    run("chzdev", "--type", "ap", *form, *scope, "--no-root-update")
    theirs = state()
    RULES.unlink(missing_ok=True)
    for name in ("apmask", "aqmask"):
        Path(f"/sys/bus/ap/{name}").write_text(ALL)
    apvfio("masks", *form, *scope)
    assert state() == theirs
    assert apvfio("masks") == theirs[0]


@pytest.mark.parametrize("scope", [(), ("-a",), ("-p",)])
def test_the_table_of_masks_is_lszdevs(scope: tuple[str, ...]) -> None:
    assert apvfio("masks", *scope) == run("lszdev", "--type", "ap", *scope)
    run("chzdev", "--type", "ap", "apmask=-3", "aqmask=5-9", "--no-root-update")
    assert apvfio("masks", *scope) == run("lszdev", "--type", "ap", *scope)


def test_a_stored_mask_is_removed_as_by_chzdev() -> None:
    def left(*command: str) -> list[str]:
        run("chzdev", "--type", "ap", "-p", "apmask=-3", "aqmask=-4", "--no-root-update")
        run(*command, "-p", "--remove", "apmask")
        texts = [RULES.read_text()]
        run(*command, "-p", "--remove", "aqmask")
        return [*texts, str(RULES.exists())]

    theirs = left("chzdev", "--type", "ap", "--no-root-update")
    assert theirs[1] == "False"
    assert left("python3", "-m", "apvfio", "masks") == theirs


def lszcrypt() -> list[str]:
    """The lines of lszcrypt -V as its release 2.41 prints them: earlier ones add one to QDEPTH."""
    lines = run("lszcrypt", "-V").splitlines()
    release = tuple(map(int, re.findall(r"(\d+)\.(\d+)", run("lszcrypt", "--version"))[0]))
    if release >= (2, 41):
        return lines
    end = lines[0].index("QDEPTH") + len("QDEPTH")
    return lines[:2] + [
        f"{line[: end - 2]}{int(line[end - 2 : end]) - 1:02d}{line[end:]}" for line in lines[2:]
    ]


def _still(theirs: list[str], table: list[str]) -> list[str]:
    """The rows of lszcrypt's columns, but for the number of requests: who reads keys sends some."""
    end = theirs[0].index("REQUESTS") + len("REQUESTS")
    begin = theirs[0].rindex("STATUS", 0, end) + len("STATUS")
    rows = (line[: len(theirs[0])].rstrip() for line in table[2:])
    return [f"{line[:begin]} {line[end:]}" for line in rows]


def test_the_table_of_queues_is_lszcrypts_with_the_owner_added() -> None:
    for mask in (ALL, "-0,-10"):
        Path("/sys/bus/ap/apmask").write_text(mask)
        theirs = lszcrypt()
        ours = apvfio("queues").splitlines()
        assert _still(theirs, theirs) == _still(theirs, ours)
        assert ours[0].startswith(theirs[0].rstrip())
        assert ours[0].rstrip().endswith("OWNER")
    owners = {row["queue"]: row["owner"] for row in json.loads(apvfio("queues", "--json"))}
    assert owners["00.0001"] == "free"
    assert owners["01.0001"] == "host"


def test_what_the_kernel_refuses_is_an_error_where_chzdev_reports_success() -> None:
    uuid = "00000001-0000-4000-8000-000000000000"
    apvfio("masks", "-a", "apmask=-10")
    run("mdevctl", "start", "-u", uuid, "-p", "matrix", "-t", "vfio_ap-passthrough")
    device = Path("/sys/bus/mdev/devices") / uuid
    try:
        (device / "assign_adapter").write_text("10")
        (device / "assign_domain").write_text("1")
        message = subprocess.run(
            ["python3", "-m", "apvfio", "masks", "-a", "apmask=+10"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert message.returncode == 3
        assert uuid in message.stderr
    finally:
        (device / "remove").write_text("1")


def test_a_definition_made_here_is_one_to_mdevctl_and_to_virsh(env: MachineEnv) -> None:
    before = state(env)
    env.define("kept", a_matrix("0", "1-2"), mdev(7))
    apvfio("define", "kept")
    assert run("mdevctl", "list", "--defined").split()[:4] == [
        mdev(7),
        "matrix",
        "vfio_ap-passthrough",
        "manual",
    ]
    apvfio("guest", "set", "kept", "--adapters", "10", "--domains", "4")
    apvfio("define", "kept", code=3)
    apvfio("define", "--replace", "kept")
    attrs = json.loads(run("mdevctl", "list", "--defined", "--dumpjson"))[0]["matrix"][0][mdev(7)]["attrs"]
    assert attrs == [{"assign_adapter": "0xa"}, {"assign_domain": "0x4"}]
    apvfio("guest", "set", "kept", "--adapters", "0", "--domains", "1-2")
    apvfio("define", "--replace", "kept")
    apvfio("guest", "clear", "kept")
    env.virsh("start", "--paused", "kept")
    assert state(env).host.mdevs == {mdev(7): a_matrix("0", "1-2")}
    assert mdev(7) in run("mdevctl", "list")
    assert mdev(7).replace("-", "_") in env.virsh("nodedev-list", "--cap", "mdev").stdout
    env.virsh("destroy", "kept")
    apvfio("undefine", "kept")
    assert run("mdevctl", "list", "--defined") == ""
    assert state(env) == before


def test_queues_asked_for_by_property(env: MachineEnv) -> None:
    before = state(env)
    env.define("any", None, mdev(8))
    apvfio("guest", "set", "any", "--any", "mode=ep11,adapters=1,domains=4")
    env.virsh("start", "--paused", "any")
    assert state(env).host.mdevs == {mdev(8): a_matrix("10", "1,2,4,27")}
    env.virsh("destroy", "any")
    assert state(env) == before
