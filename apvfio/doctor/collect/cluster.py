# SPDX-License-Identifier: Apache-2.0
"""The cluster of this host: its configuration, its guests' files, and ssh to its nodes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from apvfio.cluster import cib
from apvfio.cluster.configuration import read_configuration
from apvfio.cluster.guest_files import DIRECTORY, read_guest_file
from apvfio.doctor.facts import ClusterFacts, Unseen, attempt, otherwise
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


def _ask(node: str) -> str:
    """Return '' if apvfio on ``node`` can be run by ssh, as `apvfio migrate` does it, or else why not."""
    try:
        command = parse_address(f"qemu+ssh://root@{node}/system?no_tty=1").command
        done = programs.run([*command, "--version"], timeout=_PATIENCE, more=ssh_environment())
    except ApvfioError as error:
        return error.clause
    except programs.ProgramError as error:
        return str(error)
    said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())
    return printable(said, _SAID) or f"exit code {done.returncode}" if done.returncode else ""
