# SPDX-License-Identifier: Apache-2.0
"""What a guest's start costs, where it can be counted: modules, processes, reads, writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events.audit_log import AUDIT_LOG
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store import stop_records
from apvfio.store.ledger_file import LEDGER
from apvfio.store.policy_file import POLICY
from hosts import a_host, a_request, guest
from import_budget import require_few
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[3]
MODULES = """\
import sys
sys.path.append(sys.argv[1])
import apvfio.libvirt.hook, apvfio.domain.request, apvfio.engine.start, apvfio.engine.stop
import apvfio.store.system
print(*sys.modules)
"""
MASKS = ("bus/ap/apmask", "bus/ap/aqmask")
KERNELS = tuple(PROFILES)
FULL = dict.fromkeys(range(16), "cca"), IdSet(range(85))
CROWD = 100


class Watched(Machine):
    """A machine that counts what is read of it."""

    def __init__(self, kernel: SimKernel) -> None:
        super().__init__(kernel)
        self.reads: Counter[str] = Counter()
        for name in ("read", "list", "readlink", "exists"):
            setattr(self.sysfs, name, self._counting(getattr(self.sysfs, name)))

    def _counting(self, call: Callable[[str], object]) -> Callable[[str], object]:
        def counted(path: str) -> object:
            self.reads[path.rpartition("/")[2]] += 1
            return call(path)

        return counted

    def written(self) -> list[str]:
        """The names of the attributes written since this was last asked."""
        names = [path.rpartition("/")[2] for path, _ in self.sysfs.written]
        self.sysfs.written.clear()
        return names


def watched(profile: str, adapters: dict[int, str], domains: IdSet) -> Watched:
    return Watched(SimKernel.new(profile, adapters=adapters, domains=domains))


def test_a_start_loads_few_modules_and_no_slow_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MODULES, CHECKOUT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    require_few(done.stdout.split())


@pytest.mark.parametrize("profile", KERNELS)
def test_a_start_and_a_stop_write_a_mask_once(profile: str) -> None:
    machine = watched(profile, *FULL)
    start_guest(machine, a_request("0,10", "1,4,27", 1))
    masks, others = divide(machine.written())
    assert len(masks) == 1
    assert others == (
        ["create", "ap_config"]
        if profile != "6.1"
        else ["create", *["assign_adapter"] * 2, *["assign_domain"] * 3, *others[6:]]
    )
    release_guest(machine, guest(1))
    masks, others = divide(machine.written())
    assert len(masks) == 1
    assert others == ["remove"]


def test_a_start_loads_the_ledger_once_saves_it_twice_and_asks_the_audit_log_twice() -> None:
    machine = watched("7.2", *FULL)
    start_guest(machine, a_request("0", "1", 1))
    uses = Counter[tuple[str, str]]()
    for name in ("read", "write", "append", "end"):
        setattr(machine.files, name, counting(getattr(machine.files, name), name, uses))
    start_guest(machine, a_request("3", "4", 2))
    log = {name: uses[name, AUDIT_LOG] for name in ("read", "end", "append")}
    assert (uses["read", LEDGER], uses["write", LEDGER], log) == (1, 2, {"read": 0, "end": 1, "append": 1})
    uses.clear()
    release_guest(machine, guest(2))
    log = {name: uses[name, AUDIT_LOG] for name in ("read", "end", "append")}
    assert (uses["read", LEDGER], uses["write", LEDGER], log) == (1, 2, {"read": 0, "end": 1, "append": 1})


def counting(use: Callable[..., object], name: str, uses: Counter[tuple[str, str]]) -> Callable[..., object]:
    def counted(path: str, *more: object) -> object:
        uses[name, path] += 1
        return use(path, *more)

    return counted


def test_the_steps_of_a_start_are_those_of_its_plan() -> None:
    for policy in ("", 'mechanism = "overrides"\n'):
        machine = watched("7.2", *FULL)
        machine.files.texts[POLICY] = policy
        request = a_request("0,3", "4-5", 1)
        steps = preview_plan(machine, request).steps
        start_guest(machine, request)
        assert machine.sysfs.written == [(step.path, step.value) for step in steps]


def divide(names: list[str]) -> tuple[list[str], list[str]]:
    masks = [name for name in names if name in ("apmask", "aqmask")]
    return masks, [name for name in names if name not in masks]


def test_recorded_stops_are_served_with_a_tenth_of_the_mask_writes() -> None:
    machine = watched("7.2", dict.fromkeys(range(CROWD), "cca"), IdSet([0, 1]))
    for n in range(CROWD):
        start_guest(machine, a_request(str(n), "0", n))
    machine.written()
    for n in range(CROWD - 1):
        stop_records.record(machine, guest(n))
    release_guest(machine, guest(CROWD - 1))
    assert not machine.host.mdevs
    assert len(divide(machine.written())[0]) <= CROWD // 10


def test_what_is_read_does_not_grow_with_the_host() -> None:
    counts = []
    for adapters, domains in (FULL, (dict.fromkeys(range(11), "cca"), IdSet(range(28)))):
        machine = watched("6.12", adapters, domains)
        machine.files.texts[POLICY] = '[busy]\nrequests = "ignore"\n'
        start_guest(machine, a_request("0,10", "1,4,27", 1))
        # Of the queues that it takes, and only of those, it notes which are offline, and their master keys.
        start = sum(machine.reads.values()) - sum(
            machine.reads[name] for name in ("online", "config", "chkstop", "mkvps")
        )
        machine.reads.clear()
        release_guest(machine, guest(1))
        counts.append((start, sum(machine.reads.values())))
    assert counts[0] == counts[1]


def test_overrides_are_read_once_and_only_while_the_masks_are_full() -> None:
    machine = watched("7.2", *FULL)
    start_guest(machine, a_request("0,10", "1,4,27", 1))
    assert machine.reads["driver_override"] == len(machine.host.drivers) + 1
    machine.reads.clear()
    start_guest(machine, a_request("1", "1", 2))
    release_guest(machine, guest(2))
    release_guest(machine, guest(1))
    assert machine.reads["driver_override"] <= 10


def test_the_hook_starts_one_interpreter_and_nothing_else(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\necho called >>"{calls}"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    from apvfio.install.installed_files import script

    hook = tmp_path / "50-apvfio"
    hook.write_text(script("hooks/qemu", str(python), packages=str(CHECKOUT)))
    hook.chmod(0o755)
    for operation in ("prepare", "start", "started", "stopped", "release"):
        subprocess.run(
            [hook, "plain", operation, "begin", "-"],
            input=b"<domain><name>plain</name></domain>",
            env={"PATH": os.environ["PATH"]},
            timeout=60,
            check=True,
        )
    assert not calls.exists()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(3, 4), (40, 60), (256, 256)]),
    st.sets(st.integers(0, 255), max_size=3),
    st.sets(st.integers(0, 255), max_size=3),
    st.integers(2, 9),
    st.tuples(*[st.sets(st.integers(0, 255), max_size=200)] * 2),
)
def test_a_large_host_is_not_searched_whole_and_the_same_is_found(
    size: tuple[int, int],
    adapters: set[int],
    domains: set[int],
    every: int,
    taken: tuple[set[int], set[int]],
) -> None:
    drivers = {Apqn(a, d): "cex4queue" for a in range(size[0]) for d in range(size[1]) if (a * 7 + d) % every}
    apmask, aqmask = (ALL_IDS - IdSet(ids) for ids in taken)
    host = a_host()._replace(drivers=drivers, apmask=apmask, aqmask=aqmask)
    assert host.given_on(IdSet(adapters), IdSet(domains)) == [
        queue
        for queue in sorted(drivers)
        if (queue.adapter in adapters or queue.domain in domains) and host.masks_give_host(queue)
    ]


def test_the_matrix_of_a_large_guest_is_one_write() -> None:
    machine = watched("7.2", *FULL)
    start_guest(machine, a_request("0-15", "0-84", 1))
    assert divide(machine.written())[1] == ["create", "ap_config"]
    assert machine.host.mdevs == {
        next(iter(machine.host.mdevs)): Matrix(*a_request("0-15", "0-84", 1).matrix)
    }
