# SPDX-License-Identifier: Apache-2.0
"""Who meets whom on a host: hooks, tools and the machine, and what must be true however they take turns.

The promises are those of `model.world`, and for a start that succeeds a stronger one: nobody here takes
away what apvfio has made, so its guest has all its queues in the end.
"""

from __future__ import annotations

import random
from contextlib import redirect_stderr
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.ledger import HELD
from hosts import a_matrix, a_request, guest, mdev
from model import rivals
from model.acts import (
    Stage,
    change,
    checked,
    chzdev,
    dies,
    half_served,
    in_turn,
    mdevctl,
    prepare,
    reconcile,
    refused,
    release,
    replug,
    strayed,
    unheard,
    unplug,
    unserved,
)
from model.befores import ANEW, BESIDE, ONE, TWO, end_qemu, run_qemu
from model.endings import require_home, require_no_record
from model.promised import require
from model.schedule import Plan, by_chance, more
from model.views import VFIO, disagreements, promises, still_pending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.model.request import Request
    from model.acts import Act
    from model.befores import Cell
    from model.schedule import Chooser, Point

    Acts = dict[str, Act]


class Meeting(NamedTuple):
    """Who meets."""

    before: tuple[Request, ...]
    """The guests that run before."""
    acts: Acts


MORE = ONE._replace(matrix=a_matrix("0,10", "1-2,4"))
OTHER = ONE._replace(matrix=a_matrix("0", "2,4"))

