# SPDX-License-Identifier: Apache-2.0
"""Everything that changes a host, each with a host to do it on: the table whose cells are crashed."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from apvfio import broker, changing, hook
from apvfio.errors import ApvfioError
from apvfio.host import MASKS, OVERRIDES
from apvfio.mask import parse_edit
from apvfio.masks_change import change_masks
from apvfio.persistence import define, undefine
from apvfio.plan.edit import Wish as MaskWish
from apvfio.promises import Process
from apvfio.sim.profile import PROFILES
from hosts import a_request, guest, mdev
from machines import Killed
from model.befores import (
    ANEW,
    BESIDE,
    CONTROLLING,
    ONE,
    TWO,
    WISHING,
    attached,
    both,
    defined,
    device_gone,
    domain_xml,
    half_started,
    held,
    narrowed,
    nothing,
    offline,
    offline_held,
    overridden,
    owing,
    queue_strayed,
    ready_made,
    unbound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.request import Request
    from machines import Machine
    from model.befores import Cell

WHOLE = "whole"
"""Struck anywhere, one reconcile leaves the host as before the verb or as after it."""
PARTS = "parts"
"""What an administrator ordered is in no ledger: each mask, queue and file is as before or as after, and
ordering it again does the rest."""


CHANGER = Process(4242, 1)


class Verb(NamedTuple):
    """Something that changes a host."""

    name: str
    before: Callable[[Machine], object]
    """What has happened on the host before."""
    run: Callable[[Machine], object]
    promise: str = WHOLE
    modes: tuple[str, ...] = (MASKS, OVERRIDES)
    """Where it can be."""
    between: Callable[[Machine], object] | None = None
    """What may be found as well: a guest that starts has lost what it held in an earlier life, and what was
    tried and given up has left a queue bound that had no driver."""
    undoes: bool = False
    """Whether it undoes all when a write fails: then it leaves parts only if it dies."""

    def fits(self, cell: Cell) -> bool:
        """Whether it can be in a host of that kind."""
        return cell.mode in self.modes and (self.name != "mode: masks" or PROFILES[cell.profile].overrides)


def masks(
    apmask: str, aqmask: str, *, active: bool = True, persistent: bool = True
) -> Callable[[Machine], object]:
    """``apvfio masks`` with these changes."""
    wish = MaskWish(parse_edit(apmask), parse_edit(aqmask), active, persistent)
    return lambda machine: change_masks(machine, wish, lambda change: None)


def called(machine: Machine, operation: str, request: Request) -> tuple[int, str]:
    """The hook's exit code for ``operation`` of libvirt's, and what it says."""
    with redirect_stderr(StringIO()) as said:
        code = hook.main([request.guest, operation, "begin", "-"], machine, domain_xml(request))
    return code, said.getvalue()


def serve(operation: str, request: Request) -> Callable[[Machine], object]:
    """The hook's ``operation``; raises what it says, which libvirt hears of at prepare alone."""

    def run(machine: Machine) -> None:
        code, said = called(machine, operation, request)
        assert not said.startswith("apvfio: unexpected")
        assert bool(code) == (bool(said) and operation == "prepare")
        if said:
            raise ApvfioError(said)

    return run


def given_up(request: Request) -> Callable[[Machine], object]:
    """The guest was started and stopped."""

    def run(machine: Machine) -> None:
        broker.acquire(machine, request)
        broker.release(machine, request.guest_uuid)

    return run


def changed(adapters: str, domains: str, *, kept: bool = True) -> Callable[[Machine], object]:
    """Guest 1 gets other queues while it runs; who changes it may die at it."""

    def run(machine: Machine) -> None:
        try:
            done = changing.change(machine, a_request(adapters, domains, 1), CHANGER)
            (changing.keep if kept else changing.undo)(machine, done)
        except (ApvfioError, Killed):
            machine.dead.add(CHANGER.pid)
            raise

    return run


VERBS = (
    Verb("acquire", nothing, lambda m: broker.acquire(m, TWO)),
    Verb("acquire: control domains", nothing, lambda m: broker.acquire(m, CONTROLLING)),
    Verb("acquire: beside another", held, lambda m: broker.acquire(m, BESIDE)),
    Verb("acquire: by wish", held, lambda m: broker.acquire(m, WISHING)),
    Verb(
        "acquire: other queues, not released",
        held,
        lambda m: broker.acquire(m, ANEW),
        between=lambda m: broker.release(m, guest(1)),
    ),
    Verb("acquire: after a death", half_started, lambda m: broker.acquire(m, ONE)),
    Verb("acquire: of what is owed", owing, lambda m: broker.acquire(m, a_request("0,10", "1-2", 2))),
    Verb("acquire: an offline queue", offline, lambda m: broker.acquire(m, TWO)),
    Verb("acquire: an unbound queue", unbound, lambda m: broker.acquire(m, TWO), between=given_up(TWO)),
    Verb(
        "acquire: a device ready made",
        ready_made,
        lambda m: broker.acquire(m, TWO),
        modes=(MASKS,),
        between=given_up(TWO),
    ),
    Verb("release", held, lambda m: broker.release(m, guest(1))),
    Verb("release: one of two", both, lambda m: broker.release(m, guest(1))),
    Verb("release: an offline queue", offline_held, lambda m: broker.release(m, guest(1))),
    Verb("release: what is owed", owing, lambda m: broker.release(m, guest(1))),
    Verb("release --force", attached, lambda m: broker.release(m, guest(1), force=True)),
    Verb("change: more", held, changed("0,10", "1-2,4")),
    Verb("change: less", held, changed("10", "2")),
    Verb("change: beside another", both, changed("0,10", "2,4")),
    Verb("change: other queues", held, changed("1", "4,27")),
    Verb("change: both ways", attached, changed("1,10", "2,4")),
    Verb("change: an offline queue", offline_held, changed("0-1,10", "1,4")),
    Verb("change: undone", held, changed("1,10", "2,4", kept=False)),
    Verb("reconcile: a half start", half_started, broker.reconcile),
    Verb("reconcile: a device gone", device_gone, broker.reconcile),
    Verb("reconcile: a queue strayed", queue_strayed, broker.reconcile),
    Verb("reconcile: what is owed", owing, broker.reconcile),
    Verb("hook: prepare", nothing, serve("prepare", ONE)),
    Verb("hook: release", both, serve("release", ONE)),
    Verb("hook: reconnect", half_started, serve("reconnect", ONE)),
    Verb("mode: overrides", narrowed, lambda m: broker.switch_mode(m, OVERRIDES), PARTS, (OVERRIDES,)),
    Verb("mode: masks", overridden, lambda m: broker.switch_mode(m, MASKS), PARTS, (OVERRIDES,)),
    Verb(
        "masks: active",
        narrowed,
        masks("+0,-1", "+1,-4", persistent=False),
        PARTS,
        (MASKS,),
        undoes=True,
    ),
    Verb("masks: persistent", held, masks("-1", "-4", active=False), PARTS, (MASKS,)),
    Verb("masks: both", held, masks("-1", "-4"), PARTS, (MASKS,)),
    Verb("masks: of what is owed", owing, masks("-0", "-1"), PARTS, (MASKS,)),
    Verb("define", nothing, lambda m: define(m, TWO), PARTS),
    Verb("undefine", defined, lambda m: undefine(m, mdev(2)), PARTS),
)
