# SPDX-License-Identifier: Apache-2.0
"""The output of ``apvfio status --adapter`` and ``--domain``, as text and as the document of ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable
from apvfio.model.text import count_queues, some_queues
from apvfio.view.columns import fold
from apvfio.view.drain_report import drain_state_json, drains_lines
from apvfio.view.status_report import claim_json, queue_json, running_lease_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apvfio.libvirt.users import AskingGuest, ForeignDevice, Users
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn
    from apvfio.store.definitions import DefinedDevice

_LABEL = 22
_LONGEST = 1000


def users(found: Users, width: int | None) -> Iterator[str]:
    """Return the lines that the command prints, folded at ``width`` columns if there is a limit."""
    yield f"{found.area}: {count_queues(len(found.owners))}"
    for label, sentences in _parts(found):
        shown = list(sentences) or ["none"]
        for number, sentence in enumerate(shown):
            text = printable(sentence, _LONGEST)
            yield from fold(f"  {'' if number else label:<{_LABEL}}  {text}", width, _LABEL + 4)


def _parts(found: Users) -> Iterator[tuple[str, Iterable[str]]]:
    yield "guests that hold", (_held(found, lease) for lease in found.leases)
    error = found.libvirt_error
    asking = [f"not known: {error.clause}"] if error else [_asks(found, guest) for guest in found.guests]
    yield "guests that request", asking
    yield "other mediated devices", (_device(found, device) for device in found.devices)
    yield "mdevctl starts now", (f"{claim.mdev}, process {claim.process.pid}" for claim in found.claims)
    yield "mdevctl definitions", map(_definition, found.definitions)
    yield "used by the host", _used(found)
    yield "reserved", [some_queues(found.reserved)] if found.reserved else []
    yield "drained", (value for _, value in drains_lines(found.drains))
    yield "pending returns", (f"{one}, {one.why}" for one in found.pending)


def _held(found: Users, lease: Lease) -> str:
    running = "" if found.found.running is None or lease.uuid in found.found.running else ", does not run"
    queues = some_queues(found.area.queues_of(lease.matrix))
    return f"{lease.guest}: {queues}; {lease.state}, mdev {lease.mdev}{running}"


def _asks(found: Users, guest: AskingGuest) -> str:
    where = "annotation" if guest.annotated else "mdevctl definition"
    state = "running" if guest.running else "shut off"
    return f"{guest.name}: {some_queues(found.area.queues_of(guest.matrix))}; {where}, {state}"


def _device(found: Users, device: ForeignDevice) -> str:
    opened = f", open in process {device.process.pid}" if device.process else ""
    return f"{device.mdev}: {some_queues(found.area.queues_of(device.matrix))}{opened}"


def _definition(device: DefinedDevice) -> str:
    return f"{device.mdev}: {device.matrix}; started {'at boot' if device.autostart else 'manually'}"


def _used(found: Users) -> Iterator[str]:
    usage = found.usage
    for key, queues in _by_user(usage.keys):
        yield f"zkey key {key}: {some_queues(queues)}"
    for node, queues in _by_user(usage.nodes):
        yield f"zcrypt node {node}: {some_queues(queues)}"
    if usage.working:
        yield f"requests under way: {some_queues(usage.working)}"
    default = [queue for queue in usage.default_domain if found.area.holds(queue)]
    if default:
        yield f"default domain: {some_queues(default)}"


def _by_user(users: Mapping[Apqn, str]) -> Iterator[tuple[str, list[Apqn]]]:
    for user in sorted(set(users.values())):
        yield user, sorted(queue for queue, its in users.items() if its == user)


def users_json(found: Users) -> dict[str, object]:
    """The document that ``--json`` prints."""
    usage = found.usage
    return {
        "area": found.area.as_json(),
        "queues": [queue_json(found.found, queue) for queue in found.owners],
        "leases": [running_lease_json(found.found, lease) for lease in found.leases],
        "guests": None
        if found.libvirt_error
        else [
            {
                "guest": guest.name,
                "uuid": guest.uuid,
                "mdev": guest.mdev,
                **guest.matrix.lists(),
                "running": guest.running,
                "source": "annotation" if guest.annotated else "definition",
            }
            for guest in found.guests
        ],
        "devices": [
            {
                "mdev": device.mdev,
                **device.matrix.lists(),
                "pid": device.process.pid if device.process else None,
            }
            for device in found.devices
        ],
        "claims": [claim_json(claim) for claim in found.claims],
        "definitions": [
            {"mdev": device.mdev, **device.matrix.lists(), "autostart": device.autostart}
            for device in found.definitions
        ],
        "host": {
            "keys": {str(queue): key for queue, key in sorted(usage.keys.items())},
            "nodes": {str(queue): node for queue, node in sorted(usage.nodes.items())},
            "working": [str(queue) for queue in sorted(usage.working)],
            "default_domain": [
                str(queue) for queue in sorted(usage.default_domain) if found.area.holds(queue)
            ],
        },
        "reserved": [str(queue) for queue in found.reserved],
        "drains": [drain_state_json(drain) for drain in found.drains],
        "pending_returns": [one.as_json() for one in found.pending],
        "libvirt_error": found.libvirt_error and found.libvirt_error.as_json(),
    }
