# SPDX-License-Identifier: Apache-2.0
"""Manuals and completion say what the commands and the policy really are."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apvfio.cli.main import build_parser
from apvfio.errors import Exit
from apvfio.policy import SECTIONS

HOUSE = Path(__file__).parents[2]
MANUALS = sorted((HOUSE / "man").iterdir())
HIDDEN = {"-h", "--help"}


def plain(name: str) -> str:
    """A manual without its markup."""
    text = (HOUSE / "man" / name).read_text()
    return re.sub(r"\\f.", "", text).replace("\\-", "-").replace("\\(dq", '"').replace('"', "")


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and verb with its parser."""
    if name:
        yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}".strip())


COMMANDS = dict(parsers(build_parser()))
LEAVES = sorted(name for name in COMMANDS if name not in ("guest", "sim"))


def options(name: str) -> set[str]:
    return {word for action in COMMANDS[name]._actions for word in action.option_strings} - HIDDEN


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.name)
def test_groff_finds_no_fault(manual: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z", manual], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_and_option_is_in_the_manual(name: str) -> None:
    entries = re.split(r"^\.TP$", plain("apvfio.8"), flags=re.MULTILINE)
    entry = next(e for e in entries if re.search(rf"(?<![\w-]){name}(?![\w-])", e.strip().split("\n")[0]))
    missing = {word for word in options(name) if word not in re.findall(r"--?[a-z][a-z-]*", entry)}
    # Options that several verbs share stand with one of them.
    assert missing <= {"-c", "--connect"}


def test_the_manual_knows_no_other_option() -> None:
    known = set().union(*(options(name) for name in COMMANDS)) | HIDDEN
    known |= {word for action in build_parser()._actions for word in action.option_strings}
    synopses = re.findall(r"^\.B.*$", plain("apvfio.8"), flags=re.MULTILINE)
    words = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(synopses)))
    assert words - known == {"--type"}  # lszdev's


def test_every_exit_code_is_in_the_manual() -> None:
    codes = re.findall(r"^\.TP\n(\d)$", plain("apvfio.8"), flags=re.MULTILINE)
    assert codes == [str(int(code)) for code in Exit]


def test_every_setting_is_in_the_manual() -> None:
    sections = re.split(r"^\.SH ", plain("apvfio.toml.5"), flags=re.MULTILINE)
    for section, keys in SECTIONS.items():
        title = f"[{section}]" if section else "AT THE TOP"
        text = next(s for s in sections if s.startswith(title))
        for key in keys:
            assert re.search(rf"^\.BR? .*\b{key}\b", text, flags=re.MULTILINE), key
    titles = {s.split("\n")[0] for s in sections if s.startswith("[")}
    assert titles == {f"[{section}]" for section in SECTIONS if section}


COMPLETING = """\
. "$1"
virsh() { printf 'db1\\ndb2\\nweb\\n'; }
apvfio() { printf '{\\n "leases": [\\n  {\\n   "guest": "held1",\\n   "uuid": "x"\\n  }\\n ]\\n}\\n'; }
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_apvfio
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", COMPLETING, "bash", HOUSE / "hooks/completion.bash", "apvfio", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_are_completed() -> None:
    commands = {name.split()[0] for name in COMMANDS}
    assert set(complete("")) == commands | {"--help", "--version", "--sim", "--root"}
    assert complete("st") == ["status"]
    assert complete("--sim", "file", "guest", "s") == ["set", "show"]


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_is_completed(name: str) -> None:
    given = {word for word in complete(*name.split(), "-") if word.startswith("-")}
    assert given - HIDDEN == options(name)


@pytest.mark.parametrize("name", ["plan", "guest set", "guest show", "guest clear", "define", "undefine"])
def test_guests_are_completed(name: str) -> None:
    assert complete(*name.split(), "d") == ["db1", "db2"]


def test_other_values() -> None:
    assert complete("release", "") == ["--help", "--json", "--force", "held1"]
    assert complete("masks", "aq") == ["aqmask="]
    assert complete("mode", "o") == ["overrides"]
    assert complete("status", "--color", "n") == ["never"]
    assert complete("sim", "new", "--kernel", "6.") == ["6.1", "6.12"]
    assert complete("guest", "set", "--any", "mode=e") == ["mode=ep11"]
    assert complete("guest", "set", "--adapters", "0") == []
