# SPDX-License-Identifier: Apache-2.0
"""Hosts to be examined, guests that libvirt's test driver knows, and the doctor's commands carried out."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import libvirt
from apvfio.cli.main import main
from hosts import mdev
from lab.guest import guest_xml
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

    from apvfio.model.matrix import Matrix
    from apvfio.sim.kernel import SimKernel

TEST_DRIVER = "test:///default"
"""libvirt's own, in this process: all connections see the same guests while one is open."""
Found = dict[str, Any]


class Patient(SimulatedHost):
    """A simulated host, and guests that libvirt's test driver knows."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], kernel: SimKernel | None = None
    ) -> None:
        super().__init__(directory, kernel)
        self._capsys = capsys
        self._libvirt = libvirt.open(TEST_DRIVER)
        for domain in self._libvirt.listAllDomains():
            forget(domain)

    def define(self, name: str, requested: Matrix | None = None, device: str = mdev(1)) -> None:
        """Define a guest."""
        self.define_xml(guest_xml(name, requested, device))

    def define_xml(self, xml: str) -> None:
        """Define a guest, of the only type the driver has."""
        self._libvirt.defineXML(xml.replace("<domain type='qemu'", "<domain type='test'"))

    def domain(self, name: str) -> Any:
        """libvirt's handle of a guest."""
        return self._libvirt.lookupByName(name)

    def examined(self, *words: str) -> tuple[int, list[Found]]:
        """Run the doctor; the exit code and all checks."""
        self._capsys.readouterr()
        code = self.run("doctor", "--json", "--connect", TEST_DRIVER, *words)
        document = json.loads(self._capsys.readouterr().out)
        return code, document["checks"]

    def text(self, *words: str) -> str:
        """What the doctor prints for a person."""
        self._capsys.readouterr()
        self.run("doctor", "--connect", TEST_DRIVER, *words)
        return self._capsys.readouterr().out

    def carry_out(self, command: str) -> None:
        """Do what a command that was printed says."""
        words = shlex.split(command)
        if words[0] == "apvfio":
            assert words[1:3] == ["--sim", self.path], command
            assert main(words[1:]) == 0, command
        elif words[0] == "modprobe":
            with self.opened() as system:
                system.kernel.load(words[1])
        else:
            assert words[0] == "echo", command
            *value, sign, path = words[1:]
            assert (sign, path[:5]) == (">", "/sys/"), command
            self.write(path[1:], f"{' '.join(value)}\n")


P = TypeVar("P", bound=Patient)


@overload
def patient(
    directory: Path, capsys: pytest.CaptureFixture[str], kernel: SimKernel | None = None
) -> AbstractContextManager[Patient]: ...


@overload
def patient(
    directory: Path, capsys: pytest.CaptureFixture[str], kernel: SimKernel | None, kind: type[P]
) -> AbstractContextManager[P]: ...


@contextmanager
def patient(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    kernel: SimKernel | None = None,
    kind: type[Any] = Patient,
) -> Iterator[Any]:
    """A patient, of whose guests nothing is left."""
    made = kind(directory, capsys, kernel)
    try:
        yield made
    finally:
        for domain in made._libvirt.listAllDomains():
            forget(domain)
        made._libvirt.close()


def forget(domain: Any) -> None:
    """Remove a guest from libvirt."""
    if domain.isActive():
        domain.destroy()
    if domain.isPersistent():
        domain.undefine()


def faults(checks: list[Found]) -> list[Found]:
    """The problems, and then the warnings."""
    return [c for c in checks if c["state"] == "problem"] + [c for c in checks if c["state"] == "warning"]
