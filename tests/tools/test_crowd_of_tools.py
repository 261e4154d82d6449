# SPDX-License-Identifier: Apache-2.0
"""Guests that start and stop while mdevctl makes devices and an administrator changes masks with chzdev."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ap_check import stand_in
from apvfio.kernel.snapshot import read_host
from apvfio.mdev.callouts import SCRIPTS
from apvfio.mdevctl.callout import AP_CHECK
from apvfio.model.host import MASKS, OVERRIDES
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import load
from hosts import mdev
from lab.guest import guest_uuid, guest_xml
from lab.hook import hook_script
from mdevctl_cases import device, shipped
from real_tools import S390_LOCK, tool_host

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from apvfio.model.ledger import Ledger
    from real_tools import ToolHost, Tools

EACH = 10
"""So many guests, and as many devices that mdevctl makes."""
PATIENCE = 240.0
SPARE = 200
"""A bit that no guest wants."""
MASKED = "; ".join(f"chzdev -q -t ap -a apmask={sign}{SPARE}" for sign in "-+-+")


class Meeting:
    """All of them, at work on one host."""

    def __init__(self, host: ToolHost) -> None:
        self.host = host
        self.hook = Path(host.work, "50-apvfio")
        self.hook.write_text(hook_script())
        self.hook.chmod(0o755)

    def place(self, path: str, text: str) -> None:
        """A script of mdevctl's."""
        self.host.path(path).write_text(text)
        self.host.path(path).chmod(0o755)

    def guest(self, operation: str, n: int) -> tuple[subprocess.Popen[str], str]:
        """libvirt starts or stops a guest."""
        requested = Matrix(IdSet([n % 3]), IdSet([n // 3]))
        hook = self.host.start([str(self.hook), f"g{n}", operation, "begin", "-"])
        return hook, guest_xml(f"g{n}", requested, mdev(n))

    def device(self, action: str, n: int) -> tuple[subprocess.Popen[str], str]:
        """mdevctl makes or removes a device."""
        words = ["mdevctl", action, "-u", mdev(EACH + n)]
        if action == "stop":
            return self.host.start(words), ""
        text = device([str(3 + n % 3)], [str(n // 3)])
        return self.host.start([*words, "-p", "matrix", "--jsonfile", "/proc/self/fd/0"]), text

    def all(self, operation: str, action: str, *, chzdev: bool) -> list[tuple[int, str]]:
        """All at once: exit codes and errors, chzdev's not."""
        tools = [self.host.start(["sh", "-c", MASKED])] if chzdev else []
        calls = [call for n in range(EACH) for call in (self.guest(operation, n), self.device(action, n))]
        done = [(call, call.communicate(text, PATIENCE)) for call, text in calls]
        for tool in tools:
            tool.communicate(timeout=PATIENCE)
        return [(call.returncode, errors) for call, (_, errors) in done]

    @property
    def ledger(self) -> Ledger:
        """The ledger now."""
        return load(self.host.system.files, self.host.system.boot_id)


@pytest.fixture
def meeting(tools: Tools) -> Iterator[Meeting]:
    kernel = SimKernel.new(adapters=dict.fromkeys(range(8), "cca"), domains=IdSet(range(8)))
    with tool_host(tools, kernel, newer_mdevctl=True) as host:
        made = Meeting(host)
        made.place(f"/{SCRIPTS[0]}/callouts/00-apvfio", shipped("mdevctl-callout", host.python))
        made.place(f"/{SCRIPTS[1]}/notifiers/50-apvfio", shipped("mdevctl-notifier", host.python))
        yield made


@pytest.mark.parametrize(("mode", "ap_check"), [(MASKS, True), (MASKS, False), (OVERRIDES, False)])
def test_everybody_gets_what_is_his(meeting: Meeting, mode: str, ap_check: bool) -> None:
    system = meeting.host.system
    if ap_check:
        meeting.place(AP_CHECK, stand_in())
    meeting.host.apvfio("mechanism", mode)
    before = read_host(system.sysfs)
    # A mask that lacks a bit shuts driver_override for all.
    chzdev = mode == MASKS
    started = meeting.all("prepare", "start", chzdev=chzdev)
    assert not [said for code, said in started if code]
    running, ledger = read_host(system.sysfs), meeting.ledger
    assert len(running.mdevs) == 2 * EACH
    assert {lease.state for lease in ledger.leases.values()} == {HELD}
    assert {lease.uuid for lease in ledger.leases.values()} == {guest_uuid(f"g{n}") for n in range(EACH)}
    queues = [queue for matrix in running.mdevs.values() for queue in matrix.queues()]
    assert len(queues) == len(set(queues)) == 2 * EACH
    assert {running.drivers[queue] for queue in queues} == {"vfio_ap"}
    assert bool(running.overrides) == (mode == OVERRIDES)
    assert not ledger.claims

    # What chzdev reads while apvfio gives bits back it would write again: see docs/reliability.md.
    stopped = meeting.all("release", "stop", chzdev=False)
    assert not [said for code, said in stopped if code]
    meeting.host.apvfio("reconcile")
    after = read_host(system.sysfs)
    assert after.apmask | IdSet([SPARE]) == before.apmask
    assert after._replace(apmask=NO_IDS) == before._replace(apmask=NO_IDS)
    assert not meeting.ledger.leases
    assert not meeting.ledger.pending
    assert not meeting.ledger.overrides
    assert not meeting.host.path(S390_LOCK).exists()
