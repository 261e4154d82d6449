# SPDX-License-Identifier: Apache-2.0
"""A domain's XML as a tree, for what changes it or looks at all of it; a start reads it with `domain_xml`."""

from __future__ import annotations

import os

from apvfio.domain_xml import NAMESPACE
from apvfio.errors import RequestError, printable
from apvfio.lazily import etree

SCHEMA = os.path.join(os.path.dirname(__file__), "schema", "guest-1.rng")
ANNOTATION = f"metadata/{{{NAMESPACE}}}guest"
"""Where in a domain the annotation is."""
HOSTDEV = "./devices/hostdev[@mode='subsystem'][@type='mdev'][@model='vfio-ap']/source/address"


def parse_xml(xml: bytes, what: str) -> etree._Element:
    """The root element, with entities and network off; RequestError if it is not well-formed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise RequestError(
            f"{what} is not well-formed: {printable(str(error), 200)}.",
            remedy="Let 'virt-xml-validate' look at it.",
        ) from None
    if root.getroottree().docinfo.doctype:
        raise RequestError(
            f"{what} has a document type declaration, which is not accepted.", remedy="Remove it."
        )
    return root
