# SPDX-License-Identifier: Apache-2.0
"""A guest's request, read from the domain XML that libvirt gives to its hooks, or mdevctl's definition.

The annotation is an element of libvirt's ``<metadata>``::

    <ap:guest xmlns:ap="urn:apvfio:guest:1">
      <ap:matrix adapters="0,0xa" domains="1-2,4" control-domains="1-2,4"/>
    </ap:guest>

Instead of ``<ap:matrix>`` it may hold criteria, ``<ap:any mode="ep11" adapters="2" domains="1"/>``:
of one kind of adapters, or
``<ap:cards>`` for each of several kinds: see `apvfio.model.criteria`.
"""

from __future__ import annotations

from apvfio.domain.annotation import free_by, parse_annotation, refusal_of
from apvfio.domain.xml_reader import read_domain
from apvfio.mdev.devices import is_uuid
from apvfio.model.errors import RequestError, printable
from apvfio.model.host import AP_MDEVS
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.domain.xml_reader import DomainXml, Element
    from apvfio.kernel.seam import Files
    from apvfio.model.criteria import Criteria

HOSTDEV_XML = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source></hostdev>"
)
"""A guest's vfio-ap device, with a place for its uuid."""


def parse_domain(xml: bytes) -> Request | None:
    """What the domain ``xml`` requests, None if it bears no annotation; RequestError if it makes no sense.

    Whatever it has of apvfio's namespaces must be part of its annotation: nothing is ignored silently.
    """
    domain = read_domain(xml)
    try:
        annotation = _annotation_of(domain)
        if annotation is None:
            return None
        asked = parse_annotation(annotation, secure=domain.secure)
        matrix, criteria = (asked, None) if isinstance(asked, Matrix) else (Matrix(), asked)
        return Request(
            domain.name,
            _uuid_of(domain),
            _mdev_of(domain),
            matrix,
            free_by(annotation),
            criteria,
            secure=domain.secure,
        )
    except RequestError as error:
        raise error.for_guest(domain.name) from None


def asked_in(xml: bytes) -> Matrix | Criteria | None:
    """What the annotation of the domain ``xml`` requests, whatever its device; errors as `parse_domain`."""
    domain = read_domain(xml)
    try:
        annotation = _annotation_of(domain)
        return None if annotation is None else parse_annotation(annotation, secure=domain.secure)
    except RequestError as error:
        raise error.for_guest(domain.name) from None


def free_by_in(xml: bytes) -> str:
    """Return ``free-by`` of the annotation in the domain ``xml``, '' for none; errors as `parse_domain`."""
    domain = read_domain(xml)
    annotation = _annotation_of(domain)
    return free_by(annotation) if annotation else ""


def parse_device(xml: bytes) -> Request | None:
    """A guest's vfio-ap device without any queues, None if it has none; for guests without annotation."""
    domain = read_domain(xml)
    if not domain.addresses:
        return None
    return Request(domain.name, _uuid_of(domain), _mdev_of(domain), Matrix(), secure=domain.secure)


def request_of(files: Files, xml: bytes) -> Request | None:
    """Return what the domain ``xml`` requests on the host with ``files``; None if it requests no AP queues.

    If there is also a definition, it must name the same queues: otherwise RequestError shows both.
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
            f"its annotation requests {request.matrix}, but mdevctl's definition of its device "
            f"{request.mdev} has {defined}.",
            guest=request.guest,
            remedy="Make them agree: 'apvfio undefine' and 'apvfio define' rewrite the definition.",
        )
    return request


def guest_uuid(xml: bytes) -> str:
    """The uuid of the domain ``xml``, lower case; RequestError if it has none."""
    return _uuid_of(read_domain(xml))


def _annotation_of(domain: DomainXml) -> Element | None:
    if domain.stray:
        raise refusal_of(domain.stray)
    if not domain.annotations:
        return None
    annotation, *more = domain.annotations
    if more:
        raise RequestError(
            "it has more than one annotation.", remedy="Leave one <ap:guest> in its <metadata>."
        )
    return annotation


def _uuid_of(domain: DomainXml) -> str:
    if not is_uuid(domain.uuid):
        sentence = f"the domain XML has the invalid UUID {printable(domain.uuid)!r}."
        raise RequestError(sentence, remedy="Make one with uuidgen.")
    return domain.uuid.lower()


def _mdev_of(domain: DomainXml) -> str:
    if not domain.addresses:
        sentence = "it requests AP queues but has no mediated device."
        raise RequestError(sentence, remedy=f"Add {HOSTDEV_XML.format('...')} to its <devices>.")
    uuid, *more = domain.addresses
    if more:
        raise RequestError("it has more than one vfio-ap device.", remedy="A guest can have one.")
    if not is_uuid(uuid):
        sentence = f"its vfio-ap device has the invalid UUID {printable(uuid)!r}."
        raise RequestError(sentence, remedy="Make one with uuidgen.")
    return uuid.lower()


def _defined(files: Files, mdev: str) -> Matrix | None:
    if files.read(AP_MDEVS.definition(mdev)) is None:
        return None
    # Only the start of a guest with a definition imports the module that reads it.
    from apvfio.store.definitions import load_definition, matrix_of  # noqa: PLC0415

    definition = load_definition(files, mdev)
    if definition is None:
        return None
    matrix = matrix_of(definition)
    return None if matrix.empty else matrix
