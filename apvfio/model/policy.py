# SPDX-License-Identifier: Apache-2.0
"""What the administrator keeps for the host and allows to guests: /etc/apvfio/apvfio.toml.

No annotation overrides it: a guest requests queues, and the policy decides which ones it can get.
"""

from __future__ import annotations

from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Apqn, Area
from apvfio.model.typed import NamedTuple

DRAINS = "etc/apvfio/drains.json"
"""The file of the drains, which `apvfio.store.drain_file` reads where there is one."""
REFUSE = "refuse"
WARN = "warn"
IGNORE = "ignore"


class Keep(NamedTuple):
    """How many usable queues of each mode stay with the host, whatever guests request."""

    cca: int = 0
    ep11: int = 0
    accel: int = 0


class Busy(NamedTuple):
    """What a start does that would take a queue the host uses: `REFUSE`, `WARN` or `IGNORE`."""

    requests: str = WARN
    """It has requests under way: taking it makes them fail."""
    zkey: str = REFUSE
    """A key of zkey's repository is bound to it: volumes encrypted with that key need it."""
    zcrypt_nodes: str = REFUSE
    """A device node made with zcryptctl is open to it: a container or a program was given it."""
    default_domain: str = WARN
    """It is the last that the host has of its default domain, which requests go to that name none."""


class Times(NamedTuple):
    """How long apvfio waits for others, in seconds."""

    release_wait: float = 3
    """For QEMU to release a device that is to be removed, while its queues are reset."""
    lock_wait: float = 60
    """For the locks, all those of one call together: for another apvfio, and for tools of s390-tools,
    which were seen to hold theirs for 14 s while the kernel reset queues slowly."""
    release_budget: float = 0
    """For a hook to return queues after the device is removed; longer returns are left to the unit."""


class Policy(NamedTuple):
    """The queues no guest may have and no mask change may take from the host, and the other rules."""

    queues: frozenset[Apqn] = frozenset()
    adapters: IdSet = NO_IDS
    domains: IdSet = NO_IDS
    mechanism: str = ""
    """Which mechanism to use on a host where both are open: ``masks`` or ``overrides``, '' for either."""
    prefer: str = ""
    """Which option to free queues by, with the masks: ``adapters`` or ``domains``, '' for the cheaper."""
    over_provisioning: bool = False
    """Whether guests may request adapters and domains that this host does not have (yet)."""
    keep: Keep = Keep()
    busy: Busy = Busy()
    times: Times = Times()
    drained: Area = Area()
    """The queues that no guest gets until ``apvfio drain --restore``; the host need not keep them."""

    def reserves(self, queue: Apqn) -> bool:
        """Whether ``queue`` must stay with the host."""
        return queue in self.queues or queue.adapter in self.adapters or queue.domain in self.domains
