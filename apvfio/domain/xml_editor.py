# SPDX-License-Identifier: Apache-2.0
"""Edit the annotation in a domain's XML, and add or remove its vfio-ap device.

All other elements stay as they are, with one exception: elements and attributes of apvfio's namespace outside
other programs' metadata would cause a start to be refused, and are removed. A replaced element keeps its
place, so that the order does not change.
"""

from __future__ import annotations

import difflib
from copy import deepcopy
from typing import TYPE_CHECKING

from apvfio.domain.xml_reader import NAMESPACE, SECURE_EXECUTION, is_own, read_domain
from apvfio.domain.xml_tree import ANNOTATION, HOSTDEV, etree, parse_xml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from apvfio.domain.xml_reader import Stray

OWN_MDEVS = 8
PREFIX = "ap"
_INDENT = "  "
_BEFORE_METADATA = ("name", "uuid", "genid", "title", "description")


def own_mdev(guest_uuid: str, number: int = 1) -> str:
    """Return the uuid of the device for the guest ``guest_uuid``: the same at any time, on any host.

    It is derived from the guest's (RFC 9562, version 5), in a namespace derived from the annotation's.
    ``number`` chooses another one, up to `OWN_MDEVS`, if another guest has the first.
    """
    import uuid  # noqa: PLC0415  it looks at the machine

    name = guest_uuid.lower() if number == 1 else f"{guest_uuid.lower()}/{number}"
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE), name))


def own_mdevs(guest_uuid: str) -> list[str]:
    """All uuids that `own_mdev` makes for a guest, in the order of preference."""
    return [own_mdev(guest_uuid, number) for number in range(1, OWN_MDEVS + 1)]


def with_request(xml: bytes, annotation: str | None, mdev: str | None) -> bytes:
    """The domain ``xml`` with ``annotation``, in the form `apvfio.libvirt.guests.annotation` gives it.

    With ``mdev`` its vfio-ap device has that uuid, and is added if there is none; without either, that
    part stays as it is. RequestError if ``xml`` is not well-formed.
    """
    domain = parse_xml(xml)
    if annotation is not None:
        _annotate(domain, annotation)
    addresses = domain.findall(HOSTDEV)
    if mdev and addresses:
        addresses[0].set("uuid", mdev)
    elif mdev:
        devices = domain.find("devices")
        if devices is None:
            devices = etree.SubElement(domain, "devices")
        _append(devices, _hostdev(mdev), 2)
    return _text(domain)


def with_request_in_file(xml: bytes, annotation: str | None, mdev: str | None) -> bytes:
    """Return the text of a file that holds a domain, changed as `with_request` does.

    What stands before and behind the domain, such as an XML declaration and comments, stays as it is.
    """
    begin, end = _root_bounds(xml)
    return xml[:begin] + with_request(xml, annotation, mdev) + xml[end:]


def without_request_in_file(xml: bytes, mdevs: Collection[str]) -> bytes:
    """Return the text of a file that holds a domain, changed as `without_request` does."""
    begin, end = _root_bounds(xml)
    return xml[:begin] + without_request(xml, mdevs) + xml[end:]


def _root_bounds(xml: bytes) -> tuple[int, int]:
    """Return where the root element begins and ends; RequestError if ``xml`` is not well-formed."""
    from xml.parsers import expat  # noqa: PLC0415

    parse_xml(xml)
    bounds = []
    depth = 0
    parser = expat.ParserCreate("utf-8")

    def begins(*_: object) -> None:
        nonlocal depth
        if not depth:
            bounds.append(parser.CurrentByteIndex)
        depth += 1

    def ends(_: str) -> None:
        nonlocal depth
        depth -= 1
        if not depth:
            # For an empty element, expat has already reported the end.
            place = parser.CurrentByteIndex
            bounds.append(xml.index(b">", place) + 1 if xml.startswith(b"</", place) else place)

    parser.StartElementHandler, parser.EndElementHandler = begins, ends
    parser.Parse(xml, True)
    begin, end = bounds
    return begin, end


def minimal_xml(xml: bytes, mdev: str | None = None) -> bytes:
    """Return what another host's apvfio needs of the domain ``xml``: name, uuid, annotation, device.

    It also says whether the guest is a Secure Execution guest. Everything else, such as passwords, is left
    out. With ``mdev`` the device has that uuid. RequestError if ``xml`` is not well-formed.
    """
    domain, made = parse_xml(xml), etree.Element("domain")
    for tag in ("name", "uuid"):
        etree.SubElement(made, tag).text = domain.findtext(tag)
    etree.SubElement(made, "metadata").extend([deepcopy(element) for element in domain.findall(ANNOTATION)])
    named = [mdev] if mdev else [address.get("uuid") or "" for address in domain.findall(HOSTDEV)]
    etree.SubElement(made, "devices").extend([_hostdev(uuid) for uuid in named])
    if read_domain(xml).secure:
        etree.SubElement(made, "launchSecurity", type=SECURE_EXECUTION)
    return _text(made)


def left_by_libvirt(xml: bytes) -> Stray | None:
    """What of apvfio's namespaces would stay in a running guest that is given another annotation.

    libvirt replaces the element of metadata that has the annotation's namespace (virDomainSetMetadata).
    """
    domain = parse_xml(xml)
    for element in domain.findall(f"metadata/{{{NAMESPACE}}}*"):
        _remove(element)
    return read_domain(_text(domain)).stray


