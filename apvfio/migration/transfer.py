# SPDX-License-Identifier: Apache-2.0
"""Let libvirt migrate a running guest, until the migration ends or has to be ended."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from apvfio.migration.budget import Budget
    from apvfio.migration.transfer_process import Order, TransferProcess

_BEAT = 0.2
_ABORTING = 5.0
"""Seconds that libvirt has to abort a migration."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terms(NamedTuple):
    """How a guest is to be migrated."""

    route: str | None = None
    """libvirt's migration URI, None for libvirt's own choice."""
    route_back: str | None = None
    """The same for the way back."""
    keep_definition: bool = False
    """Whether the guest stays defined where it was, too."""
    encrypted: bool = False


def transfer(
    process: TransferProcess,
    order: Order,
    budget: Budget,
    *,
    abort: Callable[[], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Have a guest moved.

    ``meanwhile`` is called again and again until libvirt is done, ``abort`` if the move has to end before.
    ApvfioError if libvirt refuses or fails, if the budget is used up, or if a signal ends it; where the guest
    is then, `GuestPlaces` tell.
    """
    process.begin(order)
    why: ApvfioError | None = None
    while why is None:
        try:
            failed = process.answer(_BEAT)
            if failed is not None:
                break
            meanwhile()
            if budget.left() <= 0:
                why = budget_is_over(budget)
        except InterruptionError as interrupted:
            why = interrupted
    else:
        failed = _ended(process, abort, budget)
    if failed:
        raise why or failed[0]


def _ended(process: TransferProcess, abort: Callable[[], None], budget: Budget) -> list[ApvfioError]:
    """End a transfer; return None if it was completed nevertheless."""
    budget.turn_back()
    # A part of the time is reserved for undoing the migration.
    deadline = time.monotonic() + min(_ABORTING, budget.left() / 3)
    while time.monotonic() < deadline:
        abort()
        failed = process.answer(_BEAT)
        if failed is not None:
            return failed
    process.kill()
    return [ApvfioError("libvirt did not end the migration.")]


def budget_is_over(budget: Budget) -> ApvfioError:
    """The error for a migration that takes too long."""
    return ApvfioError(
        f"the migration could not be completed within {budget.seconds or 0:g} s.",
        remedy="Give it more time with --timeout, or a faster connection with --migrate-uri.",
    )


class InterruptionError(ApvfioError):
    """A signal has ended a program."""


def interruptible() -> AbstractContextManager[None]:
    """The signals that end a program raise `InterruptionError`, once: then the migration is undone."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise InterruptionError("it was interrupted.")

    return _handled_by(interrupt)


def uninterrupted() -> AbstractContextManager[None]:
    """Ignore the same signals, so that undoing the migration is not interrupted."""
    return _handled_by(signal.SIG_IGN)


@contextmanager
def _handled_by(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
