# SPDX-License-Identifier: Apache-2.0
"""The instructions of libvirt's hook for a guest that gets queues, counted by callgrind.

What the kernel does for a process is not among them, nor how long they take; the next run counts nearly the
same, whatever else the machine does. Python draws the order of its sets anew in each process: half a percent.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.annotated import BARE, HOST, MDEV, Call, hook_calls
from benchmarks.goals import counted
from benchmarks.plain_host import plain_host
from lab.namespace import require_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.goals import Goal

_CALLGRIND = (
    *("valgrind", "-q", "--tool=callgrind", "--trace-children=yes"),
    # Each part begins with zero: otherwise a child would begin with what its parent had at the fork,
    # and what a process did before it became another program would be lost.
    *("--dump-before=fork", "--dump-before=execve"),
)
_MOST = 57.0
_ROUNDS = 3


class Count(NamedTuple):
    """Millions of instructions of one call."""

    python: float
    shell: float
    """The shell and the commands that it starts."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.python + self.shell


def goals(rounds: int) -> Iterator[Goal]:
    """Start and stop, each with its shell; beside them an interpreter that does nothing."""
    require_commands({"valgrind": "valgrind"})
    with plain_host(*HOST, [MDEV]) as host:
        calls = hook_calls(host)
        for call in calls:  # Python compiles what is new
            subprocess.run(call.argv, input=call.xml, env=host.env, check=True)
        found = [[count(call, host.env) for call in calls] for _ in range(min(rounds, _ROUNDS))]
    bare = count(Call(BARE), {}).total
    for what, counts in zip(("prepare", "release"), zip(*found)):
        # A busy machine can make a removal seem slow, and the queues are then returned in two turns.
        least = min(counts, key=lambda one: one.total)
        parts = f"Python {least.python:.1f}, shell {least.shell:.1f}; 'python3 -I -S -c pass' {bare:.1f}"
        note = f"{least.total:.1f} million: {parts}"
        yield counted(
            f"instructions of one {what}", f"{_MOST:.0f} million", least.total, _MOST, bound=1, note=note
        )


def count(call: Call, env: Mapping[str, str]) -> Count:
    """The instructions of a call that succeeds in silence, and of all its children."""
    with tempfile.TemporaryDirectory(prefix="apvfio-count-") as directory:
        argv = [*_CALLGRIND, f"--callgrind-out-file={directory}/%p", *call.argv]
        done = subprocess.run(argv, input=call.xml, env=env, capture_output=True, check=True)
        assert not done.stdout + done.stderr, done
        python = shell = 0
        for file in Path(directory).iterdir():
            lines = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line)
            if "/python" in lines["cmd"].split()[0]:
                python += int(lines["totals"])
            else:
                shell += int(lines["totals"])
    return Count(python / 1e6, shell / 1e6)
