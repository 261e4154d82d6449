# SPDX-License-Identifier: Apache-2.0
"""The parts of a domain's XML that have a guest's request, read by expat.

Each start of a guest pays for this code, and an XML library takes longer to load than the rest of a start
takes to run. Only the needed parts are kept, however large the domain is. The XML is read as UTF-8, as
libvirt writes it, whatever it declares. No other file is opened, and a document type declaration is refused
unread.
"""

from __future__ import annotations

from pyexpat import ExpatError, ParserCreate

from apvfio.model.contexts import suppress
from apvfio.model.errors import RequestError, printable
from apvfio.model.typed import NamedTuple

NAMESPACE = "urn:apvfio:guest:1"
_FAMILY = "urn:apvfio"
"""What the namespaces of all versions begin with."""
_BETWEEN = "\x01"
"""Stands between namespace and name; no XML can contain it, so nothing else looks like our tags."""
_ANNOTATION = f"{NAMESPACE}{_BETWEEN}guest"
_BLANKS = b" \t\r\n"
_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""
_PARTS = ("name", "uuid", "metadata", "devices", "launchSecurity")
_TEXTS = ("name", "uuid")
SECURE_EXECUTION = "s390-pv"
"""The type of ``<launchSecurity>`` that a Secure Execution guest has (libvirt: formatdomain)."""
_VFIO_AP = {"mode": "subsystem", "type": "mdev", "model": "vfio-ap"}
_PIECE = 1 << 20
"""Bytes that expat gets at once: after a handler has refused the XML, expat reads to the end of them."""
_IDEOGRAPHS = range(0x4E00, 0x9FA6)
_INVALID_TOKEN = 4
"""XML_ERROR_INVALID_TOKEN in expat.h."""
_MOST = 10_000
"""Elements kept; an annotation and a device have six."""


class Element:
    """An element that was kept; its tag and its attributes' keys are as `own` gives them, or bare."""

    __slots__ = ("attributes", "children", "pieces", "tag")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Element] = []
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """Its own text, without that of its children."""
        return "".join(self.pieces)

    def all(self, *path: str) -> list[Element]:
        """The elements that ``path``, the tags of child, grandchild and so on, leads to, in order."""
        found = [self]
        for tag in path:
            found = [child for element in found for child in element.children if child.tag == tag]
        return found


class Stray(NamedTuple):
    """An element or an attribute of one of apvfio's namespaces that is not part of an annotation."""

    namespace: str
    name: str
    inside: str
    """The element it is in, or for an attribute the element that has it; '' for the root element."""
    attribute: bool


class DomainXml(NamedTuple):
    """What matters of a domain."""

    name: str
    """Untrusted text, '' if it has none."""
    uuid: str
    """As it is written there, '' if it has none."""
    annotations: list[Element]
    addresses: list[str]
    """The uuids, as they are written, of the guest's vfio-ap devices; '' for one without."""
    stray: Stray | None
    """The first one in the document."""
    secure: bool = False
    """Whether it is started as a Secure Execution guest."""


def own(name: str) -> str:
    """The tag of ``name`` in the annotation's namespace."""
    return f"{NAMESPACE}{_BETWEEN}{name}"


def is_own(namespace: str) -> bool:
    """Whether ``namespace`` is one of apvfio's, of any version, or a misspelling of one (RFC 8141: 3.1)."""
    return f"{namespace.strip().lower()}:".startswith(f"{_FAMILY}:")


def require_no_type(xml: bytes, what: str) -> None:
    """RequestError, naming ``what``, if ``xml`` declares a document type."""
    if _declares_type(xml):
        raise RequestError(
            f"{what} has a document type declaration, which is not accepted.", remedy="Remove it."
        )


def _declares_type(xml: bytes) -> bool:
    """Whether a document type declaration is before the root, where alone it can be."""
    at = len(_MARK) if xml.startswith(_MARK) else 0
    while True:
        at = len(xml) - len(xml[at:].lstrip(_BLANKS))
        for opening, closing in ((b"<?", b"?>"), (b"<!--", b"-->")):
            if xml.startswith(opening, at):
                end = xml.find(closing, at + len(opening))
                if end < 0:
                    return False
                at = end + len(closing)
                break
        else:
            return xml.startswith(b"<!DOCTYPE", at)


