# SPDX-License-Identifier: Apache-2.0
"""A small guest for the lab: 64 MiB, no disk, a kernel that waits, emulated without KVM."""

from __future__ import annotations

import uuid
from xml.sax.saxutils import escape, quoteattr

from apvfio.domain.xml_reader import NAMESPACE
from apvfio.model.ids import format_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.matrix import Matrix

EMULATOR = "/var/lib/libvirt/emulator.sh"
"""Where the lab has the emulator: the unprivileged user that QEMU runs as can get there."""
KERNEL = "/var/lib/libvirt/idle-kernel"
"""Where the lab has `IDLE`."""
IDLE = (
    # Load a short PSW: go to 0x10000.
    bytes.fromhex("0008000080010000").ljust(0x10000, b"\0")
    # larl, lpswe, and the PSW they load: wait, for interrupts that never come.
    + bytes.fromhex("c01000000008 b2b21000 000000000000 0206000180000000 0000000000000000")
    + bytes(4096)
)
"""A kernel that only waits, so that a guest runs, and takes no time, until somebody ends it."""
# Where CAP_SYS_RESOURCE is missing libvirt cannot raise the limit of locked memory. A guest
# with a vfio device needs one; this is low enough to be there already.
_LOCKED_KIB = 8192


def guest_uuid(name: str) -> str:
    """The uuid of the guest ``name``: the same in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{name}"))


def guest_xml(name: str, matrix: Matrix | None = None, mdev: str = "") -> str:
    """The domain XML of a guest, with an annotation that requests ``matrix``, and the device ``mdev``."""
    return f"""\
<domain type='qemu'>
  <name>{escape(name)}</name>
  <uuid>{guest_uuid(name)}</uuid>
  {_metadata(matrix)}
  <memory unit='MiB'>64</memory>
  <memtune><hard_limit unit='KiB'>{_LOCKED_KIB}</hard_limit></memtune>
  <vcpu>1</vcpu>
  <os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type><kernel>{KERNEL}</kernel></os>
  <on_crash>preserve</on_crash>
  <devices>
    <emulator>{EMULATOR}</emulator>
    <memballoon model='none'/>
    {_hostdev(mdev)}
  </devices>
</domain>
"""


def _metadata(matrix: Matrix | None) -> str:
    if matrix is None:
        return ""
    lists = {
        "adapters": matrix.adapters,
        "domains": matrix.domains,
        "control-domains": matrix.control_domains,
    }
    attributes = " ".join(f"{key}={quoteattr(format_list(ids))}" for key, ids in lists.items() if ids)
    annotation = f"<ap:guest xmlns:ap={quoteattr(NAMESPACE)}><ap:matrix {attributes}/></ap:guest>"
    return f"<metadata>{annotation}</metadata>"


def _hostdev(mdev: str) -> str:
    if not mdev:
        return ""
    source = f"<source><address uuid={quoteattr(mdev)}/></source>"
    return f"<hostdev mode='subsystem' type='mdev' model='vfio-ap'>{source}</hostdev>"