def _annotate(domain: etree._Element, annotation: str) -> None:
    """Replace the annotation, and whatever else has one of apvfio's namespaces."""
    new = _qualified(annotation)
    place = next((element for element in domain.findall("metadata/*") if _is_own(element.tag)), None)
    if place is None:
        _append(_metadata(domain), new, 2)
    else:
        _replace(place, new)
    _purge(domain, new)


def without_request(xml: bytes, mdevs: Collection[str]) -> bytes:
    """Return the domain ``xml`` without its annotation, and without the vfio-ap devices in ``mdevs``.

    A ``<metadata>`` that becomes empty is removed, too, as libvirt would do.
    """
    domain = parse_xml(xml)
    _purge(domain)
    metadata = domain.find("metadata")
    if metadata is not None and not len(metadata):
        _remove(metadata)
    for address in domain.findall(HOSTDEV):
        hostdev = address.getparent()
        hostdev = hostdev.getparent() if hostdev is not None else None
        if hostdev is not None and (address.get("uuid") or "").lower() in mdevs:
            _remove(hostdev)
    return _text(domain)


def device_uuids(xml: bytes) -> set[str]:
    """The uuids, lower case, of all vfio-ap devices in the domain ``xml``."""
    addresses = parse_xml(xml).findall(HOSTDEV)
    return {(address.get("uuid") or "").lower() for address in addresses}


def difference(before: bytes, after: bytes) -> Iterator[str]:
    """What changes from the domain ``before`` to the domain ``after``, in lines with - and +."""
    # apvfio wrote this element itself: libvirt writes other quotation marks.
    old, new = (_text(parse_xml(xml)).decode().splitlines() for xml in (before, after))
    for line in list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]:
        yield "..." if line.startswith("@@") else line


def _is_own(name: object) -> bool:
    """Whether the name of an element or attribute is in one of apvfio's namespaces; a comment has no name."""
    return isinstance(name, str) and name[:1] == "{" and is_own(name[1:].partition("}")[0])


def _purge(domain: etree._Element, but: etree._Element | None = None) -> None:
    """Remove all that has one of apvfio's namespaces, but for the annotation ``but`` and others' metadata."""
    spared = {but, *(element for element in domain.findall("metadata/*") if not _is_own(element.tag))}
    for element in list(domain.iter("*")):
        if not spared.isdisjoint((element, *element.iterancestors())):
            continue
        for name in [name for name in element.attrib if _is_own(name)]:
            del element.attrib[name]
        if _is_own(element.tag) and element is not domain:  # libvirt refuses a root that is not <domain>
            _remove(element)


def _qualified(annotation: str) -> etree._Element:
    """The annotation in its namespace, as libvirt shows it."""
    bare = etree.fromstring(annotation)
    made = etree.Element(f"{{{NAMESPACE}}}{bare.tag!s}", nsmap={PREFIX: NAMESPACE})
    _add_qualified(made, bare)
    return made


def _add_qualified(made: etree._Element, bare: etree._Element) -> None:
    for child in bare:
        attributes = {str(name): str(value) for name, value in child.attrib.items()}
        _add_qualified(etree.SubElement(made, f"{{{NAMESPACE}}}{child.tag!s}", attributes), child)


def _hostdev(mdev: str) -> etree._Element:
    hostdev = etree.Element("hostdev", mode="subsystem", type="mdev", managed="no", model="vfio-ap")
    etree.SubElement(etree.SubElement(hostdev, "source"), "address", uuid=mdev)
    return hostdev


def _metadata(domain: etree._Element) -> etree._Element:
    """Its ``<metadata>``, made where libvirt would put it if it has none."""
    metadata = domain.find("metadata")
    if metadata is not None:
        return metadata
    made = etree.Element("metadata")
    before = [child for child in domain if child.tag in _BEFORE_METADATA]
    if before:
        space = before[-1].tail
        before[-1].addnext(made)
        # lxml puts it before the text behind the other element.
        before[-1].tail = made.tail = space
    else:
        domain.insert(0, made)
    return made


def _append(parent: etree._Element, child: etree._Element, depth: int) -> None:
    """Make ``child`` the last in ``parent``, indented as libvirt indents."""
    etree.indent(child, space=_INDENT, level=depth)
    closing = "\n" + _INDENT * (depth - 1)
    if len(parent):
        child.tail = parent[-1].tail
        parent[-1].tail = "\n" + _INDENT * depth
    else:
        parent.text = "\n" + _INDENT * depth
        child.tail = closing
    parent.append(child)


def _replace(old: etree._Element, new: etree._Element) -> None:
    parent = old.getparent()
    assert parent is not None
    etree.indent(new, space=_INDENT, level=2)
    new.tail = old.tail
    parent.replace(old, new)


def _remove(element: etree._Element) -> None:
    """Take ``element`` out, and the white space behind it, or before it if it is the last."""
    parent = element.getparent()
    assert parent is not None
    previous, is_last = element.getprevious(), element.getnext() is None
    before = (parent.text if previous is None else previous.tail) or ""
    # lxml takes the text behind an element away with it.
    behind = element.tail or ""
    parent.remove(element)
    if before.strip() or behind.strip():
        left = before + behind
    elif is_last:
        left = "" if previous is None else behind
    else:
        left = before
    if previous is None:
        parent.text = left or None
    else:
        previous.tail = left


def _text(domain: etree._Element) -> bytes:
    return etree.tostring(domain, encoding="unicode").encode()
