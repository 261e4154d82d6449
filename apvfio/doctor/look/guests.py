# SPDX-License-Identifier: Apache-2.0
"""Guests: what each asks for, and what its start would do."""

from __future__ import annotations

from apvfio.annotation import parse_annotation
from apvfio.asking import request_of
from apvfio.cards import read_keyed
from apvfio.doctor.facts import Guest, Outline
from apvfio.domain_xml import read_domain
from apvfio.errors import ApvfioError, RequestError
from apvfio.lazily import etree
from apvfio.plan.hygiene import hygiene
from apvfio.request import parse_domain
from apvfio.serving import plan_past_the_dead
from apvfio.xml_tree import ANNOTATION, HOSTDEV, SCHEMA, parse_xml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.doctor.facts import Domain
    from apvfio.plan.planner import Plan
    from apvfio.request import Request
    from apvfio.serving import Scene
    from apvfio.system import System

_FEATURES = ("ap", "apft", "apqci")
"""What QEMU calls the AP instructions, their test facility and their query (QEMU: cpu_features_def.h.inc)."""


def look_at_guest(system: System, domain: Domain, scene: Scene | None) -> Guest:
    """What is known of a guest; nothing is planned without a ``scene``."""
    try:
        root = parse_xml(domain.xml, "the domain XML")
    except RequestError as error:
        return Guest(domain, Outline(), error, wrong="annotation")
    outline = _outline(root)
    try:
        request = request_of(system.files, domain.xml)
    except ApvfioError as error:
        return Guest(domain, outline, error, wrong=_wrong(domain.xml))
    plan = _plan(system, request, scene) if request and scene and not domain.active else None
    return Guest(domain, outline, request, plan=plan)


def _plan(system: System, request: Request, scene: Scene) -> Plan | ApvfioError:
    """As a start plans it, with the warnings about keys that ``apvfio plan`` gives besides."""
    try:
        plan = plan_past_the_dead(system, request, scene)
        keyed = read_keyed(system.sysfs, scene.host, plan.request.matrix)
    except ApvfioError as error:
        return error
    return plan._replace(warnings=(*plan.warnings, *hygiene(plan.request, scene.ledger, keyed)))


def _outline(root: etree._Element) -> Outline:
    annotations, addresses = root.findall(ANNOTATION), root.findall(HOSTDEV)
    kind = root.find("os/type")
    features = root.findall("cpu/feature")
    return Outline(
        uuid=(root.findtext("uuid") or "").lower(),
        annotated=bool(annotations),
        line=_line(annotations[0]) if annotations else 0,
        device=(addresses[0].get("uuid") or "").lower() if addresses else "",
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
    # As it is read in earnest: without what comes after it.
    copy = etree.fromstring(etree.tostring(annotation, encoding="utf-8", with_tail=False))
    schema = etree.RelaxNG(file=SCHEMA)
    return first if schema.validate(copy) else first + schema.error_log[0].line - 1


def _wrong(xml: bytes) -> str:
    """Which check a request belongs to that makes no sense."""
    try:
        annotations = read_domain(xml).annotations
        if len(annotations) == 1:
            parse_annotation(annotations[0])
    except RequestError:
        return "annotation"
    try:
        parse_domain(xml)
    except RequestError:
        return "annotation" if len(annotations) > 1 else "device"
    return "definition"
