# SPDX-License-Identifier: Apache-2.0
"""The commands of README, task and manual pages run on a simulated host; relative links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from apvfio.cli.main import build_parser, main
from apvfio.events.event import KINDS
from apvfio.model.errors import Exit
from apvfio.model.policy import Policy
from apvfio.store.policy_file import parse_policy
from command_line import PARSERS, options
from doctor_env import TEST_DRIVER, Patient, patient
from hosts import a_matrix, a_request

CHECKOUT = Path(__file__).parents[3]
README = CHECKOUT / "README.md"
PAGES = [
    README,
    *(
        CHECKOUT / "docs" / f"{name}.md"
        for name in (
            "annotate",
            "cockpit",
            "doctor",
            "how-it-works",
            "json",
            "keep-queues",
            "kubernetes",
            "masks",
            "mdevctl",
            "metrics",
            "migrate",
            "operations",
            "performance",
            "procedure",
            "reference",
            "reliability",
            "secure-execution",
            "security",
            "troubleshooting",
            "try",
            "where-it-runs",
        )
    ),
    *sorted((CHECKOUT / "manuals").glob("*.8.md")),
]
LINKED = [README, CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SOURCES = sorted(file for file in (CHECKOUT / "apvfio").rglob("*.py") if "mdev/" not in str(file))
EXAMPLES = [CHECKOUT / "examples" / name for name in ("apvfio.toml", "apvfio.rules.yml", "guest.xml")]
ELSEWHERE = {
    "--live": "emulation has no bus to plug into; tests/machine",
    "apvfio demo": "unit/cli/test_cli.py",
    "--watch": "runs until Ctrl-C; unit/cli/test_watch.py",
    "apvfio install": "this machine; tests/boot",
    "apvfio migrate": "two hosts; tests/libvirt",
    "install --package": "unit/install",
    "sim mount": "tests/fuse",
    "--root /mnt/host": "what the line before it mounts",
    "cluster publish": "a cluster; tests/cluster",
    "cluster outlook": "Pacemaker; unit/cluster/test_outlook.py",
    "cluster priorities": "Pacemaker; unit/cluster/test_outlook.py",
    "--version": "ends the interpreter; unit/cli/test_cli.py",
}
"""What is parsed and not run here, and what runs it."""
MAKERS = (["sim", "new", "host.json"], ["dump", "host.json"])
"""A block with one of these makes the file itself that other blocks find."""
STARTED = "apvfio release db1"
"""A block that begins with this command is about a guest that holds queues."""
UNSTORED = "apvfio masks -p --remove"
"""A block that begins with this command is about a host on which both masks are stored."""


UNCLEAR = re.compile(
    r"\b(all the same|amiss|anew|besides|debts?|change[ds]? hands|gives? (it |them )?back|in the midst"
    r"|is minded|is told|lets? go of|mend(s|ed)?|nobody asked|owed|promised?|promises|somebody else"
    r"|takes? home|which is none|whoever|wish(es)?|to be had)\b",
    re.IGNORECASE,
)
"""Words of which each has a term, or a plain word, that the pages use."""


class Block(NamedTuple):
    """An indented block of a page."""

    page: str
    heading: str
    lines: tuple[str, ...]

    def commands(self) -> list[str]:
        """Return the lines that call apvfio."""
        plain = (line.removeprefix("$ ").removeprefix("# ") for line in self.lines)
        return [line for line in plain if line.startswith("apvfio ")]


def blocks(page: Path) -> list[Block]:
    """Return the indented blocks of a page, which may have empty lines in them."""
    found: list[Block] = []
    heading, lines = "", list[str]()
    for line in [*page.read_text().splitlines(), "end"]:
        if line.startswith("    "):
            lines.append(line[4:])
        elif line:
            if lines:
                found.append(Block(page.name, heading, tuple("\n".join(lines).rstrip().splitlines())))
            lines = []
            heading = line.lstrip("# ") if line.startswith("#") else heading
        elif lines:
            lines.append("")
    return found


BLOCKS = [block for page in PAGES for block in blocks(page) if block.commands()]


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)[1:]


def run(host: Patient, command: str) -> int:
    """Run a command on the host, unless the command names one itself."""
    words = words_of(command)
    if words[0] in ("--sim", "sim"):
        return main(words)
    verb = " ".join(words[:2])
    known = options(verb if verb in PARSERS else words[0])
    return host.run(*words, *(["--connect", TEST_DRIVER] if "--connect" in known else []))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}: {block.heading}")
def test_the_commands_run(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the block, on IBM's example host with two guests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").mkdir()
    guest = (CHECKOUT / "examples/guest.xml").read_text()
    Path("guest.xml").write_text(guest)
    other = guest.replace("db1", "db2").replace("0a0b0c0d", "0a0b0c0e").replace("5d8a3f6e", "5d8a3f6f")
    Path("guest2.xml").write_text(other.replace("0,0xa", "1"))
    if not any(words_of(command) in MAKERS for command in block.commands()):
        assert main(["sim", "new", "host.json"]) == Exit.OK
    with patient(tmp_path / "host", capsys) as host:
        host.define("db1", a_matrix("0,0xa", "1-2,4"))
        host.define("db2", a_matrix("1", "1-2"), "0a0b0c0e-1111-4111-8111-111111111111")
        if block.commands()[0].startswith(STARTED):
            host.start(a_request("0,0xa", "1-2,4")._replace(guest="db1"))
        if block.commands()[0].startswith(UNSTORED):
            assert host.run("masks", "-p", "apmask=-0", "aqmask=-1") == Exit.OK
        for command in block.commands():
            if "--version" in command:
                continue
            assert build_parser().parse_args(words_of(command)).run
            if not any(part in command for part in ELSEWHERE):
                code = run(host, command)
                assert (command, code) == (command, Exit.OK), capsys.readouterr().err


def test_annotate_shows_what_guest_set_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the guest's XML; a second run changes no line, as the page says of Ansible."""
    page = CHECKOUT / "docs/annotate.md"
    lines = page.read_text()
    shown = re.findall(
        r"^ +(<ap:(?:matrix|any) (?:[^>]*/>|[^>]*>.*?</ap:any>))$", lines, re.MULTILINE | re.DOTALL
    )
    assert len(shown) == 3
    written = [
        next(block for block in BLOCKS if block.heading == heading).commands()[-1]
        for heading in ("By ids", "By criteria", "Adapters of several kinds")
    ]
    with patient(tmp_path, capsys) as host:
        host.define("db1")
        for command, element in zip(written, shown):
            assert run(host, command) == Exit.OK
            capsys.readouterr()
            assert unfolded(element) in unfolded(host.domain("db1").XMLDesc().replace("'", '"'))
            assert run(host, f"{command} --json") == Exit.OK
            assert json.loads(capsys.readouterr().out)["definition"] == []


