# SPDX-License-Identifier: Apache-2.0
"""Hosts, guests and ledgers of any size, the same in every run."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

from apvfio.model.host import HOST_DRIVER, VFIO_DRIVER, Abilities, Host, MaskBits
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, HELD, Lease, Ledger
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOT = "00000000-0000-4000-8000-000000000000"


def host(adapters: int, domains: int) -> Host:
    """A host of Linux 7 that has all its queues."""
    return Host(
        apmask=ALL_IDS,
        aqmask=ALL_IDS,
        drivers={Apqn(a, d): HOST_DRIVER for a in range(adapters) for d in range(domains)},
        overrides={},
        mdevs={},
        abilities=Abilities(override=True, ap_config=True, strict_return=True),
        vfio_ap=True,
        max_adapter=255,
        max_domain=255,
        control_domains=None,
    )


def request(n: int, matrix: Matrix) -> Request:
    """Guest number ``n``, which asks for ``matrix``."""
    return Request(
        f"g{n}", str(uuid.UUID(int=n | 4 << 76 | 8 << 60)), str(uuid.UUID(int=n | 1 << 100)), matrix
    )


def apart(count: int, adapters: int, domains: int, seed: int = 1) -> list[Request]:
    """So many guests, of a domain and one to four adapters each, that want nothing of each other's."""
    chance = random.Random(seed)
    free = {domain: list(range(adapters)) for domain in range(domains)}
    found: list[Request] = []
    while len(found) < count:
        domain = chance.choice([domain for domain, left in free.items() if left])
        chosen = chance.sample(free[domain], min(chance.randint(1, 4), len(free[domain])))
        free[domain] = [adapter for adapter in free[domain] if adapter not in chosen]
        found.append(request(len(found), Matrix(IdSet(chosen), IdSet([domain]))))
    return found


def running(requests: Sequence[Request], on: Host) -> tuple[Host, Ledger]:
    """The host and its ledger when these guests run, all freed by their adapters."""
    leases, cleared = {}, IdSet()
    for asked in requests:
        leases[asked.mdev] = Lease(
            asked.guest, asked.guest_uuid, asked.mdev, asked.matrix, BY_ADAPTERS, HELD, created=True
        )
        cleared |= asked.matrix.adapters
    drivers = {q: VFIO_DRIVER if q.adapter in cleared else driver for q, driver in on.drivers.items()}
    after = on._replace(
        apmask=on.apmask - cleared,
        drivers=drivers,
        mdevs={key: lease.matrix for key, lease in leases.items()},
    )
    return after, Ledger(BOOT, leases, MaskBits(cleared))
