# SPDX-License-Identifier: Apache-2.0
"""What plays the kernel for the benchmarks does with each write what the simulated kernel does."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.sim.kernel import SimKernel
from benchmarks.plain_host import BRANCHES, PROFILE, copy, plain_host
from hosts import mdev

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.plain_host import PlainHost

ADAPTERS, DOMAINS = (0, 1, 10), IdSet([1, 2, 27])
COUNTS = {"available_instances", "bindings", "bindings_complete_count", "scans"}
"""What changes with each write, and nobody reads."""
DEVICE = AP_MDEVS.device(mdev(1))
START = (
    ("bus/ap/apmask", "-0,-0xa"),
    ("bus/ap/aqmask", "-2"),
    (AP_MDEVS.create, mdev(1)),
    (f"{DEVICE}/assign_adapter", "10"),
    (f"{DEVICE}/assign_domain", "0x1"),
    (f"{DEVICE}/assign_control_domain", "1"),
    (f"{DEVICE}/ap_config", Matrix(IdSet([0, 10]), IdSet([1, 27]), NO_IDS).as_ap_config()),
)
STOP = ((f"{DEVICE}/remove", "1"), ("bus/ap/aqmask", "+2\n"), ("bus/ap/apmask", "+0,+10"))
WRITE = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())"


@pytest.fixture
def host() -> Iterator[PlainHost]:
    try:
        with plain_host(ADAPTERS, DOMAINS, [mdev(1)]) as found:
            yield found
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def contents(sys: Path) -> dict[str, str]:
    """All files and links below ``sys``, by path, but for counts and links to where this tree has nothing."""
    found = {}
    for branch in BRANCHES:
        for directory, directories, files in os.walk(sys / branch):
            for name in {*directories, *files} - COUNTS:
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    found[os.path.relpath(path, sys)] = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, encoding="utf-8") as file:
                        found[os.path.relpath(path, sys)] = file.read()
    return found


def test_each_write_does_what_the_simulated_kernel_does(host: PlainHost, tmp_path: Path) -> None:
    kernel = SimKernel.new(PROFILE, adapters=dict.fromkeys(ADAPTERS, "cca"), domains=DOMAINS)
    before = contents(host.sys)
    seen = [before]
    for number, (path, text) in enumerate((*START, *STOP)):
        kernel.write(path, text)
        for branch in BRANCHES:
            copy(kernel, branch, tmp_path / str(number) / branch)
        subprocess.run(["/usr/bin/python3", "-c", WRITE, host.sys / path, text], env=host.env, check=True)
        now = contents(host.sys)
        # Adapters without a domain are not shown.
        if not path.endswith("assign_adapter"):
            assert now == contents(tmp_path / str(number)), path
        assert now not in seen[-1:]
        seen.append(now)
    assert seen[-1] == before


def test_the_shell_and_a_child_write_as_well(host: PlainHost) -> None:
    for word, mask in (("-0", "0x7"), ("+0", "0xf")):
        subprocess.run(["sh", "-c", f"(echo {word} >bus/ap/apmask)"], cwd=host.sys, env=host.env, check=True)
        assert (host.sys / "bus/ap/apmask").read_text().startswith(mask)


def test_what_is_not_played_is_refused(host: PlainHost) -> None:
    for path, text in (("bus/ap/apmask", "-256"), (AP_MDEVS.create, mdev(2))):
        argv = ["/usr/bin/python3", "-c", WRITE, str(host.sys / path), text]
        assert subprocess.run(argv, env=host.env, check=False, capture_output=True).returncode == 1
