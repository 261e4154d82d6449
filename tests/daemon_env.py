# SPDX-License-Identifier: Apache-2.0
"""What libvirt's hard cases need of a house: its daemon's life, hooks of others, held locks."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import pytest

from apvfio.model.ledger import HELD
from apvfio.store import ledger_file
from apvfio.store.processes import GRACE, now
from hosts import a_matrix, mdev
from lab.libvirtd import write_file
from lifecycle_cases import GuestEnv, state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from subprocess import CompletedProcess
    from typing import Any

    from apvfio.model.matrix import Matrix

HOOKS = "/etc/libvirt/hooks/qemu.d"
OURS = f"{HOOKS}/50-apvfio"
WISH = a_matrix("0,10", "1-2")
"""What most of the guests ask for."""
START = ("start", "--paused")
_PATIENCE = 60.0
essential = pytest.mark.essential
"""A case that also the machine tier always runs: there it takes ten times as long."""
_BUSY = "/run/busy"
"""There as long as somebody holds what a test wants held."""
_WAIT = f"while [ -e {_BUSY} ]; do sleep 0.05; done"


class DaemonEnv(GuestEnv, Protocol):
    """A house whose daemon can be ended and started, and in which any command can be run."""

    python: str
    """The interpreter that has apvfio, as it is called inside."""

    starts_quickly: bool
    """Whether each case ends with an ordinary guest; if not, the next case tells whether one starts."""

    def virsh(self, *words: str, check: bool = True, stdin: str = "") -> CompletedProcess[str]:
        """Run virsh; with ``check`` a failure fails the test."""

    def run(self, argv: Sequence[str], *, stdin: str = "") -> CompletedProcess[str]:
        """Run a command inside, to its end, however it ends."""

    def path(self, inner: str) -> str:
        """How this process names the file that is called ``inner`` inside."""

    def xml(self, name: str, wish: Matrix | None, device: str | None) -> str:
        """The XML that `define` defines."""

    def define_xml(self, name: str, xml: str) -> None:
        """Define a guest by its XML."""

    def clean(self) -> None:
        """End and forget all guests that were defined."""

    def start_daemon(self) -> None:
        """Start the libvirt daemon; it answers when this returns."""

    def stop_daemon(self) -> None:
        """End it as a package update does."""

    def crash_daemon(self) -> None:
        """Kill it."""

    def reload_daemon(self) -> None:
        """Send it the signal to read its settings anew."""


class Hard:
    """What holds for every case: in the end all is home, and an ordinary guest starts and stops."""

    @pytest.fixture(autouse=True)
    def all_comes_home(self, house: DaemonEnv) -> Iterator[None]:
        before = state(house)
        assert (before.leases, before.owed, before.host.mdevs) == (0, False, {})
        yield
        house.clean()
        assert state(house) == before
        if not house.starts_quickly:
            return
        house.define("ordinary", a_matrix("0,10", "1-2"), mdev(99))
        house.virsh("start", "--paused", "ordinary")
        assert state(house).host.mdevs == {mdev(99): a_matrix("0,10", "1-2")}
        house.virsh("destroy", "ordinary")
        assert state(house) == before


def eventually(said: Callable[[], object], expected: object = True) -> None:
    """See ``said`` become what is expected: libvirt does much in threads of its own."""
    deadline = time.monotonic() + _PATIENCE
    while said() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said() == expected


def domstate(house: DaemonEnv, name: str) -> str:
    """The guest's state in libvirt's words."""
    return house.virsh("domstate", name).stdout.strip()


def qemu_of(house: DaemonEnv, name: str) -> int:
    """The pid, inside, of the guest's QEMU."""
    with open(house.path(f"/run/libvirt/qemu/{name}.pid"), encoding="ascii") as file:
        return int(file.read())


def kill_qemu(house: DaemonEnv, name: str) -> None:
    """End the guest's QEMU as a crash does, and wait until it is gone."""
    pid = str(qemu_of(house, name))
    house.run(["sh", "-c", 'kill -9 "$1"; while [ -d /proc/"$1" ]; do sleep 0.02; done', "sh", pid])


def status(house: DaemonEnv) -> Any:
    """What ``apvfio status`` says."""
    done = house.run([house.python, "-m", "apvfio", "status", "--json"])
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def apvfio(house: DaemonEnv, *words: str) -> str:
    """Run our command inside, well; what it printed."""
    done = house.run([house.python, "-m", "apvfio", *words])
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def leases(house: DaemonEnv) -> dict[str, str]:
    """The guests with a lease, by name, and its state."""
    ledger = ledger_file.load(house.system.files, house.system.boot_id)
    return {lease.guest: lease.state for lease in ledger.leases.values()}


def let_grace_pass(house: DaemonEnv) -> None:
    """Make all leases such that their guests should have a QEMU process by now."""
    ledger = ledger_file.load(house.system.files, house.system.boot_id)
    assert {lease.state for lease in ledger.leases.values()} == {HELD}
    for lease in ledger.leases.values():
        # Back in time is no way: the machine may have booted just now.
        ledger = ledger.with_lease(lease._replace(since=now() + GRACE))
    ledger_file.save(house.system.files, ledger)


@contextmanager
def hook_of_others(house: DaemonEnv, name: str, body: str) -> Iterator[None]:
    """Another hook beside ours; ``name`` says whether before or after it."""
    path = house.path(f"{HOOKS}/{name}")
    write_file(path, f"#!/bin/sh\ncat >/dev/null\n{body}\n".encode(), 0o755)
    try:
        yield
    finally:
        os.unlink(path)


