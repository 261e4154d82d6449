# SPDX-License-Identifier: Apache-2.0
"""apvfio's own files and the two locks; a lock is tested and released at once."""

from __future__ import annotations

import fcntl
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from apvfio.doctor.facts import S390Lock, StoreFacts, Unseen, attempt, known, otherwise
from apvfio.engine.differences import differences
from apvfio.model.drain import Drain
from apvfio.model.errors import HostError, printable
from apvfio.model.host import ALL_BITS
from apvfio.model.ledger import HELD, Ledger
from apvfio.plan.drift import drift
from apvfio.store import ledger_file, masks_file
from apvfio.store.drain_file import load_drains
from apvfio.store.locks import OWN_LOCK, S390_LOCK, has_ended
from apvfio.store.policy_file import read_policy
from apvfio.store.processes import command_line
from apvfio.store.safe_open import open_ordinary, require_private
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host

_LOOKS = 10
_NAP = 0.1


def look_at_store(system: System, host: Host | None) -> StoreFacts:
    """Policy, ledger, stored masks and locks; how ``host`` differs from the ledger."""
    ledger = attempt(lambda: ledger_file.load(system.files, system.boot_id))
    read = known(ledger)
    root = system.root if isinstance(system, RealSystem) else None
    directory = os.path.join(root, os.path.dirname(OWN_LOCK)) if root else ""
    private = attempt(lambda: require_private(directory)) if root else None
    return StoreFacts(
        directory=private.error if isinstance(private, Unseen) else None,
        replaced=os.path.lexists(directory) and (os.path.islink(directory) or not os.path.isdir(directory)),
        policy=attempt(lambda: read_policy(system.files)),
        drains=tuple(otherwise(lambda: load_drains(system.files), list[Drain]())),
        ledger=ledger,
        stored=attempt(lambda: masks_file.load(system.files)),
        lock_holder=_own_lock(os.path.join(root, OWN_LOCK)) if root else "",
        s390_lock=attempt(partial(_s390_lock, os.path.join(root, S390_LOCK))) if root else None,
        # The masks have a check of their own.
        differences=tuple(differences(system, host, read, ALL_BITS)) if host and read else (),
        of_guest=_of_guests(host, read) if host and read else {},
    )


def _of_guests(host: Host, ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """What is not as it should be with the device of each guest that holds one."""
    alone = ((lease, Ledger(ledger.boot_id, {lease.mdev: lease})) for lease in ledger.leases.values())
    return {lease.uuid: tuple(drift(host, ledger)) for lease, ledger in alone if lease.state == HELD}


def _own_lock(path: str) -> str:
    """Who holds apvfio's own lock whenever one looks, for a second; '' for nobody."""
    holder: list[bytes] = []
    for _ in range(_LOOKS):
        try:
            fd = open_ordinary(path, os.O_RDONLY)
        except OSError:
            return ""
        try:
            # A shared lock for an instant only: a process that waits for the lock tries again soon.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        except BlockingIOError:
            holder = os.pread(fd, 40, 0).split()
        finally:
            os.close(fd)
        time.sleep(_NAP)
    pid = int(holder[0]) if holder and holder[0].isdigit() else 0
    return f"process {pid} ({_command(pid) or 'unknown command'})" if pid else "an unknown process"


def _s390_lock(path: str) -> S390Lock | None:
    try:
        fd = open_ordinary(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"the lock {path} cannot be used: {error.strerror}.", remedy="Remove it.") from error
    try:
        words = os.read(fd, 40).split()
        written = os.fstat(fd).st_mtime
    finally:
        os.close(fd)
    pid = int(words[0]) if words and words[0].isdigit() else 0
    command = "" if has_ended(pid, written) else _command(pid)
    return S390Lock(pid, command, max(0.0, time.time() - written))


def _command(pid: int) -> str:
    words = command_line(pid)
    text = b" ".join(words).decode("utf-8", "replace").strip()
    return (printable(text, 200) or f"pid {pid}") if words else ""
