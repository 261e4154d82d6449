# SPDX-License-Identifier: Apache-2.0
"""The whole examination: collect facts, then judge them, group by group. It never raises an error."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from apvfio.doctor.catalogue import CHECK_FAILED
from apvfio.doctor.check import PROBLEM, Check, warning
from apvfio.doctor.checks.cluster import judge_cluster
from apvfio.doctor.checks.guests import judge_guests, judge_one
from apvfio.doctor.checks.host import judge_host
from apvfio.doctor.checks.kernel import judge_kernel
from apvfio.doctor.checks.libvirt import judge_libvirt
from apvfio.doctor.checks.machine import judge_tools, judge_units
from apvfio.doctor.checks.store import judge_store
from apvfio.doctor.collect.cluster import look_at_cluster
from apvfio.doctor.collect.guests import look_at_guests
from apvfio.doctor.collect.kernel import look_at_kernel
from apvfio.doctor.collect.machine import look_at_machine
from apvfio.doctor.collect.store import look_at_store
from apvfio.doctor.facts import Facts, KernelFacts, StoreFacts, Unseen, attempt, known, otherwise
from apvfio.engine.state import read_state
from apvfio.install.checks import has_mdevctl
from apvfio.mdev.definitions import AUTO
from apvfio.mdev.devices import is_uuid
from apvfio.model.errors import ApvfioError, Exit, printable
from apvfio.store.definitions import FOLDER, load_definition
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.doctor.facts import DomainFacts, GuestFacts, MachineFacts, Seen
    from apvfio.doctor.remedies import Words
    from apvfio.engine.state import State
    from apvfio.kernel.seam import Files, System

    Judge = Callable[[Facts, Words], Iterable[Check]]

T = TypeVar("T")

_JUDGES: tuple[tuple[str, Judge], ...] = (
    ("the kernel", judge_kernel),
    ("apvfio's own files", judge_store),
    ("libvirt", judge_libvirt),
    ("the tools", judge_tools),
    ("the units", judge_units),
    ("the host", judge_host),
    ("the cluster", judge_cluster),
)


class Examination(NamedTuple):
    """All that was found, in the order in which a start would stumble over it."""

    checks: tuple[Check, ...]

    @property
    def problems(self) -> list[Check]:
        """Those that stop a start."""
        return [check for check in self.checks if check.state == PROBLEM]

    @property
    def code(self) -> int:
        """That of the first problem, OK if there is none."""
        return next((check.code for check in self.problems), Exit.OK)

    def as_json(self) -> dict[str, object]:
        """As ``doctor --json`` prints it."""
        return {"checks": [check.as_json() for check in self.checks]}


def examine(
    system: System, domains: Callable[[], list[DomainFacts]], words: Words, *, guest: str = ""
) -> Examination:
    """Check everything that could stop ``guest``, or any guest if none is named.

    ``domains`` fetches the guests. An unexpected error of a check becomes a result of its own.
    """
    found: list[Check] = []
    facts = _look(system, domains, words, guest, found)
    for what, judge in (*_JUDGES, ("guests", judge_one if guest else judge_guests)):
        try:
            found += judge(facts, words)
        except Exception as error:  # one check that fails must not hide the others
            found.append(_failed(what, error))
    return Examination(tuple(found))


def _look(
    system: System, domains: Callable[[], list[DomainFacts]], words: Words, named: str, failures: list[Check]
) -> Facts:
    """Collect all facts; an unexpected error is added to ``failures``, and the fact counts as unseen."""

    def look(what: str, read: Callable[[], T], default: Callable[[Unseen], T]) -> T:
        try:
            return read()
        except Exception as error:  # see `examine`
            failures.append(_failed(what, error))
            return default(Unseen(ApvfioError(f"{what} could not be checked.")))

    here = on_this_machine(system)
    kernel = look("the kernel", lambda: look_at_kernel(system), KernelFacts.unseen)
    host = known(kernel.host)
    keeping = look("apvfio's own files", lambda: look_at_store(system, host), StoreFacts.unseen)
    ledger = known(keeping.ledger)

    def machine() -> MachineFacts | None:
        return look_at_machine(system, ledger) if here else None

    def guests() -> Seen[tuple[GuestFacts, ...]]:
        fetched = attempt(domains)
        return fetched if isinstance(fetched, Unseen) else attempt(lambda: _guests(system, fetched))

    return Facts(
        kernel=kernel,
        store=keeping,
        machine=look("this machine", machine, lambda _: None),
        guests=look("guests", guests, lambda unseen: unseen),
        defined=look("mdevctl's definitions", lambda: _defined(system.files), lambda _: {}),
        session=words.connect.endswith("/session"),
        rights=os.geteuid() == 0,
        mdevctl=here and has_mdevctl(),
        named=named,
        cluster=look("the cluster", lambda: look_at_cluster(system.files) if here else None, lambda _: None),
    )


def _guests(system: System, domains: list[DomainFacts]) -> tuple[GuestFacts, ...]:
    seen: Seen[State] = attempt(partial(read_state, system))
    if isinstance(seen, Unseen):
        return look_at_guests(system, domains, None)
    # Another check reports that the driver is not loaded; it must not hide other problems.
    return look_at_guests(system, domains, seen._replace(host=seen.host._replace(vfio_ap=True)))


def _defined(files: Files) -> dict[str, bool]:
    """The AP devices that mdevctl knows, and whether it starts them itself."""
    found = {}
    for name in filter(is_uuid, otherwise(partial(files.list, FOLDER), list[str]())):
        definition = otherwise(partial(load_definition, files, name), None)
        if definition:
            found[name] = definition.start == AUTO
    return found


def _failed(what: str, error: Exception) -> Check:
    return warning(
        CHECK_FAILED,
        f"the check of {what} ended with an unexpected {type(error).__name__}: {printable(str(error), 200)}.",
        "Please report this.",
    )
