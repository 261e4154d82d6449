# SPDX-License-Identifier: Apache-2.0
"""Domain XML as an attacker might have it defined: it is refused, or it requests something that exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.errors import Exit
from hostile_input import HOSTDEV, MATRIX, MDEV, UUID, domain, prepare, require_line, require_sentence, trying
from memory_host import Machine

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = ("release", "reconnect")

PIECES = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[2J", b"\r\n", b"&a;", b"&#0;",
    b"&#27;", b"&#x202e;", b"&lt;", b"<", b">", b"'", b'"', b"]]>", b"<![CDATA[", b"<!--", b"-->",
    b"<?x y?>", b"<?xml?>", b"<!DOCTYPE domain>", b"<!DOCTYPE d [<!ENTITY a 'b'>]>",
    b"<?xml version='1.0' encoding='UTF-16'?>", b"<?xml version='1.1' encoding='EBCDIC-CP-US'?>",
    b" xmlns:ap='urn:other'", b" xmlns=''", b" xmlns='urn:x'", b" adapters='1'", b" domains=''",
    b"<ap:matrix/>", b"<ap:any mode='cca'/>", b"<a>" * 300, b"</domain>",
    b"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='/etc/passwd' parse='text'/>", b"9-1",
    b"-", b"99999999999999999999", b"0x", b"," * 3000, HOSTDEV.encode(), f"<uuid>{UUID}</uuid>".encode(),
]  # fmt: skip

ANY = '<ap:any mode="cca"/>'
MANY = " ".join(f"a{i}=''" for i in range(5_000))
texts = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "0",
        "0,0xa",
        "255",
        "256",
        "0-255",
        "9-1",
        "--5",
        "+1",
        "0x",
        "08",
        "1" * 5000,
        ",",
        "1,,2",
        "\t1",
        "٣",
    ]
)
names = st.sampled_from(["matrix", "any", "guest", "x", "adapters", "é\u200d", "x" * 3000])
attributes = st.dictionaries(
    st.sampled_from(
        [
            "adapters",
            "domains",
            "control-domains",
            "free-by",
            "mode",
            "mkvp",
            "min-generation",
            "x",
            "é\u200d",
        ]
    ),
    texts | st.sampled_from(["cca", "ep11", "accel", "adapters", "1", "7", "0x" + "a" * 32]),
)


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


def check(machine: Machine, xml: bytes) -> None:
    """Refused in a sentence with nothing changed; or granted, and then it can be taken home again."""
    before, host = machine.snapshot(), machine.host
    said = prepare(machine, xml)
    assert said.out == ""
    if said.code:
        require_sentence(said, Exit.REQUEST, Exit.HOST, Exit.CONFLICT, Exit.POLICY)
    else:
        assert said.err == ""
    if said.code or machine.snapshot() == before:
        for operation in OTHERS:
            quiet = prepare(machine, xml, operation)
            assert quiet.code == Exit.OK
            if quiet.err:
                require_line(quiet.err)
    else:
        # libvirt writes the uuid of a guest in one way only.
        uuids = "".join(f"<uuid>{lease.uuid}</uuid>" for lease in machine.ledger.leases.values())
        assert prepare(machine, uuids.encode(), "release") == (Exit.OK, "", "")
        assert machine.host == host
        assert machine.ledger.leases == {}
        # What kernel and ledger remember of it is no part of the next case.
        machine.files.texts.clear()
        return
    assert machine.snapshot() == before


@trying(150)
@given(st.data())
def test_a_valid_domain_with_something_put_in_or_cut_out(machine: Machine, data: st.DataObject) -> None:
    xml = domain(data.draw(st.sampled_from([MATRIX, ANY])))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(xml)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 5, 40]))
        xml = xml[:begin] + data.draw(st.sampled_from(PIECES) | st.binary(max_size=8)) + xml[end:]
    check(machine, xml)


@trying(150)
@given(st.data())
def test_well_formed_annotations_of_any_shape(machine: Machine, data: st.DataObject) -> None:
    from lxml import etree

    root = etree.fromstring(domain())
    metadata = root.find("metadata")
    devices = root.find("devices")
    assert metadata is not None
    assert devices is not None
    (guest,) = metadata
    for place in data.draw(st.lists(st.sampled_from(["guest", "metadata", "devices"]), max_size=2)):
        parent = {"guest": guest, "metadata": metadata, "devices": devices}[place]
        namespace = data.draw(st.sampled_from(["{urn:apvfio:guest:1}", "{urn:apvfio:guest:2}", ""]))
        child = etree.SubElement(parent, namespace + data.draw(names))
        fill(child, data.draw(attributes), data.draw(texts))
    if data.draw(st.booleans()):
        fill(guest[0], data.draw(attributes), data.draw(texts))
    check(machine, etree.tostring(root))


def fill(element: object, values: dict[str, str], text: str) -> None:
    """Give an element what XML can hold of this."""
    for name, value in values.items():
        element.set(name, xml_text(value))  # type: ignore[attr-defined]
    element.text = xml_text(text)  # type: ignore[attr-defined]


def xml_text(text: str) -> str:
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


@trying(100)
@given(st.binary(max_size=200))
def test_bytes(machine: Machine, xml: bytes) -> None:
    check(machine, xml)


def declared(subset: str, use: str = "") -> bytes:
    """A domain with a document type declaration, which uses it in its annotation."""
    return f"<!DOCTYPE domain [{subset}]>".encode() + domain(
        f'<ap:matrix adapters="0{use}" domains="1">{use}</ap:matrix>'
    )


LAUGHS = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 10))
BOMB = f"<!ENTITY l0 'ha'>{LAUGHS}"
FLOOD = f"<!ENTITY a '{'x' * 50_000}'>"


@pytest.mark.parametrize(
    "xml",
    [
        declared(BOMB, "&l9;"),
        declared(FLOOD, "&a;" * 5000),
        declared("<!ENTITY a SYSTEM 'file:///etc/hostname'>", "&a;"),
        declared("<!ENTITY % p SYSTEM 'file:///etc/hostname'> %p;"),
        declared("<!ENTITY a '&b;'><!ENTITY b '&a;'>", "&a;"),
        declared("<!ATTLIST domain x CDATA 'y'>"),
        b"<!DOCTYPE domain SYSTEM 'http://127.0.0.1:9/x.dtd'>" + domain(),
        b"<!DOCTYPE domain PUBLIC 'x' 'file:///dev/zero'>" + domain(),
    ],
    ids=["laughs", "flood", "external", "parameter", "loop", "attlist", "network", "device"],
)
def test_no_document_type_declaration_and_no_entity_is_followed(machine: Machine, xml: bytes) -> None:
    require_sentence(prepare(machine, xml), Exit.REQUEST)
    check(machine, xml)


def test_an_external_entity_is_not_even_opened(machine: Machine, tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe"  # opening it would wait for ever
    os.mkfifo(pipe)
    for subset in (f"<!ENTITY a SYSTEM 'file://{pipe}'>", f"<!ENTITY % a SYSTEM 'file://{pipe}'> %a;"):
        check(machine, declared(subset, "&a;" if "%" not in subset else ""))
    check(machine, f"<!DOCTYPE domain SYSTEM '{pipe}'>".encode() + domain())
    include = f"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='file://{pipe}'/>"
    check(machine, domain(f"{MATRIX}{include}"))


@pytest.mark.parametrize(
    "xml",
    [
        b"<a>" * 100_000,
        b"<domain>" + b"<a>" * 255 + b"</a>" * 255 + b"</domain>",
        domain(f'<ap:matrix adapters="{"0," * 4_000_000}0" domains="1"/>'),
        domain(f'<ap:matrix adapters="0" domains="{"1" * 15_000_000}"/>'),
        domain(f'<ap:matrix adapters="0" domains="1" {MANY}/>'),
        domain("".join(f"<ap:x{i}/>" for i in range(50_000))),
        domain(name="n" * 8_000_000),
        domain().ljust(16 << 20),
        domain().decode().encode("utf-16"),
        domain().decode().encode("utf-32"),
        b"<?xml version='1.0' encoding='UTF-16'?>" + domain(),
        b"<?xml version='1.0' encoding='no-such'?>" + domain(),
        b"\xef\xbb\xbf" + domain(),
        domain() + domain(),
        domain(uuid="-x"),
        domain(uuid=UUID + "/../x"),
        domain(devices=HOSTDEV.replace(MDEV, "../../../../bus/ap/apmask")),
        domain(devices=HOSTDEV.replace(MDEV, MDEV + "&#10;")),
    ],
    ids=lambda xml: f"{xml[:20]!r}-{len(xml)}",
)
def test_size_depth_and_encoding(machine: Machine, xml: bytes) -> None:
    check(machine, xml)


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--help",
        "../x",
        "/",
        "a\nb",
        "a\tb",
        "\u009b31m",
        "\u202egpj",
        "\u200b",
        "\U0001d524",
        "'\"$(reboot)",
        "%s",
        "n" * 65_536,
    ],
    ids=ascii,
)
def test_the_name_of_a_guest_is_text_for_messages(machine: Machine, name: str) -> None:
    from xml.sax.saxutils import escape

    refused = prepare(machine, domain('<ap:matrix adapters="77" domains="1"/>', name=escape(name)))
    require_sentence(refused, Exit.HOST)
    check(machine, domain(name=escape(name)))
