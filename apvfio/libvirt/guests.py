# SPDX-License-Identifier: Apache-2.0
"""libvirt's guests, for the command line; the hook must never call libvirt."""

from __future__ import annotations

import importlib
import json
import threading
from contextlib import suppress
from functools import cache
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from apvfio.domain.xml_reader import NAMESPACE
from apvfio.domain.xml_tree import etree, parse_xml
from apvfio.libvirt.time_limit import bounded
from apvfio.mdev.devices import is_uuid
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, HostError, RequestError, printable
from apvfio.model.ids import format_list
from apvfio.model.similar import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from apvfio.model.matrix import Matrix

T = TypeVar("T")

PREFIX = "ap"
DEFAULT_URI = "qemu:///system"


PATIENCE = 10.0
"""Seconds that libvirt has to answer a question: a guest that starts holds it up as long as the hooks run."""
_CHANGE_PATIENCE = 30.0
"""Seconds that libvirt has for a change, for which it may ask QEMU."""
_REMOTE_PATIENCE = 60.0
"""Seconds for a connection to another host: a person may have to type a password."""
_CLOSE_PATIENCE = 2.0
_ID_DIGITS = 9
"""Of a running guest's id: libvirt's are C integers."""
_ABORT_PATIENCE = 1.0
_KEEPALIVE = (5, 3)
"""Seconds between questions whether the daemon is still there, and how many of them may stay unanswered."""


def _no_limit() -> float:
    return inf


class Libvirt:
    """A connection to a libvirt daemon, through which every call goes; HostError if none can be had.

    libvirt's own calls wait without limit for a daemon that is frozen, and for a guest's hook. Here they are
    bounded, and SIGINT ends them. ``keepalive`` also closes the connection some 20 seconds after the daemon,
    or the way to it, has become silent. ``limit`` returns how many seconds the next call may take at most.
    """

    def __init__(self, uri: str, *, keepalive: bool = False, limit: Callable[[], float] = _no_limit) -> None:
        self.binding = _libvirt()
        self._uri = uri
        self._limit = limit
        self._waiting = 0
        # libvirt prints every error to stderr itself unless told otherwise.
        self.binding.registerErrorHandler(lambda *_: None, None)
        if keepalive:
            _run_events(self.binding)
        seconds = PATIENCE if _is_local(uri) else _REMOTE_PATIENCE
        try:
            self.connection = self._bounded(lambda: self.binding.open(uri), seconds)
        except self.binding.libvirtError as error:
            raise self._no_answer(str(error).rstrip(".")) from None
        if keepalive:
            with suppress(self.binding.libvirtError):  # drivers within this process have none
                self.connection.setKeepAlive(*_KEEPALIVE)

    def ask(self, call: Callable[[], T]) -> T:
        """What ``call``, a question, returns; HostError if there is no answer in time, or libvirtError."""
        return self._bounded(call, PATIENCE)

    def change(self, call: Callable[[], T], seconds: float | None = _CHANGE_PATIENCE) -> T:
        """The same for a change."""
        return self._bounded(call, seconds, changing=True)

    def close(self) -> None:
        """Close the connection, unless a call still waits there for an answer."""
        if self._waiting:
            return
        with suppress(TimeoutError, self.binding.libvirtError):
            bounded(self.connection.close, _CLOSE_PATIENCE)

    def _bounded(self, call: Callable[[], T], seconds: float | None, *, changing: bool = False) -> T:
        def counted() -> T:
            try:
                return call()
            finally:
                self._waiting -= 1

        self._waiting += 1
        if seconds is not None:
            seconds = min(seconds, self._limit())
        try:
            return bounded(counted, seconds, changing=changing)
        except TimeoutError as error:
            raise self._no_answer(f"{error}{', but it may still make the change' * changing}") from None

    def _no_answer(self, why: str) -> HostError:
        sentence = f"libvirt at {printable(self._uri)} does not answer: {why}."
        return HostError(sentence, remedy="Check that its daemon runs, and that no hook of libvirt hangs.")


