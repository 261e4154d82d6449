# SPDX-License-Identifier: Apache-2.0
"""Corosync's configuration, and the names of a cluster's nodes, as node.sh wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEAD = """\
totem {
  version: 2
  cluster_name: apvfio
  transport: knet
  crypto_cipher: none
  crypto_hash: none
}
system {
  allow_knet_handle_fallback: yes
  sched_rr: no
  move_to_root_cgroup: no
}
logging {
  to_syslog: no
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  timestamp: hires
}
quorum {
  provider: corosync_votequorum
}
"""
_NODE = """\
  node {{
    name: {name}
    nodeid: {number}
    ring0_addr: {address}
  }}
"""


def write_configuration(directory: Path, addresses: Mapping[str, str]) -> None:
    """Write what each node of the cluster has to know of all nodes; ``addresses`` by their names.

    All but the system's section and the logs is corosync's default.
    """
    members = (
        _NODE.format(name=name, number=number, address=address)
        for number, (name, address) in enumerate(addresses.items(), 1)
    )
    text = f"{_HEAD}nodelist {{\n{''.join(members)}}}\n"
    (directory / "corosync.conf").write_text(text)
    names = "".join(f"{address} {name}\n" for name, address in addresses.items())
    (directory / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
