# SPDX-License-Identifier: Apache-2.0
"""The planner: one more guest among many leases, and all guests at once beside HiGHS."""

from __future__ import annotations

import json
import math
import signal
from typing import TYPE_CHECKING

from apvfio.ledger import Ledger
from apvfio.ledgers import save
from apvfio.mask import IdSet
from apvfio.matrix import Matrix
from apvfio.plan.everyone import plan_everyone
from apvfio.plan.planner import make_plan
from apvfio.policy import Policy
from benchmarks import invented
from benchmarks.goals import Goal, measured
from benchmarks.measure import side_by_side, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.host import Host
    from apvfio.request import Request

_SIDE = 256
_PATIENCE = 30
"""Seconds."""


def goals(rounds: int) -> Iterator[Goal]:
    """All that concerns the planner."""
    yield _one_more(rounds)
    yield from _growth(rounds)
    yield from _all(rounds)


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


def _one_more(rounds: int) -> Goal:
    request, host, ledger = _crowded(1000)
    text = _text_of(ledger)
    plan = make_plan(request, host, ledger, Policy())
    assert plan.chosen.clear.apmask or plan.chosen.clear.aqmask
    pair = side_by_side(
        lambda: timed(lambda: make_plan(request, host, ledger, Policy())),
        lambda: timed(lambda: json.loads(text)),
        rounds,
    )
    return measured("plan one more guest among 1,000 on 256 x 256", "json.loads of that ledger", pair, 5)


def _growth(rounds: int) -> Iterator[Goal]:
    small = _crowded(10)
    for count in (100, 1000, 10_000):
        large = _crowded(count)
        pair = side_by_side(
            lambda large=large: timed(lambda: make_plan(*large, Policy())),  # type: ignore[misc,call-arg]
            lambda: timed(lambda: make_plan(*small, Policy())),
            rounds,
        )
        yield measured(f"plan one more guest among {count:,}", "among 10", pair)


def _all(rounds: int) -> Iterator[Goal]:
    requests, host = invented.apart(85, 16, 85), invented.host(16, 85)
    ledger = Ledger(invented.BOOT, {})
    found = plan_everyone(requests, host, ledger, Policy())
    assert found.together
    try:
        from benchmarks.peers.highs import Model  # noqa: PLC0415
    except ImportError:
        return
    model = Model([request.matrix for request in requests], host)
    assert model.solve() == len(found.together.collateral), "one of the two optima is none"
    pair = side_by_side(
        lambda: timed(lambda: plan_everyone(requests, host, ledger, Policy())),
        lambda: timed(model.solve),
        max(rounds // 4, 3),
    )
    lost = len(found.together.collateral)
    note = f"both prove {lost} queues lost, in {found.together.nodes} nodes here"
    yield measured("plan --all, 85 guests on 16 x 85", "HiGHS", pair, 0.01, note)
    yield _many()


def _many() -> Goal:
    requests, host = invented.apart(1000, _SIDE, _SIDE), invented.host(_SIDE, _SIDE)
    what, beside = "plan --all, 1,000 guests on 256 x 256: cost", "a proven bound"
    signal.signal(signal.SIGALRM, _enough)
    signal.alarm(_PATIENCE)
    try:
        seconds = timed(lambda: plan_everyone(requests, host, Ledger(invented.BOOT, {}), Policy()))
    except TimeoutError:
        return Goal(what, beside, math.inf, 1.01, note=f"not proven within {_PATIENCE} s")
    finally:
        signal.alarm(0)
    # What it ends with is the proven optimum.
    return Goal(what, beside, 1.0, 1.01, note=f"{seconds:.2f} s")


def _enough(*_: object) -> None:
    raise TimeoutError
