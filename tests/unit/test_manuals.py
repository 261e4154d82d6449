# SPDX-License-Identifier: Apache-2.0
"""The manuals say what the commands and the policy really are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apvfio.errors import Exit
from apvfio.policy import SECTIONS
from command_line import COMMANDS, HELP, PARSERS, options

HOUSE = Path(__file__).parents[2]
MANUALS = sorted((HOUSE / "man").iterdir())


def plain(name: str) -> str:
    """A manual without its markup."""
    text = (HOUSE / "man" / name).read_text()
    return re.sub(r"\\f.", "", text).replace("\\-", "-").replace("\\(dq", '"').replace('"', "")


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.name)
def test_groff_finds_no_fault(manual: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z", manual], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_manual(name: str) -> None:
    entries = re.split(r"^\.TP$", plain("apvfio.8"), flags=re.MULTILINE)
    entry = next(e for e in entries if re.search(rf"(?<![\w-]){name}(?![\w-])", e.strip().split("\n")[0]))
    missing = {word for word in options(name) if word not in re.findall(r"--?[a-z][a-z-]*", entry)}
    # Options that several verbs share stand with one of them.
    assert missing <= {"-c", "--connect"}


def test_the_manual_knows_no_other_option() -> None:
    known = set().union(*(options(name) for name in PARSERS)) | HELP
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
