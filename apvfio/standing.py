# SPDX-License-Identifier: Apache-2.0
"""Where each guest stands that asks for something: what it wants, what it has, whether it could start now."""

from __future__ import annotations

from typing import NamedTuple

from apvfio import serving
from apvfio.asking import request_of
from apvfio.errors import ApvfioError
from apvfio.host import read_host
from apvfio.host_facts import read_facts
from apvfio.ledgers import load
from apvfio.plan.pairs import Pair, pairs_apart
from apvfio.policy import Policy, read_policy
from apvfio.resolve import all_named
from apvfio.serving import Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.guests import Guest
    from apvfio.ledger import Lease
    from apvfio.request import Request
    from apvfio.system import System

RUNNING = "running"
SHUT_OFF = "shut off"


class Standing(NamedTuple):
    """One guest."""

    name: str
    """Untrusted text."""
    state: str
    request: Request | None
    """None if what it asks for makes no sense."""
    holds: Lease | None
    error: ApvfioError | None
    """Why it could not start, though it does not run; or what is wrong with its annotation."""
    known: bool
    """Whether this host could be asked."""

    @property
    def can_start(self) -> bool | None:
        """Whether it could start now; None if it runs, or nobody knows."""
        if self.error and not self.request:
            return False
        return None if self.state == RUNNING or not self.known else self.error is None

    @property
    def asks(self) -> str:
        """What it asks for, in words."""
        if self.request is None:
            return "?"
        return str(self.request.wish or self.request.matrix)

    @property
    def now(self) -> str:
        """What there is to say of it at this moment."""
        if self.error:
            return self.error.sentence.rstrip(".")
        if self.state == RUNNING:
            return self._running()
        return "can start" if self.known else "this host cannot be asked"

    def _running(self) -> str:
        wanted = self.request.matrix if self.request and not self.request.wish else None
        if self.holds is None:
            return "has no queues by apvfio"
        if wanted is None or wanted == self.holds.matrix:
            return "has its queues" if wanted else f"has {self.holds.matrix}"
        return f"has {self.holds.matrix}, and will have the other at its next start"

    def as_json(self) -> dict[str, object]:
        """What ``guest list --json`` says besides what the guest asks for."""
        return {"can_start": self.can_start, "why": self.error.as_json() if self.error else None}


def standings(system: System, guests: Iterable[Guest]) -> tuple[list[Standing], list[Pair]]:
    """All ``guests`` that ask for something, and the pairs that cannot run together.

    Where the host cannot be asked, as it has no AP bus or is not this machine, that alone is left open.
    """
    seen, broken = _seen(system)
    found = [one for one in (_standing(system, seen, guest, broken) for guest in guests) if one]
    requests = [one.request for one in found if one.request]
    if seen is None or broken or len(requests) < 2:
        return found, []
    named, _ = all_named(system.sysfs, requests, seen.host, seen.ledger, seen.policy)
    facts = read_facts(system, seen.host, [request.matrix for request in named], seen.policy)
    return found, list(pairs_apart(named, *seen, facts))


def _seen(system: System) -> tuple[Scene | None, ApvfioError | None]:
    """The scene if the host can be asked, and why no guest starts there now if the policy cannot be used."""
    try:
        host, ledger = read_host(system.sysfs), load(system.files, system.boot_id)
    except ApvfioError:
        return None, None
    try:
        return Scene(host, ledger, read_policy(system.files)), None
    except ApvfioError as broken:
        return Scene(host, ledger, Policy()), broken


def _standing(
    system: System, seen: Scene | None, guest: Guest, broken: ApvfioError | None
) -> Standing | None:
    state = RUNNING if guest.active else SHUT_OFF
    try:
        request = request_of(system.files, guest.xml())
    except ApvfioError as nonsense:
        return Standing(guest.name, state, None, None, nonsense, known=seen is not None)
    if request is None:
        return None
    if seen is None:
        return Standing(guest.name, state, request, None, None, known=False)
    leases = [lease for lease in seen.ledger.live() if lease.uuid == request.guest_uuid]
    error = None if state == RUNNING else broken or _refusal(system, seen, request)
    return Standing(guest.name, state, request, leases[0] if leases else None, error, known=True)


def _refusal(system: System, seen: Scene, request: Request) -> ApvfioError | None:
    try:
        serving.plan_one(system, request, seen)
    except ApvfioError as error:
        return error
    return None
