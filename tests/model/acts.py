# SPDX-License-Identifier: Apache-2.0
"""Those who meet on a host and take turns: hooks, tools, the machine."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from io import TextIOBase
from threading import get_ident
from typing import TYPE_CHECKING

from apvfio.engine import live_change
from apvfio.engine.reconcile import reconcile_host
from apvfio.libvirt import hook
from apvfio.model.errors import ApvfioError
from apvfio.model.mask_grammar import parse_mask_spec
from hosts import a_matrix, mdev
from memory_host import Killed, Machine
from model import rivals
from model.befores import domain_xml, end_qemu, run_qemu
from model.endings import record_stop
from model.promised import require
from model.schedule import Lock, PointedFiles, PointedSysfs, Scheduler
from model.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.kernel.seam import Files, Sysfs
    from apvfio.model.request import Request
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
        self.stopped: dict[str, Request] = {}
        """The guests that have ended since, of which the hook was told."""
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

    def starts(self, request: Request) -> None:
        """The guest has its queues, and its QEMU opens the device."""
        self.started[request.guest_uuid] = request
        self.stopped.pop(request.guest_uuid, None)
        self.scheduler.point("QEMU opens the device")
        run_qemu(self.machine, request)

    def stops(self, request: Request) -> None:
        """The guest's QEMU ends, and the hook records it."""
        self.started.pop(request.guest_uuid, None)
        self.scheduler.point("QEMU ends")
        end_qemu(self.machine, request)
        self.record(request)
        self.stopped[request.guest_uuid] = request

    def record(self, request: Request) -> None:
        """The hook records a stop of the guest."""
        self.scheduler.point("record")
        record_stop(self.machine, int(request.guest_uuid[:8], 16), self.scheduler.clock.now)

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
    """libvirt starts the guest, and its QEMU opens the device."""

    def act(stage: Stage) -> None:
        code, said = stage.hook("prepare", request)
        if code == 0:
            stage.starts(request)
        require(
            f"a start failed without a word, or with {said!r}", bool(code) == said.startswith("apvfio: g")
        )

    return act


def refused(request: Request) -> Act:
    """Another daemon starts the guest, which runs, with other queues: that must be refused."""

    def act(stage: Stage) -> None:
        code, said = stage.hook("prepare", request)
        require(f"a guest that runs was started again, {said!r}", code != 0)

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
        stage.stops(request)
        code, said = stage.hook("release", request)
        require(f"release said {said!r}", code == 0 and "unexpected" not in said)

    return act


def unserved(request: Request) -> Act:
    """The guest has ended, which the hook recorded; its interpreter never ran."""
    return lambda stage: stage.stops(request)


def half_served(request: Request, n: int) -> Act:
    """The guest has ended, and the interpreter of the hook is killed after its ``n``-th write."""

    def act(stage: Stage) -> None:
        stage.stops(request)
        process = stage.process()

        def die() -> None:
            raise Killed

        process.faults.arm(n, die, late=True)
        with suppress(Killed):
            stage.hook("release", request, process)

    return act


def unheard(request: Request) -> Act:
    """The guest has ended, and libvirt said nothing."""

    def act(stage: Stage) -> None:
        stage.started.pop(request.guest_uuid, None)
        stage.scheduler.point("QEMU ends")
        end_qemu(stage.machine, request)

    return act


def strayed(request: Request) -> Act:
    """Another daemon has failed to start the guest, which runs, and its hook is told of a stop."""

    def act(stage: Stage) -> None:
        stage.record(request)
        stage.hook("release", request)

    return act


def in_turn(*acts: Act) -> Act:
    """One act after the other."""

    def act(stage: Stage) -> None:
        for each in acts:
            each(stage)

    return act


def change(request: Request) -> Act:
    """A person gives the running guest other queues."""

    def act(stage: Stage) -> None:
        process = stage.process()
        assert process.processes
        changer = process.processes.start()
        try:
            live_change.commit(process, live_change.apply_change(process, request, changer))
            stage.started[request.guest_uuid] = request
        except ApvfioError:
            pass
        finally:
            process.processes.end(changer.pid)

    return act


def reconcile(stage: Stage) -> None:
    """The timer, which tries again where something went away under its hands."""
    with suppress(ApvfioError):
        reconcile_host(stage.process())


def chzdev(apmask: str, aqmask: str) -> Act:
    """An administrator's ``chzdev -a``."""
    edits = {name: parse_mask_spec(text) for name, text in (("apmask", apmask), ("aqmask", aqmask)) if text}
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
