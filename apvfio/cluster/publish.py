# SPDX-License-Identifier: Apache-2.0
"""Publish in the cluster what this host offers; only changes are written.

The offer is compared with the CIB itself, so that nothing has to be remembered. The attributes of a node end
when it leaves the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio._version import __version__
from apvfio.cluster import cib
from apvfio.cluster.classes import PREFIX
from apvfio.cluster.guest_files import digest_of
from apvfio.cluster.offer import eligibility_attribute, read_offer
from apvfio.model.errors import ApvfioError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from apvfio.cluster.cib import Published
    from apvfio.cluster.guest_files import GuestFile
    from apvfio.cluster.offer import Offer
    from apvfio.kernel.seam import System

UTILIZATION = "utilization"
ATTRIBUTE = "attribute"
PROBLEM = "apvfio_problem"
"""The node attribute with the sentence that says what is wrong with the publisher or a guest's file."""
FILES = "apvfio_files"
"""The node attribute that is the same on two hosts whose files of the guests are the same."""
VERSION = "apvfio_version"
"""The node attribute with apvfio's version."""
_LONGEST = 250


class Change(NamedTuple):
    """One write to the cluster."""

    kind: str
    """`UTILIZATION` or `ATTRIBUTE`."""
    name: str
    before: str | None
    after: str | None
    """None for an attribute that is removed."""

    def __str__(self) -> str:
        after = "removed" if self.after is None else self.after
        return f"{self.name}: {after}" + (f" (was {self.before})" if self.before is not None else "")


def changes(offer: Offer, before: Published) -> list[Change]:
    """Return the writes that turn what is published into ``offer``.

    Nothing is removed while the file of a guest is invalid or missing: a directory that is not mounted must
    not take the guests' queues away.
    """
    problem = problem_of(offer)
    sound = bool(offer.guests) and not problem
    host = {FILES: digest_of([one.guest for one in offer.guests]), VERSION: __version__}
    if problem:
        host[PROBLEM] = problem
    utilization = {name: str(count) for name, count in offer.utilization.items()}
    known = {name: value for name, value in before.utilization.items() if name.startswith(PREFIX)}
    own = {k: v for k, v in before.attributes.items() if k.startswith(eligibility_attribute(""))}
    old = {k: v for k, v in before.attributes.items() if k in (PROBLEM, FILES, VERSION)}
    return [
        *_differences(UTILIZATION, known, utilization, remove=sound),
        *_differences(ATTRIBUTE, own, offer.attributes, remove=sound),
        *_differences(ATTRIBUTE, old, host, remove=True),
    ]


def problem_of(offer: Offer) -> str:
    """Return what is wrong with the guests' files, in a sentence; '' if nothing is."""
    errors = [guest.guest.error for guest in offer.guests if guest.guest.error]
    more = f" There are {len(errors) - 1} more such files." if len(errors) > 1 else ""
    return printable(str(errors[0]), _LONGEST) + more if errors else ""


def publish(
    system: System, read_guests: Callable[[], Sequence[GuestFile]], node: str, *, dry_run: bool = False
) -> list[Change]:
    """Publish what this host, ``node`` in the cluster, offers; return the changes.

    If the host or the guests cannot be read, the previous offer stays published, and the reason becomes an
    attribute.
    """
    before = cib.published(cib.read_cib(), node)
    try:
        offer = read_offer(system, read_guests())
    except ApvfioError as error:
        problem = printable(str(error), _LONGEST)
        if not dry_run and before.attributes.get(PROBLEM) != problem:
            cib.set_attribute(PROBLEM, problem)
        raise
    due = changes(offer, before)
    if not dry_run:
        for change in due:
            _write(change, node)
    return due


def _write(change: Change, node: str) -> None:
    if change.kind == UTILIZATION:
        cib.set_utilization(node, change.name, change.after)
    else:
        cib.set_attribute(change.name, change.after)


def _differences(
    kind: str, before: Mapping[str, str], after: Mapping[str, str], *, remove: bool
) -> Iterator[Change]:
    for name, value in after.items():
        if before.get(name) != value:
            yield Change(kind, name, before.get(name), value)
    for name in sorted(before.keys() - after.keys()) if remove else ():
        yield Change(kind, name, before[name], None)
