# SPDX-License-Identifier: Apache-2.0
"""The manual pages have what the parsers, the annotation and the policy have; groff and man find no fault."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apvfio.domain import xml_tree
from apvfio.domain.annotation import parse_annotation
from apvfio.domain.xml_reader import read_domain
from apvfio.install.installed_files import MANUALS
from apvfio.migration.places import EXIT_CODES as PLACE_CODES
from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.errors import RequestError
from apvfio.model.ids import IdSet
from apvfio.model.master_keys import MasterKey
from apvfio.model.matrix import Apqn
from apvfio.model.policy import Policy
from apvfio.store.policy_file import parse_policy, sections
from command_line import COMMANDS, PARSERS, options
from criteria import a_criteria
from exit_codes import EXIT_CODES
from manuals.pages import MAN, SOURCES, pages

PAGES = sorted(MAN.iterdir())
LINKS = [path for path in PAGES if path.read_text().startswith(".so ")]
WHOLE = [path for path in PAGES if path not in LINKS]
SECTIONS = [
    *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "OUTPUT", "IDENTIFIERS", "EXAMPLES"),
    *("EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"),
]
"""Of pages about commands, in this order."""
OPTIONAL = {"COMMANDS", "OUTPUT", "IDENTIFIERS", "ENVIRONMENT", "FILES"}


def read(name: str) -> str:
    """A page's text, its escapes as they are printed."""
    text = re.sub(r"\\f.|\\&", "", (MAN / name).read_text())
    for escape, printed in (("\\-", "-"), ("\\(dq", '"'), ("\\(aq", "'"), ("\\~", " ")):
        text = text.replace(escape, printed)
    return text


def section(name: str, title: str) -> str:
    """One section of a page."""
    (found,) = re.findall(
        rf"^\.SH {re.escape(title)}\n(.*?)(?=^\.SH |\Z)", read(name), re.MULTILINE | re.DOTALL
    )
    return str(found)


def examples(name: str) -> list[str]:
    """The examples of a page."""
    return [part.partition(".EE\n")[0] for part in section(name, "EXAMPLES").split(".EX\n")[1:]]


def page_of(command: str) -> str:
    """The page about a command or a verb, such as 'guest set'."""
    name = f"apvfio-{command.split(maxsplit=1)[0]}.8"
    text = (MAN / name).read_text()
    return text.split("/")[1].strip() if text.startswith(".so ") else name


def test_the_pages_are_what_their_sources_make() -> None:
    assert {path.name: path.read_text() for path in PAGES} == pages(), "run python3 -m manuals"


def test_every_page_is_installed() -> None:
    """By 'apvfio install', and by pip from what setup.cfg names."""
    own = [path.name for path in PAGES if not path.name.startswith("ocf_")]  # apvfio-pacemaker has the others
    assert sorted(MANUALS) == own
    shipped = re.findall(r"^    man/(.*)$", (MAN.parent / "setup.cfg").read_text(), re.MULTILINE)
    assert shipped == own


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("page", WHOLE, ids=lambda path: path.name)
def test_groff_finds_no_fault(page: Path) -> None:
    words = ["groff", "-man", "-ww", "-Tutf8", "-z", str(page)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_shows_a_page_by_each_of_its_names(tmp_path: Path) -> None:
    for path in PAGES:
        directory = tmp_path / f"man{path.suffix[1:]}"
        directory.mkdir(exist_ok=True)
        shutil.copy(path, directory)
    for path in PAGES:
        words = ["man", "--warnings", "-M", str(tmp_path), path.suffix[1:], path.stem]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert path.stem in done.stdout.partition("SYNOPSIS")[0]
        assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_page_with_its_synopsis_and_options(command: str) -> None:
    name = page_of(command)
    assert f'.SY "apvfio {command}"\n' in section(name, "SYNOPSIS")
    assert options(command) <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section(name, "OPTIONS")))


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_and_operand_has_a_description(command: str) -> None:
    for action in PARSERS[command]._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, action
            assert "%" not in action.help
            assert not action.help.endswith(".")


@pytest.mark.parametrize("page", [path for path in WHOLE if path.suffix == ".8"], ids=lambda path: path.name)
def test_sections_have_the_usual_order(page: Path) -> None:
    titles = re.findall(r"^\.SH (.*)$", page.read_text(), re.MULTILINE)
    assert titles == [title for title in SECTIONS if title in titles]
    assert set(SECTIONS) - set(titles) <= OPTIONAL


def test_the_first_page_lists_all_others() -> None:
    listed = re.findall(r"^([\w-]+)\(8\)$", section("apvfio.8", "COMMANDS"), re.MULTILINE)
    assert sorted(f"{name}.8" for name in listed) == [
        path.name for path in WHOLE if path.suffix == ".8" and path.name != "apvfio.8"
    ]


