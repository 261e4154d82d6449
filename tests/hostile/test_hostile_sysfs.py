# SPDX-License-Identifier: Apache-2.0
"""A sysfs that says what no kernel says, or nothing: whoever reads it tells so and does no harm."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from apvfio.errors import Exit
from apvfio.host import AP_MDEVS
from apvfio.sim.kernel import SimKernel
from apvfio.sysfs import RealSysfs
from hostility import MORE, domain, prepare, require_answer, require_line, run, simulated
from hosts import mdev
from machines import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hostility import Said
    from machines import FaultySysfs

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
SKIP = 1 if MORE > 1 else 16
"""Of so many answers to a question one is tried, another to the next question."""


class Spoilt:
    """A kernel's sysfs that answers one question wrongly."""

    def __init__(self, kernel: SimKernel | FaultySysfs) -> None:
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
        return self._ask("read", path)  # type: ignore[return-value]

    def list(self, path: str) -> list[str]:
        return self._ask("list", path)  # type: ignore[return-value]

    def readlink(self, path: str) -> str:
        return self._ask("readlink", path)  # type: ignore[return-value]

    def exists(self, path: str) -> bool:
        return self._kernel.exists(path)

    def write(self, path: str, text: str) -> None:
        self._kernel.write(path, text)


def a_machine(version: str) -> Machine:
    """A small host with a guest that has queues and a device of somebody else's."""
    kernel = SimKernel.new(profile=version, adapters={0: "cca", 1: "cca", 10: "ep11"}, domains=_domains())
    machine = Machine(kernel)
    machine.files.texts["etc/apvfio/apvfio.toml"] = POLICY
    kernel.write(AP_MDEVS.create, mdev(8))
    assert prepare(machine, domain('<ap:matrix adapters="0" domains="1"/>')).code == Exit.OK
    return machine


def _domains() -> object:
    from apvfio.mask import IdSet

    return IdSet([1, 2])


def readers(machine: Machine, directory: Path) -> dict[str, Callable[[], Said]]:
    """All who look at a host and change nothing."""
    (directory / "guest.xml").write_bytes(WANTED)
    (directory / "any.xml").write_bytes(ANY)
    xml, wish, copy = (str(directory / name) for name in ("guest.xml", "any.xml", "copy.json"))
    words = {
        "status": ["status"],
        "status as JSON": ["status", "--json"],
        "queues": ["queues"],
        "plan": ["plan", "--xml", xml],
        "a wish's plan": ["plan", "--xml", wish],
        "all plans": ["plan", "--all", "--xml", xml, "--xml", wish],
        "masks": ["masks"],
        "mode": ["mode"],
        "dump": ["dump", copy, "--force"],
        "masks, dry": ["masks", "--dry-run", "apmask=-1"],
    }
    return {name: partial(run, "--sim", "x", *line) for name, line in words.items()}


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


@pytest.mark.parametrize("version", ["7.2", "6.1"])
def test_who_looks_at_it_is_told_and_changes_nothing(version: str, tmp_path: Path) -> None:
    machine = a_machine(version)
    spoilt = Spoilt(machine.kernel)
    machine.sysfs = spoilt  # type: ignore[assignment]
    tried = 0
    with simulated(machine):
        for name, read in readers(machine, tmp_path).items():
            spoilt.asked, spoilt.question = {}, ("", "")
            require_answer(read())
            asked, before = spoilt.asked, machine.snapshot()
            for number, question in enumerate(questions(asked)):
                for spoilt.answer in answers(question[0])[number % SKIP :: SKIP]:
                    spoilt.question = question
                    said = read()
                    tried += 1
                    try:
                        require_answer(said)
                    except AssertionError as error:
                        raise AssertionError(f"{name}: {question}: {spoilt.answer!r}") from error
            assert machine.snapshot() == before
    assert tried > 60


@pytest.mark.parametrize("version", ["7.2", "6.1"])
@pytest.mark.parametrize("xml", [WANTED, ANY], ids=["ids", "wish"])
def test_a_guest_starts_or_is_refused(version: str, xml: bytes) -> None:
    machine = a_machine(version)
    spoilt = Spoilt(machine.sysfs)
    machine.sysfs = spoilt  # type: ignore[assignment]
    start = machine.twin()
    begin = Spoilt(start.sysfs)
    start.sysfs = begin  # type: ignore[assignment]
    prepare(start, xml)
    prepare(start, xml, "release")
    prepare(start, xml, "reconnect")
    for number, question in enumerate(questions(begin.asked)):
        for answer in answers(question[0])[number % SKIP :: SKIP]:
            twin = machine.twin()
            wrong = Spoilt(twin.sysfs)
            twin.sysfs = wrong  # type: ignore[assignment]
            wrong.question, wrong.answer = question, answer
            for operation in ("prepare", "reconnect", "release"):
                said = prepare(twin, xml, operation)
                assert said.out == ""
                try:
                    assert said.code == Exit.OK or operation == "prepare"
                    if said.err:
                        require_line(said.err)
                except AssertionError as error:
                    raise AssertionError(f"{operation}: {question}: {answer!r}") from error
            # As soon as the kernel speaks the truth, all that is not the first guest's goes home.
            wrong.question = ("", "")
            assert prepare(twin, xml, "reconnect").code == Exit.OK
            with simulated(twin):
                require_answer(run("--sim", "x", "reconcile"))
            kept = {lease.guest for lease in twin.ledger.leases.values()}
            assert kept <= {"db1"}, (question, answer, kept)


def test_a_tree_that_stands_for_a_host_may_hold_anything(tmp_path: Path) -> None:
    """Real files below --root: not UTF-8, endless, directories, fifos."""
    attribute = tmp_path / "sys/bus/ap/apmask"
    attribute.parent.mkdir(parents=True)
    for make in (
        lambda: attribute.write_bytes(b"\xff\xfe\0\x80" * 1000),
        lambda: attribute.write_bytes(b"f" * (3 << 20)),
        attribute.mkdir,
        lambda: os.mkfifo(attribute),
        lambda: os.symlink("/dev/zero", attribute),
        lambda: os.symlink("apmask", attribute),
        lambda: os.symlink("/proc/self/mem", attribute),
    ):
        make()
        said = run("--root", str(tmp_path), "status")
        assert said.code == Exit.HOST
        require_line(said.err)
        attribute.rmdir() if attribute.is_dir() else attribute.unlink()


def test_an_attribute_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    os.symlink("/dev/zero", tmp_path / "sys/x")
    with pytest.raises(OSError, match="too large"):
        RealSysfs(str(tmp_path)).read("x")
