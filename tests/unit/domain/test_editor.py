# SPDX-License-Identifier: Apache-2.0
"""A definition edited: the annotation and the device come and go, and nothing else is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from apvfio.domain.request import parse_domain
from apvfio.domain.xml_editor import device_uuids, difference, own_mdev, with_request, without_request
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt.guests import annotation
from apvfio.model.errors import RequestError
from criteria import a_criteria
from domain_xml import rest
from hosts import a_matrix, guest, mdev
from libvirt_test_driver import definition, driver

ASKED = annotation(a_matrix("0,10", "1-2"))
BARE = b"<domain><name>g</name><uuid>%s</uuid><memory>1</memory><devices/></domain>" % guest(1).encode()


def test_the_uuid_is_made_of_the_guests() -> None:
    assert own_mdev(guest(1)) == own_mdev(guest(1).upper()) == "933991e5-e730-5129-a737-35c3f2f5a978"
    assert own_mdev(guest(1)) != own_mdev(guest(2))


def test_a_definition_gets_both_and_loses_both() -> None:
    for asked in (a_matrix("0,10", "1-2"), a_criteria("ep11", adapters=2)):
        edited = with_request(BARE, annotation(asked), mdev(1))
        request = parse_domain(edited)
        assert request
        assert (request.guest, request.mdev) == ("g", mdev(1))
        assert (request.criteria or request.matrix) == asked
        assert device_uuids(edited) == {mdev(1)}
        assert rest(without_request(edited, [mdev(1)])) == rest(BARE)


def test_a_device_of_ones_own_stays() -> None:
    edited = with_request(BARE, ASKED, mdev(1))
    assert device_uuids(without_request(edited, [mdev(2)])) == {mdev(1)}
    assert device_uuids(without_request(edited, ())) == {mdev(1)}


def test_the_annotation_is_replaced_where_it_is() -> None:
    with driver() as real:
        domain = real.define("g", 1, a_matrix("0", "1"), mdev(1))
        before = definition(domain)
        after = with_request(before.encode(), ASKED, None).decode()
    assert rest(after) == rest(before)
    order = [child.tag for child in etree.fromstring(after).find("metadata")]  # type: ignore[union-attr]
    assert order == ["{urn:other}thing", f"{{{NAMESPACE}}}guest", "{urn:last}last"]
    changed = [line for line in difference(before.encode(), after.encode()) if line[0] in "+-"]
    assert [line[0] for line in changed] == ["-", "-", "-", "+", "+", "+"]
    assert all("guest" in line or "matrix" in line for line in changed)


def test_two_annotations_become_one() -> None:
    twice = with_request(BARE, ASKED, None).replace(
        b"</metadata>", b'<guest xmlns="urn:apvfio:guest:1"/></metadata>'
    )
    assert (
        len(etree.fromstring(with_request(twice, ASKED, None)).findall(f"metadata/{{{NAMESPACE}}}guest")) == 1
    )


def canonical(element: etree._Element) -> bytes:
    copy = etree.fromstring(etree.tostring(element, with_tail=False))
    return etree.tostring(copy, method="c14n", exclusive=True, with_comments=True)


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ("<ap:matrix adapters='9'/>", ""),
        ("<ap:guest xmlns:ap='urn:apvfio:guest:2'/>", ""),
        ("<x:n xmlns:x='urn:x' ap:a='1'>a<ap:guest/>b</x:n>", None),
        ("<ap:matrix/><x:n xmlns:x='urn:x'><ap:guest><x:m/></ap:guest></x:n>", "<x:n"),
    ],
)
def test_what_would_refuse_a_start_goes_and_others_metadata_stays(metadata: str, kept: str | None) -> None:
    kept = metadata if kept is None else metadata[metadata.index(kept) :] if kept else ""
    xml = BARE.replace(
        b"<memory>", f"<metadata xmlns:ap='{NAMESPACE}'>{metadata}</metadata><memory>".encode()
    )
    for edited in (with_request(xml, ASKED, mdev(1)), without_request(xml, ())):
        assert re.sub("<ap:guest [^>]*>\\s*<ap:matrix[^>]*>", "", edited.decode()).count("apvfio") <= 1
        left = etree.fromstring(edited).findall("metadata/{urn:x}n")
        there = list(etree.fromstring(f"<m xmlns:ap='{NAMESPACE}'>{kept}</m>"))
        assert list(map(canonical, left)) == list(map(canonical, there))
    request = parse_domain(with_request(xml, ASKED, mdev(1)))
    assert request
    assert request.matrix == a_matrix("0,10", "1-2")


NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
ELEMENTS = st.recursive(
    st.builds(lambda n, t: f"<x{n} xmlns='urn:{n}'>{t}</x{n}>", NAMES, NAMES),
    lambda inner: st.builds(
        lambda n, parts: f"<y{n} a='{n}'>{''.join(parts)}</y{n}>", NAMES, st.lists(inner)
    ),
    max_leaves=6,
)


@given(st.lists(ELEMENTS, max_size=3), st.lists(ELEMENTS, max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_others_keep_there_stays(metadata: list[str], devices: list[str], has: bool) -> None:
    inside = f"<metadata>{''.join(metadata)}</metadata>" if metadata else ""
    before = BARE.replace(b"<memory>", f"{inside}<memory>".encode()).replace(
        b"<devices/>", f"<devices>{''.join(devices)}</devices>".encode()
    )
    edited = with_request(before, ASKED, None if has else mdev(1))
    assert rest(edited, mdev=mdev(1)) == rest(before)
    again = with_request(edited, ASKED, None)
    assert again == edited
    assert rest(without_request(edited, [mdev(1)])) == rest(before)


@pytest.mark.parametrize("xml", [b"", b"<domain>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><domain>&b;</domain>"])
def test_what_is_no_xml(xml: bytes) -> None:
    with pytest.raises(RequestError):
        with_request(xml, ASKED, None)
    with pytest.raises(RequestError):
        without_request(xml, ())
