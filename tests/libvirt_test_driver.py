# SPDX-License-Identifier: Apache-2.0
"""libvirt's own test driver: real libvirt, real definitions, in this process; its guests run nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import libvirt
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt.guests import Guest, Guests, annotation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.criteria import Criteria
    from apvfio.model.matrix import Matrix

URI = "test:///default"
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source></hostdev>"
)
_DOMAIN = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <title>one of theirs</title>
  <metadata>
    <other:thing xmlns:other="urn:other" kept="yes"><other:deep/>text</other:thing>{annotation}
    <last xmlns="urn:last">0</last>
  </metadata>
  <memory unit='KiB'>8192</memory>
  <vcpu>1</vcpu>
  <os><type arch='s390x'>hvm</type></os>
  <devices>
    <disk type='file'><source file='/disk'/><target dev='vda'/></disk>
    {device}
    <graphics type='vnc' passwd='secret'/>
  </devices>
</domain>
"""
"""With what others keep in a definition: metadata, a password, devices before and behind."""


class Driver:
    """A connection that keeps the driver's guests as long as it is open."""

    def __init__(self) -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection: Any = libvirt.open(URI)
        self.clean()

    def clean(self) -> None:
        """End and forget all its guests."""
        for domain in self.connection.listAllDomains():
            defined = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if defined:
                domain.undefine()

    def define(self, name: str, number: int, asked: Matrix | Criteria | None = None, device: str = "") -> Any:
        """A guest with the uuid of the ``number``-th; its domain, as libvirt's binding gives it."""
        inside = annotation(asked).replace("<guest>", f"<guest xmlns='{NAMESPACE}'>") if asked else ""
        return self.connection.defineXML(
            _DOMAIN.format(
                name=name,
                uuid=f"{number:08x}-1111-4111-8111-111111111111",
                annotation=inside,
                device=HOSTDEV.format(device) if device else "",
            )
        )

    def names(self) -> list[str]:
        """The names of all its guests."""
        return sorted(domain.name() for domain in self.connection.listAllDomains())

    def guest(self, name: str) -> Guest:
        """The guest as apvfio finds it."""
        return Guests(URI).find(name)


@contextmanager
def driver() -> Iterator[Driver]:
    """The driver without any guest."""
    made = Driver()
    try:
        yield made
    finally:
        made.clean()
        made.connection.close()


def definition(domain: Any) -> str:
    """All of a guest's definition."""
    text: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    return text
