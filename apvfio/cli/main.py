# SPDX-License-Identifier: Apache-2.0
"""The command ``apvfio``: parse, run, and the one place where errors become text."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from apvfio._version import __version__
from apvfio.cli.examples import EXAMPLES
from apvfio.cli.host_options import default_uri
from apvfio.cli.standard_streams import LEFT, OutputError
from apvfio.cli.terminal import wants_color
from apvfio.cli.verbosity import run
from apvfio.model.errors import ApvfioError, Exit, UsageError, printable, unexpected
from apvfio.model.similar import did_you_mean
from apvfio.view.paint import RED, painted

_MODULES = (
    *(
        "status",
        "doctor",
        "log",
        "metrics",
        "queues",
        "keys",
        "policy",
        "plan",
        "guest",
        "define",
        "masks",
        "mechanism",
        "migrate",
    ),
    *("cluster", "drain", "incoming", "reconcile", "release", "install", "uninstall", "dump", "demo", "sim"),
)
_COMMANDS = {name: name for name in _MODULES} | {"undefine": "define"}
"""The module of each command in `apvfio.cli`."""
_EXITS = """\
exit codes: 0 ok, 1 failure, 2 usage, 3 conflict (the queue has another owner), 4 refused by policy,
5 the host lacks something, 6 bad request, 130 interrupted
"""


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """Build the parser of the whole command line, or that which knows only ``command``, in half the time."""
    parser = Parser(
        prog="apvfio",
        description="Assign Crypto Express queues to KVM guests on IBM Z, and return them at shutdown.",
        epilog=f"{examples('')}\n{_EXITS}",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"apvfio {__version__}",
        help="print the version of apvfio and exit",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--sim",
        metavar="FILE",
        default=os.environ.get("APVFIO_SIM") or None,
        help="work on the simulated host in FILE, made by 'apvfio sim new' or 'apvfio dump' "
        "(environment: APVFIO_SIM)",
    )
    place.add_argument(
        "--root",
        metavar="DIR",
        default=os.environ.get("APVFIO_ROOT") or "/",
        help="use /sys, /etc and /run below DIR, such as a mounted simulated host (environment: APVFIO_ROOT)",
    )
    parser.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        dest="uri",
        help="connect to the libvirt daemon at URI; commands that use libvirt take this option as well",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in [_COMMANDS[command]] if command else _MODULES:
        import_module(f"apvfio.cli.{module}").add_parser(commands)
    return parser


def _command_of(words: list[str]) -> str:
    """Return the command that the ``words`` name, '' if that is unclear, or if it requests help."""
    rest = iter(words)
    for word in rest:
        if word in ("--sim", "--root", "-c", "--connect"):
            next(rest, "")
        elif not word.startswith(("--sim=", "--root=", "--connect=", "-c")):
            return word if word in _COMMANDS else ""
    return ""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is an `Exit`."""
    words = sys.argv[1:] if argv is None else argv
    as_json = "--json" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names from elsewhere, which not every terminal can show
    try:
        args = build_parser(_command_of(words)).parse_args(words)
        _require_place(args)
        _connect(args)
        code = run(args)
        sys.stdout.flush()
        return code
    except ApvfioError as error:
        return _tell(error, as_json)
    except LEFT:
        # The reader has ended ('apvfio queues | head'): there is nobody to tell, and nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # a traceback must not be what a user reads
        if os.environ.get("APVFIO_TRACEBACK"):
            raise
        told = unexpected(error, "Please report this, with what APVFIO_TRACEBACK=1 prints.")
        return _tell(told, as_json)


def _require_place(args: argparse.Namespace) -> None:
    if "" in (args.sim, args.root):
        # An unset variable in a script must not mean this machine.
        raise UsageError(
            "--sim and --root require a non-empty value.", remedy="Omit the option, or give it a value."
        )
    if not os.path.isdir(args.root):
        raise UsageError(
            f"--root {printable(args.root)!r} is not a directory.",
            remedy="Create it, or mount a simulated host there.",
        )


def _connect(args: argparse.Namespace) -> None:
    """Hand ``--connect`` before the command on to the command; UsageError if that does not use libvirt."""
    if args.uri is None:
        return
    if not hasattr(args, "connect"):
        raise UsageError(f"{args.command} does not use libvirt.", remedy="Omit --connect.")
    if args.connect == default_uri():
        args.connect = args.uri


def _tell(error: ApvfioError, as_json: bool) -> int:
    """Print ``error``; its exit code. Where standard output fails, it is printed as a sentence."""
    if as_json and not isinstance(error, OutputError):
        try:
            print(json.dumps({"error": error.as_json()}, indent=2), flush=True)
        except (OutputError, *LEFT):
            pass
        else:
            return error.code
    head = painted("apvfio:", RED, on=wants_color(sys.stderr))
    print(f"{head} {error}", file=sys.stderr)
    return error.code


if TYPE_CHECKING:
    from collections.abc import Iterator

    _Action = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    _Action = argparse._SubParsersAction


_FIRST = {"--sim": "FILE", "--root": "DIR"}
"""Options of ``apvfio`` itself that are often written behind a command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are apvfio's, so that ``--json`` applies to them, too."""

    def __init__(self, **words: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **words)
        self.register("action", "parsers", _Commands)

    def parse_known_args(self, *args: Any, **words: Any) -> Any:
        """Refuse unknown arguments with the help of the command, not with that of ``apvfio``."""
        found, unknown = super().parse_known_args(*args, **words)
        if unknown and " " in self.prog:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.", remedy=f"{self._suggestion(message)}See '{self.prog} --help'.")

    def _suggestion(self, message: str) -> str:
        """Return the word that was probably meant by one that argparse refuses, '' if that is not clear."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if choice:
            return did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        unknown = re.match(r"unrecognized arguments: (--[^ =]+)", message)
        _, *command = self.prog.split()
        if unknown and command and unknown[1] in _FIRST:
            right = " ".join(["apvfio", unknown[1], _FIRST[unknown[1]], *command])
            return f"Write it before the command: '{right}'. "
        return did_you_mean(unknown[1], sorted(set(_options(self)))) if unknown else ""


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All long options of ``parser`` and of the commands below it."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _options(below)


class _Commands(_Action):
    """Commands, or the verbs of one: the line in the list begins a verb's own help, examples end it."""

    def add_parser(self, name: str, **words: Any) -> argparse.ArgumentParser:
        told = words["help"]
        words.setdefault("description", f"{told[0].upper()}{told[1:]}.")
        _, *above = self._prog_prefix.split()
        return super().add_parser(name, epilog=examples(" ".join([*above, name])), **words)


def examples(command: str) -> str:
    """The end of a command's help."""
    lines = [f"  {line}\n" for line in EXAMPLES.get(command, "").splitlines()]
    return "".join(["examples:\n", *lines]) if lines else ""