def plain(tag: str) -> str:
    """A tag or an attribute's key without its namespace, for messages."""
    return tag.rpartition(_BETWEEN)[2]


def read_domain(xml: bytes, what: str = "the domain XML") -> DomainXml:
    """Return the needed parts of the domain ``xml``; RequestError names ``what`` if it is malformed."""
    root, stray = _read(xml, what)
    addresses = root.all("devices", "hostdev", "source", "address")
    return DomainXml(
        name=_first_text(root, "name"),
        uuid=_first_text(root, "uuid"),
        annotations=root.all("metadata", _ANNOTATION),
        addresses=[address.attributes.get("uuid", "") for address in addresses],
        stray=stray,
        secure=any(one.attributes.get("type") == SECURE_EXECUTION for one in root.all("launchSecurity")),
    )


def _read(xml: bytes, what: str) -> tuple[Element, Stray | None]:
    try:
        return _Reader(what).read(xml)
    except ExpatError as error:
        if error.code == _INVALID_TOKEN and not xml.isascii():
            # Names may have more letters in the fifth edition of XML 1.0, which libvirt's parser follows,
            # than in the fourth, which is expat's. No name that matters has any.
            with suppress(ExpatError, UnicodeDecodeError):
                text = xml.decode()
                letters = _letters(text)
                root, stray = _Reader(what).read(text.translate(letters).encode())
                return _restored(root, {ord(there): chr(here) for here, there in letters.items()}), stray
        raise not_well_formed(what, str(error)) from None


def _letters(text: str) -> dict[int, str]:
    """For each character beyond ASCII a letter of its own, that every edition lets names and texts have."""
    there = {c for c in text if not c.isascii()}
    return dict(zip(map(ord, there), (c for c in map(chr, _IDEOGRAPHS) if c not in there)))


def _restored(element: Element, characters: dict[int, str]) -> Element:
    """``element`` with the characters that stood there; tags that matter have ASCII only."""
    element.attributes = {key: text.translate(characters) for key, text in element.attributes.items()}
    element.pieces = [piece.translate(characters) for piece in element.pieces]
    element.children = [_restored(child, characters) for child in element.children]
    return element


def not_well_formed(what: str, why: str) -> RequestError:
    """The error for ``what``, an XML document that a parser refuses, with the parser's reason."""
    return RequestError(
        f"{what} is not well-formed: {printable(why, 200)}.", remedy="Check it with 'virt-xml-validate'."
    )


def _first_text(root: Element, tag: str) -> str:
    return next((element.text for element in root.all(tag)), "")


def _matters(above: list[Element], tag: str, attributes: dict[str, str]) -> bool:
    """Whether to keep an element; ``above`` are those it is in, all of them kept."""
    if len(above) == 1:
        return tag in _PARTS
    if len(above) == 2 and above[1].tag == "devices":
        return tag == "hostdev" and all(attributes.get(name) == value for name, value in _VFIO_AP.items())
    if len(above) == 2:
        return above[1].tag == "metadata" and tag == _ANNOTATION
    # An annotation's great-grandchildren are a fault, and what is in them makes it none the worse.
    return len(above) <= 5


