# SPDX-License-Identifier: Apache-2.0
"""``apvfio status --watch``: show the status again after each change, until Ctrl-C.

In a terminal a new status is drawn over the last one, in one write and without a terminal mode that would
have to be reset. In a file or a pipe, each change is a block of text, or a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

from apvfio.cli.host_options import opened
from apvfio.cli.terminal import can_draw, look, print_lines
from apvfio.kernel.snapshot import in_use
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError, Exit
from apvfio.model.host import AP_MDEVS, BUS, HOST_DRIVER, MASK_NAMES, VFIO_DRIVER
from apvfio.store.ledger_file import LEDGER
from apvfio.store.policy_file import POLICY
from apvfio.view.columns import cut, fold
from apvfio.view.status_report import status as status_lines
from apvfio.view.status_report import status_json, status_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.kernel.seam import System
    from apvfio.libvirt.status import Status
    from apvfio.model.matrix import Apqn

    Found = Status | ApvfioError

_STALE = 10.0
"""Seconds after which all is read again: a glance does not show everything."""
_ALIVE = 30.0
"""Seconds after which JSON is repeated: a reader can tell a watch that hangs from a host that rests."""
_HOME, _ERASE_LINE, _ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def watch(args: argparse.Namespace) -> int:
    """Show the status and every change of it; Ctrl-C ends that."""
    watched = _Watched(args)
    draws = not args.json and can_draw(sys.stdout)
    resized = {signal.SIGWINCH}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, resized)
    shown_at = 0.0
    if draws:
        # Earlier text stays above, in the terminal's scrollback.
        print("\n" * shutil.get_terminal_size().lines, end="")
    try:
        while True:
            silent = args.json and time.monotonic() - shown_at >= _ALIVE
            if watched.changed() or silent:
                _show(watched.found, args, draws=draws)
                shown_at = time.monotonic()
            if signal.sigtimedwait(resized, args.watch) and draws:
                _show(watched.found, args, draws=draws)
    except KeyboardInterrupt:
        return Exit.OK
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if draws:
            print(flush=True)


class _Watched:
    """The host that is watched, and its last known status."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._glance: object = None
        self._read_at = 0.0
        with opened(args) as system:
            # An error at the beginning is the command's error; a later one is shown like a change.
            self.found: Found = read_status(system)
        self._content: object = None

    def changed(self) -> bool:
        """Look; whether there is anything new since the last time."""
        seen = self._look()
        # A simulated host does not change by itself.
        stale = not self._args.sim and time.monotonic() - self._read_at >= _STALE
        if seen == self._glance and not stale:
            return False
        # The fingerprint is older than the status, so that the next check notices a change in between.
        self._glance, self._read_at = seen, time.monotonic()
        try:
            with opened(self._args) as system:
                self.found = read_status(system)
        except ApvfioError as error:
            self.found = error
        before, self._content = self._content, _content(self.found)
        return self._content != before

    def _look(self) -> object:
        if self._args.sim:
            # Opening the file locks it, and makes others wait.
            try:
                found = os.stat(self._args.sim)
            except OSError as error:
                return error.errno
            return found.st_ino, found.st_mtime_ns, found.st_size
        with opened(self._args) as system:
            return fingerprint(system, self._probes())

    def _probes(self) -> list[Apqn]:
        """One queue of each device."""
        if isinstance(self.found, ApvfioError):
            return []
        host = self.found.host
        there = (
            [queue for queue in matrix.queues() if queue in host.drivers] for matrix in host.mdevs.values()
        )
        return [queues[0] for queues in there if queues]


_LISTS = (
    *(f"{BUS}/devices", AP_MDEVS.devices),
    *(f"{BUS}/drivers/{driver}" for driver in (HOST_DRIVER, VFIO_DRIVER)),
)


def fingerprint(system: System, probes: Iterable[Apqn]) -> tuple[object, ...]:
    """Return something that changes when an owner, a mask, a lease or a pending return does.

    It also changes when one of ``probes`` is attached to a guest or released: the queues of a device are all
    attached at once (vops:vfio_ap_mdev_set_kvm). It shows neither a queue that goes offline nor a dead guest.
    """
    sysfs, files = system.sysfs, system.files
    return (
        *(_or_error(sysfs.read, f"{BUS}/{name}") for name in MASK_NAMES),
        *(_or_error(sysfs.list, path) for path in _LISTS),
        *(in_use(sysfs, queue) for queue in probes),
        *(_or_error(files.read, path) for path in (LEDGER, POLICY)),
    )


def _or_error(read: Callable[[str], object], path: str) -> object:
    try:
        return read(path)
    except (OSError, ApvfioError) as error:
        return str(error)


def _content(found: Found) -> object:
    return str(found) if isinstance(found, ApvfioError) else (status_report(found), status_json(found))


def _show(found: Found, args: argparse.Namespace, *, draws: bool) -> None:
    if args.json:
        document = {"error": found.as_json()} if isinstance(found, ApvfioError) else status_json(found)
        print(json.dumps(document), flush=True)
        return
    how = look(args.color)
    if isinstance(found, ApvfioError):
        lines = list(fold(f"apvfio: {found}", how.width if how.folds else None))
    else:
        lines = list(status_lines(status_report(found), how))
    if draws:
        _draw(lines, args.watch)
    else:
        print_lines([f"== {time.strftime('%Y-%m-%d %H:%M:%S')}", "", *lines, ""])
    sys.stdout.flush()


def _draw(shown: list[str], seconds: float) -> None:
    size = shutil.get_terminal_size()
    heading = f"changed at {time.strftime('%H:%M:%S')}, checked every {seconds:g} s; Ctrl-C ends"
    lines = [cut(heading, size.columns), "", *shown]
    if len(lines) > size.lines > 1:
        more = f"... {len(lines) - size.lines + 1} more lines: a taller window shows them"
        lines[size.lines - 1 :] = [cut(more, size.columns)]
    # Erased before it is written: behind a full line the cursor still stands on its last character.
    print_lines([_HOME + "\n".join(_ERASE_LINE + line for line in lines) + _ERASE_BELOW], end="")
