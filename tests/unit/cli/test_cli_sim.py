# SPDX-License-Identifier: Apache-2.0
"""apvfio sim: the notation of adapters, and what the verbs make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from apvfio.cli import sim
from apvfio.model.errors import RequestError, UsageError
from apvfio.sim.host_file import open_sim

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    sim.add_parser(parser.add_subparsers())
    args = parser.parse_args(["sim", *words])
    code = args.run(args)
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("text", "adapters"),
    [
        ("0=accel,1=cca,0xa=ep11", {0: "accel", 1: "cca", 10: "ep11"}),
        ("0x0A=CCA", {10: "cca"}),
        ("10 = cca", {10: "cca"}),
        ("0-02=cca, 2=EP11", {0: "cca", 1: "cca", 2: "ep11"}),
        ("0xfe-255=accel", {254: "accel", 255: "accel"}),
        ("", {}),
    ],
)
def test_adapters_are_read(text: str, adapters: dict[int, str]) -> None:
    assert sim.parse_adapters(text) == adapters


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("00", r"'00' in --adapters is not an adapter and its mode\. Write ids with modes"),
        ("256=cca", r"goes beyond 255 \(0xff\)"),
        ("zz=cca", "neither an id nor a range"),
        ("-1=cca", "must not have a sign"),
        ("0a=ep11", "Hexadecimal ids need 0x: write 0xa for 0a"),
        ("=cca", "it is empty"),
        ("00=cex8", "has no mode out of accel, cca, ep11"),
        ("03-01=cca", "runs backwards"),
    ],
)
def test_other_adapters_are_refused(text: str, says: str) -> None:
    with pytest.raises((UsageError, RequestError), match=says):
        sim.parse_adapters(text)


def test_new_makes_ibms_host(tmp_path: Path) -> None:
    path = str(tmp_path / "host.json")
    assert run("new", path) == 0
    with open_sim(path) as system:
        cards = [name for name in system.sysfs.list("bus/ap/devices") if name.startswith("card")]
        queues = [name for name in system.sysfs.list("bus/ap/devices") if "." in name]
    assert cards == ["card00", "card01", "card0a"]
    assert len(queues) == 12
    assert "0a.001b" in queues
    with pytest.raises(RequestError, match="exists"):
        run("new", path)
    assert run("new", path, "--force", "--kernel", "6.12", "--adapters", "03=ep11", "--domains", "0-3",
               "--control-domains", "0-7", "--no-vfio-ap") == 0  # fmt: skip
    with open_sim(path) as system:
        assert [n for n in system.sysfs.list("bus/ap/devices") if "." in n] == [
            f"03.000{d}" for d in range(4)
        ]
        assert not system.sysfs.exists("bus/ap/drivers/vfio_ap")
        assert not system.sysfs.exists("bus/ap/bindings_complete_count")


def test_mounting_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((RequestError, UsageError)):
        run("mount", str(tmp_path / "none.json"), str(tmp_path / "no directory"))
