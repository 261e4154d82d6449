# SPDX-License-Identifier: Apache-2.0
"""libvirt's guests, for the command line; the hook must never call libvirt."""

from __future__ import annotations

from lxml import etree

from apvfio.errors import ApvfioError, HostError, RequestError, printable
from apvfio.mask import format_list
from apvfio.request import NAMESPACE
from apvfio.wish import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from apvfio.matrix import Matrix

PREFIX = "ap"


class Guests:
    """A connection to a libvirt daemon, used in a ``with``; HostError if there is none."""

    def __init__(self, uri: str) -> None:
        self._libvirt = _libvirt()
        # libvirt prints every error to stderr itself unless told otherwise.
        self._libvirt.registerErrorHandler(lambda *_: None, None)
        try:
            self._connection = self._libvirt.open(uri)
        except self._libvirt.libvirtError as error:
            raise HostError(
                f"libvirt at {printable(uri)} does not answer: {error}.",
                remedy="See whether its daemon runs.",
            ) from None

    def __enter__(self) -> Guests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def find(self, name: str) -> Guest:
        """The guest of that name; RequestError if there is none."""
        try:
            return Guest(self._connection.lookupByName(name), self._libvirt)
        except (self._libvirt.libvirtError, UnicodeError):  # the words of a command need not be UTF-8
            raise RequestError(
                f"libvirt knows no guest {printable(name)}.", remedy="See 'virsh list --all'."
            ) from None

    def all(self) -> list[Guest]:
        """Every guest, running or not, by name."""
        found = [Guest(domain, self._libvirt) for domain in self._connection.listAllDomains()]
        return sorted(found, key=lambda guest: guest.name)


class Guest:
    """One guest, as libvirt knows it."""

    def __init__(self, domain: Any, libvirt: Any) -> None:
        self._domain = domain
        self._libvirt = libvirt

    @property
    def name(self) -> str:
        """Its name: untrusted text."""
        name: str = self._domain.name()
        return name

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return bool(self._domain.isActive())

    def xml(self, *, live: bool = False) -> bytes:
        """Its XML: what its next start will use, or with ``live`` what it runs with."""
        flags = 0 if live else self._libvirt.VIR_DOMAIN_XML_INACTIVE
        text: str = self._domain.XMLDesc(flags)
        return text.encode()

    def annotate(self, asked: Matrix | Wish | None, *, config: bool, live: bool) -> None:
        """Set its annotation to what is ``asked``, or remove it; ApvfioError if libvirt refuses, with why."""
        flags = 0
        if config:
            flags |= self._libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if live:
            flags |= self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        text = annotation(asked) if asked else None
        element = self._libvirt.VIR_DOMAIN_METADATA_ELEMENT
        try:
            self._domain.setMetadata(element, text, PREFIX, NAMESPACE, flags)
        except self._libvirt.libvirtError as error:
            if asked is None and error.get_error_code() == self._libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                return
            raise ApvfioError(f"libvirt refused the change: {error}.", guest=self.name) from None


def annotation(asked: Matrix | Wish) -> str:
    """The annotation as ``virDomainSetMetadata`` takes it: without the namespace, which libvirt adds."""
    root = etree.Element("guest")
    if isinstance(asked, Wish):
        etree.SubElement(root, "any", asked.attributes())
        return etree.tostring(root, encoding="unicode")
    attributes = {"adapters": format_list(asked.adapters), "domains": format_list(asked.domains)}
    if asked.control_domains:
        attributes["control-domains"] = format_list(asked.control_domains)
    etree.SubElement(root, "matrix", attributes)
    return etree.tostring(root, encoding="unicode")


def _libvirt() -> Any:
    try:
        import libvirt  # noqa: PLC0415  40 ms that only the commands on guests spend
    except ImportError:
        raise HostError(
            "libvirt's Python binding is not installed.",
            remedy="Install python3-libvirt (Debian) or libvirt-python.",
        ) from None
    return libvirt
