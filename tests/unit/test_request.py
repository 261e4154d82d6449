# SPDX-License-Identifier: Apache-2.0
"""What a domain's XML asks for."""

from __future__ import annotations

import pytest
from lxml import etree

from apvfio.errors import Exit, RequestError
from apvfio.guests import annotation
from apvfio.mask import IdSet, parse_list
from apvfio.matrix import Matrix
from apvfio.request import NAMESPACE, Request, guest_uuid, parse_annotation, parse_domain

UUID = "9a3cd2a0-7f0b-4a4b-9d4e-0d2c5f3a6b10"
MDEV = "0A0B0C0D-1111-4111-8111-111111111111"
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-ap'>"
    f"<source><address uuid='{MDEV}'/></source></hostdev>"
)
MATRIX = '<ap:matrix adapters="0,0xa" domains="1-2,4"/>'


def domain(matrix: str = MATRIX, devices: str = HOSTDEV, name: str = "db1", uuid: str = UUID) -> bytes:
    return (
        f"<domain type='kvm' id='1'><name>{name}</name><uuid>{uuid}</uuid>"
        f"<metadata><ap:guest xmlns:ap='{NAMESPACE}'>{matrix}</ap:guest></metadata>"
        f"<devices>{devices}</devices></domain>"
    ).encode()


def test_an_annotated_guest() -> None:
    wish = Matrix(IdSet([0, 10]), IdSet([1, 2, 4]))
    assert parse_domain(domain()) == Request("db1", UUID, MDEV.lower(), wish)


def test_control_domains_and_any_prefix() -> None:
    xml = domain('<ap:matrix adapters="1" domains="0x1b" control-domains="0-3"/>').replace(b"ap:", b"q:")
    request = parse_domain(xml.replace(b"xmlns:ap", b"xmlns:q"))
    assert request is not None
    assert request.matrix == Matrix(IdSet([1]), IdSet([27]), parse_list("0-3"))


def test_the_way_to_free_the_queues_may_be_named() -> None:
    request = parse_domain(domain('<ap:matrix adapters="1" domains="2" free-by="domains"/>'))
    assert request is not None
    assert request.free_by == "domains"
    with pytest.raises(RequestError, match="does not fit its schema"):
        parse_domain(domain('<ap:matrix adapters="1" domains="2" free-by="rows"/>'))


@pytest.mark.parametrize(
    "metadata", ["", "<metadata/>", "<metadata><x:guest xmlns:x='urn:other'/></metadata>"]
)
def test_a_guest_without_annotation_is_not_ours(metadata: str) -> None:
    xml = f"<domain><name>a</name><uuid>{UUID}</uuid>{metadata}<devices>{HOSTDEV}</devices></domain>"
    assert parse_domain(xml.encode()) is None


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (domain(devices=""), "no device to carry them"),
        (domain(devices=HOSTDEV.replace("vfio-ap", "vfio-ccw")), "no device to carry them"),
        (domain(devices=HOSTDEV * 2), "more than one"),
        (domain(devices=HOSTDEV.replace(MDEV, "1-2")), "'1-2', which is none"),
        (domain(devices=HOSTDEV.replace("uuid=", "slot=")), "'', which is none"),
        (domain(matrix=""), "no <matrix>"),
        (domain('<ap:matrix domains="1"/>'), "no attribute adapters"),
        (domain('<ap:matrix adapters="1"/>'), "no attribute domains"),
        (domain('<ap:matrix adapters="" domains="1"/>'), "adapters of <matrix> is '': it is empty"),
        (
            domain('<ap:matrix adapters="1" domains="9-1"/>'),
            "domains of <matrix> is '9-1': the range '9-1' runs",
        ),
        (domain('<ap:matrix adapters="1" domains="256"/>'), "beyond 255"),
        (domain('<ap:matrix adapters="-1" domains="2"/>'), "has a sign"),
        (domain('<ap:matrix adapters="1" domains="2" control-domains="x"/>'), "control-domains of <matrix>"),
        (domain('<ap:matrix adapters="1" domains="2" mode="cca"/>'), "Invalid attribute mode"),
        (domain(MATRIX * 2), "does not fit its schema"),
        (domain(MATRIX + "<ap:more/>"), "does not fit its schema"),
    ],
)
def test_an_annotation_that_makes_no_sense_names_guest_fault_and_fix(xml: bytes, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_domain(xml)
    text = str(caught.value)
    assert text.startswith("guest db1: ")
    assert says in text
    assert caught.value.remedy
    assert "\n" not in text
    assert caught.value.code == Exit.REQUEST


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (b"", "not well-formed"),
        (b"<domain>", "not well-formed"),
        (b"\xff\xfe\x00", "not well-formed"),
        (domain(name="a&b;"), "not well-formed"),
        (
            b"<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain><name>&e;</name></domain>",
            "document type",
        ),
    ],
)
def test_xml_that_is_none_is_refused(xml: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        parse_domain(xml)
    with pytest.raises(RequestError):
        guest_uuid(xml)


def test_nested_entities_are_not_expanded() -> None:
    bomb = b"<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
        b"<!ENTITY %c '%s'>" % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
    )
    with pytest.raises(RequestError):
        parse_domain(bomb + b"]><domain><name>&j;</name></domain>")


def test_a_hostile_name_is_made_printable() -> None:
    with pytest.raises(RequestError) as caught:
        parse_domain(domain(matrix="", name="a\nb\x85\u202e" + "x" * 100))
    assert str(caught.value).startswith("guest a?b??" + "x" * 74 + "…: ")


def test_the_guests_uuid() -> None:
    assert guest_uuid(domain(uuid=UUID.upper())) == UUID
    with pytest.raises(RequestError, match="which is none"):
        guest_uuid(domain(uuid="../x"))


def test_what_is_given_to_libvirt_is_what_is_read_back() -> None:
    wish = Matrix(IdSet([0, 10]), IdSet([1, 2, 4]), IdSet([255]))
    # libvirt puts the annotation's elements into its namespace.
    element = etree.fromstring(annotation(wish).replace("<guest>", f"<guest xmlns='{NAMESPACE}'>"))
    assert parse_annotation(element) == wish
