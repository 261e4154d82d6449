# SPDX-License-Identifier: Apache-2.0
"""The planner: one more guest among many leases; all guests at once beside HiGHS and a proven bound."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from apvfio.model.ids import IdSet
from apvfio.model.ledger import Ledger
from apvfio.model.matrix import Matrix
from apvfio.model.policy import Policy
from apvfio.plan.all_guests import plan_all_guests
from apvfio.plan.start_plan import make_plan
from apvfio.store.ledger_file import save
from benchmarks import invented
from benchmarks.goals import Goal, measured
from benchmarks.measure import side_by_side, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.model.request import Request
    from apvfio.plan.joint import JointPlan

_SIDE = 256
_TIMES = 5
"""Runs that are timed as one: the shortest take half a millisecond."""
_SEEDS = range(1, 6)
_MANY = 1000


def goals(rounds: int) -> Iterator[Goal]:
    """All that concerns the planner."""
    yield _one_more(rounds)
    yield from _growth(rounds)
    yield from _beside_highs(rounds)
    for adapters in (16, 64, _SIDE):
        yield _many(adapters)


class _Text:
    """Files that keep the last text written."""

    text = ""

    def write(self, _path: str, text: str, mode: int = 0o600) -> None:
        del mode
        self.text = text


def _text_of(ledger: Ledger) -> str:
    files = _Text()
    save(files, ledger)  # type: ignore[arg-type]
    return files.text


def _crowded(count: int) -> tuple[Request, Host, Ledger]:
    """One more guest on a host of 256 x 256 queues where ``count`` run."""
    requests = invented.apart(count, _SIDE - 6, _SIDE)
    host, ledger = invented.running(requests, invented.host(_SIDE, _SIDE))
    # Two of the adapters nobody has: its plan has to free them.
    wish = Matrix(IdSet([_SIDE - 1, _SIDE - 2]), IdSet([1, 2, 4]))
    return invented.request(1 << 20, wish), host, ledger


def _plans(case: tuple[Request, Host, Ledger]) -> float:
    return timed(lambda: make_plan(*case, Policy()), _TIMES)


def _one_more(rounds: int) -> Goal:
    case = _crowded(1000)
    clear = make_plan(*case, Policy()).chosen.clear
    assert clear.apmask or clear.aqmask
    text = _text_of(case[2])
    pair = side_by_side(lambda: _plans(case), lambda: timed(lambda: json.loads(text), _TIMES), rounds)
    return measured("plan one more guest among 1,000 on 256 x 256", "json.loads of that ledger", pair, 5)


def _growth(rounds: int) -> Iterator[Goal]:
    small = _crowded(10)
    # No more than the number of leases grows, and a quarter.
    for count, most in ((100, None), (1000, None), (10_000, 1250)):
        large = _crowded(count)
        pair = side_by_side(lambda large=large: _plans(large), lambda: _plans(small), rounds)  # type: ignore[misc]
        yield measured(f"plan one more guest among {count:,}", "among 10", pair, most)


def _beside_highs(rounds: int) -> Iterator[Goal]:
    from benchmarks.peers.highs import Model  # noqa: PLC0415

    host = invented.host(16, 85)
    for seed in _SEEDS:
        requests = invented.apart(85, 16, 85, seed)
        model = Model([request.matrix for request in requests], host)
        found = _planned(requests, host)
        lost = len(found.collateral)
        assert model.solve() == found.least == lost, "one of the two optima is none"
        pair = side_by_side(
            lambda requests=requests: timed(lambda: _planned(requests, host)),  # type: ignore[misc]
            lambda model=model: timed(model.solve),  # type: ignore[misc]
            max(rounds // 4, 1),
        )
        what = f"plan --all, 85 guests on 16 x 85, set {seed}"
        yield measured(what, "HiGHS", pair, 0.01, f"both prove {lost} queues lost")


def _planned(requests: list[Request], host: Host) -> JointPlan:
    found = plan_all_guests(requests, host, Ledger(invented.BOOT, {}), Policy()).joint_plan
    assert found
    return found


def _many(adapters: int) -> Goal:
    """Guests anywhere on some of the adapters; the host has all."""
    requests, host = invented.apart(_MANY, adapters, _SIDE), invented.host(_SIDE, _SIDE)
    begin = time.perf_counter()
    found = _planned(requests, host)
    seconds = time.perf_counter() - begin
    lost = len(found.collateral)
    what = f"plan --all, {_MANY:,} guests on {adapters} adapters of 256 x 256: queues lost"
    note = f"{lost:,} and {found.least:,}, in {seconds:.2f} s"
    return Goal(what, "the bound it proves", lost / found.least, 1.01, note=note)
