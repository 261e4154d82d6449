# SPDX-License-Identifier: Apache-2.0
"""The two options to free a rectangle of queues with the masks, and the collateral queues of each.

A queue belongs to the host if and only if its adapter's bit in apmask and its domain's bit in aqmask are set.
The whole rectangle S x U can be freed only by clearing every adapter of S or every domain of U: any mixture
that frees all of it contains one of the two.
"""

from __future__ import annotations

from apvfio.model.host import MaskBits
from apvfio.model.ids import union
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
    """One option to free a matrix on a given host."""

    name: str
    clear: MaskBits
    """The bits still set that it clears."""
    collateral: tuple[Apqn, ...]
    """Queues that leave the host although no guest requested them."""
    reserved: tuple[Apqn, ...]
    """Those of the collateral that the policy reserves by name: with any, the option is closed."""
    stuck: int
    """How many of the bits cannot go back before another guest's mdev ends (kernel 7.x)."""
    leans_on: int
    """How many of the pending returns must wait for this guest's sake."""
    objections: tuple[Objection, ...] = ()
    """The objections to it from the host's own needs."""

    @property
    def closed(self) -> bool:
        """Whether the policy forbids it: it takes a reserved queue, or one the host needs."""
        return bool(self.reserved) or any(objection.refused for objection in self.objections)

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """What options are compared by: collateral queues, bits to clear, late returns, returns that wait."""
        return (len(self.collateral), self.clear.size, self.stuck, self.leans_on)


def free_options(
    matrix: Matrix, others: list[Matrix], host: Host, pending: MaskBits, policy: Policy
) -> list[Option]:
    """Return both options to free ``matrix``, given what ``others`` hold; the cheaper first."""
    others = [held for held in others if host.abilities.strict_return and not held.empty]
    stuck = MaskBits(union(held.adapters for held in others), union(held.domains for held in others))
    options = []
    for name, bits in (
        (BY_ADAPTERS, MaskBits(apmask=matrix.adapters)),
        (BY_DOMAINS, MaskBits(aqmask=matrix.domains)),
    ):
        clear = bits & host.masks
        taken = [queue for queue in host.given_on(clear.apmask, clear.aqmask) if not matrix.holds(queue)]
        option = Option(
            name=name,
            clear=clear,
            collateral=tuple(taken),
            reserved=tuple(filter(policy.reserves, taken)),
            stuck=(clear & stuck).size,
            leans_on=(bits & pending).size,
        )
        options.append(option)
    return sorted(options, key=lambda option: (option.closed, option.cost))
