# SPDX-License-Identifier: Apache-2.0
"""What a domain's XML requests."""

from __future__ import annotations

import pytest

from apvfio.domain.request import guest_uuid, parse_domain
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt.guests import annotation
from apvfio.model.criteria import CardCriteria, Criteria, same_key
from apvfio.model.criteria_texts import parse_options
from apvfio.model.errors import Exit, RequestError
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.master_keys import MasterKey
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from criteria import a_criteria
from domain_xml import ANY, HOSTDEV, MATRIX, MDEV, UUID, domain


def given(annotation: str) -> bytes:
    """A domain once libvirt has been given ``annotation``, whose elements it puts into its namespace."""
    begin, end = domain().split(MATRIX.encode())
    return (
        begin.rpartition(b"<ap:guest")[0]
        + annotation.replace("<guest>", f"<guest xmlns='{NAMESPACE}'>").encode()
        + end.removeprefix(b"</ap:guest>")
    )


def test_an_annotated_guest() -> None:
    requested = Matrix(IdSet([0, 10]), IdSet([1, 2, 4]))
    assert parse_domain(domain()) == Request("db1", UUID, MDEV.lower(), requested)


def test_control_domains_and_any_prefix() -> None:
    xml = domain('<ap:matrix adapters="1" domains="0x1b" control-domains="0-3"/>').replace(b"ap:", b"q:")
    request = parse_domain(xml.replace(b"xmlns:ap", b"xmlns:q"))
    assert request is not None
    assert request.matrix == Matrix(IdSet([1]), IdSet([27]), parse_list("0-3"))


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ('mode="ep11"', a_criteria("ep11")),
        ('mode="accel" adapters="2" domains=" 256 "', a_criteria("accel", 2, 256)),
        (
            'mode="cca" min-generation="7" control-domains="0-3"',
            a_criteria("cca", 1, 1, 7, "", parse_list("0-3")),
        ),
        ('mode="cca" mkvp="0XABCDEF0123456789"', a_criteria("cca", mkvp="abcdef0123456789")),
        (f'mode="ep11" mkvp="{"Ab" * 32}"', a_criteria("ep11", mkvp="ab" * 32)),
        (
            f'mode="cca" mkvp-asym="{"0" * 32}" mkvp-aes="0x{"1" * 16}" generations=" distinct "',
            Criteria(
                (
                    CardCriteria(
                        "cca",
                        generations="distinct",
                        keys=(MasterKey("aes", "1" * 16), MasterKey("asym", "0" * 32)),
                    ),
                )
            ),
        ),
        ('mode="cca" control-domains=" usage"', a_criteria("cca")._replace(control_usage=True)),
    ],
)
def test_queues_asked_for_by_property(text: str, requested: Criteria) -> None:
    assert parse_domain(domain(f"<ap:any {text}/>")) == Request(
        "db1", UUID, MDEV.lower(), Matrix(), criteria=requested
    )


SEVERAL = Criteria(
    (
        CardCriteria("cca", 2, keys=(MasterKey("aes", "1" * 16),)),
        CardCriteria("ep11", 1, 8, "same", (MasterKey("wk", "2" * 64),)),
    ),
    domains=2,
    control_usage=True,
)


def test_several_kinds_of_adapters() -> None:
    annotated = domain(
        '<ap:any domains="2" control-domains="usage">'
        f'<ap:cards mode="cca" adapters="2" mkvp-aes="0x{"1" * 16}"/>'
        f'<ap:cards mode="ep11" adapters="1" min-generation="8" generations="same" mkvp-wk="{"2" * 64}"/>'
        "</ap:any>"
    )
    request = parse_domain(annotated)
    assert request
    assert request.criteria == SEVERAL
    assert str(SEVERAL) == (
        f"any (2 cca adapters (AES master key 0x{'1' * 16}) + 1 ep11 adapter (CEX8 or newer, "
        f"of one generation, WK master key 0x{'2' * 64})) x 2 domains, control domains those it gets"
    )
    alone = parse_domain(domain('<ap:any domains="2"><ap:cards mode="cca" adapters="3"/></ap:any>'))
    assert alone
    assert alone.criteria == a_criteria("cca", 3, 2)


