# SPDX-License-Identifier: Apache-2.0
"""Children that Ctrl-C at the terminal does not reach.

Such a child is libvirt's ssh: if it ended at the moment a guest arrives, the guest might run on both hosts.

A terminal sends SIGINT to its foreground process group, and libvirt gives its ssh the usual handlers and no
group of its own. This process therefore belongs to another group while libvirt starts it, and that group is
the terminal's foreground one, so that ssh can ask for a password.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLEEPER = "/bin/cat"
"""A program that does nothing until its standard input is closed: its process keeps a group in being."""


@contextmanager
def another_process_group() -> Iterator[None]:
    """Belong to another process group, which children started in this context belong to for good.

    Nothing happens where that is impossible, as for the leader of a session, or needless.
    """
    before = os.getpgrp()
    if os.getpid() == os.getsid(0):
        yield
        return
    # A group exists as long as it has a member. This process may be the only member of its group.
    with _sleeper(None) as _, _sleeper(os.setpgrp) as other:
        terminal = _terminal()
        try:
            _enter(other.pid, before, terminal)
            yield
        finally:
            _enter(before, other.pid, terminal)
            if terminal is not None:
                os.close(terminal)


@contextmanager
def _sleeper(setup: Callable[[], None] | None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(  # noqa: S603
        [_SLEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        preexec_fn=setup,  # noqa: PLW1509  (no other thread runs Python meanwhile)
    )
    with process:
        assert process.stdin
        with suppress(OSError):
            yield process
        process.stdin.close()


def _terminal() -> int | None:
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def _enter(group: int, instead_of: int, terminal: int | None) -> None:
    """Belong to ``group``, which becomes the terminal's foreground group if ``instead_of`` was that."""
    os.setpgid(0, group)
    if terminal is None:
        return
    # A process outside the foreground group is stopped when it changes that group, unless SIGTTOU is blocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        if os.tcgetpgrp(terminal) == instead_of:
            os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
