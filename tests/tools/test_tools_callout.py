# SPDX-License-Identifier: Apache-2.0
"""mdevctl 1.4 with our callout and notifier: which callout it asks, and what comes of it with an ap-check."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from ap_check import SEEN, VETO, stand_in
from apvfio.kernel.snapshot import read_host
from apvfio.mdev.callouts import SCRIPTS
from apvfio.mdevctl.callout import AP_CHECK
from apvfio.model.host import MaskBits
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.ledger import Ledger
from apvfio.store.ledger_file import load
from hosts import a_matrix, mdev
from mdevctl_cases import AP, AUTOSTART, ROW, device, shipped
from real_tools import S390_LOCK, ToolHost, Tools, tool_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host

CALLOUT = f"/{SCRIPTS[0]}/callouts/00-apvfio"
CALLOUT_OF_OLD = f"/{SCRIPTS[1]}/callouts/00-apvfio"
NOTIFIER = f"/{SCRIPTS[1]}/notifiers/50-apvfio"


class Called:
    """mdevctl's devices."""

    def __init__(self, host: ToolHost) -> None:
        self.host = host
        self.before = self.now

    @property
    def now(self) -> Host:
        return read_host(self.host.system.sysfs)

    @property
    def ledger(self) -> Ledger:
        return load(self.host.system.files, self.host.system.boot_id)

    def __call__(self, action: str, n: int, definition: str = "", code: int = 0) -> str:
        words = ["-p", "matrix", "--jsonfile", "/proc/self/fd/0"] if definition else []
        return self.host.run("mdevctl", action, "-u", mdev(n), *words, stdin=definition, code=code).stderr

    def place(self, path: str, text: str) -> None:
        self.host.path(path).write_text(text)
        self.host.path(path).chmod(0o755)

    def seen(self, what: str = "") -> str:
        return self.host.path(f"{SEEN}{what}").read_text()


@pytest.fixture
def mdevctl(tools: Tools) -> Iterator[Called]:
    with tool_host(tools, newer_mdevctl=True) as host:
        called = Called(host)
        called.place(CALLOUT, shipped("mdevctl-callout", host.python))
        called.place(NOTIFIER, shipped("mdevctl-notifier", host.python))
        yield called


def test_without_ap_check(mdevctl: Called) -> None:
    assert mdevctl.host.run("mdevctl", "--version").stdout.split()[1].startswith("1.4")
    mdevctl("define", 1, device(["0x0"], ["1", "2"], "auto"))
    said = mdevctl("define", 2, device(["0x0"], ["2"], "auto"), code=1)
    assert f"APQN 0.2 is defined for autostart by {mdev(1)}." in said
    assert "the host loses 2 collateral queues" in mdevctl("start", 1)
    assert mdevctl.now.mdevs == {mdev(1): ROW}
    assert mdevctl.ledger.pending == MaskBits(IdSet([0]), NO_IDS)
    assert not mdevctl.ledger.claims
    listed = json.loads(mdevctl.host.run("mdevctl", "list", "--dumpjson").stdout)
    assert listed[0]["matrix"][0][mdev(1)]["attrs"][0] == {"assign_adapter": "0"}
    assert "already in use" in mdevctl("start", 3, device(["0"], ["2"]), code=1)
    mdevctl("start", 4, device(["0,1"], ["4"]), code=1)
    assert "does not support event 'Live'" in mdevctl.host.run(
        "mdevctl", "modify", "--live", "-u", mdev(1), "-p", "matrix", "--jsonfile", "/proc/self/fd/0",
        stdin=device(["0"], ["1"]), code=1,
    ).stderr  # fmt: skip
    mdevctl("stop", 1)
    assert mdevctl.now == mdevctl.before
    mdevctl.host.run(*AUTOSTART)
    assert mdevctl.now.mdevs == {mdev(1): ROW}
    mdevctl("stop", 1)
    assert mdevctl.now == mdevctl.before
    assert not mdevctl.ledger.claims


def test_ours_comes_before_ap_check_and_ends_in_it(mdevctl: Called) -> None:
    mdevctl.place(AP_CHECK, stand_in())
    mdevctl("start", 1, device(["0"], ["1", "2"]))
    assert mdevctl.now.mdevs == {mdev(1): ROW}
    seen = json.loads(mdevctl.seen(".ledger"))
    assert [promise["mdev"] for promise in seen["claims"]] == [mdev(1)]
    assert seen["pending"]["apmask"] == "0"
    assert json.loads(mdevctl.seen(".text"))["attrs"][0] == {"assign_adapter": "0"}
    mdevctl("stop", 1)
    assert mdevctl.seen().split() == [
        *("get-capabilities", "pre-start", "post-start"),
        *("get-capabilities", "pre-stop", "post-stop"),
    ]
    assert mdevctl.now == mdevctl.before
    assert not mdevctl.ledger.pending


