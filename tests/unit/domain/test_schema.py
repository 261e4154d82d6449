# SPDX-License-Identifier: Apache-2.0
"""The schema, the reader of a start and the one of the commands agree on every document.

Documents are made at random, mostly right, the same ones in each run; APVFIO_HOSTILE=20 tries twenty times as
many others. Two differences are meant: no schema says that a range must not run backwards,
nor that numbers have a sum.
"""

from __future__ import annotations

import random
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from apvfio.domain.request import asked_in, parse_domain
from apvfio.domain.xml_editor import with_request
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.domain.xml_tree import ANNOTATION, SCHEMA, parse_xml
from apvfio.model.criteria import MODES, Criteria
from apvfio.model.criteria_texts import parse_criteria
from apvfio.model.errors import RequestError
from apvfio.model.ids import MAX_ID, IdSet
from apvfio.model.mask_grammar import parse_id, parse_list
from apvfio.model.matrix import Matrix
from domain_xml import HOSTDEV, UUID, domain
from hostile_input import MORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DOCUMENTS = 4000
BATCHES = 4
SEED = 12
KEEP = 0.93
"""How often a part is as it should be."""

IDS = ["0", "1", "7", "8", "27", "99", "255", "00", "07", "010", "0377", "0x0", "0xff", "0Xa", "0x0fF"]
NO_IDS = ["256", "999", "08", "0400", "0x", "0x100", "0xg", "+1", "-1", "1e1", "a", "\u0661", "1", "1.0"]
BLANKS = ["", " ", "\t", "\n", "\r", "  ", "\xa0", "\u2003"]
COUNTS = ["1", "2", "7", "99", "256", "01", "0099", "0256"]
NO_COUNTS = ["0", "100", "257", "00001", "+1", "-1", "1.0", "0x1", "\u0661", "1e1"]
KEYS = ["0x" + "aB" * 8, "0X" + "0" * 32, "12" * 32, "ab" * 16]
NO_KEYS = ["0x12", "g" * 16, "0x0x" + "a" * 14, "a" * 17, "0x " + "a" * 16]
LISTS = ("adapters", "domains", "control-domains")
BETWEEN = [
    *("\n", " \t", "<!-- <ap:x/> -->", "<?ap x?>", "<![CDATA[ ]]>", "&#32;"),
    *("x", "&amp;", "<![CDATA[x]]>", "\xa0"),
]
BEFORE = [
    *("", "", "<?xml version='1.0' encoding='UTF-8'?>\n", "<!-- <!DOCTYPE x> -->"),
    *("\n<?x <!DOCTYPE y>?>", "\ufeff"),
]
MKVPS = ("mkvp", "mkvp-aes", "mkvp-apka", "mkvp-asym", "mkvp-wk")
ELSEWHERE = ["colour", "x:adapters", "xml:lang", "xml:space", "ap:adapters", "Adapters", "mode", "mkvp"]