CARDS = '<ap:any domains="1"><ap:cards mode="cca" adapters="2"/>{}</ap:any>'


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (
            CARDS.format('<ap:cards adapters="1"/>'),
            "mode of <cards> is missing; it must be accel,",
        ),
        (CARDS.format('<ap:cards mode="des" adapters="1"/>'), "mode of <cards> is 'des'"),
        (
            CARDS.format('<ap:cards mode="ep11"/>'),
            "adapters of <cards> is missing: each kind",
        ),
        (
            CARDS.replace("domains", 'mode="cca" domains').format(""),
            "mode of <any> cannot be combined with <cards>",
        ),
        (
            CARDS.replace("domains", "adapters").format(""),
            "adapters of <any> cannot be combined with <cards>",
        ),
        (CARDS.format('<ap:cards mode="cca" adapters="255"/>'), "<cards> requests 257 adapters in all"),
        (
            CARDS.format('<ap:cards mode="cca" adapters="1" mkvp-wk="1"/>'),
            "mkvp-wk of <cards> names the register wk, which adapters in mode cca do not have",
        ),
        (
            CARDS.format(f'<ap:cards mode="cca" adapters="1" mkvp-asym="{"1" * 16}"/>'),
            "and a pattern of the register asym has 32 hexadecimal digits",
        ),
        (
            CARDS.format(f'<ap:cards mode="ep11" adapters="1" mkvp="{"1" * 16}"/>'),
            "and a pattern of mode ep11 has 32 or 64 hexadecimal digits",
        ),
        (
            CARDS.format(f'<ap:cards mode="cca" adapters="1" mkvp="{"1" * 16}" mkvp-aes="{"1" * 16}"/>'),
            "mkvp of <cards> and mkvp-aes exclude each other",
        ),
        (CARDS.format('<ap:cards mode="accel" adapters="1" mkvp="1"/>'), "but accelerators have none"),
        (CARDS.format('<ap:cards mode="cca" adapters="1" generations="x"/>'), "must be same or distinct"),
        (CARDS.format('<ap:cards mode="cca" adapters="1" domains="1"/>'), "Invalid attribute domains for"),
        (CARDS.format('<ap:cards mode="cca" adapters="1">x</ap:cards>'), "text in element cards"),
        (CARDS.format('<ap:cards mode="cca" adapters="1"><ap:x/></ap:cards>'), "expect element x there"),
        (CARDS.format("x"), "text in element any"),
        (CARDS.format("<ap:card/>"), "Did not expect element card there"),
    ],
)
def test_kinds_of_adapters_that_make_no_sense(inside: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_domain(domain(inside))
    assert says in str(caught.value)
    assert caught.value.remedy


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


DECLARED = f"xmlns:ap='{NAMESPACE}'"
NEWER = "xmlns:ap='urn:apvfio:guest:2'"
VALID = f"<ap:guest {DECLARED}>{MATRIX}</ap:guest>"
LIST = 'adapters="0" domains="1"'


def with_metadata(inside: str, elsewhere: str = "") -> bytes:
    """A domain with something in its metadata, and something after it."""
    return (
        f"<domain><name>db1</name><uuid>{UUID}</uuid><metadata>{inside}</metadata>{elsewhere}"
        f"<devices>{HOSTDEV}</devices></domain>"
    ).encode()


@pytest.mark.parametrize(
    "theirs",
    [
        f"<x:notes xmlns:x='urn:x'><x:y>{VALID}</x:y></x:notes>",
        f"<x:n xmlns:x='urn:x' {NEWER} ap:a='0'/>",
        "<x:n xmlns:x='not a URI'/>",
        "<note><q:bar/></note>",
        "<q:note/>",
        "<z:n xmlns:z='urn:n'><z:q:bar/></z:n>",
        "<z:n xmlns:z='urn:n' z:a='1' q:b='2' z:q:c='3'/>",
        "<n xmlns:xmlns='urn:x' xmlns:xml='urn:y' xmlns:a=''/>",
        "<a:b:c:/>",
        "<a\u200d\U00010000\u4e00/>",
        "<x>" * 5000 + "</x>" * 5000,
        f"<x>{'y' * (17 << 20)}</x>",
        "<x/>" * 100_000,
    ],
    ids=range(13),
)
def test_no_metadata_of_somebody_else_keeps_a_guest_from_starting(theirs: str) -> None:
    request = parse_domain(with_metadata(VALID))
    assert request
    assert parse_domain(with_metadata(theirs + VALID)) == request
    assert parse_domain(with_metadata(VALID + theirs)) == request
    assert parse_domain(with_metadata(theirs)) is None


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (with_metadata(f"<ap:matrix {DECLARED} {LIST}/>"), "<matrix> of apvfio's namespace is in"),
        (with_metadata(f"{VALID}<ap:matrix {DECLARED} {LIST}/>"), "the element <matrix> of apvfio's"),
        (with_metadata(f"<ap:any {DECLARED} mode='cca'/>"), "the element <any> of apvfio's"),
        (with_metadata(f"<ap:Guest {DECLARED}>{MATRIX}</ap:Guest>"), "the element <Guest> of apvfio's"),
        (with_metadata(VALID * 2), "more than one annotation"),
        (with_metadata(VALID.replace(DECLARED, NEWER)), "<guest> in <metadata> has the namespace 'urn:"),
        (with_metadata(VALID + VALID.replace(DECLARED, NEWER)), "reads only urn:apvfio:guest:1"),
        (with_metadata(VALID.replace(DECLARED, "xmlns:ap='urn:apvfio:guest'")), "has the namespace"),
        (with_metadata(VALID.replace(DECLARED, "xmlns:ap='urn:apvfio:guest:1 '")), "has the namespace"),
        (with_metadata(VALID.replace(DECLARED, "xmlns:ap='URN:apvfio:guest:1'")), "has the namespace"),
        (with_metadata(VALID.replace(DECLARED, "xmlns:ap='urn:apvfio'")), "has the namespace"),
        (with_metadata("", VALID), "in <domain>"),
        (with_metadata(VALID, f"<os>{VALID}</os>"), "<guest> of apvfio's namespace is in <domain>"),
        (with_metadata(VALID, f"<metadata ap:x='1' {DECLARED}/>"), "the attribute x of apvfio's"),
        (with_metadata(VALID, f"<os {DECLARED}><a/><b><ap:guest/></b></os>"), "<guest> of apvfio's"),
        (with_metadata(VALID, f"<os xmlns='{NAMESPACE}'/>"), "<os> of apvfio's namespace is in <domain>"),
        (f"<ap:guest {DECLARED}>{MATRIX}</ap:guest>".encode(), "is at the top"),
    ],
)  # fmt: skip
def test_nothing_of_ours_is_ignored(xml: bytes, says: str) -> None:
    for given_device in (xml, xml.replace(HOSTDEV.encode(), b"")):
        with pytest.raises(RequestError) as caught:
            parse_domain(given_device)
        assert says in caught.value.sentence
        assert "guest set" in caught.value.remedy or "Leave one" in caught.value.remedy
        assert caught.value.code == Exit.REQUEST


