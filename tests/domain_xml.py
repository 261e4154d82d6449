# SPDX-License-Identifier: Apache-2.0
"""The XML of guests, and what of it is not ours."""

from __future__ import annotations

import re

from lxml import etree

from apvfio.domain.xml_reader import NAMESPACE

UUID = "9a3cd2a0-7f0b-4a4b-9d4e-0d2c5f3a6b10"
MDEV = "0A0B0C0D-1111-4111-8111-111111111111"
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-ap'>"
    f"<source><address uuid='{MDEV}'/></source></hostdev>"
)
MATRIX = '<ap:matrix adapters="0,0xa" domains="1-2,4"/>'
ANY = '<ap:any mode="cca"/>'


def domain(matrix: str = MATRIX, devices: str = HOSTDEV, name: str = "db1", uuid: str = UUID) -> bytes:
    """A guest's XML, valid unless a part is given."""
    return (
        f"<domain type='kvm' id='1'><name>{name}</name><uuid>{uuid}</uuid>"
        f"<metadata><ap:guest xmlns:ap='{NAMESPACE}'>{matrix}</ap:guest></metadata>"
        f"<devices>{devices}</devices></domain>"
    ).encode()


def rest(xml: str | bytes, *, mdev: str = "") -> str:
    """All of a domain but our two elements and the white space that indents: what must never change."""
    root = etree.fromstring(xml if isinstance(xml, bytes) else xml.encode())
    for element in root.findall(f"metadata/{{{NAMESPACE}}}guest"):
        _out(element)
    for device in root.findall("devices/hostdev[@model='vfio-ap']"):
        address = device.find("source/address")
        if address is not None and address.get("uuid") == mdev:
            _out(device)
    metadata = root.find("metadata")
    if metadata is not None and not len(metadata):
        _out(metadata)
    text = etree.tostring(root, method="c14n").decode()
    return re.sub(r">\s+<", "><", text)


def _out(element: etree._Element) -> None:
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)
