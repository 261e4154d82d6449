# SPDX-License-Identifier: Apache-2.0
"""The call that may wait together with others, a guest's start, and its answer: as JSON and back."""

from __future__ import annotations

from apvfio.mdev.devices import is_uuid
from apvfio.model import errors
from apvfio.model.errors import ApvfioError
from apvfio.model.ids import NO_IDS, IdSet, format_list, parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from apvfio.model.request import Request

    Document = dict[str, Any]

_WAYS = ("", "adapters", "domains")
_KINDS: dict[str, type[ApvfioError]] = {
    kind.kind: kind
    for kind in (
        *(ApvfioError, errors.UsageError, errors.ConflictError, errors.PolicyError, errors.HostError),
        *(errors.FileError, errors.RequestError, errors.KernelRefusedError),
    )
}


class Acquire(NamedTuple):
    """A guest that starts wants its queues."""

    request: Request

    def as_json(self) -> Document:
        """The call as a ticket holds it."""
        request = self.request
        wish = request.wish
        return {
            "call": "acquire",
            "guest": request.guest,
            "uuid": request.guest_uuid,
            "mdev": request.mdev,
            "matrix": [format_list(ids) for ids in request.matrix],
            "free_by": request.free_by,
            "wish": wish and wish.attributes(),
            "source": request.source,
        }


def parse_call(document: Document) -> Acquire | None:
    """The call that a ticket holds, None if it is not known here."""
    try:
        if document["call"] == "acquire":
            return Acquire(_request(document))
    except (ApvfioError, AttributeError, LookupError, TypeError, ValueError):
        # A newer apvfio's, perhaps. Its owner serves himself when it is his turn.
        return None
    return None


def answer_of(error: ApvfioError | None) -> Document:
    """The answer for a call that ended with ``error``, or well."""
    return {"error": None if error is None else error.as_json()}


def raise_from(answer: Document) -> None:
    """Raise the error that an answer tells of, if it does."""
    told = answer.get("error")
    if told:
        try:
            error = _error_from(told)
        except (AttributeError, LookupError, TypeError):
            raise ApvfioError(
                "another apvfio gave an answer that makes no sense.", remedy="Try again."
            ) from None
        raise error


def _error_from(told: Document) -> ApvfioError:
    """The error of which ``told`` is the JSON, of its class and with its facts.

    One of a kind unknown here, a newer apvfio's, is an ApvfioError. AttributeError, LookupError or TypeError
    if it is no error.
    """
    kind = _KINDS.get(told["kind"], ApvfioError)
    facts = {name: told[name] for name in kind.facts}
    if not all(isinstance(fact, int if name == "errno" else str) for name, fact in facts.items()):
        raise TypeError("a fact of the error is of another type")
    remedy, guest = ("" if told[name] is None else str(told[name]) for name in ("remedy", "guest"))
    error = kind(str(told["error"]), remedy=remedy, **facts)
    error.guest = guest
    error.queues = tuple(sorted(filter(None, map(Apqn.parse, told["queues"]))))
    return error


def _request(document: Document) -> Request:
    # Only who serves others' starts pays for these.
    from apvfio.model.criteria import parse_criteria  # noqa: PLC0415
    from apvfio.model.request import Request  # noqa: PLC0415

    guest, uuid, mdev, free_by, wish = (document[key] for key in ("guest", "uuid", "mdev", "free_by", "wish"))
    source = document["source"]
    texts = isinstance(guest, str) and isinstance(source, str)
    if not (texts and is_uuid(uuid) and is_uuid(mdev) and free_by in _WAYS):
        raise ValueError("no guest asks so")
    matrix = Matrix(*(_ids(text) for text in document["matrix"]))
    if wish is None and matrix.empty:
        raise ValueError("it asks for nothing")
    return Request(guest, uuid, mdev, matrix, free_by, None if wish is None else parse_criteria(wish), source)


def _ids(text: str) -> IdSet:
    return parse_list(text, "a ticket") if text else NO_IDS
