# SPDX-License-Identifier: Apache-2.0
"""What the host needs of its queues, apart from those reserved by name: the policy's [keep] and [busy].

An option that takes a needed queue is closed, like one that takes a reserved queue; if the other option is
open, it is chosen. If the policy only warns, the loss becomes a warning.
"""

from __future__ import annotations

from apvfio.model.errors import PolicyError, printable
from apvfio.model.host import HOST_DRIVER, Usage
from apvfio.model.policy import IGNORE, REFUSE
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.options import Objection, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy
    from apvfio.model.text import WarningText

_RESERVED = ", reserved for the host"
NOTHING_KNOWN = Usage()


def with_objections(
    options: Sequence[Option], matrix: Matrix, host: Host, policy: Policy, facts: Usage
) -> list[Option]:
    """Return the options with their objections; the open ones first, then the cheaper.

    PolicyError, naming the queues and why, if none is open.
    """
    require_may_be_taken(matrix, host, policy, facts)
    asked = _asked(matrix, host)
    options = [
        option._replace(objections=tuple(objections(asked.union(option.collateral), policy, facts)))
        for option in options
    ]
    options.sort(key=lambda option: (option.closed, option.cost))
    _require_open(options)
    return options


def require_option_open(option: Option) -> None:
    """PolicyError if ``option``, on which the guest's annotation insists, is closed."""
    if option.closed:
        raise PolicyError(
            f"freeing by {option.name}, as its annotation requests, would take "
            f"{_reasons(option, _RESERVED)}.",
            queues=_against(option),
            remedy="Remove free-by from the annotation, or change /etc/apvfio/apvfio.toml.",
        )


def preference_reason(options: Sequence[Option], preference: str) -> str:
    """Why the first of ``options`` is chosen though another costs the host fewer queues; '' if none does.

    ``preference`` is the clause for a choice among options that are open.
    """
    fewer = [option for option in options[1:] if len(option.collateral) < len(options[0].collateral)]
    if not fewer:
        return ""
    other = fewer[0]
    reason = f"it would take {_reasons(other, _RESERVED)}" if other.closed else preference
    return f"freeing by {other.name} would cost the host {count_queues(len(other.collateral))}, but {reason}"


def warnings(option: Option) -> list[WarningText]:
    """What ``option`` takes and the policy wants to be warned of, in sentences."""
    return [f"the host loses {objection.why}" for objection in option.objections if not objection.refused]


def refused_queues(policy: Policy, facts: Usage) -> set[Apqn]:
    """The queues that must not be taken because the host uses them."""
    busy = policy.busy
    users = ((busy.requests, facts.working), (busy.zkey, facts.keys), (busy.zcrypt_nodes, facts.nodes))
    return {queue for severity, queues in users if severity == REFUSE for queue in queues}


def keeps_enough(taken: Iterable[Apqn], policy: Policy, facts: Usage) -> bool:
    """Return whether the host keeps enough without ``taken``: a default domain, and queues of each mode."""
    gone = list(taken)
    if policy.busy.default_domain == REFUSE and facts.default_domain and facts.default_domain <= set(gone):
        return False
    return not any(_too_few(gone, policy, facts))


def require_may_be_taken(matrix: Matrix, host: Host, policy: Policy, facts: Usage) -> None:
    """PolicyError if the guest requests queues that the host needs itself: no option can spare them."""
    why, queues = refusals(objections(_asked(matrix, host), policy, facts))
    if why:
        remedy = "Request other queues, or change /etc/apvfio/apvfio.toml."
        raise PolicyError(f"the host needs requested queues: {why}.", queues=queues, remedy=remedy)


def objections(queues: Iterable[Apqn], policy: Policy, facts: Usage) -> Iterator[Objection]:
    """What the policy has against taking these queues from the host."""
    taken, busy = sorted(queues), policy.busy
    yield from _too_few(taken, policy, facts)
    working = [queue for queue in taken if queue in facts.working]
    found = [(busy.requests, working, "with requests under way")] if working else []
    for key, needed in _by(facts.keys, taken):
        found.append((busy.zkey, needed, f"which zkey's key {printable(key)!r} needs"))
    for node, lent in _by(facts.nodes, taken):
        found.append((busy.zcrypt_nodes, lent, f"accessible through the zcrypt node {printable(node)!r}"))
    default = sorted(facts.default_domain)
    if default and facts.default_domain <= set(taken):
        why = f"the last in its default domain {default[0].domain} (0x{default[0].domain:x})"
        found.append((busy.default_domain, default, why))
    for severity, these, why in found:
        if severity != IGNORE:
            yield Objection(severity == REFUSE, f"{some_queues(these)}, {why}", tuple(these))


def _asked(matrix: Matrix, host: Host) -> set[Apqn]:
    """What the guest requests that is the host's now."""
    return {queue for queue in matrix.queues() if host.drivers.get(queue) == HOST_DRIVER}


def _require_open(both: Sequence[Option]) -> None:
    if not both[0].closed:
        return
    by_name_only = not any(refusals(option.objections)[0] for option in both)
    suffix = "" if by_name_only else _RESERVED
    each = "; ".join(f"freeing by {option.name} would take {_reasons(option, suffix)}" for option in both)
    raise PolicyError(
        "its queues can be freed only together with queues "
        f"{'reserved for' if by_name_only else 'needed by'} the host: {each}.",
        queues={queue for option in both for queue in _against(option)},
        remedy="Request whole adapters or whole domains, or change /etc/apvfio/apvfio.toml.",
    )


def _too_few(taken: Sequence[Apqn], policy: Policy, facts: Usage) -> Iterator[Objection]:
    gone = set(taken)
    for mode, least in zip(policy.keep._fields, policy.keep):
        there = [queue for queue, its in facts.usable.items() if its == mode]
        lost = [queue for queue in there if queue in gone]
        left = len(there) - len(lost)
        # If the host has too few already, a guest that takes none of them makes no difference.
        if lost and left < least:
            rest = f"{count_queues(left)} of mode {mode} where {least} must stay"
            yield Objection(True, f"{some_queues(lost)}, leaving the host {rest}", tuple(lost))


def _by(users: Mapping[Apqn, str], taken: Iterable[Apqn]) -> Iterator[tuple[str, list[Apqn]]]:
    """The queues ``taken`` that have a user, user by user."""
    found: dict[str, list[Apqn]] = {}
    for queue in taken:
        if queue in users:
            found.setdefault(users[queue], []).append(queue)
    yield from sorted(found.items())


def refusals(found: Iterable[Objection]) -> tuple[str, set[Apqn]]:
    """The reasons of the objections that are refusals, in a clause, '' without any; and their queues."""
    refused = [objection for objection in found if objection.refused]
    queues = {queue for objection in refused for queue in objection.queues}
    return "; and ".join(objection.why for objection in refused), queues


def _reasons(option: Option, reserved: str) -> str:
    named = [some_queues(option.reserved) + reserved] if option.reserved else []
    return "; and ".join(filter(None, (*named, refusals(option.objections)[0])))


def _against(option: Option) -> set[Apqn]:
    return refusals(option.objections)[1].union(option.reserved)