@pytest.mark.parametrize(
    "foreign",
    [
        "<x:guest xmlns:x='urn:apvfiolike:guest:1'/>",
        f"<x:note xmlns:x='urn:x' {DECLARED}>urn:apvfio:guest:1</x:note>",
        f"<x:note xmlns:x='urn:x' of='{NAMESPACE}'/>",
        "<x:matrix xmlns:x='urn:x' adapters='0' domains='1'/>",
        f"<!-- {VALID} -->",
    ],
)
def test_what_only_resembles_ours_is_not_ours(foreign: str) -> None:
    assert parse_domain(with_metadata(foreign)) is None
    request = parse_domain(with_metadata(VALID + foreign))
    assert request is not None
    assert request.matrix == Matrix(IdSet([0, 10]), IdSet([1, 2, 4]))


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (domain(devices=""), "has no mediated device"),
        (domain(devices=HOSTDEV.replace("vfio-ap", "vfio-ccw")), "has no mediated device"),
        (domain(devices=HOSTDEV * 2), "more than one"),
        (domain(devices=HOSTDEV.replace(MDEV, "1-2")), "invalid UUID '1-2'"),
        (domain(devices=HOSTDEV.replace("uuid=", "slot=")), "invalid UUID ''"),
        (domain(matrix=""), "no <matrix>"),
        (domain('<ap:matrix domains="1"/>'), "no attribute adapters"),
        (domain('<ap:matrix adapters="1"/>'), "no attribute domains"),
        (domain('<ap:matrix adapters="" domains="1"/>'), "adapters of <matrix> is '': it is empty"),
        (
            domain('<ap:matrix adapters="1" domains="9-1"/>'),
            "domains of <matrix> is '9-1': the range '9-1' runs",
        ),
        (domain('<ap:matrix adapters="1" domains="256"/>'), "beyond 255"),
        (domain('<ap:matrix adapters="-1" domains="2"/>'), "must not have a sign"),
        (domain('<ap:matrix adapters="1" domains="2" control-domains="x"/>'), "control-domains of <matrix>"),
        (domain('<ap:matrix adapters="1" domains="2" mode="cca"/>'), "Invalid attribute mode"),
        (domain(MATRIX * 2), "does not fit its schema"),
        (domain(MATRIX + ANY), "does not fit its schema"),
        (domain(ANY * 2), "does not fit its schema"),
        (domain('<ap:any mode="cca" free-by="adapters"/>'), "does not fit its schema"),
        (domain('<ap:any mode="cca">1</ap:any>'), "does not fit its schema"),
        (domain("<ap:any/>"), "mode of <any> is missing; it must be accel, cca or ep11"),
        (domain('<ap:any mode="EP11"/>'), "mode of <any> is 'EP11'; it must be"),
        (domain('<ap:any mode="cca" adapters="0"/>'), "adapters of <any> is '0'"),
        (domain('<ap:any mode="cca" domains="257"/>'), "domains of <any> is '257'"),
        (domain('<ap:any mode="cca" domains="0x2"/>'), "domains of <any> is '0x2'"),
        (domain('<ap:any mode="cca" adapters="1,2"/>'), "a count, not an id"),
        (domain('<ap:any mode="cca" min-generation="CEX7"/>'), "min-generation of <any> is 'CEX7'"),
        (domain('<ap:any mode="cca" mkvp="0x12"/>'), "mkvp of <any> is '0x12'"),
        (domain(f'<ap:any mode="cca" mkvp="{"xy" * 8}"/>'), "16 or 32 hexadecimal digits"),
        (domain(f'<ap:any mode="accel" mkvp="{"12" * 8}"/>'), "accelerators have none"),
        (domain('<ap:any mode="cca" control-domains="9-1"/>'), "control-domains of <any>"),
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
    with pytest.raises(RequestError, match="invalid UUID"):
        guest_uuid(domain(uuid="../x"))


