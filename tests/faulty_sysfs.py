# SPDX-License-Identifier: Apache-2.0
"""Hosts to be spoilt: a sysfs that answers wrongly, and the document of a simulated host."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from hostile_input import MORE, domain, prepare
from hosts import IBM_DOMAINS, mdev
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memory_host import FaultySysfs

ANY = domain('<ap:any mode="cca" mkvp="0123456789abcdef"/>', uuid="00000009-1111-4111-8111-111111111111")
WANTED = domain('<ap:matrix adapters="1" domains="1"/>', name="db3").replace(
    mdev(1).encode(), mdev(3).encode()
)
POLICY = 'keep = {cca = 1}\nbusy = {zkey = "warn", zcrypt-nodes = "warn", requests = "refuse"}\n'
GARBAGE = (
    "", "\n", "\0", "garbage", "-1\n", "256", "0x", "0x" + "g" * 64 + "\n", "0x" + "f" * 63, "9" * 4095,
    "\ufffd" * 40, "\x1b[31m\n", "\u202e", "²", "00.0001\n" * 500, ("0x" + "f" * 64 + ",") * 61, ".",
    "zz.zzzz", "1\n2\n3\n", " ",
)  # fmt: skip
LISTS = (
    ["\x1b[31m"],
    ["zz.zzzz", "00.0000", "ff.00ff"],
    ["x" * 255] * 3,
    ["cardff", "card00", "\n"],
    ["\udcff"],
)
LINKS = ("", "/", "../\x1b[31m", "x" * 4000, "\udcff")
ERRORS = (errno.EIO, errno.ENODEV, errno.ENOENT, errno.EACCES)


class Spoilt:
    """A kernel's sysfs that answers one question wrongly."""

    def __init__(self, kernel: FaultySysfs) -> None:
        self._kernel = kernel
        self.asked: dict[tuple[str, str], None] = {}
        self.question = ("", "")
        self.answer: object = None

    def _ask(self, how: str, path: str) -> object:
        self.asked[how, path] = None
        if (how, path) != self.question:
            return getattr(self._kernel, how)(path)
        if isinstance(self.answer, int):
            raise OSError(self.answer, os.strerror(self.answer), f"/sys/{path}")
        return self.answer

    def read(self, path: str) -> str:
        answer = self._ask("read", path)
        assert isinstance(answer, str)
        return answer

    def list(self, path: str) -> list[str]:
        answer = self._ask("list", path)
        assert isinstance(answer, list)
        return answer

    def readlink(self, path: str) -> str:
        answer = self._ask("readlink", path)
        assert isinstance(answer, str)
        return answer

    def exists(self, path: str) -> bool:
        return self._kernel.exists(path)

    def write(self, path: str, text: str) -> None:
        self._kernel.write(path, text)


def spoil(machine: Machine) -> Spoilt:
    """Have all who ask that machine's kernel ask this, which answers truly until it is told otherwise."""
    spoilt = Spoilt(machine.sysfs)
    machine.sysfs = spoilt  # type: ignore[assignment]  # it counts no writes: nobody here asks how many
    return spoilt


def a_machine(version: str) -> Machine:
    """A small host with a guest that has queues and a device of somebody else's."""
    kernel = SimKernel.new(profile=version, adapters={0: "cca", 1: "cca", 10: "ep11"}, domains=IdSet([1, 2]))
    machine = Machine(kernel)
    machine.files.texts["etc/apvfio/apvfio.toml"] = POLICY
    kernel.write(AP_MDEVS.create, mdev(8))
    assert prepare(machine, domain('<ap:matrix adapters="0" domains="1"/>')).code == Exit.OK
    return machine


def answers(how: str) -> tuple[object, ...]:
    """What to answer a question with."""
    return (*{"read": GARBAGE, "list": LISTS, "readlink": LINKS}[how], *ERRORS)


def kind(path: str) -> str:
    """Which questions are alike: those about a queue, or a card."""
    return "/".join(
        "#" if any(c.isdigit() for c in part) and "_" not in part else part for part in path.split("/")
    )


def questions(asked: dict[tuple[str, str], None]) -> Iterator[tuple[str, str]]:
    """The questions, of those that are alike the first and the last."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    last = {}
    for how, path in asked:
        first.setdefault((how, kind(path)), (how, path))
        last[how, kind(path)] = (how, path)
    yield from dict.fromkeys([*first.values(), *(last.values() if MORE > 1 else ())])


def full_host() -> dict[str, Any]:
    """The document of a host on which a guest runs."""
    system = SimSystem.new(SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    system.files.write("etc/apvfio/apvfio.toml", 'mechanism = "masks"\n')
    assert prepare(system, domain()).code == Exit.OK
    document: dict[str, Any] = json.loads(json.dumps(system.to_json()))
    return document
