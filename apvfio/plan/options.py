# SPDX-License-Identifier: Apache-2.0
"""The two ways to free a rectangle of queues with the masks, and what each costs the host.

A queue is the host's iff its adapter's bit in apmask and its domain's bit in aqmask are both
set. All of a rectangle S x U can be taken only by clearing every adapter of S or every
domain of U: a mixture that takes it all contains one of the two.
"""

from __future__ import annotations

from apvfio.model.host import MaskBits
from apvfio.model.ids import NO_IDS, IdSet, union
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy


class Objection(NamedTuple):
    """Why taking some queues is refused or warned of; ``why`` is a clause that names them."""

    refused: bool
    why: str
    queues: tuple[Apqn, ...]


class Option(NamedTuple):
    """One way to free a matrix on a given host."""

    name: str
    clear: MaskBits
    """The bits still set that it clears."""
    collateral: tuple[Apqn, ...]
    """Queues the host loses though nobody asked for them."""
    reserved: tuple[Apqn, ...]
    """Those of the collateral that the policy reserves by name: with any, the way is closed."""
    stuck: int
    """How many of the bits cannot go back before another guest's mdev ends (kernel 7.x)."""
    leans_on: int
    """How many bits cleared by apvfio before must stay clear for this guest's sake."""
    objections: tuple[Objection, ...] = ()
    """What the host's own needs have against it."""

    @property
    def closed(self) -> bool:
        """Whether the policy forbids it: it takes a reserved queue, or one the host needs."""
        return bool(self.reserved) or any(objection.refused for objection in self.objections)

    @property
    def bits(self) -> int:
        """How many mask bits it clears."""
        return len(self.clear.apmask) + len(self.clear.aqmask)

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """What ways are compared by: queues taken unasked, bits, late returns, debts kept open."""
        return (len(self.collateral), self.bits, self.stuck, self.leans_on)


def free_options(
    matrix: Matrix, others: list[Matrix], host: Host, owed: MaskBits, policy: Policy
) -> list[Option]:
    """Both ways to free ``matrix`` beside what ``others`` hold, the cheaper first."""
    others = [held for held in others if host.abilities.strict_return and not held.empty]
    rows = _option(
        BY_ADAPTERS,
        MaskBits(matrix.adapters & host.apmask, NO_IDS),
        stuck_ids=union(held.adapters for held in others),
        leans_on=len(matrix.adapters & owed.apmask),
        matrix=matrix,
        host=host,
        policy=policy,
    )
    columns = _option(
        BY_DOMAINS,
        MaskBits(NO_IDS, matrix.domains & host.aqmask),
        stuck_ids=union(held.domains for held in others),
        leans_on=len(matrix.domains & owed.aqmask),
        matrix=matrix,
        host=host,
        policy=policy,
    )
    return sorted((rows, columns), key=lambda option: (option.closed, option.cost))


def _option(
    name: str, clear: MaskBits, *, stuck_ids: IdSet, leans_on: int, matrix: Matrix, host: Host, policy: Policy
) -> Option:
    taken = tuple(queue for queue in host.given_on(clear.apmask, clear.aqmask) if not matrix.holds(queue))
    return Option(
        name=name,
        clear=clear,
        collateral=taken,
        reserved=tuple(queue for queue in taken if policy.reserves(queue)),
        stuck=len((clear.apmask | clear.aqmask) & stuck_ids),
        leans_on=leans_on,
    )