class _Reader:
    """The open elements of one document; those that are left out are only counted.

    Namespaces are resolved here, and only for elements that are kept. libvirt takes metadata that breaks
    the rules of namespaces, as libxml2 does (a prefix nobody declared, two colons in a name), and another
    program's metadata must not keep a guest from starting.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._open: list[Element] = []
        self._left_out = 0
        self._root: Element | None = None
        self._kept = 0
        self._stray: Stray | None = None
        self._scopes: list[dict[str, str]] = [{}]
        """The namespaces by their prefixes, for each open element but in others' metadata, and at first."""

    def read(self, xml: bytes) -> tuple[Element, Stray | None]:
        parser = ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        if 0 in xml:
            raise not_well_formed(self._what, "it has a zero byte, as in UTF-16, and must be in UTF-8")
        # Once expat has the text, no handler could stop its declarations.
        require_no_type(xml, self._what)
        for begin in range(0, len(xml), _PIECE):
            parser.Parse(xml[begin : begin + _PIECE], False)
        parser.Parse(b"", True)
        assert self._root
        return self._root, self._stray

    def _start(self, name: str, named: dict[str, str]) -> None:
        if self._left_out and self._open[-1].tag == "metadata":
            self._left_out += 1
            return
        tag, attributes, scope = name, named, self._scopes[-1]
        # Most elements have nothing to do with namespaces.
        if scope or ":" in name or "xmlns" in named or ":" in "".join(named):
            scope = _declared(named, scope)
            tag = _expanded(name, scope, scope.get("", ""))
            attributes = {_expanded(key, scope): value for key, value in named.items() if not _declares(key)}
            if self._stray is None:
                self._stray = self._stray_at(tag, attributes)
        if self._left_out or (self._open and not _matters(self._open, tag, attributes)):
            self._left_out += 1
            if self._open[-1].tag != "metadata":
                self._scopes.append(scope)
            return
        self._scopes.append(scope)
        self._kept += 1
        if self._kept > _MOST:
            sentence = f"{self._what} has more than {_MOST} elements in its annotation and devices."
            raise RequestError(sentence, remedy="Remove what it does not need.")
        element = Element(tag, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _stray_at(self, tag: str, attributes: dict[str, str]) -> Stray | None:
        """What of this element is apvfio's; an annotation, and all within one, is read elsewhere."""
        if len(self._open) > 2 and self._open[2].tag == _ANNOTATION:
            return None
        if self._beside(tag):
            return None  # another program's, with all that is in it
        above = plain(self._open[-1].tag) if self._open else ""
        if _BETWEEN in tag and is_own(namespace := tag.partition(_BETWEEN)[0]):
            if not self._left_out and len(self._open) == 2 and _matters(self._open, tag, attributes):
                return None
            return Stray(namespace, plain(tag), above, attribute=False)
        for key in attributes:
            if _BETWEEN in key and is_own(namespace := key.partition(_BETWEEN)[0]):
                return Stray(namespace, plain(key), plain(tag), attribute=True)
        return None

    def _beside(self, tag: str) -> bool:
        """Return whether an element is the root of another program's metadata."""
        inside = len(self._open) == 2 and self._open[1].tag == "metadata" and not self._left_out
        return inside and not is_own(tag.rpartition(_BETWEEN)[0])

    def _end(self, _tag: str) -> None:
        if self._left_out:
            self._left_out -= 1
            if self._open[-1].tag != "metadata":
                self._scopes.pop()
        else:
            self._open.pop()
            self._scopes.pop()

    def _text(self, text: str) -> None:
        # White space between the parts of a domain is of no interest, nor is the text of what is left out.
        if not self._left_out and (len(self._open) > 2 or self._open[-1].tag in _TEXTS):
            self._open[-1].pieces.append(text)


def _declares(key: str) -> bool:
    """Whether an attribute declares a namespace."""
    return key == "xmlns" or key.startswith("xmlns:")


def _declared(attributes: dict[str, str], scope: dict[str, str]) -> dict[str, str]:
    """The namespaces by their prefixes, '' for the default, within an element that has these attributes.

    A prefix declared with an empty name keeps its meaning (libxml2: parser.c, xmlParseStartTag2).
    """
    names = {key.partition(":")[2]: value for key, value in attributes.items() if _declares(key)}
    new = {prefix: name for prefix, name in names.items() if name or not prefix}
    return {**scope, **new} if new else scope


def _expanded(name: str, scope: dict[str, str], default: str = "") -> str:
    """Return a name with its namespace in place of its prefix; unchanged if the prefix is not declared."""
    prefix, colon, local = name.partition(":")
    if not colon:
        return f"{default}{_BETWEEN}{name}" if default else name
    namespace = scope.get(prefix, "")
    return f"{namespace}{_BETWEEN}{local}" if namespace else name
