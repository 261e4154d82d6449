# SPDX-License-Identifier: Apache-2.0
"""Hosts and requests for the tests of pure rooms."""

from __future__ import annotations

from apvfio.model.host import Abilities, Host
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, HELD, Lease, Ledger
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.request import Request

BOOT = "11111111-2222-4333-8444-555555555555"
IBM_ADAPTERS = IdSet([0, 1, 10])
IBM_DOMAINS = IdSet([1, 2, 4, 27])
NO_LEASES = Ledger(BOOT, {})


def a_host(
    adapters: IdSet = IBM_ADAPTERS,
    domains: IdSet = IBM_DOMAINS,
    *,
    apmask: IdSet = ALL_IDS,
    aqmask: IdSet = ALL_IDS,
    mdevs: dict[str, Matrix] | None = None,
    strict_return: bool = True,
    vfio_ap: bool = True,
    overrides: dict[Apqn, str] | None = None,
    ap_config: bool = True,
    control_domains: IdSet | None = None,
) -> Host:
    """IBM's example host, 12 queues, unless told otherwise; drivers follow the masks."""
    queues = Matrix(adapters, domains).queues()
    drivers = {q: "cex4queue" if q.adapter in apmask and q.domain in aqmask else "vfio_ap" for q in queues}
    return Host(
        apmask=apmask,
        aqmask=aqmask,
        drivers=drivers,
        overrides=overrides or {},
        mdevs=mdevs or {},
        abilities=Abilities(override=True, ap_config=ap_config, strict_return=strict_return),
        vfio_ap=vfio_ap,
        max_adapter=255,
        max_domain=255,
        control_domains=control_domains,
    )


def mdev(n: int) -> str:
    """The uuid of the n-th mediated device."""
    return f"{n:08x}-0000-4000-8000-000000000000"


def guest(n: int) -> str:
    """The uuid of the n-th guest."""
    return f"{n:08x}-1111-4111-8111-111111111111"


def a_matrix(adapters: str, domains: str) -> Matrix:
    """A matrix from two lists."""
    return Matrix(parse_list(adapters), parse_list(domains))


def a_request(adapters: str, domains: str, n: int = 1) -> Request:
    """What guest ``gN`` requests."""
    return Request(f"g{n}", guest(n), mdev(n), a_matrix(adapters, domains))


def a_lease(adapters: str, domains: str, n: int = 1, way: str = BY_ADAPTERS, state: str = HELD) -> Lease:
    """What guest ``gN`` holds."""
    return Lease(f"g{n}", guest(n), mdev(n), a_matrix(adapters, domains), way, state, created=True)


def a_ledger(*leases: Lease) -> Ledger:
    """A ledger with those leases and nothing pending."""
    return Ledger(BOOT, {lease.mdev: lease for lease in leases})
