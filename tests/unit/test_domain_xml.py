# SPDX-License-Identifier: Apache-2.0
"""The fast reader of domains says what libvirt's parser and the schema say."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from apvfio.domain_xml import NAMESPACE, read_domain
from apvfio.errors import RequestError
from apvfio.matrix import Matrix
from apvfio.request import parse_domain
from apvfio.wish import MODES, Wish
from apvfio.xml_tree import ANNOTATION, HOSTDEV, SCHEMA, parse_xml
from domains import ANY, MATRIX, UUID, domain
from domains import HOSTDEV as DEVICE

_SCHEMA = etree.RelaxNG(file=SCHEMA)
OWN = f"{{{NAMESPACE}}}"
LISTS = ("adapters", "domains", "control-domains")

LISTED = "0|0,0xa| 1-2,\n4|1- 2|1 2|1,,2|,||256|9-1|+1|0x|08|\u0663|1\xa0|1-\t2"
NUMBERS = "1| 2 |\n7|256|0|257|99|0100|+1|-1|1.0|7\xa0|\u0661|"
KEYS = f"0x{'Ab' * 8}|0X{'0' * 64}|{'ab' * 16} |{'ab' * 16}\xa0|0x12|{'g' * 16}|"


def one(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split("|"))


VALUES = {
    "free-by": one("adapters|domains| adapters\n|rows||domains\xa0"),
    "mode": one("|".join([*MODES, "EP11", " cca", ""])),
    "mkvp": one(KEYS),
    "min-generation": one(NUMBERS),
}
ASKS = {
    "matrix": ([*LISTS, "free-by", "mode", "colour", "{urn:other}adapters"], ("adapters", "domains")),
    "any": ([*LISTS, "mode", "min-generation", "mkvp", "free-by"], ("mode",)),
    "more": (["colour"], ()),
}
texts = st.sampled_from(["", "", "", " \n ", "x", "\xa0"])


@st.composite
def asked(draw: st.DrawFn, within: etree._Element) -> None:
    """An element of an annotation: mostly right, sometimes not."""
    kind = draw(st.sampled_from(["matrix", "matrix", "any", "any", "more"]))
    names, needed = ASKS[kind]
    element = etree.SubElement(within, draw(st.sampled_from([OWN, OWN, OWN, OWN, "", "{urn:other}"])) + kind)
    chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    for name in {*needed, *chosen} - set(draw(st.sampled_from([[], [], [], ["adapters"], ["mode"]]))):
        numeric = kind == "any" and name in ("adapters", "domains")
        element.set(name, draw(one(NUMBERS) if numeric else VALUES.get(name, one(LISTED))))
    element.text = draw(texts)
    element.tail = draw(texts)
    if draw(st.integers(0, 9)) == 0:
        etree.SubElement(element, f"{OWN}matrix")


@st.composite
def annotated(draw: st.DrawFn) -> etree._Element:
    root = etree.fromstring(domain())
    metadata, devices = root.find("metadata"), root.find("devices")
    assert metadata is not None
    assert devices is not None
    (guest,) = metadata
    del guest[:]
    guest.text = draw(texts)
    if draw(st.integers(0, 9)) == 0:
        guest.set(draw(st.sampled_from(["colour", "{urn:other}x"])), "1")
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
        draw(asked(guest))
    guest.append(etree.Comment("nothing"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        metadata.append(etree.Element(draw(st.sampled_from([f"{OWN}guest", "{urn:other}guest", "guest"]))))
        root.append(etree.Element("metadata"))
    devices.append(etree.fromstring(DEVICE.replace("mdev", draw(st.sampled_from(["mdev", "pci"])), 1)))
    return root


@settings(max_examples=600, deadline=None)
@given(annotated())
def test_it_is_as_strict_as_the_schema(
    root: etree._Element,
) -> None:
    xml = etree.tostring(root, encoding="utf-8")
    tree, seen = parse_xml(xml, "it"), read_domain(xml)
    found = tree.findall(ANNOTATION)
    assert len(seen.annotations) == len(found)
    assert seen.addresses == [address.get("uuid") or "" for address in tree.findall(HOSTDEV)]
    assert (seen.name, seen.uuid) == (tree.findtext("name"), tree.findtext("uuid"))
    for address in tree.findall(HOSTDEV)[1:]:
        _, device, devices, *_ = address.iterancestors()
        devices.remove(device)
    try:
        request = parse_domain(etree.tostring(tree, encoding="utf-8"))
    except RequestError as error:
        if "does not fit its schema" in str(error):
            assert not fits(found[0])
        return
    assert len(found) == 1
    assert request is not None
    assert fits(found[0])
    assert (request.wish or request.matrix) == read_by_hand(found[0])


def fits(annotation: etree._Element) -> bool:
    copy = etree.fromstring(etree.tostring(annotation, encoding="utf-8", with_tail=False))
    return _SCHEMA.validate(copy)


def read_by_hand(annotation: etree._Element) -> Matrix | Wish:
    """The annotation's meaning, from libxml2's tree."""
    from apvfio.mask import NO_IDS, parse_list
    from apvfio.wish import parse_wish

    (element,) = annotation.iterchildren("*")
    if element.tag == f"{OWN}any":
        return parse_wish({str(name): str(value) for name, value in element.attrib.items()})
    return Matrix(*(parse_list(text) if (text := element.get(name)) else NO_IDS for name in LISTS))


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
    strict = etree.XMLParser(recover=True, huge_tree=True)
    etree.fromstring(xml, strict)
    assume(all(fault.domain != etree.ErrorDomains.NAMESPACE for fault in strict.error_log))
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
        (b"<a>" * 300, "nested more than 256 deep"),
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
