# SPDX-License-Identifier: Apache-2.0
"""The ways of many guests chosen together: the least total collateral, proven.

Each guest is freed by its adapters or by its domains; what the host loses is decided by the
union X of the adapters and the union Y of the domains that are cleared: all of its queues in
X or in Y. Bits are shared between guests, so the cheapest way of each alone is not the
cheapest for all. Branch and bound over the shorter side of the host: an adapter is either
cleared or kept, and one that is kept sends every guest that has it to the other side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from apvfio.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.mask import IdSet
from apvfio.plan.host_needs import NOTHING_KNOWN, keeps_enough, refused_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from apvfio.host import Host
    from apvfio.matrix import Apqn, Matrix
    from apvfio.plan.host_needs import Facts
    from apvfio.policy import Policy

_IMPOSSIBLE = 1 << 60
_QUEUE = 1 << 10
"""What one lost queue weighs against one cleared bit: there are 512 bits at most."""
_ROUNDING = 1e-6
_REMEMBERED = 10_000
"""Sets of rows whose costs are kept at hand."""


class Together(NamedTuple):
    """One way for each guest, such that no other choice costs the host less."""

    ways: tuple[str, ...]
    """For each guest, in the order given: `BY_ADAPTERS` or `BY_DOMAINS`."""
    adapters: IdSet
    domains: IdSet
    collateral: tuple[Apqn, ...]
    """Queues the host loses beside those that guests asked for."""
    nodes: int
    """How many partial choices were looked at."""


def best_ways(
    guests: Sequence[Matrix],
    fixed: Sequence[str | None],
    host: Host,
    policy: Policy,
    *,
    facts: Facts = NOTHING_KNOWN,
) -> Together | None:
    """The cheapest ways for ``guests`` on ``host``; None if every choice takes what the host needs.

    ``fixed`` holds the way of each guest that has one already (it runs, or its annotation says so).
    Cost counts queues the host has now and nobody asked for, then bits to clear.
    """
    wanted = {queue for matrix in guests for queue in matrix.queues()}
    unwanted = [q for q in host.drivers if host.masks_give_host(q) and q not in wanted]
    refused = refused_queues(policy, facts)
    reserved = [q for q in host.drivers if host.masks_give_host(q) and (policy.reserves(q) or q in refused)]
    rows = [_Guest(m.adapters.bits, m.domains.bits) for m in guests]
    sides = [BY_ADAPTERS, BY_DOMAINS]
    pairs = [(q.adapter, q.domain) for q in unwanted], [(q.adapter, q.domain) for q in reserved]
    mask, other_mask = host.apmask.bits, host.aqmask.bits
    if _or(g.rows for g in rows).bit_count() > _or(g.columns for g in rows).bit_count():
        rows = [_Guest(g.columns, g.rows) for g in rows]
        sides.reverse()
        pairs = [(d, a) for a, d in pairs[0]], [(d, a) for a, d in pairs[1]]
        mask, other_mask = other_mask, mask
    flip = sides[0] == BY_DOMAINS

    def leaves_enough(cleared: int, columns: int) -> bool:
        """Whether the host keeps as many queues of each mode as the policy says."""
        apm, aqm = (columns, cleared) if flip else (cleared, columns)
        taken = (q for q in facts.usable if apm >> q.adapter & 1 or aqm >> q.domain & 1)
        return keeps_enough(taken, policy, facts)

    problem = _Problem(rows, [_forced(way, sides) for way in fixed], *pairs, mask, other_mask, leaves_enough)
    search = _Search(problem)
    found = search.run()
    if found is None:
        return None
    cleared, columns = found
    ways = tuple(
        way or (sides[0] if not g.rows & ~cleared else sides[1]) for way, g in zip(fixed, rows, strict=True)
    )
    ids = {sides[0]: IdSet.from_bits(cleared), sides[1]: IdSet.from_bits(columns)}
    adapters, domains = ids[BY_ADAPTERS], ids[BY_DOMAINS]
    lost = tuple(sorted(q for q in unwanted if q.adapter in adapters or q.domain in domains))
    return Together(ways, adapters, domains, lost, search.nodes)


class _Guest(NamedTuple):
    rows: int
    columns: int


class _Problem(NamedTuple):
    guests: list[_Guest]
    by_rows: list[bool | None]
    """For each guest whether it must be freed by its rows, None if that is open."""
    unwanted: list[tuple[int, int]]
    reserved: list[tuple[int, int]]
    row_mask: int
    column_mask: int
    may_end_so: Callable[[int, int], bool]
    """Whether the rows and columns cleared in the end leave the host what it needs."""


class _Search:
    """Branch and bound over the rows; all sets are integers, bit i standing for id i."""

    def __init__(self, problem: _Problem) -> None:
        self.nodes = 0
        self._may_end_so = problem.may_end_so
        self._row_mask, self._column_mask = problem.row_mask, problem.column_mask
        pairs = list(zip(problem.guests, problem.by_rows, strict=True))
        self._start_cleared = _or(guest.rows for guest, by_rows in pairs if by_rows)
        self._start_columns = _or(guest.columns for guest, by_rows in pairs if by_rows is False)
        open_ones = [guest for guest, by_rows in pairs if by_rows is None]
        self._sends = {
            row: _or(guest.columns for guest in open_ones if guest.rows >> row & 1)
            for row in IdSet.from_bits(_or(guest.rows for guest in open_ones))
        }
        self._unwanted = _by_row(problem.unwanted)
        self._closed_rows = _or(1 << row for row, _ in problem.reserved)
        self._closed_columns = _or(1 << column for _, column in problem.reserved)
        # The rows that decide most come first: those that send most columns away.
        self._order = sorted(self._sends, key=lambda row: (-self._sends[row].bit_count(), row))
        self._open = [
            _or(1 << row for row in self._order[depth:]) & ~self._start_cleared
            for depth in range(len(self._order) + 1)
        ]
        self._rows = [
            (row, queues, queues.bit_count(), self._sends.get(row, 0))
            for row in self._unwanted.keys() | self._sends.keys()
            for queues in [self._unwanted.get(row, 0)]
        ]
        self._sent = {row: list(IdSet.from_bits(columns)) for row, columns in self._sends.items()}
        width = _or(self._sends.values()).bit_length()
        # Of the rows that are open at each depth, how many would send each column away.
        self._senders = [
            [sum(self._sends[row] >> c & 1 for row in self._sends if rows >> row & 1) for c in range(width)]
            for rows in self._open
        ]
        self._costs = {0: [0] * width}
        self._best = _IMPOSSIBLE
        self._found: tuple[int, int] | None = None

    def run(self) -> tuple[int, int] | None:
        """The rows and columns to clear, or None."""
        cleared, columns = self._start_cleared, self._start_columns
        self._branch(0, cleared, columns, self._bound(0, cleared, columns))
        return self._found

    def _branch(self, depth: int, cleared: int, columns: int, bound: int) -> None:
        self.nodes += 1
        begin = depth
        while depth < len(self._order) and self._decided(self._order[depth], cleared, columns):
            depth += 1
        if depth > begin and bound < self._best:
            bound = self._bound(depth, cleared, columns)
        if bound >= self._best:
            return
        if depth == len(self._order):
            if self._may_end_so(cleared, columns):
                self._best, self._found = bound, (cleared, columns)
            return
        row = self._order[depth]
        clear = (depth + 1, cleared | 1 << row, columns)
        keep = (depth + 1, cleared, columns | self._sends[row])
        for least, branch in sorted((self._bound(*choice), choice) for choice in (clear, keep)):
            self._branch(*branch, least)

    def _decided(self, row: int, cleared: int, columns: int) -> bool:
        """Whether nothing is left to choose: it is cleared anyway, or keeping it costs nothing more."""
        return bool(cleared >> row & 1) or not self._sends[row] & ~columns

    def _bound(self, depth: int, cleared: int, columns: int) -> int:
        """What this choice costs at least, whatever is decided about the other rows."""
        if cleared & self._row_mask & self._closed_rows or columns & self._column_mask & self._closed_columns:
            return _IMPOSSIBLE
        lost, kept, hesitant = 0, 0, []
        still_open = self._open[depth] & ~cleared
        for row, queues, total, sends in self._rows:
            if cleared >> row & 1:
                lost += total
            elif still_open >> row & 1:
                # Kept it loses what is in the columns, and in those that it sends away.
                least = (queues & (columns | sends)).bit_count()
                lost += min(least, total)
                if least < total:
                    hesitant.append((row, total - least))
            else:
                lost += (queues & columns).bit_count()
                kept |= 1 << row
        bits = (cleared & self._row_mask).bit_count() + (columns & self._column_mask).bit_count()
        if lost * _QUEUE + bits >= self._best:
            return lost * _QUEUE + bits
        more = self._of_the_kept(kept, depth, columns, hesitant)
        return math.ceil(lost + more - _ROUNDING) * _QUEUE + bits

    def _of_the_kept(self, kept: int, depth: int, columns: int, hesitant: list[tuple[int, int]]) -> float:
        """What the undecided rows cost those ``kept`` at least.

        What a column costs them all that may send it away share. A row that is ``hesitant`` costs that
        if it is kept, or, told beside it, so much more if it is cleared.
        """
        costs, senders = self._costs_to(kept), self._senders[depth]
        return sum(
            min(most, sum(costs[c] / senders[c] for c in self._sent[row] if not columns >> c & 1))
            for row, most in hesitant
        )

    def _costs_to(self, kept: int) -> list[int]:
        """How many of the rows ``kept`` lose a queue with each column."""
        costs = self._costs.get(kept)
        if costs is None:
            if len(self._costs) > _REMEMBERED:
                self._costs = {0: self._costs[0]}
            row = kept.bit_length() - 1
            queues = self._unwanted.get(row, 0)
            costs = [n + (queues >> c & 1) for c, n in enumerate(self._costs_to(kept ^ 1 << row))]
            self._costs[kept] = costs
        return costs


def _forced(way: str | None, sides: list[str]) -> bool | None:
    return None if way is None else way == sides[0]


def _by_row(pairs: list[tuple[int, int]]) -> dict[int, int]:
    table: dict[int, int] = {}
    for row, column in pairs:
        table[row] = table.get(row, 0) | 1 << column
    return table


def _or(sets: Iterable[int]) -> int:
    union = 0
    for bits in sets:
        union |= bits
    return union
