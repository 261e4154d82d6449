# SPDX-License-Identifier: Apache-2.0
"""Starts and stops on the real AP drivers, beside the time that the kernel takes for the same writes.

``sh benchmarks/drivers`` runs it in the machine of tests/machine/rig, whose processors are emulated: what is
computed takes ten times as long there, and a queue's reset as long as it should.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from hosts import a_matrix, mdev
from machine_env import MachineEnv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOOK = Path("/etc/libvirt/hooks/qemu.d/50-apvfio")
DEFERRED = Path("/run/apvfio/deferred")
RESET = Path("/sys/module/ap_emul/parameters/reset_ms")
MASKS = [f"/sys/bus/ap/{name}" for name in ("apmask", "aqmask")]
SIZES = {1: ("0", "1"), 4: ("0-1", "1-2"), 16: ("0-3", "1-4")}
"""Queues, and the adapters and domains that make them."""
CROWD = 20
UNIT_WAITS = 1.0
"""Seconds until apvfio-reconcile.service, which is played here, begins."""
Write = tuple[str, str]


class Row(NamedTuple):
    """One line of the result; seconds."""

    what: str
    times: list[float]
    kernel: list[float]


def timed(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def run(*words: str, stdin: str = "") -> str:
    """What a command prints; RuntimeError if it fails."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout} {done.stderr}")
    return done.stdout


def hook(operation: str, sub: str, xml: str) -> Callable[[], str]:
    return lambda: run(str(HOOK), "bench", operation, sub, "-", stdin=xml)


def virsh(env: MachineEnv, *words: str) -> Callable[[], object]:
    return lambda: env.virsh(*words)


def reconcile() -> None:
    run("python3", "-m", "apvfio", "reconcile")


def kernel_of_start(xml: str) -> list[Write]:
    """The writes of the start that ``apvfio plan`` shows."""
    plan = run("python3", "-m", "apvfio", "plan", "--json", "--xml", "-", stdin=xml)
    steps = json.loads(plan)["steps"]
    return [(step["path"], step["value"]) for step in steps]


def written(writes: list[Write]) -> float:
    """How long these writes take."""
    begin = time.perf_counter()
    for path, value in writes:
        write(path, value)
    return time.perf_counter() - begin


@contextmanager
def masks_kept() -> Iterator[list[Write]]:
    """The writes that make the masks what they were."""
    yield [(path, Path(path).read_text().strip()) for path in MASKS]


@contextmanager
def without_hook() -> Iterator[None]:
    """libvirt calls a hook only if it is there."""
    aside = Path("/run/bench.hook")
    aside.write_text(HOOK.read_text())
    HOOK.unlink()
    yield
    HOOK.write_text(aside.read_text())
    HOOK.chmod(0o755)


def hooks_by_size(env: MachineEnv, rounds: int) -> Iterator[Row]:
    """The hook's prepare and release, and the same writes by themselves."""
    for size, (adapters, domains) in SIZES.items():
        device = mdev(1)
        xml = env.xml("bench", a_matrix(adapters, domains), device).replace(
            "<name>", f"<uuid>{device}</uuid><name>"
        )
        start, stop, kernel_start, kernel_stop = [], [], [], []
        writes = kernel_of_start(xml)
        with masks_kept() as back:
            for _ in range(rounds):
                kernel_start.append(written(writes))
                kernel_stop.append(written([(f"/sys/bus/mdev/devices/{device}/remove", "1"), *back]))
                start.append(timed(hook("prepare", "begin", xml)))
                stop.append(timed(hook("release", "end", xml)))
                reconcile()
        yield Row(f"hook's prepare, queues: {size}", start, kernel_start)
        yield Row(f"hook's release, all returned, queues: {size}", stop, kernel_stop)


def virsh_by_size(env: MachineEnv, rounds: int) -> Iterator[Row]:
    """``virsh start`` and ``destroy``, with the unit and without; beside a guest without queues and hook."""
    env.define("plain", None, None)
    start, stop = [], []
    with without_hook():
        for _ in range(rounds):
            start.append(timed(virsh(env, "start", "--paused", "plain")))
            stop.append(timed(virsh(env, "destroy", "plain")))
    yield Row("virsh start, no hook, no queues", start, [])
    yield Row("virsh destroy, no hook, no queues", stop, [])
    for size, (adapters, domains) in SIZES.items():
        env.define(f"q{size}", a_matrix(adapters, domains), mdev(size))
        for unit in (False, True):
            start, stop, home = [], [], []
            for _ in range(rounds):
                if unit:
                    DEFERRED.mkdir(mode=0o700, parents=True, exist_ok=True)
                start.append(timed(virsh(env, "start", "--paused", f"q{size}")))
                stop.append(timed(virsh(env, "destroy", f"q{size}")))
                if unit:
                    home.append(stop[-1] + UNIT_WAITS + timed(reconcile))
                    DEFERRED.rmdir()
            if not unit:
                yield Row(f"virsh start, queues: {size}", start, [])
            how = "left to the unit" if unit else "by the hook"
            yield Row(f"virsh destroy, returns {how}, queues: {size}", stop, [])
            if unit:
                yield Row(f"until the queues are the host's, queues: {size}", home, [])


def autostart(env: MachineEnv) -> Iterator[Row]:
    """A daemon that starts guests at its own start: without hook and queues, and with."""
    for with_queues in (False, True):
        kernel = _define_crowd(env, with_queues=with_queues)
        env.stop_daemon()
        Path("/run/libvirt/qemu/autostarted").unlink(missing_ok=True)
        with nullcontext() if with_queues else without_hook():
            begin = time.perf_counter()
            env.start_daemon()
            while len(env.virsh("list", "--name").stdout.split()) < CROWD:
                time.sleep(0.1)
            taken = time.perf_counter() - begin
        what = "a queue each" if with_queues else "no hook, no queues"
        yield Row(f"libvirtd and {CROWD} guests autostarted, {what}", [taken], kernel)
        env.clean()
        reconcile()


def _define_crowd(env: MachineEnv, *, with_queues: bool) -> list[float]:
    """Define the guests; what the kernel takes for the writes of all their starts."""
    seconds, devices = 0.0, []
    with masks_kept() as back:
        for n in range(CROWD):
            matrix = Matrix(IdSet([n % 4]), IdSet([1 + n // 4])) if with_queues else None
            device = mdev(100 + n) if with_queues else None
            env.define(f"auto{n}", matrix, device)
            env.virsh("autostart", f"auto{n}")
            if device:
                writes = kernel_of_start(env.virsh("dumpxml", f"auto{n}").stdout)
                seconds += written(writes)
                devices.append(device)
        written([*((f"/sys/bus/mdev/devices/{device}/remove", "1") for device in devices), *back])
    return [seconds] if with_queues else []


def main() -> int:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks/drivers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    env = MachineEnv()
    for reset in (0, 100):
        RESET.write_text(str(reset))
        print(f"\nreset_ms {reset}, Linux {os.uname().release}, {rounds} rounds\n")
        print("| what | median ms | least, most | the kernel's writes alone, ms |")
        print("| --- | --- | --- | --- |", flush=True)
        parts = [hooks_by_size(env, rounds), virsh_by_size(env, rounds)]
        for part in [*parts, autostart(env)]:
            for row in part:
                ms = [round(1000 * t) for t in row.times]
                alone = f"{1000 * statistics.median(row.kernel):.0f}" if row.kernel else ""
                print(
                    f"| {row.what} | {statistics.median(ms):.0f} | {min(ms)}, {max(ms)} | {alone} |",
                    flush=True,
                )
        env.clean()
    RESET.write_text("0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
