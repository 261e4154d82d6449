# SPDX-License-Identifier: Apache-2.0
"""apvfio queues, against what lszcrypt -V printed on the real host of IBM's example."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

HEADING = """\
CARD.DOM TYPE  MODE        STATUS     REQUESTS  PENDING HWTYPE QDEPTH FUNCTIONS  DRIVER      OWNER
--------------------------------------------------------------------------------------------------
"""
BEFORE = """\
00       CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4card    -
00.0001  CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4queue   host
00.0002  CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4queue   host
00.0004  CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4queue   host
00.001b  CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4queue   host
01       CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4card    -
01.0001  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.0002  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.0004  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.001b  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
0a       CEX8P EP11-Coproc online            0        0     14     08 SMC--XN--- cex4card    -
0a.0001  CEX8P EP11-Coproc online            0        0     14     08 SMC--XN--- cex4queue   host
0a.0002  CEX8P EP11-Coproc online            0        0     14     08 SMC--XN--- cex4queue   host
0a.0004  CEX8P EP11-Coproc online            0        0     14     08 SMC--XN--- cex4queue   host
0a.001b  CEX8P EP11-Coproc online            0        0     14     08 SMC--XN--- cex4queue   host
"""
FREED = """\
00       CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4card    -
00.0001  CEX8A Accelerator assigned          -        -     14     08 SMC-A-N--- vfio_ap     guest g1
00.0002  CEX8A Accelerator assigned          -        -     14     08 SMC-A-N--- vfio_ap     guest g1
00.0004  CEX8A Accelerator unassigned        -        -     14     08 SMC-A-N--- vfio_ap     free
00.001b  CEX8A Accelerator unassigned        -        -     14     08 SMC-A-N--- vfio_ap     free
01       CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4card    -
01.0001  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.0002  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.0004  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
01.001b  CEX8C CCA-Coproc  online            0        0     14     08 SMCD--N--- cex4queue   host
0a       CEX8P EP11-Coproc deconfig          -        -     14     08 SMC--XN--- cex4card    -
0a.0001  CEX8P EP11-Coproc deconfig          -        -     14     08 SMC--XN--- cex4queue   host
0a.0002  CEX8P EP11-Coproc deconfig          -        -     14     08 SMC--XN--- cex4queue   host
0a.0004  CEX8P EP11-Coproc deconfig          -        -     14     08 SMC--XN--- cex4queue   host
0a.001b  CEX8P EP11-Coproc deconfig          -        -     14     08 SMC--XN--- -no-driver- unbound
"""


def test_ibms_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("queues") == 0
    assert capsys.readouterr().out == HEADING + BEFORE


def test_owners_and_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(a_request("0", "1-2"))
    host.write("sys/bus/ap/drivers/cex4queue/unbind", "0a.001b")
    with host.opened() as system:
        system.kernel.configure(10, configured=False)
    assert host.run("queues", "--no-headings") == 0
    assert capsys.readouterr().out == FREED


def test_a_running_guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(2), a_matrix("0", "1"))
    with host.opened() as system:
        system.kernel.attach_guest(mdev(2), "somebody")
    host.run("queues", "--no-headings")
    assert capsys.readouterr().out.splitlines()[1] == (
        "00.0001  CEX8A Accelerator in use            -        -     14     08 SMC-A-N--- vfio_ap     "
        f"mdev {mdev(2)}"
    )


def test_the_heading_reaches_as_far_as_the_owners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.write("sys/bus/ap/apmask", "-0")
    host.make_mdev(mdev(2), a_matrix("0", "1"))
    host.run("queues")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "-" * max(map(len, lines))


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(a_request("0", "1"))
    assert host.run("queues", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 15
    card = {
        "adapter": "00",
        "queue": None,
        "type": "CEX8A",
        "mode": "Accelerator",
        "status": "online",
        "requests": 0,
    }
    card |= {
        "pending_requests": 0,
        "hwtype": 14,
        "qdepth": 8,
        "functions": "SMC-A-N---",
        "driver": "cex4card",
    }
    assert found[0] == card | {"sestat": None, "owner": None, "master_keys": None}
    changes = {"queue": "00.0001", "status": "assigned", "requests": None, "driver": "vfio_ap"}
    changes |= {"pending_requests": None}
    assert found[1] == card | changes | {"sestat": None, "owner": "guest g1", "master_keys": None}


def test_secure_execution_gives_one_more_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = SimKernel.new(adapters={0: "accel"}, domains=IdSet([1]))
    kernel.state.hardware.features += " APSB"
    host = SimulatedHost(tmp_path, kernel)
    host.run("queues")
    assert capsys.readouterr().out.splitlines() == [
        "CARD.DOM TYPE  MODE        STATUS     REQUESTS  PENDING HWTYPE QDEPTH FUNCTIONS  DRIVER      "
        "SESTAT      OWNER",
        "-" * 110,
        "00       CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4card    "
        "-           -",
        "00.0001  CEX8A Accelerator online            0        0     14     08 SMC-A-N--- cex4queue   "
        "usable      host",
    ]


def test_a_host_without_cards_has_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(adapters={}))
    assert host.run("queues") == 0
    assert capsys.readouterr().out == HEADING
    assert host.run("queues", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_guests_name_stays_on_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(a_request("0", "1")._replace(guest="a\n\x1b[2Jb"))
    host.run("queues", "--no-headings")
    out = capsys.readouterr().out
    assert "guest a??[2Jb\n" in out
    assert len(out.splitlines()) == 15
    host.run("queues", "--json")
    assert json.loads(capsys.readouterr().out)[1]["owner"] == "guest a\n\x1b[2Jb"


def test_a_damaged_ledger_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.write("run/apvfio/ledger.json", "{")
    assert host.run("queues") == 1
    assert "/run/apvfio/ledger.json is damaged" in capsys.readouterr().err
