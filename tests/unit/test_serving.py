# SPDX-License-Identifier: Apache-2.0
"""Calls that wait for the lock are served together by the one that has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from errno import EIO
from functools import partial
from typing import Any

import pytest

from apvfio.engine import broker
from apvfio.engine.calls import Acquire, answer_of
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.model.ledger import HELD, STARTING, Lease
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from apvfio.store import stop_records
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, a_request, guest, mdev
from machines import Machine

KERNELS = ("6.1", "6.12", "7.2")


class Busy(Machine):
    """A machine with a real lock, and many who want it at once."""

    def __init__(self, kernel: SimKernel | None = None) -> None:
        super().__init__(kernel)
        self._lock = threading.Lock()

    def lock(self) -> AbstractContextManager[None]:
        return _Held(self._lock)

    def together(self, *calls: Callable[[], Any]) -> list[Future[Any]]:
        """Make the calls, one after the other, while somebody has the lock; then let them have it."""
        with ThreadPoolExecutor(len(calls)) as pool, self._lock:
            futures = []
            for call in calls:
                waiting = len(self.room.tickets())
                futures.append(pool.submit(call))
                while len(self.room.tickets()) == waiting:
                    time.sleep(0.001)
        return futures

    def start(self, *requests: Request) -> list[Future[Lease]]:
        return self.together(*(partial(broker.acquire, self, request) for request in requests))

    @property
    def mask_writes(self) -> int:
        return sum(path in ("bus/ap/apmask", "bus/ap/aqmask") for path, _ in self.sysfs.written)


class _Held:
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.fixture(params=KERNELS)
def machine(request: pytest.FixtureRequest) -> Busy:
    adapters = dict.fromkeys(range(16), "cca")
    return Busy(SimKernel.new(request.param, adapters=adapters, domains=IdSet(range(4))))


def errors(futures: Sequence[Future[Any]]) -> list[type[BaseException] | None]:
    return [type(error) if (error := future.exception()) else None for future in futures]


def test_many_starts_cost_one_mask_write(machine: Busy) -> None:
    before = machine.host
    requests = [a_request(str(n), "0-3", n) for n in range(10)]
    assert errors(machine.start(*requests)) == [None] * 10
    assert machine.mask_writes == 1
    assert machine.host.mdevs == {mdev(n): a_matrix(str(n), "0-3") for n in range(10)}
    assert {lease.state for lease in machine.ledger.leases.values()} == {HELD}
    assert not broker.reconcile(machine).steps
    machine.sysfs.written.clear()
    for n in range(10):
        stop_records.record(machine, guest(n))
    broker.stop(machine, guest(0))
    assert machine.mask_writes == 1
    assert machine.host == before
    assert not machine.ledger.owed


def test_who_starts_as_others_stop_gets_their_queues_without_a_detour(machine: Busy) -> None:
    broker.acquire(machine, a_request("0", "0-3", 1))
    machine.sysfs.written.clear()
    stop_records.record(machine, guest(1))
    broker.acquire(machine, a_request("0", "0-3", 2))
    assert stop_records.recorded(machine) == []
    assert machine.host.mdevs == {mdev(2): a_matrix("0", "0-3")}
    assert set(machine.ledger.leases) == {mdev(2)}
    assert machine.mask_writes == 0


def test_each_is_planned_as_if_the_others_had_been_started_before() -> None:
    wishes = [("0,1", "0"), ("0", "1"), ("2", "0,1"), ("1,3", "2"), ("5-7", "1")]
    requests = [a_request(a, d, n) for n, (a, d) in enumerate(wishes)]
    one, many = (
        Busy(SimKernel.new("7.2", adapters=dict.fromkeys(range(8), "cca"), domains=IdSet(range(4))))
        for _ in range(2)
    )
    expected = errors([_tried(one, request) for request in requests])
    assert errors(many.start(*requests)) == expected
    assert many.host == one.host
    ways = [{m: lease.way for m, lease in machine.ledger.leases.items()} for machine in (one, many)]
    assert ways[0] == ways[1]
    assert many.ledger.owed == one.ledger.owed


def test_the_refused_hinder_nobody(machine: Busy) -> None:
    machine.files.texts[POLICY] = '[reserve]\nqueues = ["03.0001"]\n'
    futures = machine.start(
        a_request("0", "0", 1),
        a_request("0", "0", 2),
        a_request("3", "1", 3),
        a_request("77", "1", 4),
        a_request("1", "0", 5),
    )
    assert errors(futures) == [None, ConflictError, PolicyError, HostError, None]
    assert str(futures[1].exception()).startswith("guest g2: 00.0000 is held by guest g1.")
    assert str(futures[2].exception()).startswith("guest g3: ")
    assert set(machine.host.mdevs) == {mdev(1), mdev(5)}
    assert not broker.reconcile(machine).steps


def test_wishes_are_given_different_queues(machine: Busy) -> None:
    wanting = [a_request("0", "0", n)._replace(matrix=Matrix(), wish=Criteria("cca")) for n in range(6)]
    futures = machine.start(*wanting)
    assert errors(futures) == [None] * 6
    assert len({str(future.result().matrix) for future in futures}) == 6
    assert set(machine.ledger.last) == {guest(n) for n in range(6)}


def test_one_device_that_cannot_be_made_fails_one_guest(machine: Busy) -> None:
    def sabotage() -> None:
        raise OSError(EIO, "no")

    write = machine.sysfs.write

    def broken(path: str, text: str) -> None:
        if path == AP_MDEVS.create and text == mdev(2):
            sabotage()
        write(path, text)

    machine.sysfs.write = broken  # type: ignore[method-assign]
    futures = machine.start(*(a_request(str(n), "0", n) for n in (1, 2, 3)))
    assert [bool(error) for error in errors(futures)] == [False, True, False]
    assert str(futures[1].exception()).startswith("guest g2: ")
    assert set(machine.host.mdevs) == {mdev(1), mdev(3)}
    assert set(machine.ledger.leases) == {mdev(1), mdev(3)}
    assert not broker.reconcile(machine).steps


def test_what_fails_for_all_is_tried_for_each(machine: Busy) -> None:
    """One bad bit shall not keep the others from starting."""
    write = machine.sysfs.write

    def broken(path: str, text: str) -> None:
        if path.endswith(("apmask", "aqmask")) and "-3" in text.split(","):
            raise OSError(EIO, "no")
        write(path, text)

    machine.sysfs.write = broken  # type: ignore[method-assign]
    futures = machine.start(*(a_request(str(n), "0-3", n) for n in (1, 3, 5)))
    assert [bool(error) for error in errors(futures)] == [False, True, False]
    assert set(machine.host.mdevs) == {mdev(1), mdev(5)}
    assert not broker.reconcile(machine).steps


def test_who_died_waiting_gets_nothing(machine: Busy) -> None:
    """Served, but its hook was killed before it could claim: the next call ends that lease."""
    with machine.room.post(Acquire(a_request("1", "0-3", 1)).as_json()) as dying:
        broker.acquire(machine, a_request("2", "0-3", 2))
        assert dying.answer == answer_of(None)
        assert machine.ledger.leases[mdev(1)].state == STARTING
        # As long as it lives nobody takes it away.
        assert not broker.reconcile(machine).steps
        broker.acquire(machine, a_request("3", "0-3", 3))
        assert machine.ledger.leases[mdev(1)].state == STARTING
    assert broker.reconcile(machine).steps
    assert set(machine.host.mdevs) == set(machine.ledger.leases) == {mdev(2), mdev(3)}


def test_served_but_taken_back(machine: Busy) -> None:
    with machine.room.post(Acquire(a_request("1", "0-3", 1)).as_json()) as mine:
        broker.acquire(machine, a_request("2", "0-3", 2))
        broker.release(machine, guest(1))
        machine.room.post = lambda _: _Given(mine)  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(ApvfioError, match="guest g1: its queues were taken back before it started"):
            broker.acquire(machine, a_request("1", "0-3", 1))
    assert set(machine.host.mdevs) == {mdev(2)}


def test_a_call_of_another_version_is_left_alone(machine: Busy) -> None:
    with machine.room.post({"call": "dance"}) as strange:
        broker.acquire(machine, a_request("1", "0-3", 1))
        broker.release(machine, guest(1))
        assert strange.answer is None


class _Given:
    def __init__(self, ticket: object) -> None:
        self._ticket = ticket

    def __enter__(self) -> object:
        return self._ticket

    def __exit__(self, *_: object) -> None:
        pass


def _tried(machine: Machine, request: Request) -> Future[Lease]:
    future: Future[Lease] = Future()
    try:
        future.set_result(broker.acquire(machine, request))
    except ApvfioError as error:
        future.set_exception(error)
    return future