def test_what_is_given_to_libvirt_is_what_is_read_back() -> None:
    requested = Matrix(IdSet([0, 10]), IdSet([1, 2, 4]), IdSet([255]))
    request = parse_domain(given(annotation(requested)))
    assert request is not None
    assert request.matrix == requested


@pytest.mark.parametrize(
    "requested", [a_criteria("accel"), a_criteria("ep11", 2, 3, 7, "ab" * 16, IdSet([255])), SEVERAL]
)
def test_criteria_given_to_libvirt_are_what_is_read_back(requested: Criteria) -> None:
    request = parse_domain(given(annotation(requested)))
    assert request is not None
    assert request.criteria == requested


def test_criteria_in_words_and_on_the_command_line() -> None:
    requested = parse_options(f"mode=ep11, adapters=2,min-generation=7,mkvp=0x{'AB' * 16}", (), "0,1")
    assert requested == a_criteria("ep11", 2, 1, 7, "ab" * 16, IdSet([0, 1]))
    assert str(requested) == (
        f"any 2 adapters x 1 domain, ep11, CEX7 or newer, master key 0x{'ab' * 16}, control domains 0-1"
    )
    shared, *kinds = SEVERAL.as_option(), *(kind.as_option() for kind in SEVERAL.cards)
    assert parse_options(shared, kinds, SEVERAL.control) == SEVERAL
    assert str(parse_options("mode=accel")) == "any 1 adapter x 1 domain, accel"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("", "mode of --any is missing"),
        ("ep11", "--any has 'ep11'"),
        ("mode=ep11,serial=1", "knows only mode, adapters"),
        ("mode=ep11,mode=cca", "--any has mode twice"),
        ("adapters=2", "mode of --any is missing"),
        ("mode=ep11,adapters=x", "adapters of --any is 'x'"),
    ],
)
def test_criteria_on_the_command_line_that_make_no_sense(option: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_options(option)
    assert says in str(caught.value)
    assert caught.value.remedy


def test_keys_are_compared_as_tools_show_them() -> None:
    assert same_key("AB" * 8, "0x" + "ab" * 8)
    assert same_key("ab" * 16, "ab" * 16 + "00" * 16)
    assert not same_key("ab" * 8, "ab" * 16)
    assert not same_key("ab" * 32, "ab" * 16)
