# SPDX-License-Identifier: Apache-2.0
"""libvirt moves a running guest from one host to another, until that is over or has to end."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from apvfio.libvirt.guests import Guest, Guests

_BEAT = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terms(NamedTuple):
    """How a guest shall be migrated."""

    route: str | None = None
    """libvirt's migration URI, None for libvirt's own choice."""
    patience: float | None = None
    """Seconds that the guest may take to let go of its device, and as many to move; None for the usual."""
    keep_definition: bool = False
    """Whether the guest stays defined where it was, too."""
    encrypted: bool = False


def transfer(guest: Guest, to: Guests, terms: Terms, *, undefine: bool) -> None:
    """Move ``guest``, with its definition if it has one, which goes where it was if ``undefine``.

    ApvfioError if libvirt refuses or fails, if it takes too long, or if a signal ends it: the guest runs
    where it was then, unless the end came too late.
    """
    persistent = guest.persistent
    failed: list[Exception] = []
    # Not the thread itself: Python takes it for ended when a signal interrupts who waits for it.
    over = threading.Event()

    def work() -> None:
        try:
            guest.migrate(
                to,
                route=terms.route,
                persist=persistent,
                undefine=persistent and undefine,
                encrypted=terms.encrypted,
            )
        except Exception as error:  # raised again where it is waited for
            failed.append(error)
        finally:
            over.set()

    # libvirt's call blocks, and only from beside it can it be ended.
    threading.Thread(target=work, daemon=True).start()
    ended = _waited(over, guest.abort, terms.patience)
    if failed:
        raise ended or failed[0]


def _waited(over: threading.Event, abort: Callable[[], None], patience: float | None) -> ApvfioError | None:
    """Wait until a migration is ``over``, and ``abort`` it if that is due; why it was, if it was."""
    deadline = time.monotonic() + patience if patience else None
    why: ApvfioError | None = None
    while not over.is_set():
        try:
            over.wait(_BEAT)
        except InterruptionError as interrupted:
            why = interrupted
        if not why and deadline and time.monotonic() > deadline:
            why = ApvfioError(
                f"moving it has taken longer than {patience:g} s.",
                remedy="Give it more time with --timeout, or a faster way with --migrate-uri.",
            )
        if why:
            abort()
    return why


class InterruptionError(ApvfioError):
    """Somebody has had enough."""


def interruptible() -> AbstractContextManager[None]:
    """The signals that end a program raise `InterruptionError`, once: what follows is the way back."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise InterruptionError("it was interrupted.")

    return _handled_by(interrupt)


def uninterrupted() -> AbstractContextManager[None]:
    """The same signals are ignored: what goes back shall arrive."""
    return _handled_by(signal.SIG_IGN)


@contextmanager
def _handled_by(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
