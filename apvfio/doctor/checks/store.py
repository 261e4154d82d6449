# SPDX-License-Identifier: Apache-2.0
"""apvfio's own directory, policy, ledger and locks, and the drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import Unseen, known
from apvfio.model.criteria import count
from apvfio.model.errors import Exit
from apvfio.model.policy import DRAINS, Policy
from apvfio.model.text import count_queues, some_queues
from apvfio.store.drain_file import DamagedDrainsError
from apvfio.store.ledger_file import LEDGER, NewerLedgerError
from apvfio.store.locks import S390_LOCK
from apvfio.store.policy_file import POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, StoreFacts
    from apvfio.doctor.remedies import Words

_DIRECTORY = "run/apvfio"
_EMPTY_IS_STALE = 120
ROOT_ONLY = "only root can read it"


def judge_store(facts: Facts, words: Words) -> Iterator[Check]:
    """In the order in which a start needs them."""
    keeping = facts.store
    if keeping.directory:
        path = words.path(_DIRECTORY)
        # A link there would lead chown and chmod to another directory.
        aside = (f"mv -T --backup=numbered {path} {path}.not-ours",)
        own = (f"chown root {path}", f"chmod 0700 {path}")
        yield of_error("run-directory", keeping.directory, *(aside if keeping.replaced else own))
    yield _policy(keeping, words)
    yield from _absent_reserved(facts)
    yield from _drains(keeping, words)
    yield _ledger(keeping, words)
    if keeping.lock_holder:
        sentence = f"apvfio's lock is held by {keeping.lock_holder}: starts and stops wait for it."
        remedy = "Check what that process waits for."
        yield problem("lock", sentence, remedy, *_processes(keeping.lock_holder), code=Exit.CONFLICT)
    yield from _s390_lock(keeping, words)
    yield from _drift(facts, words)


def _policy(keeping: StoreFacts, words: Words) -> Check:
    policy = keeping.policy
    if isinstance(policy, Unseen):
        if policy.hidden:
            return skipped("policy", ROOT_ONLY)
        if isinstance(policy.error, DamagedDrainsError):
            path = words.path(DRAINS)
            return of_error("drains", policy.error, f"mv -T --backup=numbered {path} {path}.damaged")
        return of_error("policy", policy.error, words.edit(POLICY))
    return ok("policy", f"the policy /{POLICY} is valid, or does not exist")


def _absent_reserved(facts: Facts) -> Iterator[Check]:
    host, policy = facts.host, known(facts.store.policy)
    if host is None or policy is None:
        return
    absent = sorted(policy.queues - host.drivers.keys())
    if absent:
        sentence = f"/{POLICY} reserves {some_queues(absent)}, which this host does not have."
        yield warning("policy", sentence, "Check the policy, and whether an adapter is off.", queues=absent)


def _drains(keeping: StoreFacts, words: Words) -> Iterator[Check]:
    """What is drained is forgotten easily, and guests that name its queues do not start."""
    for drain in keeping.drains:
        command = words.end_of_drain(drain.area)
        if drain.restoring:
            sentence = f"the restore of the drain of {drain.area} was interrupted."
            yield warning("drains", sentence, "Finish it.", command)
        else:
            sentence = f"{drain.area} is drained: no guest gets its queues."
            yield warning("drains", sentence, "After the planned change, end the drain.", command)


def _ledger(keeping: StoreFacts, words: Words) -> Check:
    ledger = keeping.ledger
    if isinstance(ledger, Unseen):
        if ledger.hidden:
            return skipped("ledger", ROOT_ONLY)
        path = words.path(LEDGER)
        # A ledger of a newer apvfio is not damaged.
        newer = isinstance(ledger.error, NewerLedgerError)
        commands = () if newer else (f"mv -T --backup=numbered {path} {path}.damaged",)
        return of_error("ledger", ledger.error, *commands)
    leases = ledger.active_leases()
    held = sum(len(lease.matrix.adapters) * len(lease.matrix.domains) for lease in leases)
    return ok("ledger", f"{count(len(leases), 'guest')} with queues, {count_queues(held)} in all")


def _processes(text: str) -> Iterator[str]:
    """Return the commands that show the process that ``text`` names."""
    words = text.split()
    if words[:1] == ["process"] and words[1].isdigit():
        yield f"ps -fp {words[1]}"


def _s390_lock(keeping: StoreFacts, words: Words) -> Iterator[Check]:
    lock, path = keeping.s390_lock, words.path(S390_LOCK)
    what = f"the lock of s390-tools, /{S390_LOCK},"
    # A start waits that long for the lock.
    wait = (known(keeping.policy) or Policy()).times.lock_wait
    if isinstance(lock, Unseen):
        yield of_error("s390-lock", lock.error, f"mv -T --backup=numbered {path} {path}.not-a-lock")
    elif lock is None:
        return
    elif lock.pid and not lock.command:
        # Nothing to do: every start of a device by mdevctl 1.2 with ap-check leaves one.
        yield ok(
            "s390-lock", f"{what} was left by process {lock.pid}, which has ended; its next user removes it"
        )
    elif lock.pid and lock.age > wait:
        sentence = f"{what} has been held for {lock.age:.0f} s by process {lock.pid} ({lock.command})."
        remedy = "See what that process waits for."
        yield problem("s390-lock", sentence, remedy, f"ps -fp {lock.pid}", code=Exit.CONFLICT)
    elif not lock.pid and _EMPTY_IS_STALE - lock.age > wait:
        left = f"{_EMPTY_IS_STALE - lock.age:.0f}"
        sentence = f"{what} names no process, and counts as held for {left} s more."
        yield problem("s390-lock", sentence, "Wait that long.", f"sleep {left}", code=Exit.CONFLICT)


def _drift(facts: Facts, words: Words) -> Iterator[Check]:
    keeping = facts.store
    if facts.host is None or facts.ledger is None:
        return
    # The checks of the guests report the differences of judged guests.
    judged = {sentence for guest in told_with_guests(facts) for sentence in keeping.of_guest[guest]}
    found = [sentence for sentence in keeping.differences if sentence not in judged]
    for sentence in found:
        yield warning("drift", f"{sentence}.", "Reconcile the host.", words.apvfio("reconcile"))
    if not found and not judged:
        yield ok("drift", "the host matches the ledger")


def told_with_guests(facts: Facts) -> set[str]:
    """Return the uuids of running guests whose faults with their queues are reported with the guests."""
    running = [guest.outline.uuid for guest in facts.judged if guest.domain.active]
    return {uuid for uuid in running if facts.store.of_guest.get(uuid)}
