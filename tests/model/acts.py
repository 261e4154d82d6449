# SPDX-License-Identifier: Apache-2.0
"""Those who meet on a host and take turns: hooks, tools, the machine."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from io import TextIOBase
from threading import get_ident
from typing import TYPE_CHECKING

from apvfio import broker, changing, hook
from apvfio.errors import ApvfioError
from apvfio.mask import parse_edit
from apvfio.promises import Process
from hosts import a_matrix, mdev
from machines import Killed, Machine
from model import rivals
from model.befores import domain_xml
from model.promised import require
from model.schedule import Lock, PointedFiles, PointedSysfs, Scheduler
from model.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.request import Request
    from apvfio.sysfs import Sysfs
    from apvfio.system import Files
    from model.befores import Cell
    from model.schedule import Chooser

    Act = Callable[["Stage"], object]


class Ears(TextIOBase):
    """Standard error of actors, each of which has a thread of its own."""

    def __init__(self) -> None:
        self.heard: dict[int, str] = {}

    def write(self, text: str) -> int:
        """Hear it."""
        self.heard[get_ident()] = self.heard.get(get_ident(), "") + text
        return len(text)


class Stage:
    """A host on which actors meet."""

    def __init__(self, cell: Cell, choose: Chooser, *, reads: bool) -> None:
        self.machine = cell.machine()
        self.shadow = Shadow(self.machine)
        self.scheduler = Scheduler(choose)
        self.started: dict[str, Request] = {}
        """The guests that have been told that they have their queues."""
        self.ears = Ears()
        self._own, self._s390 = Lock("apvfio's lock"), Lock("s390-tools' lock")
        self._reads = reads

    def process(self) -> Machine:
        """A process of apvfio's."""
        process = self.machine.process()
        sysfs: Sysfs = PointedSysfs(process.sysfs, self.scheduler.point, reads=self._reads)
        files: Files = PointedFiles(process.files, self.scheduler.point)
        process.sysfs, process.files = sysfs, files  # type: ignore[assignment]  # as good as a machine's own
        process.lock = self._locks  # type: ignore[method-assign]
        return process

    def hook(self, operation: str, request: Request, process: Machine | None = None) -> tuple[int, str]:
        """The exit code of libvirt's hook, and what it says."""
        argv = [request.guest, operation, "begin", "-"]
        code = hook.main(argv, process or self.process(), domain_xml(request))
        return code, self.ears.heard.pop(get_ident(), "")

    @property
    def others(self) -> PointedSysfs:
        """The host as all others reach it."""
        return PointedSysfs(self.shadow, self.scheduler.point, reads=self._reads)

    def s390_lock(self) -> object:
        """The lock that s390-tools and apvfio share."""
        return self.scheduler.holding(self._s390)

    @contextmanager
    def _locks(self) -> Iterator[None]:
        with self.scheduler.holding(self._own), self.scheduler.holding(self._s390):
            yield


def prepare(request: Request) -> Act:
    """libvirt starts the guest."""

    def act(stage: Stage) -> None:
        code, said = stage.hook("prepare", request)
        if code == 0:
            stage.started[request.guest_uuid] = request
        require(
            f"a start failed without a word, or with {said!r}", bool(code) == said.startswith("apvfio: g")
        )

    return act


def dies(request: Request, n: int) -> Act:
    """The hook of a starting guest is killed at its ``n``-th write."""

    def act(stage: Stage) -> None:
        process = stage.process()

        def die() -> None:
            raise Killed

        process.faults.arm(n, die)
        with suppress(Killed):
            stage.hook("prepare", request, process)

    return act


def release(request: Request) -> Act:
    """The guest has ended."""

    def act(stage: Stage) -> None:
        stage.started.pop(request.guest_uuid, None)
        code, said = stage.hook("release", request)
        require(f"release said {said!r}", code == 0 and "unexpected" not in said)

    return act


def stop_start(request: Request) -> Act:
    """The guest has ended and starts again."""

    def act(stage: Stage) -> None:
        release(request)(stage)
        prepare(request)(stage)

    return act


def change(request: Request) -> Act:
    """A person gives the running guest other queues."""

    def act(stage: Stage) -> None:
        process, changer = stage.process(), Process(77, 1)
        try:
            changing.keep(process, changing.change(process, request, changer))
        except ApvfioError:
            stage.machine.dead.add(changer.pid)
        else:
            stage.started[request.guest_uuid] = request

    return act


def reconcile(stage: Stage) -> None:
    """The timer, which tries again where something went away under its hands."""
    with suppress(ApvfioError):
        broker.reconcile(stage.process())


def chzdev(apmask: str, aqmask: str) -> Act:
    """An administrator's ``chzdev -a``."""
    edits = {name: parse_edit(text) for name, text in (("apmask", apmask), ("aqmask", aqmask)) if text}
    return lambda stage: rivals.chzdev(stage.others, edits, stage.s390_lock)  # type: ignore[arg-type]


def mdevctl(adapters: str, domains: str) -> Act:
    """``mdevctl start`` where there is no ap-check."""
    return lambda stage: rivals.mdevctl_start(stage.others, mdev(9), a_matrix(adapters, domains))


def checked(adapters: str, domains: str) -> Act:
    """``mdevctl start`` with ap-check."""
    matrix = a_matrix(adapters, domains)
    return lambda stage: rivals.checked_start(stage.others, mdev(9), matrix, stage.s390_lock)  # type: ignore[arg-type]


def unplug(adapter: int) -> Act:
    """The machine takes a card away."""

    def act(stage: Stage) -> None:
        stage.scheduler.point("unplug")
        stage.shadow.hardware(lambda kernel: kernel.unplug_adapter(adapter))

    return act


def replug(adapter: int) -> Act:
    """The machine takes a card away and gives it back."""

    def act(stage: Stage) -> None:
        unplug(adapter)(stage)
        stage.scheduler.point("plug")
        stage.shadow.hardware(lambda kernel: kernel.plug_adapter(adapter, "cca"))
        queues = stage.machine.kernel.state.queues
        stage.shadow.touched |= {queue for queue in queues if queue.adapter == adapter}

    return act
