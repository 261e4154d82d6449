# SPDX-License-Identifier: Apache-2.0
"""How the host uses its queues at this moment, as far as the policy needs it.

Every start pays for each read. A card's sums are therefore read before its queues. Nothing is read for rules
that are off, or for queues that the start does not affect.
"""

from __future__ import annotations

from apvfio.kernel.snapshot import is_online, read_default_domain, read_or
from apvfio.model.host import BUS, HOST_DRIVER, MASK_NAMES, Usage
from apvfio.model.ids import parse_hex
from apvfio.model.matrix import Apqn
from apvfio.model.policy import IGNORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from apvfio.kernel.seam import Files, Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.matrix import Matrix
    from apvfio.model.policy import Keep, Policy

ZKEY_REPOSITORY = "etc/zkey/repository"
ZCRYPT_NODES = "class/zcrypt"
"""The device nodes made with zcryptctl. /dev/z90crypt, which is open to all queues, is not among them."""

_WORK = ("load", "pendingq_count", "requestq_count")
_APQN = r"([0-9a-fA-F]{1,2})\.([0-9a-fA-F]{1,4})"


def read_usage(system: System, host: Host, matrices: Iterable[Matrix], policy: Policy) -> Usage:
    """What a plan for ``matrices`` must know beyond ``host``; HostError if a key's file cannot be read."""
    return usage_of(system, host, {q for matrix in matrices for q in host.concerned(matrix)}, policy)


def usage_of(system: System, host: Host, queues: Collection[Apqn], policy: Policy) -> Usage:
    """What must be known before ``host`` loses ``queues``; HostError if a key's file cannot be read."""
    if not queues:
        return Usage()
    busy = policy.busy
    return Usage(
        usable=_usable(system.sysfs, host, policy.keep),
        working=frozenset() if busy.requests == IGNORE else _working(system.sysfs, sorted(queues)),
        keys={} if busy.zkey == IGNORE else _keys(system.files, queues),
        nodes={} if busy.zcrypt_nodes == IGNORE else _nodes(system.sysfs, queues),
        default_domain=frozenset()
        if busy.default_domain == IGNORE
        else _default_domain(system.sysfs, host, queues),
    )


def _default_domain(sysfs: Sysfs, host: Host, queues: Iterable[Apqn]) -> frozenset[Apqn]:
    """The queues of the default domain that the host's drivers have, if one of ``queues`` is among them."""
    domain = read_default_domain(sysfs)
    if not any(queue.domain == domain for queue in queues):
        return frozenset()
    return frozenset(q for q, driver in host.drivers.items() if q.domain == domain and driver == HOST_DRIVER)


def _usable(sysfs: Sysfs, host: Host, keep: Keep) -> dict[Apqn, str]:
    """The host's online queues of the modes of which some are kept."""
    kept = {mode for mode, least in keep._asdict().items() if least}
    if not kept:
        return {}
    from apvfio.kernel.cards import MODES  # noqa: PLC0415
    from apvfio.kernel.lszcrypt import read_cards  # noqa: PLC0415

    modes = {int(card.id, 16): MODES.get(card.mode, "") for card in read_cards(sysfs)}
    return {
        queue: modes[queue.adapter]
        for queue, driver in host.drivers.items()
        if driver == HOST_DRIVER and modes.get(queue.adapter) in kept and is_online(sysfs, queue)
    }


def _working(sysfs: Sysfs, queues: Iterable[Apqn]) -> frozenset[Apqn]:
    """Return the queues with requests under way; one that disappears meanwhile has none."""
    cards: dict[int, bool] = {}
    found = set()
    for queue in queues:
        if queue.adapter not in cards:
            cards[queue.adapter] = _has_work(sysfs, f"{BUS}/devices/card{queue.adapter:02x}")
        if cards[queue.adapter] and _has_work(sysfs, f"{BUS}/devices/{queue}"):
            found.add(queue)
    return frozenset(found)


def _has_work(sysfs: Sysfs, directory: str) -> bool:
    return any(read_or(sysfs, f"{directory}/{name}", "-").strip() not in ("0", "-") for name in _WORK)


def _keys(files: Files, queues: Iterable[Apqn]) -> dict[Apqn, str]:
    """The queues that keys of zkey's repository are bound to (zkey/keystore.c: the property ``apqns``)."""
    wanted, found = set(queues), dict[Apqn, str]()
    for name in files.list(ZKEY_REPOSITORY):
        key = name.removesuffix(".info")
        if key == name:
            continue
        for line in (files.read(f"{ZKEY_REPOSITORY}/{name}") or "").splitlines():
            title, _, value = line.partition("=")
            if title.strip() == "apqns":
                found |= {queue: key for queue in _apqns(value) if queue in wanted and queue not in found}
    return found


def _apqns(text: str) -> list[Apqn]:
    """The queues in a list such as ``01.0004,0A.001B``, in which zkey writes hexadecimal digits large."""
    import re  # noqa: PLC0415

    return [Apqn(int(adapter, 16), int(domain, 16)) for adapter, domain in re.findall(_APQN, text)]


def _nodes(sysfs: Sysfs, queues: Iterable[Apqn]) -> dict[Apqn, str]:
    """The queues that custom device nodes are open to; a node without adapters or domains has none."""
    wanted, found = list(queues), dict[Apqn, str]()
    try:
        nodes = sysfs.list(ZCRYPT_NODES)
    except OSError:
        return {}  # no node was ever made, or this kernel cannot
    for node in nodes:
        try:
            apmask, aqmask = (
                parse_hex(sysfs.read(f"{ZCRYPT_NODES}/{node}/{name}"), name) for name in MASK_NAMES
            )
        except OSError:
            continue  # destroyed since the listing
        for queue in wanted:
            if queue.adapter in apmask and queue.domain in aqmask:
                found.setdefault(queue, node)
    return found
