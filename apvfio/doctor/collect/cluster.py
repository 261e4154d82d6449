# SPDX-License-Identifier: Apache-2.0
"""The cluster of this host: its configuration, its guests' files, and ssh to its nodes."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from apvfio.cluster import cib
from apvfio.cluster.configuration import read_configuration
from apvfio.cluster.guest_files import DIRECTORY, read_guest_file
from apvfio.doctor.facts import ClusterFacts, NodeAnswer, Unseen, attempt, otherwise
from apvfio.mdev import programs
from apvfio.migration.address import parse_address
from apvfio.migration.hosts import ssh_environment
from apvfio.model.errors import ApvfioError, printable

if TYPE_CHECKING:
    from apvfio.kernel.seam import Files

_COROSYNC = "/etc/corosync/corosync.conf"
_PATIENCE = 30.0
"""Seconds for one ssh."""
_SAID = 200


def look_at_cluster(files: Files) -> ClusterFacts | None:
    """What there is of a cluster; None if this host is no node, or its cluster has no guests with queues."""
    if programs.find("cibadmin") is None:
        return None
    seen = attempt(lambda: read_configuration(cib.read_cib()))
    if isinstance(seen, Unseen):
        # Debian's corosync installs a configuration, which does not mean that the host is a node with guests.
        runs_guests = otherwise(lambda: bool(files.list(DIRECTORY)), False)
        return ClusterFacts("", seen) if runs_guests and os.path.exists(_COROSYNC) else None
    if not (seen.guests or seen.publisher):
        return None
    node = otherwise(cib.local_node, "")
    guests = tuple(read_guest_file(files, guest.config) for guest in seen.guests if guest.config)
    others = [other for other in seen.online if other != node]
    with ThreadPoolExecutor(max_workers=max(1, len(others))) as pool:
        answers = dict(zip(others, pool.map(_ask, others))) if os.geteuid() == 0 else None
    manager = next((name for name in ("pcs", "crm") if programs.find(name)), "")
    return ClusterFacts(node, seen, guests, answers, manager)


def _ask(node: str) -> NodeAnswer:
    """Run apvfio on ``node`` by ssh, as `apvfio migrate` does it, and read the clock there."""
    try:
        *ssh, apvfio = parse_address(f"qemu+ssh://root@{node}/system?no_tty=1").command
        _run([*ssh, apvfio, "--version"])
        begun = time.time()
        there = float(_run([*ssh, "date", "+%s"]))
        return NodeAnswer(clock=clock_ahead(there, begun, time.time()))
    except ApvfioError as error:
        return NodeAnswer(error.clause)
    except programs.ProgramError as error:
        return NodeAnswer(str(error))
    except ValueError:
        return NodeAnswer()  # something else than a number: its clock is not known


def _run(words: list[str]) -> str:
    """Return what a command prints; ProgramError says why it failed."""
    done = programs.run(words, timeout=_PATIENCE, more=ssh_environment())
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())
        why = printable(said.rstrip("."), _SAID) or f"exit code {done.returncode}"
        raise programs.ProgramError(why, done.returncode)
    return done.stdout.decode("utf-8", "replace")


def clock_ahead(there: float, begun: float, ended: float) -> float:
    """How many seconds a clock that shows ``there`` is ahead; 0 if it can be the same.

    It was read between ``begun`` and ``ended``, and shows whole seconds.
    """
    return min(there + 1 - begun, 0.0) if there < begun else max(there - ended, 0.0)