MEETINGS: dict[str, Meeting] = {
    "two starts": Meeting((), {"one": prepare(ONE), "beside": prepare(BESIDE)}),
    "two starts that want the same": Meeting(
        (), {"one": prepare(ONE), "same": prepare(a_request("10", "2", 2))}
    ),
    "a start and a stop": Meeting((ONE,), {"stop": release(ONE), "beside": prepare(BESIDE)}),
    "two stops": Meeting((ONE, BESIDE), {"stop": release(ONE), "stop beside": release(BESIDE)}),
    "a stop and a start of the same guest": Meeting(
        (ONE,), {"again": in_turn(release(ONE), prepare(ONE)), "timer": reconcile}
    ),
    "a start, a start, a stop": Meeting(
        (ONE,), {"stop": release(ONE), "beside": prepare(BESIDE), "third": prepare(a_request("1", "27", 3))}
    ),
    "a stop that is only recorded and a start": Meeting(
        (ONE,), {"stop": unserved(ONE), "beside": prepare(BESIDE)}
    ),
    "a stop that is only recorded and the timer": Meeting(
        (ONE,), {"stop": unserved(ONE), "timer": reconcile}
    ),
    "a stop that is only recorded and another stop": Meeting(
        (ONE, BESIDE), {"stop": unserved(ONE), "stop beside": release(BESIDE)}
    ),
    "a stop that is only recorded and a change": Meeting(
        (ONE, BESIDE), {"stop": unserved(ONE), "change": change(BESIDE._replace(matrix=a_matrix("1", "1")))}
    ),
    "a stop that is only recorded, a start of the same guest, the timer": Meeting(
        (ONE,), {"again": in_turn(unserved(ONE), prepare(ONE)), "timer": reconcile}
    ),
    "a stop that dies, a start of the same guest, another start": Meeting(
        (ONE,), {"again": in_turn(half_served(ONE, 1), prepare(OTHER)), "beside": prepare(BESIDE)}
    ),
    "a stop that dies late, a start of the same guest, the timer": Meeting(
        (ONE,), {"again": in_turn(half_served(ONE, 2), prepare(ONE)), "timer": reconcile}
    ),
    "a stop of what another daemon did not start and the timer": Meeting(
        (ONE,), {"stray": strayed(ONE), "timer": reconcile}
    ),
    "a stop of what another daemon did not start and a start": Meeting(
        (ONE,), {"stray": strayed(ONE), "beside": prepare(BESIDE)}
    ),
    "a start of a guest that runs and the timer": Meeting(
        (ONE,), {"again": refused(ANEW), "timer": reconcile}
    ),
    "an end unheard and a start": Meeting((ONE,), {"end": unheard(ONE), "beside": prepare(BESIDE)}),
    "an end unheard and a start of the same guest": Meeting(
        (ONE,), {"again": in_turn(unheard(ONE), prepare(OTHER)), "timer": reconcile}
    ),
    "a start that dies and another": Meeting((), {"dies": dies(ONE, 3), "beside": prepare(BESIDE)}),
    "a start that dies and the timer": Meeting((), {"dies": dies(ONE, 3), "timer": reconcile}),
    "a start and the timer": Meeting((), {"one": prepare(ONE), "timer": reconcile}),
    "a start and chzdev": Meeting((), {"one": prepare(ONE), "chzdev": chzdev("-1", "")}),
    "a start and chzdev that takes all back": Meeting(
        (), {"one": prepare(ONE), "chzdev": chzdev("0-255", "0-255")}
    ),
    "a stop and chzdev": Meeting((ONE,), {"stop": release(ONE), "chzdev": chzdev("-1", "-4")}),
    "a start and mdevctl": Meeting((TWO,), {"one": prepare(BESIDE), "mdevctl": mdevctl("1", "27")}),
    "a stop and mdevctl": Meeting((ONE,), {"stop": release(ONE), "mdevctl": mdevctl("0", "4")}),
    "a stop and ap-check": Meeting((ONE,), {"stop": release(ONE), "mdevctl": checked("0", "4")}),
    "a start and ap-check": Meeting((ONE,), {"one": prepare(BESIDE), "mdevctl": checked("1", "1")}),
    "a start and a card that goes": Meeting((), {"one": prepare(ONE), "machine": unplug(10)}),
    "a stop and a card that goes": Meeting((ONE,), {"stop": release(ONE), "machine": unplug(10)}),
    "a start and a card that comes again": Meeting((), {"one": prepare(TWO), "machine": replug(1)}),
    "a stop and a card that comes again": Meeting((TWO,), {"stop": release(TWO), "machine": replug(1)}),
    "a change and a start": Meeting((ONE,), {"change": change(MORE), "beside": prepare(BESIDE)}),
    "a change and a start that wants the same": Meeting(
        (ONE,), {"change": change(MORE), "same": prepare(a_request("10", "4", 2))}
    ),
    "a change and a stop": Meeting((ONE, BESIDE), {"change": change(OTHER), "stop": release(BESIDE)}),
    "a change and the timer": Meeting((ONE,), {"change": change(OTHER), "timer": reconcile}),
    "a change and chzdev": Meeting((ONE,), {"change": change(OTHER), "chzdev": chzdev("-1", "+4")}),
    "a change and mdevctl": Meeting((ONE,), {"change": change(MORE), "mdevctl": mdevctl("10", "4")}),
    "a change and ap-check": Meeting((ONE,), {"change": change(MORE), "mdevctl": checked("0", "4")}),
    "a change and a card that goes": Meeting((ONE,), {"change": change(MORE), "machine": unplug(10)}),
    "two starts and chzdev": Meeting(
        (), {"one": prepare(ONE), "beside": prepare(BESIDE), "chzdev": chzdev("-99", "+4")}
    ),
    "two starts and mdevctl": Meeting(
        (), {"one": prepare(ONE), "beside": prepare(BESIDE), "mdevctl": mdevctl("0", "4")}
    ),
    "two starts and a card that goes": Meeting(
        (), {"one": prepare(ONE), "beside": prepare(BESIDE), "machine": unplug(10)}
    ),
    "everybody": Meeting(
        (ONE,),
        {
            "stop": release(ONE),
            "beside": prepare(BESIDE),
            "third": prepare(a_request("1", "27", 3)),
            "chzdev": chzdev("-99", "+4"),
            "mdevctl": checked("0", "27"),
            "machine": unplug(10),
            "timer": reconcile,
        },
    ),
}


SMALL = tuple(name for name, meeting in MEETINGS.items() if len(meeting.acts) == 2)


class Met(NamedTuple):
    """What came of taking turns in many ways."""

    tried: int
    broken: list[str]