class Guests:
    """The guests of a libvirt daemon, used in a ``with``; HostError if the daemon does not answer.

    ``keepalive`` and ``limit``: as with `Libvirt`.
    """

    def __init__(self, uri: str, *, keepalive: bool = False, limit: Callable[[], float] = _no_limit) -> None:
        self._libvirt = Libvirt(uri, keepalive=keepalive, limit=limit)
        self._connection = self._libvirt.connection

    def __enter__(self) -> Guests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._libvirt.close()

    def host_uuid(self) -> str:
        """The host's uuid, lower case, '' if it has none; HostError if the daemon does not answer."""
        try:
            capabilities: str = self._libvirt.ask(self._connection.getCapabilities)
        except self._libvirt.binding.libvirtError as error:
            sentence = f"libvirt does not describe its host: {str(error).rstrip('.')}."
            raise HostError(sentence, remedy="Check that its daemon runs.") from None
        return (parse_xml(capabilities.encode()).findtext("host/uuid") or "").lower()

    def by_uuid(self, uuid: str) -> Guest | None:
        """The guest ``uuid``, running or not; HostError if libvirt cannot tell."""
        domain = self._if_known(lambda: self._connection.lookupByUUIDString(uuid))
        return Guest(domain, self._libvirt) if domain else None

    def find(self, name: str) -> Guest:
        """Return the guest of that name, UUID or libvirt id, in this order.

        RequestError if there is none, HostError if libvirt cannot tell.
        """
        domain = None
        with suppress(UnicodeError):  # the words of a command need not be UTF-8
            domain = self._if_known(lambda: self._connection.lookupByName(name))
        if domain is None and is_uuid(name.lower()):
            domain = self._if_known(lambda: self._connection.lookupByUUIDString(name))
        if domain is None and name.isascii() and name.isdigit() and len(name) <= _ID_DIGITS:
            domain = self._if_known(lambda: self._connection.lookupByID(int(name)))
        if domain is None:
            close = did_you_mean(name, [guest.name for guest in self.all()])
            raise RequestError(
                f"libvirt knows no guest {printable(name)}.", remedy=f"{close}See 'virsh list --all'."
            )
        return Guest(domain, self._libvirt)

    def knows(self, uuid: str) -> bool:
        """Whether the guest ``uuid`` runs or is defined; HostError if libvirt cannot tell."""
        return self.by_uuid(uuid) is not None

    def running(self, uuid: str) -> Guest | None:
        """The guest ``uuid`` if it runs; HostError if libvirt cannot tell."""
        guest = self.by_uuid(uuid)
        return guest if guest and self._if_known(guest._domain.isActive) else None

    def _if_known(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns about a guest, None if libvirt knows no such guest."""
        try:
            return self._libvirt.ask(call)
        except self._libvirt.binding.libvirtError as error:
            if error.get_error_code() == self._libvirt.binding.VIR_ERR_NO_DOMAIN:
                return None
            sentence = f"libvirt does not say whether the guest runs: {str(error).rstrip('.')}."
            raise HostError(sentence, remedy="Check that its daemon runs.") from None

    def all(self) -> list[Guest]:
        """Every guest, running or not, by name; HostError if libvirt does not tell them."""
        try:
            domains = self._libvirt.ask(self._connection.listAllDomains)
        except self._libvirt.binding.libvirtError as error:
            sentence = f"libvirt does not list its guests: {str(error).rstrip('.')}."
            raise HostError(sentence, remedy="Check that its daemon runs.") from None
        return sorted((Guest(domain, self._libvirt) for domain in domains), key=lambda guest: guest.name)


class State(NamedTuple):
    """What a guest does."""

    active: bool
    """Whether it has a QEMU process."""
    halted: bool
    """Whether a migration, and not a user, has halted the guest, perhaps for good."""


class Guest:
    """One guest, as libvirt knows it."""

    def __init__(self, domain: Any, libvirt: Libvirt) -> None:
        self._domain = domain
        self._libvirt = libvirt
        self._binding = libvirt.binding

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
        """Whether it has a definition, and so a next start. ApvfioError, as with all that asks libvirt."""
        return bool(self._asked(self._domain.isPersistent))

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return bool(self._asked(self._domain.isActive))

    @property
    def life(self) -> int:
        """libvirt's number of this run of the guest, another one after each start; -1 if it does not run."""
        number: int = self._domain.ID()
        return number if self.active else -1

    @property
    def autostart(self) -> bool:
        """Whether libvirt starts it with the host."""
        return bool(self._asked(self._domain.autostart))

    def state(self) -> State:
        """What it does at this moment; ApvfioError, as with all that asks libvirt."""
        state, reason = self._asked(self._domain.state)
        stopped = (self._binding.VIR_DOMAIN_SHUTOFF, self._binding.VIR_DOMAIN_CRASHED)
        halted = state == self._binding.VIR_DOMAIN_PAUSED and reason in (
            self._binding.VIR_DOMAIN_PAUSED_UNKNOWN,
            self._binding.VIR_DOMAIN_PAUSED_MIGRATION,
            self._binding.VIR_DOMAIN_PAUSED_STARTING_UP,
        )
        return State(active=state not in stopped, halted=halted)

    def is_migrating(self) -> bool:
        """Whether libvirt is moving it, from here or to here."""
        return bool(self._asked(self._domain.jobInfo)[0] != self._binding.VIR_DOMAIN_JOB_NONE)

    def migration_blockers(self) -> list[str]:
        """Why QEMU would not migrate it now, in QEMU's words; ApvfioError if it does not answer.

        libvirt passes the question on, and marks the running guest as tainted by it (custom-monitor).
        """
        qemu = _libvirt("libvirt_qemu")
        asked = '{"execute": "query-migrate"}'
        text: str = self._asked(lambda: qemu.qemuMonitorCommand(self._domain, asked, 0))
        try:
            reasons = json.loads(text)["return"].get("blocked-reasons", [])
            return [str(reason) for reason in reasons]
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            sentence = "QEMU's answer about its migration is not understood."
            raise ApvfioError(sentence, guest=self.name, remedy="Omit --by-kernel.") from None

    @property
    def saved(self) -> bool:
        """Return whether the next start restores a ``virsh managedsave``, with the XML of that time."""
        unless = self._binding.VIR_ERR_NO_SUPPORT
        return bool(self._asked(self._domain.hasManagedSaveImage, unless=unless))

    def next_xml(self) -> bytes:
        """The XML of its next start: that of a managed save, else its definition; ApvfioError as `xml`."""
        if not self.saved:
            return self.xml()
        unless = self._binding.VIR_ERR_NO_SUPPORT
        text: str | None = self._asked(self._domain.managedSaveGetXMLDesc, unless=unless)
        return self.xml() if text is None else text.encode()

    def xml(self, *, live: bool = False, secrets: bool = False) -> bytes:
        """Return the guest's definition, or with ``live`` its running configuration.

        Without passwords unless ``secrets``; ApvfioError if libvirt refuses, or no longer knows the guest.
        """
        flags = 0 if live else self._binding.VIR_DOMAIN_XML_INACTIVE
        flags |= self._binding.VIR_DOMAIN_XML_SECURE if secrets else 0
        text: str = self._asked(lambda: self._domain.XMLDesc(flags))
        return text.encode()

    def define(self, xml: bytes) -> None:
        """Replace its definition; ApvfioError if libvirt refuses it: then it is as it was."""
        self._changed(lambda: self._libvirt.connection.defineXML(xml.decode()))

    def plug(self, device: str) -> None:
        """Plug a device, described in XML, into it while it runs; ApvfioError if libvirt refuses."""
        flags = self._binding.VIR_DOMAIN_AFFECT_LIVE
        self._changed(lambda: self._domain.attachDeviceFlags(device, flags))

    def unplug(self, device: str) -> None:
        """Ask the guest to release a device while it runs, and do not wait for that."""
        flags = self._binding.VIR_DOMAIN_AFFECT_LIVE
        self._changed(lambda: self._domain.detachDeviceFlags(device, flags))

    def migrate(
        self, there: Guests, *, route: str | None, persist: bool, undefine: bool, encrypted: bool
    ) -> None:
        """Migrate it, running, ``there``, and wait for the end of that. ApvfioError, with libvirt's reason.

        ``route`` is libvirt's migration URI, None for its own choice; ``persist`` takes the definition
        along, ``undefine`` leaves none here.
        """
        flags = self._binding.VIR_MIGRATE_LIVE
        flags |= self._binding.VIR_MIGRATE_PERSIST_DEST if persist else 0
        flags |= self._binding.VIR_MIGRATE_UNDEFINE_SOURCE if undefine else 0
        flags |= self._binding.VIR_MIGRATE_TLS if encrypted else 0
        extra = {self._binding.VIR_MIGRATE_PARAM_URI: route} if route else {}
        self._changed(lambda: self._domain.migrate3(there._connection, extra, flags), seconds=None)

    def resume(self) -> None:
        """Let its processors run again; ApvfioError if libvirt refuses."""
        self._changed(self._domain.resume)

    def destroy(self) -> None:
        """End its QEMU at once; ApvfioError if libvirt refuses."""
        self._changed(self._domain.destroy)

    def undefine(self) -> None:
        """Remove the guest's definition only, no other data of libvirt; ApvfioError if libvirt refuses."""
        flags = self._binding.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        self._changed(lambda: self._domain.undefineFlags(flags))

    def start_with_host(self) -> None:
        """Have libvirt start it with the host; ApvfioError if libvirt refuses."""
        self._changed(lambda: self._domain.setAutostart(1))

    def abort(self) -> None:
        """End libvirt's present job for the guest, such as a migration, without waiting for long."""
        with suppress(ApvfioError):
            self._changed(self._domain.abortJob, seconds=_ABORT_PATIENCE)

    def set_annotation(self, text: str, *, config: bool = False, live: bool = False) -> None:
        """Set its annotation to ``text``, as `annotation` makes it, or remove it for ''; ApvfioError."""
        flags = self._binding.VIR_DOMAIN_AFFECT_CONFIG if config else 0
        flags |= self._binding.VIR_DOMAIN_AFFECT_LIVE if live else 0
        element = self._binding.VIR_DOMAIN_METADATA_ELEMENT
        words = (element, text or None, PREFIX, NAMESPACE, flags)
        unless = None if text else self._binding.VIR_ERR_NO_DOMAIN_METADATA
        self._changed(lambda: self._domain.setMetadata(*words), unless=unless)

    def annotation_text(self, *, live: bool) -> str:
        """Its annotation, or with ``live`` that it runs with, as `set_annotation` takes it, '' for none."""
        where = self._binding.VIR_DOMAIN_AFFECT_LIVE if live else self._binding.VIR_DOMAIN_AFFECT_CONFIG
        words = (self._binding.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, where)
        unless = self._binding.VIR_ERR_NO_DOMAIN_METADATA
        text: str | None = self._asked(lambda: self._domain.metadata(*words), unless=unless)
        return text or ""

    def _asked(self, call: Callable[[], Any], *, unless: int | None = None) -> Any:
        return self._called(lambda: self._libvirt.ask(call), unless)

    def _changed(
        self, call: Callable[[], Any], *, seconds: float | None = _CHANGE_PATIENCE, unless: int | None = None
    ) -> None:
        self._called(lambda: self._libvirt.change(call, seconds), unless)

    def _called(self, call: Callable[[], Any], unless: int | None) -> Any:
        """What ``call`` returns, None if libvirt refuses with the code ``unless``; else ApvfioError."""
        try:
            return call()
        except self._binding.libvirtError as error:
            if unless is not None and error.get_error_code() == unless:
                return None
            raise ApvfioError(f"libvirt refused: {str(error).rstrip('.')}.", guest=self.name) from None


def annotation(asked: Matrix | Criteria, free_by: str = "") -> str:
    """The annotation as ``virDomainSetMetadata`` takes it: without the namespace, which libvirt adds."""
    root = etree.Element("guest")
    if isinstance(asked, Criteria):
        criteria = etree.SubElement(root, "any", asked.attributes())
        for cards in asked.children():
            etree.SubElement(criteria, "cards", cards)
        return etree.tostring(root, encoding="unicode")
    attributes = {"adapters": format_list(asked.adapters), "domains": format_list(asked.domains)}
    if asked.control_domains:
        attributes["control-domains"] = format_list(asked.control_domains)
    if free_by:
        attributes["free-by"] = free_by
    etree.SubElement(root, "matrix", attributes)
    return etree.tostring(root, encoding="unicode")


def _is_local(uri: str) -> bool:
    """Whether the daemon is one of this machine; a URI that makes no sense is libvirt's to refuse."""
    try:
        return not urlsplit(uri).netloc
    except ValueError:
        return True


@cache
def _run_events(binding: Any) -> None:
    """Run libvirt's event loop, which keepalive needs, in a thread; no connection may exist before."""
    binding.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            binding.virEventRunDefaultImpl()

    threading.Thread(target=run, daemon=True).start()


def _libvirt(module: str = "libvirt") -> Any:
    try:
        return importlib.import_module(module)  # 40 ms that only the commands on guests spend
    except ImportError:
        sentence = "libvirt's Python binding is not installed."
        raise HostError(sentence, remedy="Install python3-libvirt (Debian) or libvirt-python.") from None