@contextmanager
def recorded(house: DaemonEnv) -> Iterator[Callable[[str], list[str]]]:
    """A hook after ours that records; gives the operations that a guest has seen so far."""
    log = "/run/hooks.log"
    with suppress(FileNotFoundError):
        os.unlink(house.path(log))

    def of(guest: str) -> list[str]:
        try:
            with open(house.path(log), encoding="utf-8") as file:
                return [line.split()[1] for line in file if line.split()[0] == guest]
        except FileNotFoundError:
            return []

    with hook_of_others(house, "90-record", f'echo "$1" "$2" >>{log}'):
        yield of


@contextmanager
def meanwhile(call: Callable[[], CompletedProcess[str]]) -> Iterator[Future[CompletedProcess[str]]]:
    """``call``, at the same time as what is done in the context; it must end by itself."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


class Busy:
    """Somebody who is busy until told otherwise."""

    def __init__(self, house: DaemonEnv) -> None:
        self._path = house.path(_BUSY)

    def there(self) -> bool:
        """Whether he is at it."""
        return os.path.exists(self._path)

    def over(self) -> None:
        """Tell him to end."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)


@contextmanager
def _busy(house: DaemonEnv, argv: list[str]) -> Iterator[Busy]:
    busy = Busy(house)
    with meanwhile(lambda: house.run(argv)) as done:
        try:
            eventually(busy.there)
            yield busy
        finally:
            busy.over()
        result = done.result()
        assert (result.returncode, result.stderr) == (0, "")


def holding_our_lock(house: DaemonEnv) -> AbstractContextManager[Busy]:
    """Another apvfio that does not come to an end."""
    script = (
        "import os, time; from apvfio.store.locks import own_lock\n"
        f"with own_lock('/run/apvfio/lock'):\n open('{_BUSY}', 'w').close()\n"
        f" while os.path.exists('{_BUSY}'): time.sleep(0.02)"
    )
    return _busy(house, [house.python, "-c", script])


def holding_the_s390_lock(house: DaemonEnv) -> AbstractContextManager[Busy]:
    """A tool of s390-tools that does not come to an end, by their protocol."""
    script = (
        'set -e; lock=/run/lock/s390apconfig.lock; echo $$ >"$lock$$"; ln "$lock$$" "$lock"; rm "$lock$$"; '
        f'touch {_BUSY}; {_WAIT}; rm "$lock"'
    )
    return _busy(house, ["sh", "-c", script, "chzdev"])


@contextmanager
def hook_that_is_slow(house: DaemonEnv, name: str, operation: str) -> Iterator[Busy]:
    """Another hook, which does not come to an end in one operation."""
    body = f'[ "$2" != {operation} ] || {{ touch {_BUSY}; {_WAIT}; }}'
    busy = Busy(house)
    with hook_of_others(house, name, body):
        try:
            yield busy
        finally:
            busy.over()


def our_hooks(house: DaemonEnv, operation: str) -> list[str]:
    """The pids, inside, of our hook's interpreters that serve that operation."""
    # An installed hook names its interpreter the room in a text of its own, another by -m.
    done = house.run(["pgrep", "-f", "--", f"python.* -I .*apvfio.libvirt.hook.* {operation} "])
    return done.stdout.split()


class Frozen:
    """Processes that are stopped until told otherwise."""

    def __init__(self, house: DaemonEnv) -> None:
        self._house = house
        self._pids: list[str] = []

    def freeze(self, pids: list[str]) -> None:
        """Stop these, which are inside."""
        assert pids
        self._pids = pids
        self._signal("STOP")

    def over(self) -> None:
        """Let them go on."""
        if self._pids:
            self._signal("CONT")
            self._pids = []

    def _signal(self, name: str) -> None:
        done = self._house.run(["sh", "-c", 'kill -"$@"', "sh", name, *self._pids])
        assert done.returncode == 0, done.stderr


def run_ours_by(house: DaemonEnv, python: str) -> None:
    """Change the interpreter in our hook."""
    path = house.path(OURS)
    with open(path, encoding="utf-8") as file:
        text = re.sub("^python=.*$", f"python={python}", file.read(), flags=re.MULTILINE)
    write_file(path, text.encode(), 0o755)


@contextmanager
def held_up_interpreter(house: DaemonEnv) -> Iterator[Busy]:
    """Our hook's interpreter does not begin before it is told."""
    busy = Busy(house)
    wrapper = "/run/held-up/python3"
    script = f'#!/bin/sh\ntouch {_BUSY}\n{_WAIT}\nexec {house.python} "$@"\n'
    write_file(house.path(wrapper), script.encode(), 0o755)
    run_ours_by(house, wrapper)
    try:
        yield busy
    finally:
        busy.over()
        run_ours_by(house, house.python)


def set_annotation(house: DaemonEnv, name: str, text: str, *where: str) -> None:
    """Replace a guest's annotation through libvirt; '' removes it."""
    change = ("--key", "ap", "--set", text) if text else ("--remove",)
    house.virsh("metadata", name, "--uri", "urn:apvfio:guest:1", *change, *where)


def with_uuid(xml: str, uuid: str) -> str:
    """A domain's XML with that uuid."""
    xml = re.sub("<uuid>.*?</uuid>", "", xml)
    return xml.replace("</name>", f"</name><uuid>{uuid}</uuid>")
