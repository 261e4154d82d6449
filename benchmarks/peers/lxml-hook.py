# SPDX-License-Identifier: Apache-2.0
"""A hook as one would write it with lxml: read the domain, look for the annotation, go."""

import sys

from lxml import etree

domain = etree.fromstring(sys.stdin.buffer.read())
if domain.find("metadata/{urn:apvfio:guest:1}guest") is not None:
    sys.exit(1)
