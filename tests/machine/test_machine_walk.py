# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel beside the real one: the same random writes to both, compared after each."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.host import AP_MDEVS, BUS, Host
from apvfio.model.ids import IdSet, format_list
from apvfio.model.matrix import Matrix
from apvfio.sim.kernel import SimKernel
from hosts import mdev
from this_kernel import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import Sysfs

STEPS = 120
ADAPTERS = (0, 1, 10, 5)
DOMAINS = (1, 2, 4, 27, 9)
QUEUES = ("00.0001", "01.0002", "0a.001b", "05.0001")
ODD = ("-5-", "+256", "0X1", "-6-5", " 1", "-1,2", "x", "08", "0x1ffffffffffffffff", "", "\n1")

Write = tuple[str, str]


def ids(draw: random.Random, some: tuple[int, ...]) -> IdSet:
    return IdSet(draw.sample(some, draw.randint(1, 2)))


def masks(draw: random.Random) -> Iterator[Write]:
    name, some = draw.choice([("apmask", ADAPTERS), ("aqmask", DOMAINS)])
    text = ",".join(f"{draw.choice('+-')}{i}" for i in ids(draw, some))
    yield f"{BUS}/{name}", draw.choice([text, text, text, draw.choice(ODD)])


def devices(draw: random.Random) -> Iterator[Write]:
    uuid = mdev(draw.randint(1, 2))
    directory = AP_MDEVS.device(uuid)
    if draw.random() < 0.3:
        yield draw.choice(
            [(AP_MDEVS.create, uuid), (AP_MDEVS.create, uuid[:-1]), (AP_MDEVS.remove(uuid), "1")]
        )
    elif draw.random() < 0.4:
        matrix = Matrix(ids(draw, ADAPTERS), ids(draw, DOMAINS), ids(draw, DOMAINS))
        yield f"{directory}/ap_config", draw.choice([matrix.as_ap_config(), draw.choice(ODD)])
    else:
        verb, kind = draw.choice(["assign", "assign", "unassign"]), draw.choice(["adapter", "domain"])
        some = ADAPTERS if kind == "adapter" else DOMAINS
        yield (
            f"{directory}/{verb}_{kind}",
            draw.choice([format_list(IdSet([draw.choice(some)])), draw.choice(ODD)]),
        )


def overrides(draw: random.Random) -> Iterator[Write]:
    queue = draw.choice(QUEUES)
    yield f"{BUS}/devices/{queue}/driver_override", draw.choice(["vfio_ap", "cex4queue", "\n"])
    # Always as a pair: what a mask write does to a queue that is unbound varies from run to run.
    yield f"{BUS}/drivers/{draw.choice(['vfio_ap', 'cex4queue'])}/unbind", queue
    yield f"{BUS}/drivers_probe", queue


def answer(sysfs: Sysfs, write: Write) -> str:
    try:
        sysfs.write(*write)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "OK"


def look(sysfs: Sysfs) -> tuple[Host, dict[str, str]]:
    host = read_host(sysfs)
    return host, {uuid: sysfs.read(f"{AP_MDEVS.device(uuid)}/guest_matrix") for uuid in host.mdevs}


@pytest.fixture
def real() -> Iterator[RealSysfs]:
    sysfs = RealSysfs()
    yield sysfs
    for uuid in read_host(sysfs).mdevs:
        sysfs.write(AP_MDEVS.remove(uuid), "1")
    for queue in read_host(sysfs).overrides:
        sysfs.write(f"{BUS}/devices/{queue}/driver_override", "\n")
    for name in ("apmask", "aqmask"):
        sysfs.write(f"{BUS}/{name}", "0x" + "f" * 64)
    for queue, driver in read_host(sysfs).drivers.items():
        if driver != "cex4queue":
            sysfs.write(f"{BUS}/drivers/{driver}/unbind", str(queue))
            sysfs.write(f"{BUS}/drivers_probe", str(queue))


@pytest.mark.parametrize("seed", os.environ.get("APVFIO_SEEDS", "1 2 3 4").split())
def test_both_kernels_answer_alike(real: RealSysfs, seed: str) -> None:
    simulated = SimKernel.new(running().name)
    assert look(simulated) == look(real)
    draw = random.Random(seed)
    kinds = [masks, devices, devices, *([overrides] if running().overrides else [])]
    done: list[Write] = []
    while len(done) < STEPS:
        for write in draw.choice(kinds)(draw):
            done.append(write)
            assert answer(simulated, write) == answer(real, write), done
            assert look(simulated) == look(real), done
