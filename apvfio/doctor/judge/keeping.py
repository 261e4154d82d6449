# SPDX-License-Identifier: Apache-2.0
"""apvfio's own: directory, policy, ledger, locks, and what differs from the ledger."""

from __future__ import annotations

from apvfio.doctor.check import of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import Unseen
from apvfio.errors import Exit
from apvfio.ledgers import LEDGER
from apvfio.policy import POLICY
from apvfio.wish import count
from apvfio.wording import count_queues, some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, Keeping, S390Lock
    from apvfio.doctor.words import Words

_DIRECTORY = "run/apvfio"
_EMPTY_IS_STALE = 120
_LONG = 5.0
"""Seconds for which a start waits for the lock of s390-tools, who hold it for milliseconds."""
_TOOLS = ("chzdev", "lszdev", "mdevctl", "ap-check", "apvfio")
ROOT_ONLY = "only root can read it"


def judge_keeping(facts: Facts, words: Words) -> Iterator[Check]:
    """In the order in which a start needs them."""
    keeping = facts.keeping
    if keeping.directory:
        path = words.path(_DIRECTORY)
        yield of_error("run-directory", keeping.directory, f"chown root {path}", f"chmod 0700 {path}")
    yield _policy(keeping, words)
    yield from _absent_reserved(facts)
    yield _ledger(keeping, words)
    if keeping.lock_holder:
        yield problem(
            "lock",
            f"apvfio's lock is held by {keeping.lock_holder}: starts and stops wait for it.",
            "See what that one waits for.",
            *_processes(keeping.lock_holder),
            code=Exit.CONFLICT,
        )
    yield from _s390_lock(keeping, words)
    yield from _drift(facts, words)


def _policy(keeping: Keeping, words: Words) -> Check:
    policy = keeping.policy
    if isinstance(policy, Unseen):
        if policy.hidden:
            return skipped("policy", ROOT_ONLY)
        return of_error("policy", policy.error, words.edit(POLICY))
    return ok("policy", f"the policy /{POLICY} is in order, if there is one")


def _absent_reserved(facts: Facts) -> Iterator[Check]:
    host, policy = facts.kernel.host, facts.keeping.policy
    if isinstance(host, Unseen) or isinstance(policy, Unseen):
        return
    absent = sorted(policy.queues - host.drivers.keys())
    if absent:
        yield warning(
            "policy",
            f"{some_queues(absent)}, reserved by /{POLICY}, "
            f"{'is' if len(absent) == 1 else 'are'} not on this host.",
            "See whether that is a slip, or whether an adapter is off.",
            queues=absent,
        )


def _ledger(keeping: Keeping, words: Words) -> Check:
    ledger = keeping.ledger
    if isinstance(ledger, Unseen):
        if ledger.hidden:
            return skipped("ledger", ROOT_ONLY)
        path = words.path(LEDGER)
        damaged = "damaged" in ledger.error.sentence or "link" in ledger.error.sentence
        commands = (f"mv {path} {path}.damaged", words.apvfio("status")) if damaged else ()
        return of_error("ledger", ledger.error, *commands)
    leases = ledger.live()
    held = sum(len(lease.matrix.adapters) * len(lease.matrix.domains) for lease in leases)
    return ok(
        "ledger",
        f"{count(len(leases), 'guest')} with queues, {count_queues(held)} in all",
    )


def _processes(text: str) -> Iterator[str]:
    """How to look at the process that ``text`` names."""
    words = text.split()
    if words[:1] == ["process"] and words[1].isdigit():
        yield f"ps -fp {words[1]}"


def _s390_lock(keeping: Keeping, words: Words) -> Iterator[Check]:
    lock, path = keeping.s390_lock, words.path(keeping.s390_path)
    what = f"the lock of s390-tools, /{keeping.s390_path},"
    if isinstance(lock, Unseen):
        yield of_error("s390-lock", lock.error, f"rm -r {path}")
    elif lock is None:
        return
    elif lock.pid and not lock.command:
        yield warning(
            "s390-lock",
            f"{what} is left over from process {lock.pid}, which is gone.",
            "Whoever wants the lock next removes it.",
            f"rm {path}",
        )
    elif lock.pid and lock.age > _LONG:
        yield _held(lock, what, path)
    elif not lock.pid and lock.age < _EMPTY_IS_STALE:
        yield problem(
            "s390-lock",
            f"{what} names no process, and is respected for {_EMPTY_IS_STALE - lock.age:.0f} s more.",
            "Remove it if that is too long.",
            f"rm {path}",
            code=Exit.CONFLICT,
        )


def _held(lock: S390Lock, what: str, path: str) -> Check:
    """A start waits for it, and gives up before that."""
    sentence = f"{what} has been held for {lock.age:.0f} s by process {lock.pid} ({lock.command})"
    look = f"ps -fp {lock.pid}"
    if any(tool in lock.command for tool in _TOOLS):
        return problem("s390-lock", f"{sentence}.", "See what it waits for.", look, code=Exit.CONFLICT)
    ends = ", which is none of s390-tools: one that is gone had its number."
    return problem(
        "s390-lock", f"{sentence}{ends}", "Remove the lock.", look, f"rm {path}", code=Exit.CONFLICT
    )


def _drift(facts: Facts, words: Words) -> Iterator[Check]:
    keeping = facts.keeping
    if isinstance(facts.kernel.host, Unseen) or isinstance(keeping.ledger, Unseen):
        return
    for sentence in keeping.differences:
        yield warning("drift", f"{sentence}.", "Have it put in order.", words.apvfio("reconcile"))
    if not keeping.differences:
        yield ok("drift", "the host is what the ledger says")