def in_every_way(name: str, cell: Cell, switches: int, *, reads: bool, locks: bool = False) -> Met:
    """Every schedule of that meeting with at most so many unneeded switches, with ``locks`` at locks only."""
    meeting = MEETINGS[name]
    plans = [Plan(((0, actor),)) for actor in meeting.acts]
    tried, broken = 0, []
    while plans:
        plan = plans.pop()
        tried += 1
        try:
            points = meet(meeting, cell, plan.choose, reads=reads)
        except Exception as error:
            broken.append(f"{name} on {cell}, {plan}, {reads=}: {type(error).__name__}: {error}")
            continue
        plans += more(plan, [point for point in points if not locks or point.at_lock], switches)
    return Met(tried, broken)


def in_some_ways(name: str, cell: Cell, switches: int, seed: str, times: int) -> Met:
    """So many schedules of those with exactly so many switches, and the ways to them."""
    meeting, dice = MEETINGS[name], random.Random(f"{seed} {name} {cell}")
    tried, broken = 0, []
    for _ in range(times):
        plans = [Plan(((0, actor),)) for actor in meeting.acts]
        while plans:
            plan = dice.choice(plans)
            tried += 1
            try:
                points = meet(meeting, cell, plan.choose, reads=False)
            except Exception as error:
                broken.append(f"{name} on {cell}, {plan}: {type(error).__name__}: {error}")
                break
            plans = list(more(plan, points, switches))
    return Met(tried, broken)


def in_random_ways(name: str, cell: Cell, seed: str, times: int) -> Met:
    """So many schedules by chance."""
    broken = []
    for n in range(times):
        dice = random.Random(f"{seed}.{n}")
        try:
            meet(MEETINGS[name], cell, by_chance(dice, dice.choice((0.02, 0.1, 0.5))), reads=True)
        except Exception as error:
            broken.append(f"{name} on {cell}, seed {seed}.{n}: {type(error).__name__}: {error}")
    return Met(times, broken)


def meet(meeting: Meeting, cell: Cell, choose: Chooser, *, reads: bool) -> list[Point]:
    """Let them meet once and see that the promises hold; the points at which another could have gone on."""
    stage = Stage(cell, choose, reads=reads)
    with stage.scheduler.clock.running():
        for request in meeting.before:
            start_guest(stage.machine.process(), request)
            run_qemu(stage.machine, request)
            stage.started[request.guest_uuid] = request
        with redirect_stderr(stage.ears):
            stage.scheduler.run({name: partial(act, stage) for name, act in meeting.acts.items()})
        _check(stage)
    return stage.scheduler.points


def _check(stage: Stage) -> None:
    machine = stage.machine
    _none(stage.shadow.differences())
    reconcile_host(machine.process())
    _require_started(stage)
    require_home(
        machine, dict.fromkeys((int(uuid[:8], 16) for uuid in stage.stopped), 0), stage.scheduler.clock.now
    )
    require_no_record(machine)
    _none(disagreements(machine))
    _none(still_pending(machine))
    _none(stage.shadow.differences())
    again = reconcile_host(machine.process())
    require(f"another reconcile takes {again.steps}", not again.steps)
    rivals.mdevctl_stop(stage.shadow, mdev(9))
    for n in (1, 2, 3):
        end_qemu(machine, a_request("0", "1", n))
        release_guest(machine.process(), guest(n))
    left = promises(machine.ledger)
    require(f"there is left {left}", not (left.leases or left.pending or left.overrides or left.offline))
    _none(stage.shadow.settled_differences())


def _require_started(stage: Stage) -> None:
    state, ledger = stage.machine.kernel.state, stage.machine.ledger
    for request in stage.started.values():
        lease, made = ledger.leases.get(request.mdev), state.mdevs.get(request.mdev)
        require(f"{request.guest} started and has {lease}", lease is not None and lease.state == HELD)
        require(f"{request.guest} started and has {made}", made is not None and made.matrix == request.matrix)
        there = [queue for queue in request.matrix.queues() if queue in state.queues]
        strayed = [str(queue) for queue in there if state.queues[queue].driver != VFIO]
        require(f"{request.guest} started without {strayed}", not strayed)


def _none(found: Iterable[str]) -> None:
    for what in found:
        require(what, holds=False)
