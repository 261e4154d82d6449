# SPDX-License-Identifier: Apache-2.0
"""A hundred guests at once: processes of the hook on one simulated host, beside others who want its lock."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from apvfio.domain.xml_reader import NAMESPACE
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt.guests import annotation
from apvfio.model.errors import HostError
from apvfio.model.ids import IdSet
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Matrix
from apvfio.sim import fuse
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import LEDGER, load
from apvfio.store.locks import s390_lock
from apvfio.store.system import RealSystem
from hosts import guest, mdev
from lab.hook import hook_script
from lock_waiters import at_the_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUESTS = 100
ADAPTERS = 25
DOMAINS = GUESTS // ADAPTERS
PATIENCE = 120

COUNTING = """\
import sys
from apvfio.cli.main import main
from apvfio.sim.tree import Tree
log, write = open(sys.argv[1], "a", buffering=1), Tree.write
def counted(self, path, data):
    write(self, path, data)
    log.write(path + "\\n")
Tree.write = counted
sys.exit(main(["sim", "mount", *sys.argv[2:]]))
"""

RIVAL = """\
import sys, time
from apvfio.store.locks import s390_lock
while True:
    with s390_lock(sys.argv[1]):
        print("got it", flush=True)
        time.sleep(0.005)
    time.sleep(0.01)
"""

DOMAIN = """\
<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><metadata>{annotation}</metadata><devices>
<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{mdev}'/></source></hostdev>
</devices></domain>
"""


class Crowd(NamedTuple):
    """The mounted host, the hook, and the record of what was written to the host's kernel."""

    system: RealSystem
    hook: Path
    written: Path

    def call(self, operation: str, n: int) -> subprocess.Popen[bytes]:
        """The hook for guest ``n``, as libvirt runs it; it reads its XML when that is sent."""
        return subprocess.Popen(
            [self.hook, f"g{n}", operation, "begin", "-"],
            env={"PATH": os.environ["PATH"], "APVFIO_ROOT": self.system.root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def all(self, operation: str) -> list[tuple[int, bytes, bytes]]:
        """The hook for all guests at the same time: exit codes, output, errors."""
        with ExitStack() as stack:
            calls = [stack.enter_context(self.call(operation, n)) for n in range(GUESTS)]
            for n, call in enumerate(calls):
                assert call.stdin
                call.stdin.write(domain(n))
                call.stdin.close()
                call.stdin = None
            done = [call.communicate(timeout=PATIENCE) for call in calls]
            return [(call.returncode, *texts) for call, texts in zip(calls, done)]

    def mask_writes(self) -> int:
        """How often a mask was written since this was last asked."""
        paths = self.written.read_text().splitlines()
        os.truncate(self.written, 0)
        return sum(path in ("bus/ap/apmask", "bus/ap/aqmask") for path in paths)


def matrix(n: int) -> Matrix:
    return Matrix(IdSet([n % ADAPTERS]), IdSet([n // ADAPTERS]))


def domain(n: int) -> bytes:
    inside = annotation(matrix(n)).replace("<guest>", f"<guest xmlns='{NAMESPACE}'>")
    return DOMAIN.format(name=f"g{n}", uuid=guest(n), mdev=mdev(n), annotation=inside).encode()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    try:
        fuse.load_library()
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    tree, file, written = tmp_path / "tree", tmp_path / "host.json", tmp_path / "written"
    tree.mkdir()
    # Four domains more, which no guest wants: taking an adapter costs the host something.
    create_sim(
        str(file),
        SimKernel.new(adapters=dict.fromkeys(range(ADAPTERS), "cca"), domains=IdSet(range(2 * DOMAINS))),
    )
    hook = tmp_path / "50-apvfio"
    hook.write_text(hook_script())
    hook.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", COUNTING, str(written), str(file), str(tree)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert select.select([process.stdout], [], [], 20)[0]
            assert process.stdout.readline()
            yield Crowd(RealSystem(str(tree)), hook, written)
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def rivals(crowd: Crowd, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that take the lock of s390-tools again and again, as chzdev, lszdev and ap-check do."""
    lock = os.path.join(crowd.system.root, "run/lock/s390apconfig.lock")
    with ExitStack() as stack:
        made = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", RIVAL, lock], stdout=subprocess.PIPE))
            for _ in range(count)
        ]
        try:
            yield made
        finally:
            for process in made:
                process.kill()


def test_a_hundred_guests_at_once(crowd: Crowd) -> None:
    before = read_host(crowd.system.sysfs)
    with rivals(crowd, 2) as others:
        assert crowd.all("prepare") == [(0, b"", b"")] * GUESTS
        starts = crowd.mask_writes()
        running = read_host(crowd.system.sysfs)
        ledger = load(crowd.system.files, crowd.system.boot_id)
        assert running.mdevs == {mdev(n): matrix(n) for n in range(GUESTS)}
        assert {lease.state for lease in ledger.leases.values()} == {HELD}
        assert len(ledger.leases) == GUESTS
        assert not reconcile_host(crowd.system).steps
        assert crowd.all("release") == [(0, b"", b"")] * GUESTS
        stops = crowd.mask_writes()
        for other in others:
            assert other.poll() is None
            assert other.stdout
            assert other.stdout.readline() == b"got it\n"
    assert read_host(crowd.system.sysfs) == before
    assert not load(crowd.system.files, crowd.system.boot_id).pending
    # Stops are recorded, and whoever has the lock serves all records.
    print(f"{GUESTS} starts and stops: {starts} and {stops} mask writes")
    assert stops <= GUESTS


def test_half_of_them_killed(crowd: Crowd) -> None:
    """Killed hooks hold nobody up, and nothing stays of them."""
    before = read_host(crowd.system.sysfs)
    lock = os.path.join(crowd.system.root, "run/lock/s390apconfig.lock")
    with ExitStack() as stack:
        with s390_lock(lock):
            calls = [stack.enter_context(crowd.call("prepare", n)) for n in range(10)]
            for n, call in enumerate(calls):
                assert call.stdin
                call.stdin.write(domain(n))
                call.stdin.close()
                call.stdin = None
            while len(at_the_lock(crowd.system.root)) < len(calls):
                ended = [call.communicate(timeout=PATIENCE) for call in calls if call.poll() is not None]
                assert not ended
                time.sleep(0.05)
            for call in calls[::2]:
                # The shell has become Python.
                call.kill()
        codes = [(call.communicate(timeout=PATIENCE), call.returncode)[1] for call in calls]
    assert codes[1::2] == [0] * 5
    reconcile_host(crowd.system)
    ledger = load(crowd.system.files, crowd.system.boot_id)
    assert (
        set(ledger.leases) == {mdev(n) for n in range(1, 10, 2)} == set(read_host(crowd.system.sysfs).mdevs)
    )
    for n in range(1, 10, 2):
        release_guest(crowd.system, guest(n))
    assert read_host(crowd.system.sysfs) == before


def test_who_waits_too_long_is_told_who_has_the_lock(crowd: Crowd) -> None:
    crowd.system.files.write("etc/apvfio/apvfio.toml", "[time]\nlock-wait = 1\n")
    with crowd.system.lock(), crowd.call("prepare", 1) as call:
        out, told = call.communicate(domain(1), PATIENCE)
        assert (call.returncode, out) == (1, b"")
    assert f"was held by pid {os.getpid()} (".encode() in told
    assert crowd.system.files.read(LEDGER) is None
