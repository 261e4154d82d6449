# SPDX-License-Identifier: Apache-2.0
"""Actors that run one at a time and hand over where the schedule says: at every touch of the host, and at
every lock. The same schedule does the same again.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from model.clock import Clock

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from apvfio.kernel.seam import Files, Sysfs

    Chooser = Callable[["Point"], str]


class Point(NamedTuple):
    """A moment at which another actor may go on."""

    n: int
    actor: str
    """Who runs, '' if he cannot go on."""
    what: str
    ready: tuple[str, ...]
    """Who can run, in the order of the actors."""
    yields: bool
    """Whether he would rather not: he sleeps."""

    @property
    def at_lock(self) -> bool:
        """Whether a lock is about to be taken, or was let go."""
        return self.what.startswith(("lock ", "unlock "))

    @property
    def default(self) -> str:
        """Who goes on if nobody says otherwise: the same, as long as he can."""
        if self.actor in self.ready and not (self.yields and len(self.ready) > 1):
            return self.actor
        return next(name for name in self.ready if name != self.actor)


class StuckError(AssertionError):
    """Everybody waits for somebody."""


class _Over(BaseException):
    """The run has ended without this actor."""


class Scheduler:
    """Runs actors as ``choose`` says."""

    def __init__(self, choose: Chooser) -> None:
        self._choose = choose
        self._gates: dict[str, threading.Semaphore] = {}
        self._waiting: dict[str, Lock] = {}
        self._ended: set[str] = set()
        self._all_ended = threading.Event()
        self._now = ""
        self.clock = Clock()
        self.points: list[Point] = []
        self.failures: list[BaseException] = []

    def run(self, actors: dict[str, Callable[[], object]]) -> None:
        """Run all to their ends; the first error of any is raised."""
        self._gates = {name: threading.Semaphore(0) for name in actors}
        threads = [
            threading.Thread(target=self._live, args=(name, act), daemon=True) for name, act in actors.items()
        ]
        for thread in threads:
            thread.start()
        self.clock.meanwhile = lambda: self.point("sleep", yields=True)
        with self.clock.running():
            self._hand_over("begin")
            self._all_ended.wait()
        self.clock.meanwhile = lambda: None
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def point(self, what: str, *, yields: bool = False) -> None:
        """The actor that runs is about to do ``what``; others may go first."""
        me = self._now
        chosen = self._pick(me, what, yields=yields)
        if chosen != me:
            self._switch(me, chosen)

    @contextmanager
    def holding(self, lock: Lock) -> Iterator[None]:
        """Hold ``lock``; whoever waits for it is not ready."""
        self.point(f"lock {lock.name}")
        me = self._now
        while lock.owner:
            self._waiting[me] = lock
            self._switch(me, self._pick("", f"wait for {lock.name}"))
        lock.owner = me
        try:
            yield
        finally:
            lock.owner = ""
            self._waiting = {name: held for name, held in self._waiting.items() if held is not lock}
            self.point(f"unlock {lock.name}")

    def _live(self, me: str, act: Callable[[], object]) -> None:
        self._gates[me].acquire()
        try:
            if not self.failures:
                act()
        except _Over:
            pass
        except BaseException as error:
            self.failures.append(error)
        self._ended.add(me)
        self._hand_over("end")

    def _hand_over(self, what: str) -> None:
        if len(self._ended) == len(self._gates):
            self._all_ended.set()
        elif self.failures:
            # Nobody goes on: the others leave one after the other.
            self._release(next(name for name in self._gates if name not in self._ended))
        else:
            try:
                chosen = self._pick("", what)
            except StuckError as error:
                self.failures.append(error)
                self._hand_over(what)
            else:
                self._release(chosen)

    def _pick(self, actor: str, what: str, *, yields: bool = False) -> str:
        if self.failures:
            raise _Over
        ready = tuple(name for name in self._gates if name not in self._ended and name not in self._waiting)
        if not ready:
            raise StuckError(", ".join(f"{name} waits for {lock}" for name, lock in self._waiting.items()))
        point = Point(len(self.points), actor, what, ready, yields)
        self.points.append(point)
        return self._choose(point)

    def _switch(self, me: str, other: str) -> None:
        self._release(other)
        self._gates[me].acquire()
        if self.failures:
            raise _Over

    def _release(self, name: str) -> None:
        self._now = name
        self._gates[name].release()


class Lock:
    """A lock between actors: only one has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner = ""

    def __str__(self) -> str:
        return f"{self.name}, which {self.owner} has"


class PointedSysfs:
    """A host's /sys at each touch of which others may go first."""

    def __init__(self, sysfs: Sysfs, point: Callable[[str], None], *, reads: bool) -> None:
        self._sysfs = sysfs
        self._point = point
        self._looks = point if reads else lambda what: None

    def read(self, path: str) -> str:
        """As the seam has it; so are the others."""
        self._looks(f"read {path}")
        return self._sysfs.read(path)

    def write(self, path: str, text: str) -> None:
        """Others may go first."""
        self._point(f"write {path}")
        self._sysfs.write(path, text)

    def list(self, path: str) -> list[str]:
        """Others may go first."""
        self._looks(f"list {path}")
        return self._sysfs.list(path)

    def readlink(self, path: str) -> str:
        """Others may go first."""
        self._looks(f"readlink {path}")
        return self._sysfs.readlink(path)

    def exists(self, path: str) -> bool:
        """Nobody cares when."""
        return self._sysfs.exists(path)


class PointedFiles:
    """A host's files before each change of which others may go first."""

    def __init__(self, files: Files, point: Callable[[str], None]) -> None:
        self._files = files
        self._point = point
        self.read, self.list, self.end, self.size = files.read, files.list, files.end, files.size
        # The audit log, on which nothing hangs.
        self.append, self.rename = files.append, files.rename

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """As apvfio has it; so are the others."""
        self._point(f"write /{path}")
        self._files.write(path, text, mode)

    def create(self, path: str) -> bool:
        """Others may go first."""
        self._point(f"create /{path}")
        return self._files.create(path)

    def remove(self, path: str) -> None:
        """Others may go first."""
        self._point(f"remove /{path}")
        self._files.remove(path)


class Plan(NamedTuple):
    """A schedule: who takes over at which points, 0 being the start; else each goes on as long as he can."""

    switches: tuple[tuple[int, str], ...]

    def choose(self, point: Point) -> str:
        """Who goes on."""
        wanted = dict(self.switches).get(point.n)
        return wanted if wanted in point.ready else point.default


def more(plan: Plan, points: list[Point], most: int) -> Iterator[Plan]:
    """The plans with one more switch than ``plan``, after its last, that took over at ``points``.

    The first switch, which says who begins, is not counted; the others are at most ``most``.
    """
    last = plan.switches[-1][0] if plan.switches else -1
    if len(plan.switches) > most:
        return
    for point in points:
        if point.n > last and point.actor and not point.yields:
            for other in point.ready:
                if other != point.actor:
                    yield Plan((*plan.switches, (point.n, other)))


def by_chance(dice: random.Random, often: float) -> Chooser:
    """Somebody else goes on ``often``, and nobody knows who."""

    def choose(point: Point) -> str:
        if not point.actor or point.yields or dice.random() < often:
            return dice.choice(point.ready)
        return point.default

    return choose
