# SPDX-License-Identifier: Apache-2.0
"""Root's ssh from each node to each, with known host keys: a directory that nodes have for /etc/ssh."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SERVER = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/root_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
"""
_CLIENT = """\
IdentityFile /etc/ssh/root_key
GlobalKnownHostsFile /etc/ssh/known_hosts
UserKnownHostsFile /dev/null
BatchMode yes
"""


def write_ssh(directory: Path, names: Iterable[str]) -> None:
    """Write the settings and keys for nodes called ``names``."""
    directory.mkdir(mode=0o700)
    for key in ("host_key", "root_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
        subprocess.run(words, check=True)
    public = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text("".join(f"{name} {public}" for name in names))
    (directory / "sshd_config").write_text(_SERVER)
    (directory / "ssh_config").write_text(_CLIENT)