@pytest.mark.parametrize("page", WHOLE, ids=lambda path: path.name)
def test_pages_of_apvfio_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"\b(apvfio[\w.-]*)\((\d)\)", read(page.name))
    assert all((MAN / f"{name}.{number}").exists() for name, number in named)


def test_every_exit_code_is_in_the_manual() -> None:
    codes = re.findall(r"^\.TP\n(\d+)$", section("apvfio.8", "EXIT STATUS"), re.MULTILINE)
    assert codes == [str(code) for code in EXIT_CODES.values()]


@pytest.mark.parametrize("page", [path for path in WHOLE if path.suffix == ".8"], ids=lambda path: path.name)
def test_exit_codes_are_those_of_apvfio(page: Path) -> None:
    codes = [
        int(code) for code in re.findall(r"^\.TP\n(\d+)$", section(page.name, "EXIT STATUS"), re.MULTILINE)
    ]
    assert codes[0] == 0
    assert codes == sorted(codes)
    more = set(PLACE_CODES.values()) if page.name == "apvfio-migrate.8" else set()
    assert set(codes) <= {*EXIT_CODES.values(), *more}
    assert more <= set(codes)


def test_every_part_of_the_annotation_is_in_its_manual() -> None:
    grammar = xml_tree.parse_xml(Path(xml_tree.SCHEMA).read_bytes(), "the schema")
    rng = "{http://relaxng.org/ns/structure/1.0}"
    names = {part.get("name") for kind in ("element", "attribute") for part in grammar.iter(f"{rng}{kind}")}
    told = read("apvfio-annotation.7")
    assert names
    assert {name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", told)} == set()


def test_the_examples_of_policy_and_annotation_are_good() -> None:
    (policy,) = examples("apvfio.toml.5")
    assert parse_policy(policy).queues == {Apqn(1, 27)}
    found = []
    for shown in examples("apvfio-annotation.7"):
        metadata = f"<domain><metadata>{shown}</metadata></domain>"
        (annotation,) = read_domain(metadata.encode()).annotations
        found.append(parse_annotation(annotation))
    keys = (MasterKey("aes", "7ff81bb1a3b2da2f"),)
    kinds = (CardCriteria("cca", 2, keys=keys), CardCriteria("ep11"))
    assert found == [
        a_criteria("ep11", 2, 1, 7, control_domains=IdSet([4])),
        Criteria(kinds, control_usage=True),
    ]


_KEY = re.compile(
    r"- `(?P<key>[\w-]+)`: \*Type:\* (?P<type>.*)\\\n  \*Default:\* (?:`(?P<default>.*)`|none)\\\n"
    r"  \*Meaning:\* .*\\\n  \*Example:\* `(?P<example>.*)`"
)


def settings() -> dict[str, dict[str, re.Match[str]]]:
    """The entries of apvfio.toml(5) by section and key."""
    parts = re.split(r"^## ", (SOURCES / "apvfio.toml.5.md").read_text(), flags=re.MULTILINE)
    found = {}
    for title, _, text in (part.partition("\n") for part in parts):
        if title == "TOP LEVEL" or title.startswith("["):
            name = "" if title == "TOP LEVEL" else title.strip("[]")
            found[name] = {match["key"]: match for match in _KEY.finditer(text)}
    return found


def test_every_setting_is_in_the_manual() -> None:
    assert {name: set(keys) for name, keys in settings().items()} == {
        name: set(keys) for name, keys in sections().items()
    }


def policy_of(name: str, line: str) -> Policy:
    return parse_policy(f"[{name}]\n{line}" if name else line)


@pytest.mark.parametrize(
    ("name", "entry"),
    [(name, entry) for name, keys in settings().items() for entry in keys.values()],
    ids=lambda value: value if isinstance(value, str) else value["key"],
)
def test_defaults_examples_and_values_are_true(name: str, entry: re.Match[str]) -> None:
    key = entry["key"]
    assert policy_of(name, f"{key} = {entry['default']}" if entry["default"] else "") == Policy()
    assert entry["example"].startswith(f"{key} = ")
    assert policy_of(name, entry["example"]) != Policy()
    for value in re.findall(r"`(.*?)`", entry["type"]):
        policy_of(name, f"{key} = {value}")
    if limits := re.fullmatch(r"integer from (\d+) to (\d+)", entry["type"]):
        least, most = int(limits[1]), int(limits[2])
        for value in (least, most):
            policy_of(name, f"{key} = {value}")
        for value in (least - 1, most + 1):
            with pytest.raises(RequestError):
                policy_of(name, f"{key} = {value}")
