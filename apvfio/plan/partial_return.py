# SPDX-License-Identifier: Apache-2.0
"""Make returns a few at a time: each takes the kernel a while, and others wait for the lock."""

from __future__ import annotations

from apvfio.model.host import VFIO_DRIVER, MaskBits
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Apqn
from apvfio.plan.overrides import returnable_overrides
from apvfio.plan.steps import remaining_matrices, returnable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger


def returning_queues(ledger: Ledger, host: Host) -> list[Apqn]:
    """The queues that vfio_ap would give up, each after a reset, if all that is due were returned."""
    return [queue for _, queues in _parts(ledger, host) for queue in queues]


def limit_returns(ledger: Ledger, host: Host, most: int) -> Ledger:
    """The ledger as if only returns of at most so many queues were pending: for `pending_steps`.

    Unless ``most`` is 0 something is pending, if anything can be returned: a mask bit cannot be halved.
    """
    bits, overrides, moved = MaskBits(), set(ledger.needed_queues()), 0
    for part, queues in _parts(ledger, host) if most else ():
        if queues and moved and moved + len(queues) > most:
            break
        moved += len(queues)
        if isinstance(part, MaskBits):
            bits |= part
        else:
            overrides.add(part)
    return ledger._replace(pending=bits).without_overrides(ledger.overrides.keys() - overrides)


def _parts(ledger: Ledger, host: Host) -> Iterator[tuple[MaskBits | Apqn, list[Apqn]]]:
    """What can be returned now, bit by bit and override by override, and the queues that go with it."""
    remaining = remaining_matrices(ledger, host)
    bits = returnable(ledger, host, remaining)
    held = [queue for queue, driver in host.drivers.items() if driver == VFIO_DRIVER] if bits else []
    for adapter in bits.apmask:
        queues = [queue for queue in held if queue.adapter == adapter and queue.domain in host.aqmask]
        yield MaskBits(IdSet([adapter]), NO_IDS), queues
    apmask = host.apmask | bits.apmask
    for domain in bits.aqmask:
        queues = [queue for queue in held if queue.domain == domain and queue.adapter in apmask]
        yield MaskBits(NO_IDS, IdSet([domain])), queues
    for queue, _ in returnable_overrides(ledger, host, remaining):
        yield queue, [queue] if host.drivers[queue] == VFIO_DRIVER else []
