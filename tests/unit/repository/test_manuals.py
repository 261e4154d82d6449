# SPDX-License-Identifier: Apache-2.0
"""The manuals say what the commands, the annotation and the policy really are."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest

from apvfio.cli.examples import EXAMPLES
from apvfio.domain import xml_tree
from apvfio.domain.annotation import parse_annotation
from apvfio.domain.xml_reader import read_domain
from apvfio.model.criteria import Criteria
from apvfio.model.matrix import Apqn
from apvfio.store.policy_file import parse_policy, sections
from command_line import COMMANDS, PARSERS, options
from exit_codes import EXIT_CODES

CHECKOUT = Path(__file__).parents[3]
MANUALS = sorted((CHECKOUT / "man").iterdir())


def read(name: str) -> str:
    """A manual's text, its escapes as they are printed."""
    text = re.sub(r"\\f.|\\[|&]", "", (CHECKOUT / "man" / name).read_text())
    return text.replace("\\-", "-").replace("\\(dq", '"')


def plain(name: str) -> str:
    """A manual without quotes, which its macros have, too."""
    return read(name).replace('"', "")


def example(name: str) -> str:
    """The only example of a manual, as it is to be written."""
    found = re.search(r"^\.SH EXAMPLE\n.*?^\.nf\n(.*?)^\.fi$", read(name), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def section(name: str, title: str) -> str:
    """One section of a manual."""
    found = re.search(rf"^\.SH {re.escape(title)}\n(.*?)(?=^\.SH )", plain(name), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def _entries() -> list[tuple[str, str]]:
    """Each command with its synopsis, all forms of it."""
    found = []
    for entry in re.split(r"^\.TP\n", section("apvfio.8", "COMMANDS"), flags=re.MULTILINE)[1:]:
        first, *others = re.findall(r"(?:\A|^\.TQ\n)\.BR (.*)$", entry, flags=re.MULTILINE)
        name = takewhile(lambda word: word.isalpha() and word.islower(), first.split())
        found.append((" ".join(name), " ".join([first, *others])))
    return found


ENTRIES = _entries()


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.name)
def test_groff_finds_no_fault(manual: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z", manual], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_has_one_entry_and_no_other_has() -> None:
    assert sorted(name for name, _ in ENTRIES) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_an_entry_has_the_options_of_its_command_and_their_values(name: str) -> None:
    synopsis = dict(ENTRIES)[name]
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", synopsis)) == options(name)
    values = {action.metavar for action in PARSERS[name]._actions if isinstance(action.metavar, str)}
    told = {word.removesuffix("=SPEC") for word in values - {"MASK=SPEC"}}
    assert set(re.findall(r"\b[A-Z]{2,}\b", synopsis)) - {"SPEC"} == told


def test_the_examples_are_those_that_help_shows() -> None:
    """Which are run by a test."""
    shown = {line.partition(" #")[0].strip() for text in EXAMPLES.values() for line in text.splitlines()}
    lines = re.findall(r"^(apvfio .*)$", section("apvfio.8", "EXAMPLES"), flags=re.MULTILINE)
    assert lines
    assert set(lines) <= shown


def test_every_part_of_the_annotation_is_in_its_manual() -> None:
    grammar = xml_tree.parse_xml(Path(xml_tree.SCHEMA).read_bytes(), "the schema")
    rng = "{http://relaxng.org/ns/structure/1.0}"
    names = {part.get("name") for kind in ("element", "attribute") for part in grammar.iter(f"{rng}{kind}")}
    told = plain("apvfio-guest.7")
    assert names
    assert {name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", told)} == set()


def test_the_examples_of_policy_and_annotation_are_good() -> None:
    policy = example("apvfio.toml.5")
    assert parse_policy(policy).queues == {Apqn(1, 27)}
    metadata = f"<domain><metadata>{example('apvfio-guest.7')}</metadata></domain>"
    (annotation,) = read_domain(metadata.encode()).annotations
    found = parse_annotation(annotation)
    assert isinstance(found, Criteria)
    assert (found.mode, found.adapters, found.domains) == ("ep11", 2, 1)


def test_every_exit_code_is_in_the_manual() -> None:
    codes = re.findall(r"^\.TP\n(\d+)$", plain("apvfio.8"), flags=re.MULTILINE)
    assert codes == [str(code) for code in EXIT_CODES.values()]


def test_every_setting_is_in_the_manual() -> None:
    parts = re.split(r"^\.SH ", plain("apvfio.toml.5"), flags=re.MULTILINE)
    for section, keys in sections().items():
        title = f"[{section}]" if section else "AT THE TOP"
        text = next(s for s in parts if s.startswith(title))
        for key in keys:
            assert re.search(rf"^\.BR? .*\b{key}\b", text, flags=re.MULTILINE), key
    titles = {s.split("\n")[0] for s in parts if s.startswith("[")}
    assert titles == {f"[{section}]" for section in sections() if section}