class Author:
    """Writes domains."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def right(self) -> bool:
        return self.random.random() < KEEP

    def one(self, good: Sequence[str], bad: Sequence[str]) -> str:
        return self.random.choice(good if self.right() else bad or good)

    def padded(self, text: str) -> str:
        if self.right():
            return text
        before, after = self.random.choice(BLANKS), self.random.choice(BLANKS)
        return f"{before}{text}{after}"

    def id(self) -> str:
        before = "" if self.right() else self.random.choice(BLANKS)
        return before + self.one(IDS, NO_IDS)

    def ids(self) -> str:
        items = []
        for _ in range(self.random.choice([1, 1, 2, 3, 0] if not self.right() else [1, 2])):
            item = self.id()
            if self.random.random() < 0.4:
                item += self.random.choice(["-", "-", "-", "- ", " -", "--"]) + self.id()
            items.append(item)
        text = self.random.choice([",", ",", ",", ", ", ",,", " ", ";"]).join(items)
        if self.random.random() < 0.03:
            text = ",".join(["1"] * self.random.choice([2048, 2049]))
        if self.right():
            return text
        before, after = self.random.choice([",", "", " "]), self.random.choice([",", " ", ""])
        return f"{before}{text}{after}"

    def value(self, element: str, name: str) -> str:
        if element in ("any", "cards") and name in ("adapters", "domains"):
            return self.padded(self.one(COUNTS, NO_COUNTS))
        simple = {
            "mode": (MODES, ("CCA", "", "ep 11", "ep11,cca")),
            "free-by": (("adapters", "domains"), ("rows", "", "Adapters", "adapters domains")),
            **dict.fromkeys(MKVPS, (KEYS, NO_KEYS)),
            "generations": (("same", "distinct"), ("", "Same", "same distinct")),
            "min-generation": (COUNTS[:4], NO_COUNTS),
        }
        if name == "control-domains" and element == "any" and self.random.random() < 0.4:
            return self.padded(self.one(["usage"], ["Usage", "usage,1", ""]))
        return self.padded(self.one(*simple[name])) if name in simple else self.ids()

    def attributes(self, element: str, *, parent: bool = False) -> str:
        kind = ["min-generation", "generations", self.random.choice(MKVPS)]
        needed = {
            "matrix": ["adapters", "domains"],
            "any": [] if parent else ["mode"],
            "cards": ["mode", "adapters"],
        }.get(element, [])
        maybe = {
            "matrix": ["control-domains", "free-by"],
            "any": ["domains", "control-domains", *([] if parent else ["adapters", *kind])],
            "cards": kind,
        }.get(element, [])
        names = needed + [name for name in maybe if self.random.random() < 0.3]
        if names and self.random.random() < 0.1:
            names.remove(self.random.choice(names))
        if self.random.random() < 0.05:
            names.append(self.random.choice(ELSEWHERE))
        self.random.shuffle(names)
        written = {name: self.written(self.value(element, name)) for name in names}
        return "".join(f' {name}="{value}"' for name, value in written.items())

    def written(self, value: str) -> str:
        """In one of the ways in which XML writes it; a line end written as itself becomes a blank."""
        text = escape(value)
        if self.random.random() < 0.5:
            text = re.sub("[\n\t\r]", lambda found: f"&#{ord(found[0])};", text)
        if self.random.random() < 0.1:
            text = "".join(f"&#x{ord(c):x};" if c.isalnum() and c.isascii() else c for c in value)
        return text

    def between(self) -> str:
        if self.right():
            return ""
        return self.random.choice(BETWEEN)

    def asked(self, prefix: str) -> str:
        kind = self.one(["matrix", "matrix", "any"], ["more", "Matrix", "guest"])
        prefix = self.one([prefix], ["x:", ""])
        inner = self.between()
        several = self.random.random() < (0.5 if kind == "any" else 0.02)
        if several:
            inner += "".join(self.cards(prefix) for _ in range(self.random.choice([1, 2, 2])))
        if self.random.random() < 0.03:
            inner += "<ap:matrix adapters='1' domains='1'/>"
        start = f"<{prefix}{kind}{self.attributes(kind, parent=several and self.right())}"
        return f"{start}/>" if not inner else f"{start}>{inner}</{prefix}{kind}>"

    def cards(self, prefix: str) -> str:
        name, inner = self.one(["cards"], ["card", "any"]), self.between()
        start = f"<{prefix}{name}{self.attributes('cards')}"
        return (f"{start}/>" if not inner else f"{start}>{inner}</{prefix}{name}>") + self.between()

    def annotation(self) -> str:
        prefix, declared = self.random.choice([("ap:", "xmlns:ap"), ("ap:", "xmlns:ap"), ("", "xmlns")])
        space = self.one([NAMESPACE], ["urn:apvfio:guest:2", "urn:other", f"{NAMESPACE} "])
        own = "" if self.right() or self.right() else ' colour="1"'
        children = [self.asked(prefix) for _ in range(self.random.choice([1] * 18 + [0, 2]))]
        inside = self.between() + "".join(child + self.between() for child in children)
        others = f'xmlns:x="urn:other"{"" if declared == "xmlns:ap" else f" xmlns:ap={NAMESPACE!r}"}'
        return f'<{prefix}guest {declared}="{space}" {others}{own}>{inside}</{prefix}guest>'

    def metadata(self) -> str:
        parts = [self.annotation()]
        if self.random.random() < 0.3:
            parts.insert(self.random.choice([0, 1]), "<y:note xmlns:y='urn:y'><y:deep/>text</y:note>")
        if self.random.random() < 0.04:
            parts.append(self.random.choice([f"<ap:matrix xmlns:ap='{NAMESPACE}'/>", self.annotation()]))
        return self.between().join(["", *parts, ""])

    def domain(self) -> bytes:
        before = self.random.choice(BEFORE)
        return (
            f"{before}<domain><name>db1</name><uuid>{UUID}</uuid><metadata>{self.metadata()}</metadata>"
            f"<devices>{HOSTDEV}</devices></domain>"
        ).encode()


RNG = etree.RelaxNG(file=SCHEMA)


def is_ours(name: object) -> bool:
    return isinstance(name, str) and name.lower().startswith(("{urn:apvfio:", "{urn:apvfio}"))


def by_schema(xml: bytes) -> bool | None:
    """Whether the domain has a valid annotation, None if it has nothing of apvfio's at all."""
    root = etree.fromstring(xml, etree.XMLParser(recover=True))  # libvirt minds no namespaces
    found = root.findall(ANNOTATION)
    # What somebody else keeps in metadata of his own is his.
    theirs = [element for element in root.findall("metadata/*") if not is_ours(element.tag)]
    for element in theirs:
        element[:], element.text = [], None
        element.attrib.clear()
    ours = [e for e in root.iter("*") if is_ours(e.tag) or any(map(is_ours, e.attrib))]
    if not ours:
        return None
    if len(found) != 1 or any(found[0] not in (element, *element.iterancestors()) for element in ours):
        return False
    # Without what comes after it, and by itself: the declarations that it needs go with it.
    return RNG.validate(etree.fromstring(etree.tostring(found[0], encoding="utf-8", with_tail=False)))


