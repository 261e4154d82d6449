# SPDX-License-Identifier: Apache-2.0
"""Guests: what each requests, and what its start would do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from apvfio.doctor.collect.kernel import is_attached
from apvfio.doctor.facts import BROKEN_DEFINITION, GuestFacts, XmlFacts, otherwise
from apvfio.domain.request import asked_in, parse_device, parse_domain, request_of
from apvfio.domain.xml_tree import ANNOTATION, HOSTDEV, SCHEMA, etree, parse_xml
from apvfio.engine.master_keys import known_keys
from apvfio.engine.plan_start import plan_start
from apvfio.events import audit_log
from apvfio.events.event import GAINS
from apvfio.kernel.snapshot import read_guest_queues
from apvfio.model.errors import ApvfioError, HostError, RequestError
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.plan.key_warnings import key_warnings
from apvfio.plan.presence import absent_control_domains
from apvfio.store.definitions import load_definition, matrix_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from apvfio.doctor.facts import DomainFacts
    from apvfio.engine.state import State
    from apvfio.events.event import Event
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.plan.start_plan import Plan

_FEATURES = ("ap", "apft", "apqci")
"""What QEMU calls the AP instructions, their test facility and their query (QEMU: cpu_features_def.h.inc)."""


def look_at_guests(system: System, domains: list[DomainFacts], scene: State | None) -> tuple[GuestFacts, ...]:
    """What is known of each guest; nothing is planned without a ``scene``."""
    guests = [_look_at(system, domain) for domain in domains]
    if scene is None:
        return tuple(guests)
    alive = system.running_guests()
    guests = [
        guest._replace(outlives=not guest.domain.active and guest.outline.uuid in (alive or ()))
        if guest.domain.listed
        else _presumed(system, guest, scene, alive)
        for guest in guests
    ]
    running = {guest.outline.uuid for guest in guests if guest.domain.active}
    alone = _without(scene, running)
    return tuple(_planned(system, guest, scene, alone if running else None) for guest in guests)


def _look_at(system: System, domain: DomainFacts) -> GuestFacts:
    """Collect what the guest's next start uses, and what the guest runs with."""
    try:
        root = parse_xml(domain.xml)
    except RequestError as error:
        return GuestFacts(domain, XmlFacts(), error, wrong="annotation")
    outline = _outline(root)
    outdated = bool(domain.definition) and _requested(domain.definition) != _requested(domain.xml)
    attached = _attached(domain.live)
    try:
        request = request_of(system.files, domain.xml)
    except ApvfioError as error:
        wrong = _wrong(system, domain.xml)
        return GuestFacts(domain, outline, error, outdated=outdated, wrong=wrong, attached=attached)
    return GuestFacts(domain, outline, request, outdated=outdated, attached=attached)


def _requested(xml: bytes) -> object:
    """What can be compared of two definitions: annotation and device, or that they make no sense."""
    try:
        return asked_in(xml), parse_device(xml)
    except RequestError as error:
        return error.sentence


def _presumed(system: System, guest: GuestFacts, scene: State, alive: Container[str] | None) -> GuestFacts:
    """Return a guest of which only a file is known: it runs if its process exists or has its device open.

    Where processes are unknown, as on a host that was dumped, it runs if it holds a lease.
    """
    uuid = guest.outline.uuid
    held = [
        lease.mdev for lease in scene.ledger.active_leases() if lease.uuid == uuid and lease.state == HELD
    ]
    attached = any(is_attached(system, scene.host, mdev) for mdev in held)
    runs = attached or (bool(held) if alive is None else uuid in alive)
    return guest._replace(
        domain=guest.domain._replace(active=runs), attached=held[0] if runs and held else ""
    )


def _planned(system: System, guest: GuestFacts, scene: State, alone: State | None) -> GuestFacts:
    """Add the plan of the guest's next start, or its last queues."""
    uuid, request = guest.outline.uuid, guest.request
    leases = [lease for lease in scene.ledger.active_leases() if lease.uuid == uuid]
    if guest.domain.active:
        guest = guest._replace(unseen=tuple(_unseen(system, scene.host, leases)))
    if not isinstance(request, Request):
        return guest._replace(known=None if request else _known(system, guest, leases, scene.ledger))
    stopped = _without(scene, {uuid}) if guest.domain.active else scene
    plan = _plan(system, request, stopped)
    guest = guest._replace(plan=plan)
    if not isinstance(plan, ApvfioError):
        return guest
    there = _there(request, scene.host) if isinstance(plan, HostError) else None
    if there and not isinstance(_plan(system, request._replace(matrix=there), stopped), ApvfioError):
        guest = guest._replace(less=there)
    return guest._replace(alone=_plan(system, request, alone)) if alone else guest


