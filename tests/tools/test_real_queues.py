# SPDX-License-Identifier: Apache-2.0
"""`apvfio queues` beside the real lszcrypt, to the byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.start import start_guest
from apvfio.model.matrix import Apqn
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from hosts import IBM_DOMAINS, a_matrix, a_request
from memory_host import IBM_ADAPTERS
from real_tools import tool_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from real_tools import ToolHost, Tools


def plain(kernel: SimKernel) -> None:
    """All with the host."""


def freed(kernel: SimKernel) -> None:
    kernel.write("bus/ap/apmask", "-0,-10")


def given(kernel: SimKernel) -> None:
    """Queues of a guest that runs, of one that does not, and free ones."""
    system = SimSystem.new(kernel)
    start_guest(system, a_request("0", "1-2"))
    start_guest(system, a_request("10", "1,27", n=2))
    kernel.attach_guest(a_request("0", "1").mdev, "vm")


def overridden(kernel: SimKernel) -> None:
    for queue in ("00.0001", "0a.0004"):
        kernel.write(f"bus/ap/devices/{queue}/driver_override", "vfio_ap")
        kernel.write(f"bus/ap/devices/{queue}/driver/unbind", queue)
        kernel.write("bus/ap/drivers_probe", queue)


def deconfigured(kernel: SimKernel) -> None:
    freed(kernel)
    kernel.configure(1, False)
    kernel.configure(10, False)


def unbound(kernel: SimKernel) -> None:
    kernel.write("bus/ap/devices/01.0002/driver/unbind", "01.0002")


def offline(kernel: SimKernel) -> None:
    kernel.write("devices/ap/card00/online", "0")
    kernel.write("devices/ap/card01/01.0004/online", "0")


def busy(kernel: SimKernel) -> None:
    kernel.state.cards[1].requests = 4294967295
    kernel.state.queues[Apqn(1, 2)].requests = 12345678


def without_vfio_ap(kernel: SimKernel) -> None:
    kernel.unload("vfio_ap")
    freed(kernel)


def lszcrypt(host: ToolHost) -> list[str]:
    """What it prints; a release before 2.41 adds one to QDEPTH, which is corrected here."""
    lines = host.run("lszcrypt", "-V").stdout.splitlines()
    version = re.search(r"version (\d+)\.(\d+)", host.run("lszcrypt", "-v").stdout)
    assert version
    if (int(version[1]), int(version[2])) >= (2, 41):
        return lines
    depth = re.compile(r"(\d\d)( [-A-Z]{10} )")
    return [depth.sub(lambda found: f"{int(found[1]) - 1:02d}{found[2]}", line) for line in lines]


SITUATIONS = (plain, freed, given, overridden, deconfigured, unbound, offline, busy, without_vfio_ap)


@pytest.mark.parametrize(
    ("arrange", "version"),
    [
        *((situation, "7.2") for situation in SITUATIONS),
        *((situation, version) for situation in (given, deconfigured) for version in ("6.1", "6.12")),
    ],
)
def test_the_table_is_lszcrypts_with_the_owner_behind(
    tools: Tools, arrange: Callable[[SimKernel], None], version: str
) -> None:
    kernel = SimKernel.new(version, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS)
    arrange(kernel)
    with tool_host(tools, kernel) as host:
        theirs = lszcrypt(host)
        ours = host.apvfio("--root", host.root, "queues").stdout.splitlines()
    assert len(theirs) == 2 + 3 + 12
    assert [line[: len(there)] for line, there in zip(ours, theirs)] == theirs
    assert ours[0][len(theirs[0]) :].strip() == "OWNER"


def test_cards_and_queues_that_come_and_go(tools: Tools) -> None:
    kernel = SimKernel.new(adapters={0: "accel", 255: "cca"}, domains=a_matrix("0", "0,255").domains)
    with tool_host(tools, kernel) as host:
        theirs = lszcrypt(host)
        ours = host.apvfio("--root", host.root, "queues").stdout.splitlines()
    assert [line[: len(theirs[0])] for line in ours] == theirs
    assert [line.split()[0] for line in theirs[2:]] == [
        "00",
        "00.0000",
        "00.00ff",
        "ff",
        "ff.0000",
        "ff.00ff",
    ]