def test_in_the_directory_of_old_ours_would_never_be_asked(mdevctl: Called) -> None:
    mdevctl.place(AP_CHECK, stand_in())
    mdevctl.host.path(CALLOUT).unlink()
    mdevctl.place(CALLOUT_OF_OLD, shipped("mdevctl-callout", mdevctl.host.python))
    # Nothing breaks: it is as without apvfio.
    assert "Cannot assign requested address" in mdevctl("start", 1, device(["0"], ["1"]), code=1)
    assert mdevctl.now == mdevctl.before


def test_what_ap_check_refuses_goes_home(mdevctl: Called) -> None:
    mdevctl.place(AP_CHECK, stand_in(f"echo 'not today' >&2; {VETO}"))
    assert "not today" in mdevctl("start", 1, device(["0"], ["1", "2"]), code=1)
    assert mdevctl.seen(".ledger")
    assert mdevctl.now == mdevctl.before
    assert mdevctl.ledger == Ledger(mdevctl.ledger.boot_id, {})


def test_on_a_host_of_overrides_nothing_is_freed_in_vain(mdevctl: Called) -> None:
    mdevctl.place(AP_CHECK, stand_in(VETO))
    mdevctl.host.apvfio("mechanism", "overrides")
    said = mdevctl("start", 1, device(["0"], ["1", "2"]), code=1)
    assert "ap-check knows masks only and will refuse, so nothing was freed" in said
    assert mdevctl.seen(".text")
    assert mdevctl.now == mdevctl.before
    mdevctl.host.path(AP_CHECK).unlink()
    mdevctl("start", 1, device(["0"], ["1", "2"]))
    assert len(mdevctl.now.overrides) == 2
    mdevctl("stop", 1)
    assert mdevctl.now == mdevctl.before


def test_an_mdevctl_killed_before_it_makes_the_device(mdevctl: Called) -> None:
    mdevctl.place(AP_CHECK, stand_in(f"rm {S390_LOCK}; exec sleep 60"))
    mdevctl("define", 1, device(["0"], ["1", "2"]))
    process = mdevctl.host.start(["mdevctl", "start", "-u", mdev(1)])
    try:
        deadline = time.monotonic() + 60
        while not mdevctl.host.path(f"{SEEN}.text").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "nothing to do" in mdevctl.host.apvfio("reconcile").stdout
        status = json.loads(mdevctl.host.apvfio("status", "--json").stdout)
        (promise,) = status["claims"]
        assert {q["owner"] for q in status["queues"] if q["queue"] == "00.0001"} == {f"mdev {mdev(1)}"}
        refused = mdevctl("start", 2, device(["0"], ["1"]), code=1)
        assert f"00.0001 is held by the mediated device {mdev(1)}" in refused
        mdevctl.host.run("kill", "-9", str(promise["pid"]))
    finally:
        process.kill()
        process.communicate()
    assert mdevctl.host.apvfio("reconcile").returncode == 0
    assert mdevctl.now == mdevctl.before
    assert not mdevctl.ledger.claims


def test_real_chzdev_beside_a_device_that_mdevctl_made(mdevctl: Called) -> None:
    mdevctl("start", 1, device(["0"], ["1", "2"]))
    refused = mdevctl.host.run("chzdev", "-t", "ap", "-a", "apmask=+0", code=9)
    assert f"conflicts with mdev {mdev(1)}" in refused.stdout + refused.stderr
    mdevctl.host.run("chzdev", "-t", "ap", "-a", "apmask=-0xa")
    mdevctl("stop", 1)
    # What the administrator took is his; what apvfio took is back.
    assert mdevctl.now.apmask == mdevctl.before.apmask - IdSet([10])
    assert a_matrix("0", "1").adapters & mdevctl.now.apmask


def test_what_ap_check_alone_allows_is_allowed(mdevctl: Called) -> None:
    """An adapter that is not there, a domain given up again, newlines: the masks leave all of it free."""
    mdevctl.place(AP_CHECK, stand_in())
    mdevctl.host.run("chzdev", "-t", "ap", "-a", "apmask=-0,-7")
    before = mdevctl.now
    adapters = [{"assign_adapter": "7\n"}, {"assign_adapter": "0x0"}]
    domains = [{"assign_domain": "1"}, {"assign_domain": "2"}, {"unassign_domain": "2\n"}]
    definition = json.dumps({"mdev_type": AP, "start": "manual", "attrs": adapters + domains})
    assert mdevctl("start", 1, definition) == ""
    assert mdevctl.now.mdevs == {mdev(1): a_matrix("0,7", "1")}
    assert not mdevctl.ledger.claims
    mdevctl("stop", 1)
    assert mdevctl.now == before
    malformed = json.dumps({"mdev_type": AP, "start": "manual", "attrs": [{"ap_config": "0x80"}]})
    assert "the definition's ap_config is '0x80'" in mdevctl("start", 1, malformed, code=1)
