# SPDX-License-Identifier: Apache-2.0
"""A domain's XML as a tree, for commands that edit or search it; a start reads it with `xml_reader`.

lxml's ``etree`` is imported at its first use: each command imports the modules of all commands, and most need
no XML library. If lxml is missing, a command that needs it ends with a sentence.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from apvfio.domain.xml_reader import NAMESPACE, not_well_formed, read_domain, require_no_type
from apvfio.model.errors import HostError

if TYPE_CHECKING:
    from lxml import etree
else:

    class _Etree:
        def __getattr__(self, name: str) -> object:
            try:
                from lxml import etree as found  # noqa: PLC0415
            except ImportError:
                raise HostError(
                    "lxml, the XML library for Python, is not installed.", remedy="Install python3-lxml."
                ) from None
            value = getattr(found, name)
            setattr(self, name, value)
            return value

    etree = _Etree()

__all__ = ["ANNOTATION", "HOSTDEV", "SCHEMA", "etree", "parse_xml"]

SCHEMA = os.path.join(os.path.dirname(__file__), "schema", "guest-1.rng")
ANNOTATION = f"metadata/{{{NAMESPACE}}}guest"
"""Where in a domain the annotation is."""
HOSTDEV = "./devices/hostdev[@mode='subsystem'][@type='mdev'][@model='vfio-ap']/source/address"


def parse_xml(xml: bytes, what: str = "the domain XML") -> etree._Element:
    """Return the root element, with entities and network off; RequestError if it is not well-formed.

    Like libvirt's own parser, it accepts names that only break the rules of namespaces: other programs'
    metadata is not a fault of the domain.
    """
    require_no_type(xml, what)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=True,
        recover=True,
    )
    why = ""
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        root, why = None, str(error)
    for entry in parser.error_log:
        if entry.level >= etree.ErrorLevels.ERROR and entry.domain != etree.ErrorDomains.NAMESPACE:
            why = why or f"{entry.message}, line {entry.line}, column {entry.column}"
    if why or root is None:
        raise not_well_formed(what, why or "it is empty")
    # After an error of namespaces, libxml2 2.14 and later do not report text after the root; expat does.
    read_domain(xml, what)
    return root
