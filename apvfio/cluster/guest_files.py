# SPDX-License-Identifier: Apache-2.0
"""The definitions of a cluster's guests: a directory of domain XML, the same on all hosts."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import request_of
from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.store.safe_open import file_error, read_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.kernel.seam import Files
    from apvfio.model.request import Request

DIRECTORY = "etc/apvfio/guests"
"""Where the guests' XML is unless another directory is named."""
_SUFFIX = ".xml"
_LIMIT = 16 << 20
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_PLAIN = _FIRST | frozenset("0123456789-.")


class GuestFile(NamedTuple):
    """One file, and what the guest in it requests."""

    name: str
    """The file's name without ``.xml``, which is the guest's in the cluster."""
    path: str
    request: Request | None
    """None if the guest has no annotation, or its file no guest."""
    error: ApvfioError | None = None
    """Why there is no request, unless the guest simply has none."""
    digest: str = ""
    """The SHA-256 of the file, in hexadecimal digits; '' if it cannot be read."""


def read_guest_files(files: Files, directory: str | None) -> list[GuestFile]:
    """Read all guests in ``directory``, the host's own if None; FileError if it cannot be read.

    A file that makes no sense is among them with its error.
    """
    if directory is None:
        names = [name for name in files.list(DIRECTORY) if name.endswith(_SUFFIX)]
        found = [
            (f"{DIRECTORY}/{name}", (files.read(f"{DIRECTORY}/{name}") or "").encode()) for name in names
        ]
        return _without_twins([_guest_file(files, f"/{path}", xml) for path, xml in found])
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
    except OSError as error:
        raise file_error(directory, "read", error) from None
    return _without_twins([read_guest_file(files, os.path.join(directory, name)) for name in names])


def read_guest_file(files: Files, path: str) -> GuestFile:
    """Read one guest's file; what is wrong with it is in the result."""
    try:
        return _guest_file(files, path, read_part(path, _LIMIT))
    except OSError as error:
        return GuestFile(_name(path), path, None, file_error(path, "read", error))


def digest_of(guests: Sequence[GuestFile]) -> str:
    """Return twelve hexadecimal digits by which two hosts can tell whether their files are the same."""
    lines = sorted(f"{guest.name} {guest.digest}\n" for guest in guests)
    return sha256("".join(lines).encode()).hexdigest()[:12]


def _guest_file(files: Files, path: str, xml: bytes) -> GuestFile:
    name, digest = _name(path), sha256(xml).hexdigest()
    try:
        if not _PLAIN.issuperset(name) or name[:1] not in _FIRST:
            raise RequestError(
                f"{printable(path, 200)} has a name that no resource of a cluster can have.",
                remedy="Use letters, digits, '-', '_' and '.' only, and begin with a letter.",
            )
        return GuestFile(name, path, request_of(files, xml), digest=digest)
    except ApvfioError as error:
        return GuestFile(name, path, None, error, digest)


def _name(path: str) -> str:
    return os.path.basename(path).removesuffix(_SUFFIX)


def _without_twins(found: Sequence[GuestFile]) -> list[GuestFile]:
    """The files, with an error in place of the request where two guests have the same UUID or device."""
    requests = [one.request for one in found if one.request]
    uuids = Counter(request.guest_uuid for request in requests)
    devices = Counter(request.mdev for request in requests)
    return [_twin(one, uuids, devices) for one in found]


def _twin(one: GuestFile, uuids: Counter[str], devices: Counter[str]) -> GuestFile:
    if one.request is None or (uuids[one.request.guest_uuid] == 1 and devices[one.request.mdev] == 1):
        return one
    if uuids[one.request.guest_uuid] == 1:
        error = RequestError(
            f"its mediated device {one.request.mdev} is another guest's, too.",
            guest=one.name,
            remedy="Give each guest its own: 'apvfio guest set --xml FILE --new-device'.",
        )
    else:
        error = RequestError(
            f"its UUID {one.request.guest_uuid} is another guest's, too.",
            guest=one.name,
            remedy="Give each guest its own UUID: see uuidgen(1).",
        )
    return one._replace(request=None, error=error)
