# SPDX-License-Identifier: Apache-2.0
"""What libvirt's hard cases need of an environment: its daemon's life, hooks of others, held locks."""

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
REQUESTED = a_matrix("0,10", "1-2")
"""What most of the guests request."""
START = ("start", "--paused")
_PATIENCE = 60.0
essential = pytest.mark.essential
"""A case that also the machine tier always runs: there it takes ten times as long."""
_BUSY = "/run/busy"
"""There as long as somebody holds what a test wants held."""
_WAIT = f"while [ -e {_BUSY} ]; do sleep 0.05; done"


class DaemonEnv(GuestEnv, Protocol):
    """An environment whose daemon can be ended and started, and in which any command can be run."""

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

    def xml(self, name: str, requested: Matrix | None, device: str | None) -> str:
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
    def all_comes_home(self, env: DaemonEnv) -> Iterator[None]:
        before = state(env)
        assert (before.leases, before.pending, before.host.mdevs) == (0, False, {})
        yield
        env.clean()
        assert state(env) == before
        if not env.starts_quickly:
            return
        env.define("ordinary", a_matrix("0,10", "1-2"), mdev(99))
        env.virsh("start", "--paused", "ordinary")
        assert state(env).host.mdevs == {mdev(99): a_matrix("0,10", "1-2")}
        env.virsh("destroy", "ordinary")
        assert state(env) == before


def eventually(said: Callable[[], object], expected: object = True) -> None:
    """See ``said`` become what is expected: libvirt does much in threads of its own."""
    deadline = time.monotonic() + _PATIENCE
    while said() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said() == expected


def domstate(env: DaemonEnv, name: str) -> str:
    """The guest's state in libvirt's words."""
    return env.virsh("domstate", name).stdout.strip()


def qemu_of(env: DaemonEnv, name: str) -> int:
    """The pid, inside, of the guest's QEMU."""
    with open(env.path(f"/run/libvirt/qemu/{name}.pid"), encoding="ascii") as file:
        return int(file.read())


def kill_qemu(env: DaemonEnv, name: str) -> None:
    """End the guest's QEMU as a crash does, and wait until it is gone."""
    pid = str(qemu_of(env, name))
    env.run(["sh", "-c", 'kill -9 "$1"; while [ -d /proc/"$1" ]; do sleep 0.02; done', "sh", pid])


def status(env: DaemonEnv) -> Any:
    """What ``apvfio status`` says."""
    done = env.run([env.python, "-m", "apvfio", "status", "--json"])
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def apvfio(env: DaemonEnv, *words: str) -> str:
    """Run our command inside, well; what it printed."""
    done = env.run([env.python, "-m", "apvfio", *words])
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def leases(env: DaemonEnv) -> dict[str, str]:
    """The guests with a lease, by name, and its state."""
    ledger = ledger_file.load(env.system.files, env.system.boot_id)
    return {lease.guest: lease.state for lease in ledger.leases.values()}


def let_grace_pass(env: DaemonEnv) -> None:
    """Make all leases such that their guests should have a QEMU process by now."""
    ledger = ledger_file.load(env.system.files, env.system.boot_id)
    assert {lease.state for lease in ledger.leases.values()} == {HELD}
    for lease in ledger.leases.values():
        # Back in time is no way: the machine may have booted just now.
        ledger = ledger.with_lease(lease._replace(since=now() + GRACE))
    ledger_file.save(env.system.files, ledger)


@contextmanager
def hook_of_others(env: DaemonEnv, name: str, body: str) -> Iterator[None]:
    """Another hook beside ours; ``name`` says whether before or after it."""
    path = env.path(f"{HOOKS}/{name}")
    write_file(path, f"#!/bin/sh\ncat >/dev/null\n{body}\n".encode(), 0o755)
    try:
        yield
    finally:
        os.unlink(path)


@contextmanager
def recorded(env: DaemonEnv) -> Iterator[Callable[[str], list[str]]]:
    """A hook after ours that records; gives the operations that a guest has seen so far."""
    log = "/run/hooks.log"
    with suppress(FileNotFoundError):
        os.unlink(env.path(log))

    def of(guest: str) -> list[str]:
        try:
            with open(env.path(log), encoding="utf-8") as file:
                return [line.split()[1] for line in file if line.split()[0] == guest]
        except FileNotFoundError:
            return []

    with hook_of_others(env, "90-record", f'echo "$1" "$2" >>{log}'):
        yield of