def by_reader(xml: bytes) -> tuple[bool | None, str]:
    try:
        return (None if parse_domain(xml) is None else True), ""
    except RequestError as error:
        return False, error.sentence


def by_hand(xml: bytes) -> Matrix | Criteria:
    """The annotation's meaning, from libxml2's tree."""
    (element,) = parse_xml(xml, "it").findall(f"{ANNOTATION}/*")
    texts = {str(name): str(value) for name, value in element.attrib.items()}
    if element.tag == f"{{{NAMESPACE}}}any":
        children = [
            {str(name): str(value) for name, value in child.attrib.items()}
            for child in element.iterchildren(f"{{{NAMESPACE}}}cards")
        ]
        return parse_criteria(texts, children)
    return Matrix(*(parse_list(texts[name]) if name in texts else IdSet() for name in LISTS))


def runs_backwards(sentence: str) -> bool:
    found = re.search(r"the range '(?:\\[nrt]| )*(\w+)-(\w+)' runs backwards\.$", sentence)
    if not found:
        return False
    low, high = parse_id(found[1]), parse_id(found[2])
    assert low is not None
    assert high is not None
    return high < low <= MAX_ID


def sums_up(sentence: str) -> bool:
    return bool(re.search(r"<cards> requests \d+ adapters in all", sentence))


