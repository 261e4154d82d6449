# SPDX-License-Identifier: Apache-2.0
"""mdevctl's definitions of persistent devices: /etc/mdevctl.d/PARENT/UUID, one JSON object each.

A definition is read and written without loss: fields of mdevctl or of other programs stay, and attributes
keep their order, which is the order in which mdevctl writes them.
"""

from __future__ import annotations

import json
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MANUAL = "manual"
AUTO = "auto"
_STARTS = (MANUAL, AUTO)


class DefinitionError(ValueError):
    """A text that is no definition; the message is a clause that says why."""


class Definition(NamedTuple):
    """One device as mdevctl would make it."""

    type: str
    start: str
    """``manual``, or ``auto``: with its parent, at boot."""
    attrs: tuple[tuple[str, str], ...]
    """What is written to the new device: attribute and value, in order."""
    more: Mapping[str, Any] = {}
    """Fields of others, kept as they were."""

    def text(self) -> str:
        """The file's content, as mdevctl writes it."""
        attrs = [{name: value} for name, value in self.attrs]
        document = {"mdev_type": self.type, "start": self.start, "attrs": attrs, **self.more}
        return json.dumps(document, indent=2) + "\n"

    def values(self, name: str) -> Iterable[str]:
        """All values of the attribute ``name``, in order."""
        return (value for attribute, value in self.attrs if attribute == name)


def parse(text: str) -> Definition:
    """Return the definition in a file's ``text``; DefinitionError says what is wrong with it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise DefinitionError("it is not JSON") from None
    return _definition(document)


def parse_dump(text: str) -> dict[tuple[str, str], Definition]:
    """Return the devices, by parent and uuid, in the output of ``mdevctl list --dumpjson``.

    DefinitionError if it is invalid. Only for output without ``--uuid``: with it, mdevctl leaves out parent
    and uuid.
    """
    try:
        pairs = [
            ((parent, uuid), _definition(device))
            for parents in json.loads(text)
            for parent, devices in parents.items()
            for entry in devices
            for uuid, device in entry.items()
        ]
    except DefinitionError:
        raise
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise DefinitionError("it is not a list of devices") from None
    return dict(pairs)


def _definition(document: object) -> Definition:
    if not isinstance(document, dict):
        raise DefinitionError("it is not a JSON object")
    kind, start = document.pop("mdev_type", None), document.pop("start", MANUAL)
    if not isinstance(kind, str):
        raise DefinitionError("it has no mdev_type")
    if start not in _STARTS:
        raise DefinitionError(f"its start is {str(start)[:40]!r}, neither {MANUAL} nor {AUTO}")
    return Definition(kind, start, tuple(_attrs(document.pop("attrs", []))), document)


def _attrs(found: object) -> Iterable[tuple[str, str]]:
    if not isinstance(found, list):
        raise DefinitionError("its attrs are not a list")
    for attr in found:
        if not isinstance(attr, dict) or len(attr) != 1:
            raise DefinitionError(
                f"it has the attribute {str(attr)[:40]}, which is not one name and one value"
            )
        ((name, value),) = attr.items()
        if not isinstance(value, str):
            raise DefinitionError(f"its attribute {name[:40]!r} is not text")
        yield name, value