@contextmanager
def meanwhile(call: Callable[[], CompletedProcess[str]]) -> Iterator[Future[CompletedProcess[str]]]:
    """``call``, at the same time as what is done in the context; it must end by itself."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


class Busy:
    """Somebody who is busy until told otherwise."""

    def __init__(self, env: DaemonEnv) -> None:
        self._path = env.path(_BUSY)

    def there(self) -> bool:
        """Whether he is at it."""
        return os.path.exists(self._path)

    def over(self) -> None:
        """Tell him to end."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)


@contextmanager
def _busy(env: DaemonEnv, argv: list[str]) -> Iterator[Busy]:
    busy = Busy(env)
    with meanwhile(lambda: env.run(argv)) as done:
        try:
            eventually(busy.there)
            yield busy
        finally:
            busy.over()
        result = done.result()
        assert (result.returncode, result.stderr) == (0, "")


def holding_our_lock(env: DaemonEnv) -> AbstractContextManager[Busy]:
    """Another apvfio that does not come to an end."""
    script = (
        "import os, time; from apvfio.store.locks import own_lock\n"
        f"with own_lock('/run/apvfio/lock'):\n open('{_BUSY}', 'w').close()\n"
        f" while os.path.exists('{_BUSY}'): time.sleep(0.02)"
    )
    return _busy(env, [env.python, "-c", script])


def holding_the_s390_lock(env: DaemonEnv) -> AbstractContextManager[Busy]:
    """A tool of s390-tools that does not come to an end, by their protocol."""
    script = (
        'set -e; lock=/run/lock/s390apconfig.lock; echo $$ >"$lock$$"; ln "$lock$$" "$lock"; rm "$lock$$"; '
        f'touch {_BUSY}; {_WAIT}; rm "$lock"'
    )
    return _busy(env, ["sh", "-c", script, "chzdev"])


@contextmanager
def hook_that_is_slow(env: DaemonEnv, name: str, operation: str) -> Iterator[Busy]:
    """Another hook, which does not come to an end in one operation."""
    body = f'[ "$2" != {operation} ] || {{ touch {_BUSY}; {_WAIT}; }}'
    busy = Busy(env)
    with hook_of_others(env, name, body):
        try:
            yield busy
        finally:
            busy.over()


def our_hooks(env: DaemonEnv, operation: str) -> list[str]:
    """The pids, inside, of our hook's interpreters that serve that operation."""
    # An installed hook names its interpreter the room in a text of its own, another by -m.
    done = env.run(["pgrep", "-f", "--", f"python.* -I .*apvfio.libvirt.hook.* {operation} "])
    return done.stdout.split()


class Frozen:
    """Processes that are stopped until told otherwise."""

    def __init__(self, env: DaemonEnv) -> None:
        self._house = env
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


def run_ours_by(env: DaemonEnv, python: str) -> None:
    """Change the interpreter in our hook."""
    path = env.path(OURS)
    with open(path, encoding="utf-8") as file:
        text = re.sub("^python=.*$", f"python={python}", file.read(), flags=re.MULTILINE)
    write_file(path, text.encode(), 0o755)


@contextmanager
def held_up_interpreter(env: DaemonEnv) -> Iterator[Busy]:
    """Our hook's interpreter does not begin before it is told."""
    busy = Busy(env)
    wrapper = "/run/held-up/python3"
    script = f'#!/bin/sh\ntouch {_BUSY}\n{_WAIT}\nexec {env.python} "$@"\n'
    write_file(env.path(wrapper), script.encode(), 0o755)
    run_ours_by(env, wrapper)
    try:
        yield busy
    finally:
        busy.over()
        run_ours_by(env, env.python)


def set_annotation(env: DaemonEnv, name: str, text: str, *where: str) -> None:
    """Replace a guest's annotation through libvirt; '' removes it."""
    change = ("--key", "ap", "--set", text) if text else ("--remove",)
    env.virsh("metadata", name, "--uri", "urn:apvfio:guest:1", *change, *where)


def with_uuid(xml: str, uuid: str) -> str:
    """A domain's XML with that uuid."""
    xml = re.sub("<uuid>.*?</uuid>", "", xml)
    return xml.replace("</name>", f"</name><uuid>{uuid}</uuid>")
