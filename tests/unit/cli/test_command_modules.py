# SPDX-License-Identifier: Apache-2.0
"""A command line loads the module of its own command only: the others' take half of the time of a call."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from command_line import PARSERS

LOADED = """\
import sys
from apvfio.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith("apvfio.cli.")))
"""
NAMES = {name for name in PARSERS if name and " " not in name}
OTHERS = {"doctor", "incoming", "install", "uninstall", "demo", "dump"}
"""Commands whose modules nobody else needs."""


def run(*words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["status", "undefine", "masks", "release"])
def test_a_command_has_the_same_help_whoever_else_is_loaded(name: str) -> None:
    *shown, loaded = run(name, "--help")
    assert "\n".join(shown).split() == PARSERS[name].format_help().split()
    assert OTHERS & set(loaded.split()) <= {name}


@pytest.mark.parametrize("before", [["--sim", "status"], ["--root=/"]])
def test_options_may_come_first(before: list[str]) -> None:
    *shown, loaded = run(*before, "release", "--help")
    assert shown[0].startswith("usage: apvfio release ")
    assert not OTHERS & set(loaded.split())


@pytest.mark.parametrize("words", [["--help"], ["--help", "status"]])
def test_help_is_of_all_commands(words: list[str]) -> None:
    shown = "\n".join(run(*words))
    for name in NAMES:
        assert re.search(rf"^    {name}\b", shown, re.MULTILINE)
