# SPDX-License-Identifier: Apache-2.0
"""The AP bus, vfio_ap, and which of the kernel's two mechanisms is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import ok, problem, skipped, warning
from apvfio.doctor.facts import BLACKLISTED, NO_MODULE, Unseen, known
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.host import ALL_BITS, BUS, MASKS, OVERRIDES, UNBOUND, VFIO_DRIVER
from apvfio.model.ledger import Ledger
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.mechanism import mechanism_of, mechanism_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import Facts, KernelFacts
    from apvfio.doctor.remedies import Words
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn

_IBM_Z = "s390x"
_MEANS = {MASKS: "clears every driver_override", OVERRIDES: "sets every bit of the masks"}
"""What a change to each mechanism does to the other."""
_WHEN_CHANGEABLE = "Change the mechanism once no guest and no device has queues"


def judge_kernel(facts: Facts, words: Words) -> Iterator[Check]:
    """The bus first; without it nothing else can be checked."""
    kernel = facts.kernel
    if isinstance(kernel.host, Unseen):
        yield _bus(kernel, kernel.host)
        yield skipped("adapters", "without an AP bus there is nothing to check")
        return
    host = kernel.host
    yield ok("ap-bus", f"the AP bus works, {_names(host)}")
    yield _adapters(kernel, host, words)
    yield from _drivers(facts, host, words)
    yield _vfio_ap(kernel, host, words)
    if host.vfio_ap and not kernel.guest_matrix:
        sentence = (
            "mediated devices of this kernel have no file guest_matrix: apvfio cannot check which queues a "
            "guest would see, and every start of a guest with queues fails."
        )
        yield problem("guest-matrix", sentence, "Boot Linux 6.0 or later.")
    if not kernel.vfio_node:
        sentence = "/dev/vfio/vfio, which libvirt needs for mediated devices, is missing."
        yield problem("vfio", sentence, "Load the driver.", "modprobe vfio")
    yield from _mechanism(facts, host, words)


def _bus(kernel: KernelFacts, unseen: Unseen) -> Check:
    error = unseen.error
    if kernel.machine not in ("", _IBM_Z):
        sentence = f"this machine is {printable(kernel.machine)}, and only IBM Z has AP queues."
        return problem("ap-bus", sentence, "Use a simulated host, with --sim FILE.")
    commands = () if kernel.bus else ("modprobe ap",)
    return problem("ap-bus", error.sentence, error.remedy, *commands)


def _names(host: Host) -> str:
    return f"with {count_queues(len(host.drivers))} on adapters {host.adapters or 'none'}"


def _adapters(kernel: KernelFacts, host: Host, words: Words) -> Check:
    if host.drivers:
        return ok("adapters", f"the host has adapters {host.adapters} and domains {host.domains}")
    scan = words.echo("1", f"{BUS}/scans")
    assigned = kernel.partition
    if assigned.adapters and assigned.domains:
        return problem(
            "adapters",
            f"the AP bus has found no queues of adapters {assigned.adapters}, domains {assigned.domains}.",
            "Scan the bus; if that finds none, configure the adapters on (HMC).",
            scan,
        )
    remedy = "Assign adapters and usage domains to it (HMC, activation profile), then scan the bus."
    return problem("adapters", "this partition has no AP queues.", remedy, scan)


def _drivers(facts: Facts, host: Host, words: Words) -> Iterator[Check]:
    kernel = facts.kernel
    if not kernel.autoprobe:
        sentence = f"/sys/{BUS}/drivers_autoprobe is 0: queues that appear get no driver."
        yield warning("drivers", sentence, "Switch it on again.", words.echo("1", f"{BUS}/drivers_autoprobe"))
    # Other checks report queues with an override, and queues that a running guest lacks.
    lacking = {queue for guest in facts.judged for queue in guest.unseen}
    elsewhere = lacking | kernel.overrides.keys()
    unbound = [q for q, driver in host.drivers.items() if driver == UNBOUND and q not in elsewhere]
    if not kernel.has_host_driver and host.drivers:
        sentence = "the host's driver cex4queue is not loaded: queues that guests return get no driver."
        yield warning("drivers", sentence, "Load it.", "modprobe zcrypt_cex4")
    elif host.vfio_ap and unbound:
        yield warning(
            "drivers",
            f"{some_queues(unbound)} {'has' if len(unbound) == 1 else 'have'} no driver.",
            "Let the kernel look for one; a guest's start does this for the guest's queues.",
            *(words.echo(str(queue), f"{BUS}/drivers_probe") for queue in unbound),
            queues=unbound,
        )


def _vfio_ap(kernel: KernelFacts, host: Host, words: Words) -> Check:
    if host.vfio_ap:
        return ok("vfio-ap", "the driver vfio_ap is loaded")
    sentence = "the driver vfio_ap is not loaded"
    if kernel.module == NO_MODULE:
        remedy = "Boot a kernel that has CONFIG_VFIO_AP."
        return problem("vfio-ap", f"{sentence}, and this kernel has no module vfio_ap.", remedy)
    if kernel.module == BLACKLISTED:
        path = kernel.blocked_by.partition(":")[0].lstrip("/")
        return problem(
            "vfio-ap",
            f"{sentence}, and modprobe does not load it ({kernel.blocked_by}).",
            "Load it anyway, and remove that line for the next boot.",
            "modprobe --ignore-install vfio_ap",
            words.edit(path),
        )
    return problem(
        "vfio-ap", f"{sentence}.", "Load it; apvfio-prepare.service does so at boot.", "modprobe vfio_ap"
    )


def _mechanism(facts: Facts, host: Host, words: Words) -> Iterator[Check]:
    kernel = facts.kernel
    ledger = facts.ledger or Ledger("", {})
    if kernel.mixed:
        masks = " and ".join(name for name, _ in (ALL_BITS - host.masks).named())
        spare = _unused(kernel.overrides, host, ledger)
        state = problem if _stops_somebody(facts) else warning
        mixed = f"{masks} cleared, driver_override set for {some_queues(kernel.overrides)}"
        sentence = f"both mechanisms are in use, and the kernel refuses mask changes: {mixed}."
        needed = "Guests or mediated devices need these overrides until they stop."
        remedy = "Clear the overrides that no guest and no device needs." if spare else needed
        yield state("mechanism", sentence, remedy, *clearing(spare, host, words), queues=kernel.overrides)
        return
    policy = known(facts.store.policy) or Policy()
    mechanism, reason = mechanism_of(host, ledger, policy), mechanism_reason(host, ledger, policy)
    if policy.mechanism and policy.mechanism != mechanism:
        able = policy.mechanism != OVERRIDES or host.abilities.override
        change = "Change the mechanism" if changeable(facts) else _WHEN_CHANGEABLE
        remedy = f"{change}, which {_MEANS[policy.mechanism]}, or change the policy."
        commands = (words.apvfio("mechanism", policy.mechanism),) if able and changeable(facts) else ()
        sentence = f"the policy requests {policy.mechanism}, and the host uses {mechanism}: {reason}."
        yield warning("mechanism", sentence, remedy if able else "Change the policy.", *commands)
    else:
        yield ok("mechanism", f"mechanism: {mechanism} ({reason})")
    if host.mechanism == OVERRIDES:
        yield from _left_overrides(facts, host, ledger, words)


def _stops_somebody(facts: Facts) -> bool:
    """Whether a start, of the guest that was asked about or of any, needs a change of the masks."""
    plans = [guest.plan for guest in facts.judged if guest.plan]
    return not plans or any(isinstance(plan, ApvfioError) or bool(plan.chosen.clear) for plan in plans)


def changeable(facts: Facts) -> bool:
    """Whether ``apvfio mechanism`` would not be refused: no guest and no device has queues."""
    host, ledger = facts.host, facts.ledger
    return bool(host and ledger and not host.mdevs and not ledger.leases_and_claims())


def _unused(overrides: Mapping[Apqn, str], host: Host, ledger: Ledger) -> dict[Apqn, str]:
    """Those of the ``overrides`` that serve neither a guest nor a device."""
    held = {queue for matrix in host.mdevs.values() for queue in matrix.queues()}
    needed = held | ledger.overrides.keys() | ledger.needed_queues()
    return {queue: driver for queue, driver in overrides.items() if queue not in needed}


def _left_overrides(facts: Facts, host: Host, ledger: Ledger, words: Words) -> Iterator[Check]:
    """Overrides that serve nobody: neither a guest nor a device, and not set to keep a queue for the host."""
    # The checks of the guests report overrides that keep a guest from its queues.
    refused = (guest.request for guest in facts.judged if isinstance(guest.plan, ConflictError))
    requests = [request for request in refused if isinstance(request, Request)]
    elsewhere = {queue for request in requests for queue in strange(request, host)}
    unused = _unused(host.overrides, host, ledger)
    left = {queue: driver for queue, driver in unused.items() if queue not in elsewhere}
    if left:
        known = {VFIO_DRIVER, "cex4queue"}
        names = sorted({driver for driver in left.values() if driver not in known})
        named = f" (to unknown {', '.join(map(printable, names))})" if names else ""
        sentence = f"driver_override is set{named} for {some_queues(left)}, which no guest or device has."
        remedy = "If it is a leftover, clear it; while one is set, no tool can change the masks."
        yield warning("overrides", sentence, remedy, *clearing(left, host, words), queues=left)


def strange(request: Request, host: Host) -> list[Apqn]:
    """The queues that it names and that driver_override keeps for another driver than vfio_ap."""
    return [q for q in request.matrix.queues() if host.overrides.get(q, VFIO_DRIVER) != VFIO_DRIVER]


def clearing(overrides: Iterable[Apqn], host: Host, words: Words) -> Iterator[str]:
    """Return the commands that clear overrides and return queues that have a foreign driver."""
    for queue in sorted(overrides):
        yield words.echo("", f"{BUS}/devices/{queue}/driver_override")
        driver = host.drivers.get(queue, UNBOUND)
        if host.masks_give_host(queue) and driver == VFIO_DRIVER:
            yield words.echo(str(queue), f"{BUS}/drivers/{driver}/unbind")
        if host.masks_give_host(queue) and driver in (VFIO_DRIVER, UNBOUND):
            yield words.echo(str(queue), f"{BUS}/drivers_probe")
