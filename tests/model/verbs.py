# SPDX-License-Identifier: Apache-2.0
"""Everything that changes a host, each with a host to do it on: the table whose cells are crashed."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine import live_change
from apvfio.engine.edit_masks import change_masks
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.libvirt import hook
from apvfio.mdevctl.persistent_device import define, undefine
from apvfio.model.errors import ApvfioError
from apvfio.model.host import MASKS, OVERRIDES
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.profile import PROFILES
from hosts import a_request, guest, mdev
from model.befores import (
    ANEW,
    BESIDE,
    BY_CRITERIA,
    CONTROLLING,
    ONE,
    TWO,
    attached,
    both,
    defined,
    device_gone,
    died,
    domain_xml,
    expected,
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
    recorded,
    recorded_beside,
    running,
    starting_up,
    strayed,
    unbound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.model.request import Request
    from memory_host import Machine
    from model.befores import Cell

WHOLE = "whole"
"""Struck anywhere, one reconcile leaves the host as before the verb or as after it."""
PARTS = "parts"
"""What an administrator ordered is in no ledger: each mask, queue and file is as before or as after, and
ordering it again does the rest."""


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
    spares: bool = False
    """Whether guest 1, which shows signs of life, must have all that it had."""
    undoes: bool = False
    """Whether it undoes all when a write fails: then it leaves parts only if it dies."""

    def fits(self, cell: Cell) -> bool:
        """Whether it can be in a host of that kind."""
        return cell.mode in self.modes and (self.name != "mode: masks" or PROFILES[cell.profile].overrides)


def masks(
    apmask: str, aqmask: str, *, active: bool = True, persistent: bool = True
) -> Callable[[Machine], object]:
    """``apvfio masks`` with these changes."""
    edit = MaskEdit(parse_mask_spec(apmask), parse_mask_spec(aqmask), active, persistent)
    return lambda machine: change_masks(machine, edit, lambda change: None)


def called(machine: Machine, operation: str, request: Request, *, device: bool = True) -> tuple[int, str]:
    """The hook's exit code for ``operation``, and what it says; the guest may have no ``device``."""
    with redirect_stderr(StringIO()) as said:
        xml = domain_xml(request, device=device)
        code = hook.main([request.guest, operation, "begin", "-"], machine, xml)
    return code, said.getvalue()


def serve(operation: str, request: Request, *, device: bool = True) -> Callable[[Machine], object]:
    """The hook's ``operation``; raises what it says, which libvirt hears of at prepare alone."""

    def run(machine: Machine) -> None:
        code, said = called(machine, operation, request, device=device)
        assert not said.startswith("apvfio: unexpected")
        assert bool(code) == (bool(said) and operation == "prepare")
        if said:
            raise ApvfioError(said)

    return run


def refused(run: Callable[[Machine], object]) -> Callable[[Machine], object]:
    """``run``, which must be refused."""

    def refusing(machine: Machine) -> None:
        try:
            run(machine)
        except ApvfioError:
            return
        raise AssertionError("it was done")

    return refusing


def given_up(request: Request) -> Callable[[Machine], object]:
    """The guest was started and stopped."""

    def run(machine: Machine) -> None:
        start_guest(machine, request)
        release_guest(machine, request.guest_uuid)

    return run


def changed(adapters: str, domains: str, *, n: int = 1, kept: bool = True) -> Callable[[Machine], object]:
    """Guest ``n`` gets other queues while it runs; who changes it may die at it."""

    def run(machine: Machine) -> None:
        assert machine.processes
        changer = machine.processes.start()
        try:
            done = live_change.apply_change(machine, a_request(adapters, domains, n), changer)
            (live_change.commit if kept else live_change.roll_back)(machine, done)
        finally:
            machine.processes.end(changer.pid)

    return run


