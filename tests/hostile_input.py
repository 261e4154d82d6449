# SPDX-License-Identifier: Apache-2.0
"""What hostile input is held to: an end, one clear sentence with the right exit code, and no change."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

import apvfio.sim.dump  # noqa: F401  (before `simulated_host`: it opens the copies that it makes itself)
from apvfio.cli.main import main
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt import hook
from apvfio.model.errors import Exit
from exit_codes import EXIT_CODES
from hosts import guest, mdev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.kernel.seam import System
    from memory_host import Machine

MORE = int(os.environ.get("APVFIO_HOSTILE", "1"))
"""How many times as much to try as usual; other than usual, each run tries something else."""
PATIENCE = 60
"""Seconds after which a call counts as hanging: none of these takes one."""
LONGEST = 2200
"""Characters of an error."""

UUID = guest(1)
MDEV = mdev(1)
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'>"
    f"<source><address uuid='{MDEV}'/></source></hostdev>"
)
MATRIX = '<ap:matrix adapters="0,0xa" domains="1-2,4"/>'

KINDS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 64, 10**400, 0.5, float("nan"), float("inf"), "", "x", "0", "256", "9-1",
    "\x1b[31m\n", "\ud800", "../../x", "\u202e", "x" * 70_000, [], [[]], {}, {"x": None}, ["\n"],
)  # fmt: skip
"""What JSON can hold in the place of something else."""


def trying(examples: int) -> settings:
    """So many examples, the same ones in each run, or many more."""
    return settings(
        max_examples=examples * MORE,
        derandomize=MORE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def domain(matrix: str = MATRIX, devices: str = HOSTDEV, name: str = "db1", uuid: str = UUID) -> bytes:
    """A guest's XML, valid unless a part is given."""
    return (
        f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>"
        f"<metadata><ap:guest xmlns:ap='{NAMESPACE}'>{matrix}</ap:guest></metadata>"
        f"<devices>{devices}</devices></domain>"
    ).encode()


class Hanging(BaseException):
    """A call did not end: nothing that catches errors may take this for one."""


class Said(NamedTuple):
    """What a call ended with."""

    code: int
    out: str
    err: str


def listen(call: Callable[[], int]) -> Said:
    """Call, as a process of its own would be; `Hanging` if it does not end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=how) for how in ("strict", "replace"))
    with redirect_stdout(out), redirect_stderr(err), bounded():
        code = call()
    for stream in (out, err):
        stream.flush()
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Said(code, *texts)


@contextmanager
def bounded(seconds: int = PATIENCE) -> Iterator[None]:
    """End what takes too long with `Hanging`."""

    def ring(*_: object) -> None:
        raise Hanging(f"it has not ended within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def prepare(system: System, xml: bytes, operation: str = "prepare") -> Said:
    """What libvirt is answered when a guest of that XML starts, or does something else."""
    return listen(lambda: hook.main(["guest", operation, "begin", "-"], system, xml))


def run(*words: str) -> Said:
    """What ``apvfio`` with those words says."""
    return listen(lambda: main(list(words)))


def require_sentence(said: Said, *codes: int) -> None:
    """It was refused as it should be: with one of ``codes`` if any are given."""
    assert said.code in (codes or set(EXIT_CODES.values()) - {Exit.OK})
    assert said.err.startswith("apvfio: ")
    require_line(said.err)


def require_object(said: Said) -> None:
    """It was refused under --json as it should be."""
    assert said.code in set(EXIT_CODES.values()) - {Exit.OK}
    document = json.loads(said.out)
    assert list(document) == ["error"]
    assert list(document["error"]) == ["kind", "message", "guest", "queues", "remedy"]
    assert "unexpected" not in document["error"]["message"]


def require_line(text: str) -> None:
    """One line that any terminal and any log can take, and that does not own up to a fault of ours."""
    assert text.endswith("\n")
    assert text[:-1].isprintable(), ascii(text[:500])
    assert len(text) < LONGEST, text[:500]
    assert "unexpected" not in text, text
    assert "Traceback" not in text


def require_answer(said: Said) -> None:
    """It was served or refused, without a fault of ours and in nothing but text that can be shown."""
    assert "Traceback" not in said.err + said.out
    assert "unexpected" not in said.err, said.err
    for line in (said.out + said.err).split("\n"):
        assert line.isprintable(), ascii(line[:500])
    if said.code and said.out.startswith("{"):
        require_object(said)
    elif said.code and not said.err:
        assert re.match(r"\d+ problems?: ", said.out.splitlines()[-1]), "only a diagnosis is no error"
    elif said.code:
        *told, error = said.err.splitlines(keepends=True)
        assert all(line.startswith("apvfio: ") for line in told)
        require_sentence(said._replace(err=error))


@contextmanager
def simulated(machine: Machine) -> Iterator[None]:
    """Have every command with --sim work on ``machine``, whatever file it names."""

    @contextmanager
    def opened(_: str) -> Iterator[Machine]:
        yield machine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apvfio.sim.host_file.open_sim", opened)
        yield