def _without(scene: State, guests: set[str]) -> State:
    """Return the scene as if these guests, named by uuid, had stopped."""
    ledger = scene.ledger
    gone = {lease.mdev for lease in ledger.leases.values() if lease.uuid in guests and lease.created}
    leases = {mdev: lease for mdev, lease in ledger.leases.items() if lease.uuid not in guests}
    mdevs = {mdev: matrix for mdev, matrix in scene.host.mdevs.items() if mdev not in gone}
    return scene._replace(host=scene.host._replace(mdevs=mdevs), ledger=ledger._replace(leases=leases))


def _there(request: Request, host: Host) -> Matrix | None:
    """What there is of the queues that it requests, None if that is nothing."""
    asked = request.matrix
    there = Matrix(
        asked.adapters & host.adapters,
        asked.domains & host.domains,
        asked.control_domains - absent_control_domains(asked, host),
    )
    return there if there.adapters and there.domains and there != asked else None


def _unseen(system: System, host: Host, leases: list[Lease]) -> Iterator[Apqn]:
    """The queues that a running guest holds, that the host has, and that its device does not pass on."""
    for lease in leases:
        if lease.state != HELD or lease.mdev not in host.mdevs:
            continue
        seen = otherwise(partial(read_guest_queues, system.sysfs, lease.mdev, lease.matrix), None)
        if seen is not None:
            yield from (
                queue for queue in lease.matrix.queues() if queue in host.drivers and queue not in seen
            )


def _known(system: System, guest: GuestFacts, leases: list[Lease], ledger: Ledger) -> Matrix | None:
    """Return the guest's present or last queues from ledger and audit log; None if neither has any."""
    uuid, device = guest.outline.uuid, guest.outline.device or guest.attached
    if leases:
        return leases[0].matrix
    if not device:
        return None
    if uuid in ledger.last_given:
        return ledger.last_given[uuid]
    events = otherwise(lambda: list(audit_log.read(system.files)), list["Event | None"]())
    gains = [event for event in events if event and event.kind in GAINS and event.uuid == uuid]
    return gains[-1].matrix if gains else None


def _attached(live: bytes) -> str:
    """The uuid of the vfio-ap device in the XML of a running guest, '' if there is none."""
    if not live:
        return ""
    return otherwise(lambda: _device(parse_xml(live)), "")


def _device(root: etree._Element) -> str:
    """The uuid of the vfio-ap device in a guest's XML, '' if there is none."""
    address = root.find(HOSTDEV)
    return "" if address is None else (address.get("uuid") or "").lower()


def _plan(system: System, request: Request, scene: State) -> Plan | ApvfioError:
    """As a start plans it, with the warnings about keys that ``apvfio plan`` gives."""
    try:
        plan = plan_start(system, request, scene)
        keys = known_keys(system, scene.host, plan.request.matrix.queues())
    except ApvfioError as error:
        return error
    warnings = (*plan.warnings, *key_warnings(plan.request, scene.ledger, keys))
    return plan._replace(warnings=warnings, keys=keys)


def _outline(root: etree._Element) -> XmlFacts:
    annotation, kind, features = root.find(ANNOTATION), root.find("os/type"), root.findall("cpu/feature")
    return XmlFacts(
        uuid=(root.findtext("uuid") or "").lower(),
        annotated=annotation is not None,
        line=0 if annotation is None else _line(annotation),
        device=_device(root),
        kind=root.get("type") or "",
        arch=(kind.get("arch") or "") if kind is not None else "",
        machine=(kind.get("machine") or "") if kind is not None else "",
        disabled=tuple(
            name
            for feature in features
            if (name := feature.get("name") or "") in _FEATURES
            and feature.get("policy") in ("disable", "forbid")
        ),
    )


def _line(annotation: etree._Element) -> int:
    """The line of the domain XML where the annotation breaks its schema, or else where it begins."""
    first = int(annotation.sourceline or 0)
    # As a start reads it: without the text after it.
    copy = etree.fromstring(etree.tostring(annotation, encoding="utf-8", with_tail=False))
    schema = etree.RelaxNG(file=SCHEMA)
    return first if schema.validate(copy) else first + schema.error_log[0].line - 1


def _wrong(system: System, xml: bytes) -> str:
    """Which check a request belongs to that makes no sense."""
    try:
        asked_in(xml)
    except RequestError:
        return "annotation"
    try:
        asking = parse_domain(xml) or parse_device(xml)
    except RequestError:
        return "device"
    try:
        definition = load_definition(system.files, asking.mdev) if asking else None
        if definition:
            matrix_of(definition)
    except ApvfioError:
        return BROKEN_DEFINITION
    return "definition"
