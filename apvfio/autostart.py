# SPDX-License-Identifier: Apache-2.0
"""The AP devices that mdevctl makes at boot: its definitions with ``start`` ``auto``.

Read as s390-tools read them (libap/ap.c:vfio_ap_read_device_config): what they cannot make
sense of does not count.
"""

from __future__ import annotations

import json

from apvfio.errors import RequestError
from apvfio.host import AP_MDEVS
from apvfio.mask import NO_IDS, IdSet, parse_list
from apvfio.matrix import Matrix
from mdev.devices import is_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import Files

DEFINITIONS = "etc/mdevctl.d/matrix"


def load(files: Files) -> dict[str, Matrix]:
    """What each device that starts at boot will hold, by its uuid."""
    found = {}
    for name in files.list(DEFINITIONS):
        matrix = _parse(files.read(f"{DEFINITIONS}/{name}") or "") if is_uuid(name) else None
        if matrix:
            found[name] = matrix
    return found


def _parse(text: str) -> Matrix | None:
    """The matrix in a definition; None if it is no AP device's, or does not start at boot."""
    try:
        document = json.loads(text)
        if document["mdev_type"] != AP_MDEVS.name or document["start"] != "auto":
            return None
        return _matrix([(name, value) for attr in document.get("attrs", []) for name, value in attr.items()])
    except (AttributeError, LookupError, RecursionError, RequestError, TypeError, ValueError):
        return None


def _matrix(attrs: list[tuple[str, str]]) -> Matrix:
    adapters, domains = NO_IDS, NO_IDS
    for name, value in attrs:
        if name == "assign_adapter":
            adapters |= _ids(value)
        elif name == "assign_domain":
            domains |= _ids(value)
        elif name == "ap_config":
            adapters, domains, _ = Matrix.from_ap_config(value)
    return Matrix(adapters, domains)


def _ids(value: str) -> IdSet:
    return parse_list(value) if value else NO_IDS