def documents(seed: int) -> Iterator[bytes]:
    author = Author(seed)
    for _ in range(DOCUMENTS // BATCHES):
        yield author.domain()


@pytest.mark.parametrize("batch", range(BATCHES * MORE))
def test_schema_and_readers_agree(batch: int) -> None:
    verdicts: dict[object, int] = {}
    for xml in documents(batch + SEED * (1 if MORE == 1 else MORE)):
        expected = by_schema(xml)
        found, why = by_reader(xml)
        verdicts[found] = verdicts.get(found, 0) + 1
        if found is False and expected is True:
            assert runs_backwards(why) or sums_up(why), (why, xml)
        else:
            assert found is expected, (why, xml)
        if found:
            request = parse_domain(xml)
            assert request
            assert asked_in(xml) == (request.criteria or request.matrix) == by_hand(xml)
            assert parse_domain(with_request(xml, None, None)) == request
        assert parse_xml(xml, "it").tag == "domain"
    # It would be no test if nearly all were alike.
    assert verdicts[True] > DOCUMENTS // BATCHES // 10
    assert verdicts[False] > DOCUMENTS // BATCHES // 10


MATRIX = '<ap:matrix adapters="{}" domains="1"/>'
ANY = '<ap:any mode="cca" {}/>'


@pytest.mark.parametrize(
    ("annotation", "valid"),
    [
        ('<ap:any mode=" cca"/>', True),
        ('<ap:any mode="&#10;ep11&#9;"/>', True),
        ('<ap:any mode="c ca"/>', False),
        ('<ap:any mode="&#160;cca"/>', False),
        ('<ap:matrix adapters="0" domains="1" free-by=" domains "/>', True),
        (MATRIX.format("0, 1"), True),
        (MATRIX.format("0 ,1"), False),
        (MATRIX.format("0 1"), False),
        (MATRIX.format(" 0"), True),
        (MATRIX.format("0 "), False),
        (MATRIX.format(",,0,,1,"), True),
        (MATRIX.format(" ,0"), False),
        (MATRIX.format("0377"), True),
        (MATRIX.format("0400"), False),
        (MATRIX.format("0256"), True),
        (MATRIX.format("256"), False),
        (MATRIX.format("0x000fF"), True),
        (MATRIX.format("0x100"), False),
        (MATRIX.format("1" + ",1" * 2047), True),
        (MATRIX.format("1" + ",1" * 2048), False),
        (ANY.format('adapters=" 0256 "'), True),
        (ANY.format('adapters="00001"'), False),
        (ANY.format('adapters="+1"'), False),
        (ANY.format(f'mkvp="{"a" * 16}"'), True),
        (f'<ap:any mode="accel" mkvp="{"a" * 16}"/>', False),
        (ANY.format(f'mkvp="{"a" * 32}"'), True),
        (ANY.format(f'mkvp="{"a" * 64}"'), False),
        (ANY.format(f'mkvp-aes="{"a" * 16}" mkvp-apka="{"a" * 16}" mkvp-asym="{"a" * 32}"'), True),
        (ANY.format(f'mkvp-aes="{"a" * 16}" mkvp="{"a" * 16}"'), False),
        (ANY.format(f'mkvp-aes="{"a" * 32}"'), False),
        (ANY.format(f'mkvp-wk="{"a" * 32}"'), False),
        (f'<ap:any mode="ep11" mkvp-wk="{"a" * 64}"/>', True),
        (f'<ap:any mode="ep11" mkvp-wk="{"a" * 16}"/>', False),
        (ANY.format('generations=" same"'), True),
        (ANY.format('control-domains=" usage "'), True),
        (ANY.format('control-domains="usage,1"'), False),
        ('<ap:any><ap:cards mode="cca" adapters="1"/></ap:any>', True),
        ('<ap:any><ap:cards mode="cca"/></ap:any>', False),
        ('<ap:any adapters="1"><ap:cards mode="cca" adapters="1"/></ap:any>', False),
        ('<ap:any domains="1"><ap:cards mode="cca" adapters="1"><ap:x/></ap:cards></ap:any>', False),
        ('<ap:matrix adapters="1" domains="1"><ap:cards mode="cca" adapters="1"/></ap:matrix>', False),
        ('<ap:matrix adapters="1" domains="1" control-domains="usage"/>', False),
    ],
)
def test_what_was_decided(annotation: str, valid: bool) -> None:
    xml = domain(annotation)
    assert (by_schema(xml), by_reader(xml)[0]) == (valid, valid)


def test_the_other_annotation_of_the_example() -> None:
    text = (Path(__file__).parents[3] / "examples/guest.xml").read_text()
    (shown,) = re.findall(r"<ap:any .*?</ap:any>", text, re.DOTALL)
    found = asked_in(domain(shown))
    assert isinstance(found, Criteria)
    assert str(found) == "any (2 cca adapters + 1 ep11 adapter) x 1 domain, control domains those it gets"


def test_the_difference_that_is_meant() -> None:
    xml = domain(MATRIX.format("3,9-1"))
    assert by_schema(xml) is True
    assert runs_backwards(by_reader(xml)[1])


@pytest.mark.parametrize(
    "before", ["<!-- <!DOCTYPE x> -->", "<?x <!DOCTYPE y>?>", "\ufeff<?xml version='1.0'?><!-- x --> "]
)
def test_what_may_stand_before_the_root(before: str) -> None:
    xml = before.encode() + domain()
    readers: list[Callable[[bytes], object]] = [parse_domain, lambda xml: parse_xml(xml, "it").tag]
    for read in readers:
        assert read(xml) == read(domain())
