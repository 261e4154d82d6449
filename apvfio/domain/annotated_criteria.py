# SPDX-License-Identifier: Apache-2.0
"""Criteria in an annotation, ``<ap:any>``, read as strictly as the schema (schema/guest-1.rng) demands."""

from __future__ import annotations

from apvfio.domain.xml_reader import own, plain
from apvfio.model.criteria import CONTROL
from apvfio.model.criteria_texts import ATTRIBUTES, CARD_ATTRIBUTES, parse_criteria
from apvfio.model.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.domain.xml_reader import Element
    from apvfio.model.criteria import Criteria

_BLANKS = " \t\r\n"
"""White space to XML, which is less than to Python."""
_GUEST, _ANY, _CARDS = own("guest"), own("any"), own("cards")
_ATTRIBUTES = {_GUEST: (), _ANY: ATTRIBUTES, _CARDS: CARD_ATTRIBUTES}
_CHILDREN = {_GUEST: _ANY, _ANY: _CARDS}


def read_criteria(guest: Element, *, secure: bool) -> Criteria | None:
    """The criteria in the annotation ``<ap:guest>``, None if it has none; errors as `parse_criteria`."""
    for asked in guest.all(_ANY):
        return parse_criteria(asked.attributes, [one.attributes for one in asked.all(_CARDS)], secure=secure)
    return None


def faults(element: Element) -> Iterator[str]:
    """What the schema does not allow in an annotation with criteria, in libxml2's words (relaxng.c)."""
    shown = printable(plain(element.tag))
    if element.text.strip(_BLANKS):
        yield f"Did not expect text in element {shown} content"
    for name, value in element.attributes.items():
        if name not in _ATTRIBUTES[element.tag] or not _is_written_as_allowed(name, value):
            yield f"Invalid attribute {printable(plain(name))} for element {shown}"
    expected = _CHILDREN.get(element.tag)
    for place, child in enumerate(element.children):
        if child.tag != expected or (place and child.tag == _ANY):
            yield f"Did not expect element {printable(plain(child.tag))} there"
        else:
            yield from faults(child)


def _is_written_as_allowed(name: str, value: str) -> bool:
    """Whether a value that was read is one of the schema's: Python has more blanks and digits than XML."""
    ends = value.split("-")[1:] if name == CONTROL else []
    return value.isascii() and not any(end[:1].strip(_BLANKS) != end[:1] for end in ends)
