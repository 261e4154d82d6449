# SPDX-License-Identifier: Apache-2.0
"""What a guest asks for: its annotation, or else mdevctl's definition of its device."""

from __future__ import annotations

from apvfio.domain.request import parse_device, parse_domain
from apvfio.model.errors import RequestError
from apvfio.model.host import AP_MDEVS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Files
    from apvfio.model.matrix import Matrix
    from apvfio.model.request import Request


def request_of(files: Files, xml: bytes) -> Request | None:
    """What the domain ``xml`` asks for on the host with ``files``; None if it is none of our business.

    A definition beside an annotation must say the same: RequestError shows both if it does not.
    """
    request = parse_domain(xml)
    bare = parse_device(xml) if request is None else None
    asking = request or bare
    if asking is None:
        return None
    try:
        defined = _defined(files, asking.mdev)
    except RequestError as error:
        raise error.for_guest(asking.guest) from None
    if request is None:
        source = "mdevctl's definition of its device"
        return asking._replace(matrix=defined, source=source) if defined else None
    if defined and request.criteria is None and defined != request.matrix:
        raise RequestError(
            f"its annotation asks for {request.matrix}, mdevctl's definition of its device "
            f"{request.mdev} for {defined}.",
            guest=request.guest,
            remedy="Make them agree: 'apvfio undefine' and 'apvfio define' write the definition anew.",
        )
    return request


def _defined(files: Files, mdev: str) -> Matrix | None:
    if files.read(AP_MDEVS.definition(mdev)) is None:
        return None
    # Only the start of a guest that has one imports what reads it.
    from apvfio.store.definitions import load_definition, matrix_of  # noqa: PLC0415

    definition = load_definition(files, mdev)
    if definition is None:
        return None
    matrix = matrix_of(definition)
    return None if matrix.empty else matrix
