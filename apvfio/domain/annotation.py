# SPDX-License-Identifier: Apache-2.0
"""The annotation of a guest, read as strictly as the schema (schema/guest-1.rng) demands.

The schema also limits the words. Here each fault gets a sentence of its own.
"""

from __future__ import annotations

from apvfio.domain.xml_reader import NAMESPACE, own, plain
from apvfio.model.errors import RequestError, printable
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.domain.xml_reader import Element, Stray
    from apvfio.model.criteria import Criteria

_BLANKS = " \t\r\n"
"""White space to XML, which is less than to Python."""
_LISTS = ("adapters", "domains", "control-domains")
_FREE_BY = ("adapters", "domains")
_MATRIX = own("matrix")


def parse_annotation(guest: Element, *, secure: bool = False) -> Matrix | Criteria:
    """The queues that the annotation ``<ap:guest>`` requests; RequestError names attribute and fix.

    ``secure``: it is that of a Secure Execution guest, for which criteria have other defaults.
    """
    found: Matrix | Criteria | None
    for matrix in guest.all(_MATRIX):
        found = Matrix(*(_ids(matrix, name) for name in _LISTS))
        faults = _faults(guest)
        break
    else:
        # Most guests request ids.
        from apvfio.domain import annotated_criteria  # noqa: PLC0415

        found = annotated_criteria.read_criteria(guest, secure=secure)
        if found is None:
            raise _invalid("the annotation has no <matrix>")
        faults = annotated_criteria.faults(guest)
    for why in faults:
        raise _invalid(f"the annotation does not fit its schema: {why}")
    return found


def refusal_of(stray: Stray) -> RequestError:
    """Return the error for a guest with ``stray``, which was meant to be an annotation and is none."""
    name, inside = printable(stray.name), f"in <{printable(stray.inside)}>" if stray.inside else "at the top"
    what = f"the attribute {name}" if stray.attribute else f"the element <{name}>"
    if stray.namespace != NAMESPACE:
        return RequestError(
            f"{what} {inside} has the namespace {printable(stray.namespace)!r}, "
            f"and this version of apvfio reads only {NAMESPACE}.",
            remedy="Write the annotation again with 'apvfio guest set', or install the version of apvfio "
            "that wrote it.",
        )
    return _invalid(f"{what} of apvfio's namespace is {inside}, where it is not part of an annotation")


def free_by(guest: Element) -> str:
    """The option, ``adapters`` or ``domains``, to free the queues of ``<ap:matrix>``, '' if it names none."""
    return next((matrix.attributes.get("free-by", "") for matrix in guest.all(_MATRIX)), "").strip(_BLANKS)


def _faults(guest: Element) -> Iterator[str]:
    """What the schema does not allow, in its checker's words (libxml2: relaxng.c)."""
    for element in (guest, *guest.children):
        if element.text.strip(_BLANKS):
            yield f"Did not expect text in element {_shown(element.tag)} content"
    for name in guest.attributes:
        yield f"Invalid attribute {_shown(name)} for element guest"
    asked, *more = guest.children
    for unexpected in [*([] if asked.tag == _MATRIX else [asked]), *asked.children, *more]:
        yield f"Did not expect element {_shown(unexpected.tag)} there"
    for name, value in asked.attributes.items():
        if not _allowed(name, value):
            yield f"Invalid attribute {_shown(name)} for element {_shown(asked.tag)}"


def _allowed(name: str, value: str) -> bool:
    if name == "free-by":
        return value.strip(_BLANKS) in _FREE_BY
    # The lists may contain Python's blanks and, as in chzdev, one after the dash of a range.
    return (
        name in _LISTS
        and value.isascii()
        and not any(end[:1].strip(_BLANKS) != end[:1] for end in value.split("-")[1:])
    )


def _ids(matrix: Element, name: str) -> IdSet:
    text = matrix.attributes.get(name)
    if text is None:
        if name == "control-domains":
            return NO_IDS
        raise _invalid(f"<matrix> has no attribute {name}")
    return parse_list(text, f"the attribute {name} of <matrix>")


def _shown(tag: str) -> str:
    return printable(plain(tag))


def _invalid(why: str) -> RequestError:
    return RequestError(
        f"{why}.",
        remedy='Write <ap:guest xmlns:ap="' + NAMESPACE + '"><ap:matrix adapters="0,0xa" '
        "domains=\"1-2,4\"/></ap:guest> directly in <metadata>, or use 'apvfio guest set'.",
    )
