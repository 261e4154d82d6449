# SPDX-License-Identifier: Apache-2.0
"""The calls that may wait together, a guest's start and its stop, and their answers: as JSON and back."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.errors import ApvfioError, ConflictError, HostError, PolicyError, RequestError
from apvfio.mask import NO_IDS, IdSet, format_list, parse_list
from apvfio.matrix import Apqn, Matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from apvfio.request import Request

    Document = dict[str, Any]

_KINDS = {kind.kind: kind for kind in (ConflictError, HostError, PolicyError, RequestError)}


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
            "wish": wish and {**wish._asdict(), "control_domains": format_list(wish.control_domains)},
        }


class Release(NamedTuple):
    """A guest that stopped gives its queues back."""

    uuid: str
    """The guest's."""

    def as_json(self) -> Document:
        """The call as a ticket holds it."""
        return {"call": "release", "uuid": self.uuid}


def parse_call(document: Document) -> Acquire | Release | None:
    """The call that a ticket holds, None if it is none of those known here."""
    try:
        if document["call"] == "release":
            return Release(str(document["uuid"]))
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
        kind = _KINDS.get(told["kind"], ApvfioError)
        queues = filter(None, map(Apqn.parse, told["queues"]))
        raise kind(told["error"], remedy=told["remedy"] or "", guest=told["guest"] or "", queues=queues)


def _request(document: Document) -> Request:
    # Only who serves others' starts pays for these.
    from apvfio.request import Request  # noqa: PLC0415
    from apvfio.wish import Wish  # noqa: PLC0415

    wish = document["wish"]
    return Request(
        guest=document["guest"],
        guest_uuid=document["uuid"],
        mdev=document["mdev"],
        matrix=Matrix(*(_ids(text) for text in document["matrix"])),
        free_by=document["free_by"],
        wish=wish and Wish(**{**wish, "control_domains": _ids(wish["control_domains"])}),
    )


def _ids(text: str) -> IdSet:
    return parse_list(text, "a ticket") if text else NO_IDS
