# SPDX-License-Identifier: Apache-2.0
"""libvirt's guests, for the command line; the hook must never call libvirt."""

from __future__ import annotations

from contextlib import suppress

from apvfio.domain_xml import NAMESPACE
from apvfio.errors import ApvfioError, HostError, RequestError, printable
from apvfio.lazily import etree
from apvfio.mask import format_list
from apvfio.wish import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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
            return Guest(self._connection.lookupByName(name), self._connection, self._libvirt)
        except (self._libvirt.libvirtError, UnicodeError):  # the words of a command need not be UTF-8
            raise RequestError(
                f"libvirt knows no guest {printable(name)}.", remedy="See 'virsh list --all'."
            ) from None

    def knows(self, uuid: str) -> bool:
        """Whether the guest ``uuid`` runs or is defined; HostError if libvirt cannot tell."""
        return self._by_uuid(uuid) is not None

    def running(self, uuid: str) -> Guest | None:
        """The guest ``uuid`` if it runs; HostError if libvirt cannot tell."""
        domain = self._by_uuid(uuid)
        try:
            return Guest(domain, self._connection, self._libvirt) if domain and domain.isActive() else None
        except self._libvirt.libvirtError as error:
            raise _nowhere(error) from None

    def _by_uuid(self, uuid: str) -> Any:
        try:
            return self._connection.lookupByUUIDString(uuid)
        except self._libvirt.libvirtError as error:
            if error.get_error_code() == self._libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise _nowhere(error) from None

    def all(self) -> list[Guest]:
        """Every guest, running or not, by name."""
        domains = self._connection.listAllDomains()
        found = [Guest(domain, self._connection, self._libvirt) for domain in domains]
        return sorted(found, key=lambda guest: guest.name)


class Guest:
    """One guest, as libvirt knows it."""

    def __init__(self, domain: Any, connection: Any, libvirt: Any) -> None:
        self._domain = domain
        self._connection = connection
        self._libvirt = libvirt

    @property
    def name(self) -> str:
        """Its name: untrusted text."""
        name: str = self._domain.name()
        return name

    @property
    def uuid(self) -> str:
        """Its uuid, lower case."""
        uuid: str = self._domain.UUIDString()
        return uuid.lower()

    @property
    def persistent(self) -> bool:
        """Whether it has a definition, and so a next start."""
        return bool(self._domain.isPersistent())

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return bool(self._domain.isActive())

    @property
    def autostart(self) -> bool:
        """Whether libvirt starts it with the host."""
        return bool(self._domain.autostart())

    def xml(self, *, live: bool = False, secrets: bool = False) -> bytes:
        """Its XML: what its next start will use, or with ``live`` what it runs with.

        Without its passwords unless ``secrets``; ApvfioError if libvirt refuses, or knows it no more.
        """
        flags = 0 if live else self._libvirt.VIR_DOMAIN_XML_INACTIVE
        if secrets:
            flags |= self._libvirt.VIR_DOMAIN_XML_SECURE
        text: str = self._asked(lambda: self._domain.XMLDesc(flags))
        return text.encode()

    def define(self, xml: bytes) -> None:
        """Replace its definition; ApvfioError if libvirt refuses it: then it is as it was."""
        self._asked(lambda: self._connection.defineXML(xml.decode()))

    def plug(self, device: str) -> None:
        """Plug a device, told in XML, into it while it runs; ApvfioError if libvirt refuses."""
        flags = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._asked(lambda: self._domain.attachDeviceFlags(device, flags))

    def unplug(self, device: str) -> None:
        """Ask it to let go of a device while it runs, without waiting for that."""
        flags = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._asked(lambda: self._domain.detachDeviceFlags(device, flags))

    def migrate(
        self, there: Guests, *, route: str | None, persist: bool, undefine: bool, encrypted: bool
    ) -> None:
        """Migrate it, running, ``there``, and wait for the end of that. ApvfioError, with libvirt's reason.

        ``route`` is libvirt's migration URI, None for its own choice; ``persist`` takes the definition
        along, ``undefine`` leaves none here.
        """
        flags = self._libvirt.VIR_MIGRATE_LIVE
        flags |= self._libvirt.VIR_MIGRATE_PERSIST_DEST if persist else 0
        flags |= self._libvirt.VIR_MIGRATE_UNDEFINE_SOURCE if undefine else 0
        flags |= self._libvirt.VIR_MIGRATE_TLS if encrypted else 0
        extra = {self._libvirt.VIR_MIGRATE_PARAM_URI: route} if route else {}
        self._asked(lambda: self._domain.migrate3(there._connection, extra, flags))

    def abort(self) -> None:
        """End what libvirt is doing with it, such as a migration; nothing if that is over."""
        with suppress(self._libvirt.libvirtError):
            self._domain.abortJob()

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
            raise self._refusal(error) from None

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._libvirt.libvirtError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> ApvfioError:
        return ApvfioError(f"libvirt refused: {str(error).rstrip('.')}.", guest=self.name)


def _nowhere(error: Exception) -> HostError:
    return HostError(
        f"libvirt does not say whether the guest runs: {str(error).rstrip('.')}.",
        remedy="See whether its daemon runs.",
    )


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
