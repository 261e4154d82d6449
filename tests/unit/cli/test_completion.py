# SPDX-License-Identifier: Apache-2.0
"""Completion, by bash itself: every command and option, and names that are anybody's text."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from apvfio.sim.kernel import SimKernel
from apvfio.store import ledger_file
from apvfio.store.files import RealFiles
from command_line import COMMANDS, HELP, PARSERS, options
from hosts import a_lease, a_ledger

SCRIPT = Path(__file__).parents[3] / "hooks/completion.bash"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")

NAMES = ["db1", "db2", "web one", "$(touch pwned)`touch pwned`", ""]
VIRSH = f"""#!/bin/sh
echo "$*" >>asked
printf '%s\\n' {" ".join(map(shlex.quote, NAMES))}
"""
OF_GUESTS = [
    name
    for name in COMMANDS
    if any(a.dest == "guest" and not a.option_strings for a in PARSERS[name]._actions)
]
"""The commands that are followed by a guest."""
COMPLETING = r"""
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_apvfio
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with IBM's host below ``host``; libvirt has guests, and no apvfio shall run."""
    monkeypatch.chdir(tmp_path)
    for name in SimKernel.new().list("bus/ap/devices"):
        (tmp_path / "host/sys/bus/ap/devices" / name).mkdir(parents=True)
    held = a_lease("0", "1")._replace(guest="held1"), a_lease("1", "1", 2)._replace(guest="Zoë")
    (tmp_path / "host/run").mkdir()
    ledger_file.save(RealFiles(str(tmp_path / "host")), a_ledger(*held))
    (tmp_path / "bin").mkdir()
    for command, text in (("virsh", VIRSH), ("apvfio", "#!/bin/sh\necho started >>interpreter\n")):
        (tmp_path / "bin" / command).write_text(text)
        (tmp_path / "bin" / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("APVFIO_ROOT", "APVFIO_SIM", "LIBVIRT_DEFAULT_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def complete(*words: str) -> list[str]:
    """What bash is told for these words, the last one unfinished; it takes = and : for words of their own."""
    done = subprocess.run(
        ["bash", "-c", COMPLETING, "bash", SCRIPT, "apvfio", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not Path("interpreter").exists()
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


@pytest.mark.parametrize("name", OF_GUESTS)
def test_guests_are_completed(name: str) -> None:
    if name == "release":
        assert [word for word in complete("--root", "host", name, "") if word[0] != "-"] == ["held1"]
    else:
        assert complete(*name.split(), "d") == ["db1", "db2"]


VALUED = [
    (name, option)
    for name in OF_GUESTS
    if name != "release"
    for action in PARSERS[name]._actions
    if action.nargs is None
    for option in action.option_strings
]


@pytest.mark.parametrize(("name", "option"), VALUED)
def test_a_value_is_not_taken_for_the_guest(name: str, option: str) -> None:
    assert complete(*name.split(), option, "test:///x", "d") == ["db1", "db2"]
    assert complete(*name.split(), option, "=", "test:///x", "d") == ["db1", "db2"]
    assert complete(*name.split(), "db1", "d") == []


def test_no_daemon_is_asked_for_an_option_or_elsewhere() -> None:
    complete("plan", "--x")
    complete("plan", "db1", "")
    assert complete("plan", "-c", "qemu+ssh", ":", "//root@host/system", "d") == []
    assert complete("plan", "-c", "qemu+ssh", ":", "///system", "d") == []
    assert complete("plan", "--connect", "$(touch pwned)", "d") == []
    assert not Path("asked").exists()
    assert complete("plan", "-c", "test", ":", "///default", "d") == ["db1", "db2"]
    assert Path("asked").read_text() == "--readonly --connect test:///default list --all --name\n"
    assert not Path("pwned").exists()


def test_adapters_and_domains_of_the_host() -> None:
    on_host = ("--root", "host", "guest", "set", "db1")
    assert complete(*on_host, "--adapters", "") == ["0", "1", "0xa"]
    assert complete(*on_host, "--adapters", "=", "0,0") == ["0,0", "0,0xa"]
    assert complete(*on_host, "--domains", "4,") == ["4,1", "4,2", "4,4", "4,0x1b"]
    assert complete(*on_host, "--control-domains", "0x") == ["0x1b"]
    assert complete("--root", "host", "masks", "apmask", "=", "-0,-0x") == ["-0,-0xa"]
    assert complete("--root", "host", "masks", "aqmask", "=", "+") == ["+1", "+2", "+4", "+0x1b"]
    assert complete("--root", "host", "sim", "new", "--adapters", "") == []
    assert complete("--sim", "host", "guest", "set", "--adapters", "") == []


def test_whom_and_what_the_log_is_asked_about() -> None:
    assert complete("log", "--guest", "d") == ["db1", "db2"]
    assert complete("--root", "host", "log", "--queue", "0a.00") == [
        "0a.0001",
        "0a.0002",
        "0a.0004",
        "0a.001b",
    ]
    assert complete("--root", "host", "log", "--queue", "=", "01.001") == ["01.001b"]
    assert complete("--sim", "host", "log", "--queue", "") == []


def test_what_a_tree_calls_a_queue_is_never_run(machine: Path) -> None:
    for name in ("a[$(touch pwned)].0001", "$(.touch", "0a.00 1"):
        (machine / "host/sys/bus/ap/devices" / name).mkdir()
    assert complete("--root", "host", "guest", "set", "--adapters", "") == ["0", "1", "0xa"]
    assert "$(.touch" not in complete("--root", "host", "log", "--queue", "")
    assert complete("--root", "$(touch pwned)", "guest", "set", "--adapters", "") == []
    assert not (machine / "pwned").exists()


def test_a_name_is_never_run(machine: Path) -> None:
    before = sorted(machine.iterdir())
    assert complete("plan", "we") == [r"web\ one"]
    assert complete("plan", "") == [
        *complete("plan", "-"),
        "db1",
        "db2",
        r"web\ one",
        complete("plan", "$")[0],
    ]
    assert sorted(machine.iterdir()) == sorted([*before, machine / "asked"])


def test_shellcheck_finds_no_fault() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_settings_of_the_shell_do_not_matter() -> None:
    settings = "IFS=a; set -u; shopt -s failglob nocaseglob; "
    words = ["--root", "host", "guest", "set", "db1", "--adapters", "0x"]
    line: list[str | Path] = ["bash", "-c", settings + COMPLETING, "bash", str(SCRIPT), "apvfio", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0xa\n", "")


def test_values() -> None:
    assert complete("masks", "aq") == ["aqmask="]
    assert complete("masks", "aqmask", "=") == []
    assert complete("mechanism", "o") == ["overrides"]
    assert complete("status", "--color", "n") == complete("status", "--color", "=", "n") == ["never"]
    assert complete("status", "--color", "=") == ["auto", "always", "never"]
    assert complete("sim", "new", "--kernel", "6.") == ["6.1", "6.12"]
    assert complete("guest", "set", "--any", "m") == ["mode="]
    assert complete("guest", "set", "--any", "mode", "=", "e") == ["ep11"]
    assert complete("guest", "set", "--adapters", "0") == []
    assert complete("install", "--prefix", "") == ["/usr", "/usr/local"]


def test_files(machine: Path) -> None:
    (machine / "spec.json").touch()
    (machine / "specs").mkdir()
    for words in (["--sim"], ["dump"], ["sim", "new"], ["plan", "--xml"], ["install", "--python"]):
        assert sorted(complete(*words, "spe")) == ["spec.json", "specs"]
    assert complete("--root", "spe") == ["specs"]


FILES = [
    (name, option)
    for name in PARSERS
    for action in PARSERS[name]._actions
    if action.metavar in ("FILE", "DIR") and name != "install"
    for option in action.option_strings
]


@pytest.mark.parametrize(("name", "option"), FILES)
def test_every_option_that_wants_a_file_completes_files(name: str, option: str) -> None:
    assert complete(*name.split(), option, "hos") == ["host"]
    assert complete(*name.split(), option, "=", "hos") == ["host"]


TYPED = [
    ("sta\t", ["status"]),
    ("plan web\t", ["plan", "web one"]),
    ("plan \\$\t", ["plan", "$(touch pwned)`touch pwned`"]),
    ("guest set db1 --any m\te\t", ["guest", "set", "db1", "--any", "mode=ep11"]),
    ("status --color=n\t", ["status", "--color=never"]),
    ("masks aq\t+3", ["masks", "aqmask=+3"]),
    ("dump lp\t", ["dump", "lpar.json"]),
    (
        "--root host guest set db1 --adapters 0x\t,1",
        ["--root", "host", "guest", "set", "db1", "--adapters", "0xa,1"],
    ),
]


def test_typed_at_a_terminal(tmp_path: Path) -> None:
    """Readline splits and quotes the words; the line then runs, and says which words it had become."""
    (tmp_path / "lpar.json").touch()
    # Were files completed in place of commands, this would be "status/".
    (tmp_path / "status").mkdir()
    (tmp_path / "rc").write_text(f'apvfio() {{ printf "<%s>" "$@" >>said; echo >>said; }}\n. {SCRIPT}\n')
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
