# SPDX-License-Identifier: Apache-2.0
"""The fast reader of domains says what libvirt's parser says; `test_schema` compares it with the schema."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.domain.request import parse_domain
from apvfio.domain.xml_reader import read_domain
from apvfio.domain.xml_tree import ANNOTATION, HOSTDEV, parse_xml
from apvfio.model.errors import RequestError
from domain_xml import ANY, MATRIX, UUID, domain
from domain_xml import HOSTDEV as DEVICE

PIECES = [
    "", "<", ">", "&", "&amp;", "&lt;", "&#10;", "&#0;", "&x;", "'", '"', "]]>", "<![CDATA[x]]>", "<!--",
    "-->", "<!-- x -->", "<?x y?>", "\0", "\r\n", "xmlns='urn:x'", " xmlns=''", " xmlns:ap=''",
    " xmlns:ap='urn:other'", " adapters='1'", "<ap:x/>", "<x:y/>", "<name>z</name>", "<metadata/>",
    "</domain>", "\u200d", "<a\U00010000/>", DEVICE, "<!DOCTYPE domain>", "<a>" * 300,
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_what_is_well_formed_to_libvirts_parser_is_so_here(data: st.DataObject) -> None:
    text = domain(data.draw(st.sampled_from([MATRIX, ANY]))).decode()
    for _ in range(data.draw(st.integers(1, 2))):
        begin = data.draw(st.integers(0, len(text)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 5]))
        text = text[:begin] + data.draw(st.sampled_from(PIECES)) + text[end:]
    xml = text.encode()
    # To libxml2 a zero byte after the root is the end; libvirt cannot be given one.
    theirs = None if 0 in xml else meaning_in_tree(xml)
    assert meaning(xml) == theirs


def meaning_in_tree(xml: bytes) -> object:
    try:
        tree = parse_xml(xml, "it")
    except RequestError:
        return None
    addresses = [address.get("uuid") or "" for address in tree.findall(HOSTDEV)]
    # As libvirt reads them (virXPathString), and not only to the first comment.
    texts = ["".join(tree.xpath(f"({tag})[1]/text()")) for tag in ("name", "uuid")]
    return (*texts, len(tree.findall(ANNOTATION)), addresses)


def meaning(xml: bytes) -> object:
    try:
        seen = read_domain(xml, "it")
    except RequestError:
        return None
    return (seen.name, seen.uuid, len(seen.annotations), seen.addresses)


def test_a_name_stays_itself_beside_letters_that_expat_does_not_know() -> None:
    xml = domain().decode().replace("<metadata>", "<metadata><x:a\u200d xmlns:x='urn:x'/>")
    name = "db1\u00e9\u200d\u4e00\U0001f600"
    assert read_domain(xml.replace("<name>db1<", f"<name>{name}<").encode()).name == name


def test_names_with_letters_that_expat_does_not_know() -> None:
    xml = domain().decode().replace("<metadata>", "<metadata><x:a\u200d\U00010000 xmlns:x='urn:x'/>").encode()
    assert parse_domain(xml) == parse_domain(domain())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-7"])
def test_a_declaration_is_seen_in_no_other_encoding(encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE d [<!ENTITY a 'b'>]><d><name>&a;</name></d>"
    for xml in (text.encode(encoding), text.partition("?>")[2].encode(encoding)):
        with pytest.raises(RequestError, match=r"not well-formed|document type"):
            read_domain(xml)


def test_a_declaration_is_not_read_even_where_it_would_take_for_ever() -> None:
    laughs = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 30))
    with pytest.raises(RequestError, match="document type"):
        read_domain(f"<!DOCTYPE d [<!ENTITY l0 'ha'>{laughs}]><domain a='&l29;'>&l29;</domain>".encode())


def test_what_looks_like_a_declaration_in_a_text_is_none() -> None:
    inside = b"<description><![CDATA[<!DOCTYPE d>]]></description><metadata>"
    assert parse_domain(domain().replace(b"<metadata>", inside)) == parse_domain(domain())
    for before in (
        b"<!-- <!DOCTYPE d> -->",
        b"\xef\xbb\xbf<?x <!DOCTYPE d>?>\n<!---->",
        b" <!--><!DOCTYPE d>-->",
    ):
        assert parse_domain(before + domain()) == parse_domain(domain())
        assert parse_xml(before + domain(), "it").tag == "domain"


@pytest.mark.parametrize(
    "before", [b"", b"\n", b"\xef\xbb\xbf", b"<!-- x -->", b"<?xml version='1.0'?> <!--><!-->"]
)
def test_a_declaration_is_found_behind_whatever_may_be_before_it(before: bytes) -> None:
    xml = before + b"<!DOCTYPE domain>" + domain()
    for read in (parse_domain, lambda xml: parse_xml(xml, "it")):
        with pytest.raises(RequestError, match="document type"):
            read(xml)


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (b"<a>" * 300, "not well-formed"),
        (domain(devices=DEVICE * 4000), "more than 10000 elements"),
    ],
)
def test_no_domain_is_like_that(xml: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read_domain(xml)


def test_what_is_left_out_is_not_kept_however_much_it_is() -> None:
    disks = b"<disk type='file'><source file='x'/></disk>" * 20_000
    xml = domain().replace(b"<devices>", b"<devices>" + disks)
    assert parse_domain(xml) == parse_domain(domain())
    assert read_domain(xml).uuid == UUID
