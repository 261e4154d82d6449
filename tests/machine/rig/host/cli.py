# SPDX-License-Identifier: Apache-2.0
"""Run a command in a virtual IBM Z machine with AP hardware.

  run [OPTIONS] -- COMMAND...               in a machine that is made for it and thrown away
  run --keep NAME [OPTIONS] [-- COMMAND...] in a machine that stays
  run --in NAME -- COMMAND...               in that one
  run --stop NAME                           and end it

Output and exit status are the command's; 124: the time is up, 125: the machine failed.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from problems import MachineError
from saved import saved_state
from vm import Shape, create, find, stop


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="7.2", help="7.3, 7.2 (default), 6.12 or 6.1")
    parser.add_argument(
        "--share", type=Path, metavar="DIR", help="is /share and the working directory, writable"
    )
    parser.add_argument(
        "--params", default="", metavar="WORDS", help="hardware and drivers, as guest/load-ap takes them"
    )
    parser.add_argument("--no-ap", action="store_true", help="leave hardware and drivers to guest/load-ap")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for all of it; 600")
    parser.add_argument(
        "--cold", action="store_true", help="boot, instead of restoring a machine that has booted"
    )
    parser.add_argument("--append", default="", metavar="WORDS", help="to the kernel's command line; boots")
    parser.add_argument("--mem", type=int, default=1536, metavar="MIB")
    parser.add_argument("--smp", type=int, default=2, metavar="PROCESSORS")
    parser.add_argument("--console", type=Path, metavar="FILE", help="the kernel's messages go there")
    parser.add_argument("--times", action="store_true", help="say when what was done")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep", metavar="NAME")
    which.add_argument("--in", dest="inside", metavar="NAME")
    which.add_argument("--stop", metavar="NAME")
    parser.add_argument("command", nargs="*", help="a single word with a blank is a shell script")
    given = parser.parse_args()
    if not (given.command or given.keep or given.stop):
        parser.error("which command?")
    return given


def words_of(command: list[str]) -> list[str]:
    """What is executed: a script by the shell, anything else as it is."""
    if len(command) == 1 and " " in command[0]:
        return ["bash", "-c", command[0]]
    return command


def new_machine(given: argparse.Namespace, deadline: float) -> int:
    """Make a machine, run the command in it."""
    began = time.monotonic()

    def at(what: str) -> None:
        if given.times:
            print(f"[{time.monotonic() - began:6.2f} s] {what}", file=sys.stderr)

    shape = Shape(given.kernel, given.mem, given.smp, given.append)
    shape.check()
    share = given.share.resolve(strict=True) if given.share else None
    state = None if given.cold or given.append else saved_state(shape, deadline)
    machine = create(deadline, given.keep)
    keep = False
    try:
        machine.start(shape, share, state)
        machine.arrive(share is not None)
        at("up")
        load = ["/rig/guest/load-ap", *shlex.split(given.params)]
        if not given.no_ap and machine.ask({"run": load}, out=sys.stderr.buffer):
            raise MachineError("the hardware or its drivers could not be loaded")
        at("hardware and drivers there")
        status = machine.ask({"run": words_of(given.command)}) if given.command else 0
        at("done")
        keep = bool(given.keep)
        return status
    finally:
        if given.console:
            given.console.write_text(machine.console())
        if not keep:
            machine.end()


def main() -> int:
    """Exit status of run."""
    given = options()
    deadline = time.monotonic() + given.timeout
    if given.stop:
        stop(find(given.stop, deadline))
        return 0
    if given.inside:
        return find(given.inside, deadline).ask({"run": words_of(given.command)})
    return new_machine(given, deadline)


def _interrupted(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    for _number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(_number, _interrupted)
    try:
        sys.exit(main())
    except (MachineError, OSError) as _error:
        print(f"run: {_error}", file=sys.stderr)
        sys.exit(_error.status if isinstance(_error, MachineError) else 125)