def unfolded(xml: str) -> str:
    return re.sub(r">\s+<", "><", xml)


def test_what_runs_elsewhere_is_on_a_page() -> None:
    commands = [command for block in BLOCKS for command in block.commands()]
    assert all(any(part in command for command in commands) for part in ELSEWHERE)


def test_the_policies_are_valid() -> None:
    shown = [
        block for page in PAGES for block in blocks(page) if re.match(r"\[[a-z]|[a-z-]+ = ", block.lines[0])
    ]
    assert len(shown) >= 4
    for block in shown:
        assert parse_policy("\n".join(block.lines)) != Policy(), block


def test_the_matrix_of_readme_is_what_status_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the example guest runs, and after it."""
    shown = next(block for block in blocks(README) if "$ apvfio status" in block.lines).lines
    before, after = (part.strip("\n") for part in "\n".join(shown).split("$ apvfio status\n")[1:])
    monkeypatch.chdir(tmp_path)
    assert main(["sim", "new", "host.json"]) == Exit.OK
    for words, expected in (
        (["start", "host.json", str(CHECKOUT / "examples/guest.xml")], before.partition("\n$ ")[0]),
        (["stop", "host.json", "db1"], after),
    ):
        assert main(["sim", *words]) == Exit.OK
        capsys.readouterr()
        assert main(["--sim", "host.json", "status"]) == Exit.OK
        assert expected in capsys.readouterr().out


def test_reference_lists_each_kind_of_event_and_each_field_of_the_journal() -> None:
    text = (CHECKOUT / "docs/reference.md").read_text().partition("## Events")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(.*?)` \|", text, flags=re.MULTILINE)) == set(KINDS)
    written = (CHECKOUT / "apvfio/events/journal.py").read_text()
    assert set(re.findall(r"`(APVFIO_\w+)`", text)) == set(re.findall(r'yield "(APVFIO_\w+)"', written))


def test_reference_links_each_manual() -> None:
    """The source, or what is made of the parser alone."""
    links = re.findall(
        r"\]\(\.\./man(?:uals)?/([^)]+?)(?:\.md)?\)", (CHECKOUT / "docs/reference.md").read_text()
    )
    assert set(links) == {page.name for page in (CHECKOUT / "man").iterdir()}


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^    .*$", "", page.read_text(), flags=re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [*LINKED, *EXAMPLES], ids=lambda page: page.name)
def test_the_words_are_plain(page: Path) -> None:
    """But for the sentences that docs/errors.md quotes."""
    prose = re.sub(r"^- `.*`$", "", page.read_text(), flags=re.MULTILINE)
    assert [found[0] for found in UNCLEAR.finditer(" ".join(prose.split()))] == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_the_words_that_apvfio_prints_are_plain(file: Path) -> None:
    """Errors, remedies, help and output: all texts of the source but its docstrings."""
    tree = ast.parse(file.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    assert [found[0] for text in texts for found in UNCLEAR.finditer(text)] == []


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_named_source_files_exist(page: Path) -> None:
    """From the root of the repository, in the package, or among the tests of hostile input."""
    places = [CHECKOUT, CHECKOUT / "apvfio", CHECKOUT / "tests/hostile"]
    for name in re.findall(r"`((?:[a-z0-9_/-]+/|test_)[a-z0-9_-]+\.(?:py|rng))`", page.read_text()):
        assert any((place / name).exists() for place in places), name


def test_every_task_page_is_linked_from_readme() -> None:
    links = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README.read_text()))
    assert links == {page.name for page in (CHECKOUT / "docs").glob("*.md")}


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150
