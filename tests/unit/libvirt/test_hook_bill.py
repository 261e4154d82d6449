# SPDX-License-Identifier: Apache-2.0
"""What libvirt's hook loads and starts in its own process, on a host's /sys that is a plain directory."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.errors import HostError
from benchmarks.plain_host import PACKAGES, PYTHON, plain_host
from hosts import a_matrix, mdev
from import_budget import require_few
from lab.guest import guest_xml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plain_host import PlainHost

HOOK = """\
import os, sys
sys.path.append(sys.argv.pop(1))
from apvfio.libvirt.hook import main
begun = []
os.register_at_fork(before=lambda: begun.append(0))
code = main(sys.argv[1:])
print(*sys.modules)
sys.exit(code or len(begun) << 4)
"""


@pytest.fixture
def host() -> Iterator[PlainHost]:
    try:
        with plain_host([0, 1, 10], [1, 2, 4, 27], [mdev(1)]) as found:
            yield found
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def test_a_start_and_a_stop_load_little(host: PlainHost) -> None:
    matrix = a_matrix("0,10", "1,4")
    xml = guest_xml("db1", matrix, mdev(1)).encode()
    # The removal of a device is left to a child: the kernel may hold it up.
    for operation, children, there, work in (
        ("prepare", 0, {mdev(1): matrix}, "apvfio.engine.start"),
        ("release", 1, {}, "apvfio.engine.stop"),
    ):
        done = subprocess.run(
            [PYTHON, "-I", "-S", "-c", HOOK, PACKAGES, "db1", operation, "begin", "-"],
            input=xml,
            capture_output=True,
            env=host.env,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (children << 4, b"")
        require_few(done.stdout.decode().split(), work)
        assert read_host(RealSysfs(str(host.root))).mdevs == there
