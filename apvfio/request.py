# SPDX-License-Identifier: Apache-2.0
"""What a guest asks for, read from the domain XML that libvirt gives to its hooks.

The annotation is an element of libvirt's ``<metadata>``::

    <ap:guest xmlns:ap="urn:apvfio:guest:1">
      <ap:matrix adapters="0,0xa" domains="1-2,4" control-domains="1-2,4"/>
    </ap:guest>

Instead of ``<ap:matrix>`` it may hold ``<ap:any mode="ep11" adapters="2" domains="1"/>``: see `apvfio.wish`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

from lxml import etree

from apvfio.errors import RequestError, printable
from apvfio.mask import NO_IDS, IdSet, parse_list
from apvfio.matrix import Matrix
from apvfio.wish import Wish, parse_wish
from mdev.devices import is_uuid

NAMESPACE = "urn:apvfio:guest:1"
SCHEMA = os.path.join(os.path.dirname(__file__), "schema", "guest-1.rng")
_GUEST = f"{{{NAMESPACE}}}guest"
_MATRIX = f"{{{NAMESPACE}}}matrix"
_ANY = f"{{{NAMESPACE}}}any"
_HOSTDEV = "./devices/hostdev[@mode='subsystem'][@type='mdev'][@model='vfio-ap']/source/address"
_HOSTDEV_XML = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='...'/></source></hostdev>"
)


class Request(NamedTuple):
    """One guest's wish: the queues, and the mediated device that shall carry them."""

    guest: str
    """The guest's name: untrusted text, for messages only."""
    guest_uuid: str
    mdev: str
    """The uuid of the mediated device, lower case."""
    matrix: Matrix
    """Empty as long as nothing was chosen for a ``wish``."""
    free_by: str = ""
    """``adapters`` or ``domains`` where the guest names the way to free its queues, else ''."""
    wish: Wish | None = None
    """What the queues must be like, if the guest does not name them."""


def parse_domain(xml: bytes) -> Request | None:
    """What the domain ``xml`` asks for, None if it bears no annotation; RequestError if it makes no sense."""
    domain = parse_xml(xml, "the domain XML")
    guest = domain.findtext("name") or ""
    found = domain.findall(f"metadata/{_GUEST}")
    if not found:
        return None
    try:
        if len(found) > 1:
            raise RequestError(
                "it has more than one annotation.", remedy="Leave one <ap:guest> in its <metadata>."
            )
        asked = parse_annotation(found[0])
        matrix, wish = (Matrix(), asked) if isinstance(asked, Wish) else (asked, None)
        return Request(guest, _uuid_of(domain), _mdev_of(domain), matrix, _free_by(found[0]), wish)
    except RequestError as error:
        raise error.for_guest(guest) from None


def parse_device(xml: bytes) -> Request | None:
    """A guest's vfio-ap device without any queues, None if it has none; for guests without annotation."""
    domain = parse_xml(xml, "the domain XML")
    if not domain.findall(_HOSTDEV):
        return None
    return Request(domain.findtext("name") or "", _uuid_of(domain), _mdev_of(domain), Matrix())


def guest_uuid(xml: bytes) -> str:
    """The uuid of the domain ``xml``, lower case; RequestError if it has none."""
    return _uuid_of(parse_xml(xml, "the domain XML"))


def parse_annotation(element: etree._Element) -> Matrix | Wish:
    """The queues that the annotation ``<ap:guest>`` asks for; RequestError names attribute and fix."""
    matrix, wish = element.find(_MATRIX), element.find(_ANY)
    if matrix is None and wish is not None:
        found = parse_wish({str(name): str(value) for name, value in wish.attrib.items()})
        _validate(element)
        return found
    if matrix is None:
        raise _invalid("the annotation has no <matrix>")
    ids = {name: _ids(matrix, name) for name in ("adapters", "domains", "control-domains")}
    _validate(element)
    return Matrix(ids["adapters"], ids["domains"], ids["control-domains"])


def parse_xml(xml: bytes, what: str) -> etree._Element:
    """The root element, with entities and network off; RequestError if it is not well-formed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise RequestError(f"{what} is not well-formed: {printable(str(error), 200)}.") from None
    if root.getroottree().docinfo.doctype:
        raise RequestError(f"{what} has a document type declaration, which is not accepted.")
    return root


def _free_by(element: etree._Element) -> str:
    matrix = element.find(_MATRIX)
    return (matrix.get("free-by") or "") if matrix is not None else ""


def _uuid_of(domain: etree._Element) -> str:
    uuid = domain.findtext("uuid") or ""
    if not is_uuid(uuid):
        raise RequestError(f"the domain XML has the uuid {printable(uuid)!r}, which is none.")
    return uuid.lower()


def _ids(matrix: etree._Element, name: str) -> IdSet:
    text = matrix.get(name)
    if text is None:
        if name == "control-domains":
            return NO_IDS
        raise _invalid(f"<matrix> has no attribute {name}")
    return parse_list(text, f"the attribute {name} of <matrix>")


def _validate(element: etree._Element) -> None:
    schema = _schema()
    # libvirt pretty-prints; the copy leaves its white space and the element's place behind.
    if not schema.validate(
        parse_xml(etree.tostring(element, encoding="utf-8", with_tail=False), "the annotation")
    ):
        raise _invalid(
            f"the annotation does not fit its schema: {printable(schema.error_log[0].message, 200)}"
        )


@lru_cache(maxsize=1)
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(file=SCHEMA)


def _mdev_of(domain: etree._Element) -> str:
    addresses = domain.findall(_HOSTDEV)
    if not addresses:
        raise RequestError(
            "it asks for AP queues but has no device to carry them.",
            remedy=f"Add {_HOSTDEV_XML} to its <devices>.",
        )
    uuid = addresses[0].get("uuid") or ""
    if len(addresses) > 1:
        raise RequestError("it has more than one vfio-ap device.", remedy="A guest can have one.")
    if not is_uuid(uuid):
        raise RequestError(
            f"its vfio-ap device has the uuid {printable(uuid)!r}, which is none.",
            remedy="Make one with uuidgen.",
        )
    return uuid.lower()


def _invalid(why: str) -> RequestError:
    return RequestError(
        f"{why}.",
        remedy='Write <ap:guest xmlns:ap="' + NAMESPACE + '"><ap:matrix adapters="0,0xa" '
        'domains="1-2,4"/></ap:guest>.',
    )
