# SPDX-License-Identifier: Apache-2.0
"""Commands run on a simulated host in a file, as a person would run them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.cli.main import main
from apvfio.engine.start import start_guest
from apvfio.model.host import AP_MDEVS
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apvfio.model.matrix import Matrix
    from apvfio.model.request import Request
    from apvfio.sim.host_file import SimSystem


class SimulatedHost:
    """A simulated host in a file: IBM's example, unless a kernel is given."""

    def __init__(self, directory: Path, kernel: SimKernel | None = None) -> None:
        self.path = str(directory / "host.json")
        create_sim(self.path, kernel or SimKernel.new())

    def run(self, *words: str) -> int:
        """Run ``apvfio`` on it; the exit code."""
        return main(["--sim", self.path, *words])

    @contextmanager
    def opened(self) -> Iterator[SimSystem]:
        """The host to look at or to work on."""
        with open_sim(self.path) as system:
            yield system

    def write(self, path: str, text: str) -> None:
        """Write one of its files, or with ``sys/`` one of its kernel's."""
        with self.opened() as system:
            if path.startswith("sys/"):
                system.sysfs.write(path.removeprefix("sys/"), text)
            else:
                system.files.write(path, text)

    def read(self, path: str) -> str | None:
        """Read one of its files."""
        with self.opened() as system:
            return system.files.read(path)

    def start(self, request: Request) -> None:
        """Give a guest its queues."""
        with self.opened() as system:
            start_guest(system, request)

    def make_mdev(self, uuid: str, matrix: Matrix) -> None:
        """Make a mediated device that apvfio knows nothing of."""
        with self.opened() as system:
            system.sysfs.write(AP_MDEVS.create, uuid)
            for kind, ids in zip(("adapter", "domain", "control_domain"), matrix):
                for i in ids:
                    system.sysfs.write(f"{AP_MDEVS.device(uuid)}/assign_{kind}", str(i))
