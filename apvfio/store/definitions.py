# SPDX-License-Identifier: Apache-2.0
"""mdevctl's definitions of AP devices, and the queues in them."""

from __future__ import annotations

from apvfio.mdev.definitions import AUTO, Definition, DefinitionError, parse
from apvfio.mdev.devices import is_uuid
from apvfio.model.errors import RequestError, printable
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import HEX_DIGITS, NO_IDS, IdSet, parse_hex
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import Files

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
            f"/{file} cannot be used: {error}.", remedy="Correct it with 'mdevctl modify'."
        ) from None
    return definition if definition.type == AP_MDEVS.name else None


def matrix_of(definition: Definition, *, strict: bool = True) -> Matrix:
    """What a device made from the definition holds; RequestError if its attributes make no sense.

    mdevctl writes them to the device's files in order, and the values mean what the kernel makes of them.
    Unless ``strict``, attributes without a known effect do not count, as with ap-check.
    """
    matrix = Matrix()
    for name, value in definition.attrs:
        verb, _, kind = name.partition("_")
        field = _FIELDS.get(f"assign_{kind}")
        if name == "ap_config":
            matrix = _ap_config(value)
        elif field and verb == "assign":
            matrix = matrix._replace(**{field: getattr(matrix, field) | _ids(name, value)})
        elif field and verb == "unassign":
            matrix = matrix._replace(**{field: getattr(matrix, field) - _ids(name, value)})
        elif strict:
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


class DefinedDevice(NamedTuple):
    """A device that mdevctl has a definition of."""

    mdev: str
    matrix: Matrix
    autostart: bool
    """Whether mdevctl makes it at boot."""


def defined_devices(files: Files) -> list[DefinedDevice]:
    """Every AP device that mdevctl has a definition of.

    What mdevctl could not make sense of does not count, as with s390-tools
    (libap/ap.c:vfio_ap_read_device_config).
    """
    found = []
    for name in files.list(FOLDER):
        try:
            definition = load_definition(files, name) if is_uuid(name) else None
            if definition:
                matrix = matrix_of(definition, strict=False)
                found.append(DefinedDevice(name, matrix, definition.start == AUTO))
        except RequestError:
            continue
    return found


def autostarted(files: Files) -> dict[str, Matrix]:
    """What each AP device that mdevctl makes at boot will hold, by its uuid."""
    return {device.mdev: device.matrix for device in defined_devices(files) if device.autostart}


_FIELDS = {
    "assign_adapter": "adapters",
    "assign_domain": "domains",
    "assign_control_domain": "control_domains",
}


def _ids(name: str, value: str) -> IdSet:
    # The kernel takes one id, a plus sign before it and a newline behind it; s390-tools take a list, too.
    text = value.removesuffix("\n").removeprefix("+")
    return parse_list(text, f"the definition's {name}") if text else NO_IDS


def _ap_config(value: str) -> Matrix:
    """Three masks, divided by commas or newlines; a short one goes on in zeros (vops:ap_config_store).

    What follows the third mask does not count.
    """
    masks = [mask.removeprefix("0x") for mask in value.replace("\n", ",").split(",")[:3]]
    if len(masks) < len(Matrix._fields) or not all(_is_mask(mask) for mask in masks):
        raise RequestError(
            f"the definition's ap_config is {printable(value)!r}, where three hexadecimal masks belong.",
            remedy="Correct it with 'mdevctl modify'.",
        )
    return Matrix(*(parse_hex(mask.ljust(HEX_DIGITS, "0"), "ap_config") for mask in masks))


def _is_mask(digits: str) -> bool:
    return len(digits) <= HEX_DIGITS and set(digits.lower()) <= set("0123456789abcdef")
