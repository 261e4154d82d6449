# SPDX-License-Identifier: Apache-2.0
"""A guest that runs on a simulated host, as libvirt's binding shows it, into which a device can be plugged.

libvirt's test driver plugs no mediated device, so its part is simulated here: the guest's process opens and
closes the device in the simulated kernel. Each of libvirt's calls is an event of the host's `Faults`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memory_host import Machine

_DOMAIN = """<domain type="kvm"><name>{name}</name><uuid>{uuid}</uuid><metadata>{annotation}</metadata>
<devices>{device}</devices></domain>"""
_HOSTDEV = (
    '<hostdev mode="subsystem" type="mdev" model="vfio-ap"><source><address uuid="{}"/></source></hostdev>'
)


class RunningGuest:
    """The guest; its QEMU is one of the machine's processes."""

    def __init__(self, machine: Machine, name: str, uuid: str) -> None:
        self.machine = machine
        self.name = name
        self.uuid = uuid
        self.life_number = 0
        self.pid = 0
        self.annotation = ""
        self.plugged = ""
        """The uuid of the device that it has."""
        self.answers = True
        """Whether its daemon does; one that has died leaves the guest running."""
        self.start()

    def start(self) -> None:
        """Begin a life: another process, and no device."""
        assert self.machine.processes
        self.life_number += 1
        self.pid = self.machine.processes.start(self.uuid, self.name).pid
        self.plugged = ""

    def stop(self) -> None:
        """End its process."""
        assert self.machine.processes
        self.machine.processes.end(self.pid)
        self.pid, self.plugged = 0, ""

    def open(self, mdev: str) -> None:
        """Its process opens the device."""
        assert self.machine.processes
        self.machine.processes.open(self.pid, mdev)
        self.plugged = mdev

    def on(self, machine: Machine) -> RunningGuest:
        """The same guest on a twin of its host."""
        twin = object.__new__(RunningGuest)
        vars(twin).update(vars(self))
        twin.machine = machine
        return twin

    # As `apvfio.libvirt.guests.Guest` has them.

    @property
    def active(self) -> bool:
        self._call("isActive")
        return bool(self.pid)

    @property
    def life(self) -> int:
        return self.life_number if self.active else -1

    def xml(self, *, live: bool = False, secrets: bool = False) -> bytes:
        assert live
        assert not secrets
        self._call("XMLDesc")
        if not self.pid:
            raise ApvfioError("libvirt refused: domain is not running.", guest=self.name)
        device = _HOSTDEV.format(self.plugged) if self.plugged else ""
        return _DOMAIN.format(
            name=self.name, uuid=self.uuid, annotation=self.annotation, device=device
        ).encode()

    def plug(self, device: str) -> None:
        found = re.search("uuid='(.*?)'", device)
        assert found
        mdev = found[1]
        self._change("attachDevice", lambda: self.open(mdev))

    def unplug(self, device: str) -> None:
        assert self.plugged in device
        self._change("detachDevice", self.let_go)

    def annotation_text(self, *, live: bool) -> str:
        self._call("metadata")
        return self.annotation if live else ""  # its definition has none

    def set_annotation(self, text: str, *, config: bool = False, live: bool = False) -> None:
        assert (config, live) == (False, True)
        self._change("setMetadata", lambda: setattr(self, "annotation", text))

    def let_go(self) -> None:
        """Its process closes the device."""
        self.machine.kernel.detach_guest(self.plugged)
        self.plugged = ""

    def _change(self, name: str, do: Callable[[], None]) -> None:
        with self.machine.faults.writing(f"libvirt/{name}"):
            self._require_daemon()
            if not self.pid:
                raise ApvfioError("libvirt refused: domain is not running.", guest=self.name)
            try:
                do()
            except OSError as error:
                raise ApvfioError(f"libvirt refused: {error}.", guest=self.name) from None

    def _call(self, name: str) -> None:
        with self.machine.faults.writing(f"libvirt/{name}"):
            self._require_daemon()

    def _require_daemon(self) -> None:
        if not self.answers:
            raise ApvfioError("libvirt refused: client socket is closed.", guest=self.name)
