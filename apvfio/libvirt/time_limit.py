# SPDX-License-Identifier: Apache-2.0
"""Calls into foreign code that may block for ever, with a time limit and open to SIGINT.

Python runs signal handlers in the main thread only, and not while that thread is inside such a call.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_INTERRUPTED = 2.0
"""Seconds that a change has to end after SIGINT, so that its undoing does not race with it."""


def bounded(call: Callable[[], T], seconds: float | None, *, changing: bool = False) -> T:
    """Return what ``call`` returns, or raise what it raises; TimeoutError after ``seconds``, if given.

    The call runs in a daemon thread. A call that is abandoned stays there until the process ends, and keeps
    everything to which it refers. ``changing`` says that it changes something: SIGINT then gives it time to
    end.
    """
    over = threading.Event()
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below
            failures.append(error)
        finally:
            over.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        in_time = over.wait(seconds)
    except BaseException:  # KeyboardInterrupt, or what a handler of the caller's raises
        if changing:
            over.wait(_INTERRUPTED)
        raise
    if not in_time:
        raise TimeoutError(f"no answer within {seconds:.3g} s")
    if failures:
        raise failures[0]
    return results[0]
