# SPDX-License-Identifier: Apache-2.0
"""Completion, by bash itself: every command and option, and names that are anybody's text."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from command_line import COMMANDS, HELP, PARSERS, options

SCRIPT = Path(__file__).parents[2] / "hooks/completion.bash"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")

MACHINE = r"""
virsh() { printf '%s\n' db1 db2 'web one' '$(touch pwned)`touch pwned`' '' ; }
apvfio() { printf '{\n "leases": [\n  {\n   "guest": "held1",\n   "uuid": "x"\n  },\n'
           printf '  {\n   "guest": "\\u00e9",\n   "uuid": "y"\n  }\n ]\n}\n'; }
"""
COMPLETING = (
    MACHINE
    + r"""
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_apvfio
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
"""
)


def complete(*words: str) -> list[str]:
    """What bash is told for these words, the last one unfinished; it takes = for a word of its own."""
    done = subprocess.run(
        ["bash", "-c", COMPLETING, "bash", SCRIPT, "apvfio", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_are_completed() -> None:
    commands = {name.split()[0] for name in COMMANDS}
    assert set(complete("")) == commands | options("") | {"--help"}
    assert complete("st") == ["status"]
    assert complete("--sim", "file", "guest", "s") == ["set", "show"]
    assert complete("--sim", "=", "file", "guest", "c") == ["clear"]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_option_is_completed_and_no_other(name: str) -> None:
    given = {word for word in complete(*name.split(), "-") if word.startswith("-")}
    assert given - HELP == options(name)


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if any(a.dest == "guest" for a in PARSERS[name]._actions)]
)
def test_guests_are_completed(name: str) -> None:
    if name == "release":
        assert [word for word in complete(name, "") if word[0] != "-"] == ["held1"]
    else:
        assert complete(*name.split(), "d") == ["db1", "db2"]


def test_a_name_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete("plan", "we") == [r"web\ one"]
    assert complete("plan", "") == [
        *complete("plan", "-"),
        "db1",
        "db2",
        r"web\ one",
        complete("plan", "$")[0],
    ]
    assert not list(tmp_path.iterdir())


def test_values() -> None:
    assert complete("masks", "aq") == ["aqmask="]
    assert complete("masks", "aqmask", "=") == []
    assert complete("mode", "o") == ["overrides"]
    assert complete("status", "--color", "n") == complete("status", "--color", "=", "n") == ["never"]
    assert complete("status", "--color", "=") == ["auto", "always", "never"]
    assert complete("sim", "new", "--kernel", "6.") == ["6.1", "6.12"]
    assert complete("guest", "set", "--any", "m") == ["mode="]
    assert complete("guest", "set", "--any", "mode", "=", "e") == ["ep11"]
    assert complete("guest", "set", "--adapters", "0") == []
    assert complete("install", "--prefix", "") == ["/usr", "/usr/local"]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host.json").touch()
    (tmp_path / "hosts").mkdir()
    for words in (["--sim"], ["dump"], ["sim", "new"], ["plan", "--xml"], ["install", "--python"]):
        assert sorted(complete(*words, "ho")) == ["host.json", "hosts"]
    assert complete("--root", "ho") == ["hosts"]


TYPED = [
    ("sta\t", ["status"]),
    ("plan web\t", ["plan", "web one"]),
    ("plan \\$\t", ["plan", "$(touch pwned)`touch pwned`"]),
    ("guest set db1 --any m\te\t", ["guest", "set", "db1", "--any", "mode=ep11"]),
    ("status --color=n\t", ["status", "--color=never"]),
    ("masks aq\t+3", ["masks", "aqmask=+3"]),
    ("dump hos\t", ["dump", "host.json"]),
]


def test_typed_at_a_terminal(tmp_path: Path) -> None:
    """Readline splits and quotes the words; the line then runs, and says which words it had become."""
    (tmp_path / "host.json").touch()
    # Were files completed in place of commands, this would be "status/".
    (tmp_path / "status").mkdir()
    (tmp_path / "rc").write_text(
        f'{MACHINE}apvfio() {{ printf "<%s>" "$@" >>said; echo >>said; }}\n. {SCRIPT}\n'
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "HISTFILE": "", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as bash:
        os.close(theirs)
        for typed, _ in TYPED:
            os.write(ours, f"apvfio {typed}\n".encode())
        os.write(ours, b"exit\n")
        while True:
            try:
                if not os.read(ours, 4096):
                    break
            except OSError:  # EIO: the other end has closed
                break
        bash.wait(timeout=30)
    os.close(ours)
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["".join(f"<{word}>" for word in words) for _, words in TYPED]
    assert not (tmp_path / "pwned").exists()
