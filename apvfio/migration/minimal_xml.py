# SPDX-License-Identifier: Apache-2.0
"""What another host's apvfio is told of a guest: name, uuid, annotation, device, nothing else. Pure."""

from __future__ import annotations

from copy import deepcopy

from apvfio.domain.xml_tree import ANNOTATION, HOSTDEV, etree, parse_xml


def minimal_xml(xml: bytes, mdev: str | None = None) -> bytes:
    """The domain ``xml`` without all that is nobody's business, its memory's size as well as its passwords.

    With ``mdev`` its device is the one of that uuid, whatever it says. RequestError if it is not well-formed.
    """
    domain = parse_xml(xml)
    made = etree.Element("domain")
    for tag in ("name", "uuid"):
        etree.SubElement(made, tag).text = domain.findtext(tag)
    metadata = etree.SubElement(made, "metadata")
    metadata.extend([deepcopy(element) for element in domain.findall(ANNOTATION)])
    devices = etree.SubElement(made, "devices")
    named = [mdev] if mdev else [address.get("uuid") or "" for address in domain.findall(HOSTDEV)]
    for uuid in named:
        hostdev = etree.SubElement(devices, "hostdev", mode="subsystem", type="mdev", model="vfio-ap")
        etree.SubElement(etree.SubElement(hostdev, "source"), "address", uuid=uuid)
    return etree.tostring(made, encoding="unicode").encode()