VERBS = (
    Verb("acquire", nothing, lambda m: start_guest(m, TWO)),
    Verb("acquire: control domains", nothing, lambda m: start_guest(m, CONTROLLING)),
    Verb("acquire: beside another", held, lambda m: start_guest(m, BESIDE)),
    Verb("acquire: by wish", held, lambda m: start_guest(m, BY_CRITERIA)),
    Verb(
        "acquire: other queues, not released",
        held,
        lambda m: start_guest(m, ANEW),
        between=lambda m: release_guest(m, guest(1)),
    ),
    Verb("acquire: after a death", half_started, lambda m: start_guest(m, ONE)),
    Verb("acquire: of pending returns", owing, lambda m: start_guest(m, a_request("0,10", "1-2", 2))),
    Verb("acquire: an offline queue", offline, lambda m: start_guest(m, TWO)),
    Verb("acquire: an unbound queue", unbound, lambda m: start_guest(m, TWO), between=given_up(TWO)),
    Verb(
        "acquire: a device ready made",
        ready_made,
        lambda m: start_guest(m, TWO),
        modes=(MASKS,),
        between=given_up(TWO),
    ),
    Verb("acquire: beside a recorded stop", recorded, lambda m: start_guest(m, BESIDE)),
    Verb("acquire: again after a recorded stop", recorded, lambda m: start_guest(m, ANEW)),
    Verb("acquire: of a dead guest's queues", died, lambda m: start_guest(m, a_request("10", "2", 2))),
    Verb("acquire: of a guest that runs", running, refused(lambda m: start_guest(m, ANEW)), spares=True),
    Verb("acquire: a guest that comes up", starting_up, refused(lambda m: start_guest(m, ANEW)), spares=True),
    Verb("expect", nothing, lambda m: start_guest(m, ONE, expected=True)),
    Verb("hook: arrival", expected, serve("prepare", ONE, device=False)),
    Verb(
        "release: of a guest that runs", running, refused(lambda m: release_guest(m, guest(1))), spares=True
    ),
    Verb(
        "release: a guest that comes up",
        starting_up,
        refused(lambda m: release_guest(m, guest(1))),
        spares=True,
    ),
    Verb("release: beside a recorded stop", recorded_beside, lambda m: release_guest(m, guest(3))),
    Verb("change: beside a recorded stop", recorded_beside, changed("1", "1", n=2)),
    Verb("reconcile: a recorded stop", recorded_beside, reconcile_host),
    Verb("reconcile: a dead guest", died, reconcile_host),
    Verb("reconcile: a guest that runs", strayed, reconcile_host, spares=True),
    Verb("hook: a recorded stop", recorded_beside, serve("release", ONE)),
    Verb("hook: a stop of another guest", recorded_beside, serve("release", a_request("0", "4", 3))),
    Verb("hook: a stop while it runs", strayed, refused(serve("release", ONE)), spares=True),
    Verb("release", held, lambda m: release_guest(m, guest(1))),
    Verb("release: one of two", both, lambda m: release_guest(m, guest(1))),
    Verb("release: an offline queue", offline_held, lambda m: release_guest(m, guest(1))),
    Verb("release: pending returns", owing, lambda m: release_guest(m, guest(1))),
    Verb("release --force", attached, lambda m: release_guest(m, guest(1), force=True)),
    Verb("change: more", held, changed("0,10", "1-2,4")),
    Verb("change: less", held, changed("10", "2")),
    Verb("change: beside another", both, changed("0,10", "2,4")),
    Verb("change: other queues", held, changed("1", "4,27")),
    Verb("change: both ways", attached, changed("1,10", "2,4")),
    Verb("change: an offline queue", offline_held, changed("0-1,10", "1,4")),
    Verb("change: undone", held, changed("1,10", "2,4", kept=False)),
    Verb("reconcile: a half start", half_started, reconcile_host),
    Verb("reconcile: a device gone", device_gone, reconcile_host),
    Verb("reconcile: a queue strayed", queue_strayed, reconcile_host),
    Verb("reconcile: pending returns", owing, reconcile_host),
    Verb("hook: prepare", nothing, serve("prepare", ONE)),
    Verb("hook: release", both, serve("release", ONE)),
    Verb("hook: reconnect", half_started, serve("reconnect", ONE)),
    Verb("mode: overrides", narrowed, lambda m: switch_mechanism(m, OVERRIDES), PARTS, (OVERRIDES,)),
    Verb("mode: masks", overridden, lambda m: switch_mechanism(m, MASKS), PARTS, (OVERRIDES,)),
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
    Verb("masks: of pending returns", owing, masks("-0", "-1"), PARTS, (MASKS,)),
    Verb("define", nothing, lambda m: define(m, TWO), PARTS),
    Verb("undefine", defined, lambda m: undefine(m, mdev(2)), PARTS),
)
