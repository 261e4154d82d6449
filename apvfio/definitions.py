# SPDX-License-Identifier: Apache-2.0
"""mdevctl's definitions of AP devices, and what they hold."""

from __future__ import annotations

from apvfio.errors import RequestError
from apvfio.host import AP_MDEVS
from apvfio.mask import NO_IDS, IdSet, parse_list
from apvfio.matrix import Matrix
from mdev.definitions import AUTO, Definition, DefinitionError, parse
from mdev.devices import is_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.system import Files

PARENT = AP_MDEVS.parent.rpartition("/")[2]
FOLDER = AP_MDEVS.definitions


def load_definition(files: Files, uuid: str) -> Definition | None:
    """The definition of the AP device ``uuid``, None if there is none or it is no AP device's.

    RequestError, naming the file, if it cannot be understood.
    """
    file = AP_MDEVS.definition(uuid)
    text = files.read(file)
    if text is None:
        return None
    try:
        definition = parse(text)
    except DefinitionError as error:
        raise RequestError(
            f"/{file} cannot be used: {error}.", remedy="Mend it with 'mdevctl modify'."
        ) from None
    return definition if definition.type == AP_MDEVS.name else None


def matrix_of(definition: Definition) -> Matrix:
    """What a device made from the definition holds; RequestError if its attributes make no sense."""
    matrix = Matrix()
    for name, value in definition.attrs:
        if name == "ap_config":
            matrix = Matrix.from_ap_config(value)
        elif name in _FIELDS:
            held = getattr(matrix, _FIELDS[name])
            matrix = matrix._replace(**{_FIELDS[name]: held | _ids(name, value)})
        else:
            raise RequestError(
                f"the definition has the attribute {name[:40]!r}, whose effect is not known.",
                remedy=f"Use {', '.join(_FIELDS)} or ap_config.",
            )
    return matrix


def attributes_of(matrix: Matrix) -> Iterator[tuple[str, str]]:
    """The attributes of a definition that holds ``matrix``, in ap-check's order and notation."""
    for name, field in _FIELDS.items():
        for i in getattr(matrix, field):
            yield name, str(i)


def autostarted(files: Files) -> dict[str, Matrix]:
    """What each AP device that mdevctl makes at boot will hold, by its uuid.

    What mdevctl could not make sense of does not count, as with s390-tools
    (libap/ap.c:vfio_ap_read_device_config).
    """
    found = {}
    for name in files.list(FOLDER):
        try:
            definition = load_definition(files, name) if is_uuid(name) else None
            if definition and definition.start == AUTO:
                found[name] = matrix_of(definition)
        except RequestError:
            continue
    return found


_FIELDS = {
    "assign_adapter": "adapters",
    "assign_domain": "domains",
    "assign_control_domain": "control_domains",
}


def _ids(name: str, value: str) -> IdSet:
    # s390-tools take a list, too; mdevctl writes one id a time.
    return parse_list(value, name) if value else NO_IDS
