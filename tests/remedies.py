# SPDX-License-Identifier: Apache-2.0
"""What the doctor prescribes, carried out on a simulated host, and everything that it changed there."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.main import main
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError
from apvfio.model.host import BUS
from apvfio.store import ledger_file
from guest_starts import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.sim.host_file import SimSystem
    from apvfio.sim.kernel import SimKernel
    from doctor_env import Found

READ_ONLY = {"ps", "sleep", "journalctl"}
_EDITORS = re.compile(r"\$\{EDITOR:-vi\} |virsh .*\bedit ")


class Change(NamedTuple):
    """One difference between a host before and after."""

    what: str
    """``guest``, ``runs``, ``lease``, ``device``, ``queue``, ``reach``, ``mask``, ``file`` or the like."""
    which: str


def is_editor(command: str) -> bool:
    """Whether it opens an editor, to which whatever is pasted after it would go."""
    return bool(_EDITORS.match(command))


class Practice(Trial):
    """A host on which remedies are carried out, and which is as it was afterwards."""

    def prescribed(self, check: Found, asked: str) -> tuple[set[Change], list[Found]]:
        """Carry out all commands of a check, in order; each must succeed.

        What changed, and what the doctor finds then if it is ``asked`` the same.
        """
        before = self.everything()
        kept, running = f"{self.path}.kept", self.running()
        shutil.copy(self.path, kept)
        definitions = self.definitions()
        try:
            for command in check["commands"]:
                self.perform(command)
            after = self.everything()
            again = self.examined(*([asked] if asked else []))[1]
        finally:
            shutil.copy(kept, self.path)
            for name, xml in definitions.items():
                if self.definition(name).decode() != xml:
                    self.define_xml(xml)
            for name in running - self.running():
                self.domain(name).create()
        keys = before.keys() | after.keys()
        return {Change(*key) for key in keys if before.get(key) != after.get(key)}, again

    def perform(self, command: str) -> None:
        """Do what one line says, as a shell on that host would."""
        if is_editor(command):
            return  # a person decides
        words = shlex.split(command)
        if words[0] == "apvfio":
            assert words[1:3] == ["--sim", self.path], command
            assert main(words[1:]) == 0, command
        elif words[0] == "virsh":
            self._virsh(words[3:])
        elif "|" in words:
            self._attach(words)
        elif words[0] == "modprobe":
            with self.opened() as system:
                system.kernel.load(words[-1])
        elif words[0] == "mv":
            assert words[1:3] == ["-T", "--backup=numbered"], command
            with self.opened() as system:
                system.files.rename(words[3].lstrip("/"), words[4].lstrip("/"))
        elif words[0] == "echo":
            *value, sign, path = words[1:]
            assert (sign, path[:5]) == (">", "/sys/"), command
            self.write(path[1:], f"{' '.join(value)}\n")
        else:
            assert words[0] in READ_ONLY, command

    def _virsh(self, words: list[str]) -> None:
        if words[0] == "shutdown":
            self.end(words[1])
        else:
            assert words == ["list", "--all"], words

    def _attach(self, words: list[str]) -> None:
        cut = words.index("|")
        assert words[0] == "echo", words
        assert words[cut + 1 : cut + 5] == ["virsh", "-c", "test:///default", "attach-device"], words
        name, *rest = words[cut + 5 :]
        assert rest == ["/dev/stdin", "--config"], words
        xml = self.definition(name).decode()
        self.define_xml(xml.replace("</devices>", f"{words[1]}</devices>"))

    def everything(self) -> dict[tuple[str, str], object]:
        """All there is to a host and its guests."""
        found: dict[tuple[str, str], object] = {}
        found |= {("guest", name): xml for name, xml in self.definitions().items()}
        found |= {("runs", name): True for name in self.running()}
        with self.opened() as system:
            found |= dict(_of_host(system))
        return found

    def running(self) -> set[str]:
        """The guests that run, by libvirt."""
        return {name for name in self.definitions() if self.domain(name).isActive()}


def _of_host(system: SimSystem) -> Iterator[tuple[tuple[str, str], object]]:
    try:
        ledger = ledger_file.load(system.files, system.boot_id)
        yield from ((("lease", lease.guest), lease) for lease in ledger.leases.values())
    except ApvfioError:
        pass  # its file counts
    tree = system.tree.to_json()
    yield from ((("file", path), entry) for path, entry in tree.items() if not path.endswith("/"))
    kernel = system.kernel
    yield from ((("module", module), True) for module in kernel.list("module"))
    if kernel.exists(f"{BUS}/apmask"):
        yield from _of_bus(kernel, read_host(kernel))


def _of_bus(kernel: SimKernel, host: Host) -> Iterator[tuple[tuple[str, str], object]]:
    yield ("bus", "drivers_autoprobe"), kernel.read(f"{BUS}/drivers_autoprobe")
    yield ("mask", "apmask"), host.apmask
    yield ("mask", "aqmask"), host.aqmask
    yield from ((("queue", str(queue)), driver) for queue, driver in host.drivers.items())
    for uuid, mdev in kernel.state.mdevs.items():
        yield ("device", uuid), mdev.matrix
        if mdev.open:
            yield ("reach", uuid), (mdev.guest_matrix, mdev.opener)
    overrides = {str(queue): f"{BUS}/devices/{queue}/driver_override" for queue in host.drivers}
    yield from ((("override", q), kernel.read(path)) for q, path in overrides.items() if kernel.exists(path))
    cards = [f"devices/ap/{name}" for name in kernel.list("devices/ap") if name.startswith("card")]
    states = [f"{card}/{what}" for card in cards for what in ("config", "online")]
    yield from ((("card", path), kernel.read(path)) for path in states if kernel.exists(path))
