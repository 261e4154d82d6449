# SPDX-License-Identifier: Apache-2.0
"""The Pacemaker cluster that the host is a node of."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from apvfio.cluster.classes import PREFIX, utilization
from apvfio.cluster.offer import eligibility_attribute
from apvfio.cluster.publish import FILES, PROBLEM, VERSION
from apvfio.doctor.check import WARNING, of_error, ok, problem, skipped, warning
from apvfio.doctor.checks.store import ROOT_ONLY
from apvfio.doctor.facts import Unseen
from apvfio.model.criteria import count
from apvfio.model.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apvfio.cluster.configuration import Configuration, GuestResource
    from apvfio.cluster.guest_files import GuestFile
    from apvfio.doctor.check import Check
    from apvfio.doctor.facts import ClusterFacts, Facts
    from apvfio.doctor.remedies import Words

_APART = 5.0
"""Seconds by which the clocks of two nodes may differ."""
_COUNTING = ("utilization", "balanced", "minimal")
"""The values of placement-strategy with which Pacemaker counts what nodes have and guests use."""
_PUBLISHER = "ocf:apvfio:Queues op monitor interval=10s timeout=30s"
_CLONE = {
    "pcs": "pcs resource clone {0} interleave=true",
    "crm": "crm configure clone {0}-clone {0} meta interleave=true",
}
_PUBLISH = {
    "pcs": (f"pcs resource create queues {_PUBLISHER} clone interleave=true",),
    "crm": (f"crm configure primitive queues {_PUBLISHER}", _CLONE["crm"].format("queues")),
}


def judge_cluster(facts: Facts, words: Words) -> Iterator[Check]:
    """Nothing where the host is no node of a cluster that runs guests with AP queues."""
    found = facts.cluster
    if found is None:
        return
    cluster = found.configuration
    if isinstance(cluster, Unseen):
        yield warning(
            "cluster", f"the cluster does not answer: {cluster.error.clause}.", cluster.error.remedy
        )
        return
    away = sorted(set(cluster.nodes) - set(cluster.online))
    offline = f"; {_named(away)} {'is' if len(away) == 1 else 'are'} offline" if away else ""
    yield ok("cluster", f"this host is a node of a cluster with {count(len(cluster.nodes), 'node')}{offline}")
    yield _fencing(cluster)
    yield _placement(cluster)
    yield _publisher(cluster, found.manager)
    yield from _published(cluster, found.node)
    for guest in cluster.guests:
        yield from _guest(guest, {one.path: one for one in found.files}.get(guest.config), words)
    yield from _ways(found)


def _fencing(cluster: Configuration) -> Check:
    if not cluster.has_fencing:
        sentence = (
            "fencing is switched off: when a node is lost, its guests may still run there while Pacemaker "
            "starts them on another host."
        )
        # Pacemaker may then fence a node at once, so the administrator has to choose the time.
        on = "set stonith-enabled to true. Nodes that are not online may be fenced then."
        remedy = (
            f"At a suitable time, {on}" if cluster.fence_devices else f"Configure a fence device. Then {on}"
        )
        return warning("fencing", sentence, remedy)
    if not cluster.fence_devices:
        sentence = "no fence device is configured: Pacemaker starts no guest."
        return problem("fencing", sentence, "Configure one, for example with the agent fence_ibmz.")
    return ok("fencing", f"fencing is on, with {_named(cluster.fence_devices)}")


def _placement(cluster: Configuration) -> Check:
    if cluster.placement_strategy in _COUNTING:
        return ok("placement", f"placement-strategy is {cluster.placement_strategy}")
    sentence = (
        f"placement-strategy is {printable(cluster.placement_strategy)}: Pacemaker does not count queues, "
        "and tries to start more guests on a host than it has queues for."
    )
    remedy = "Set placement-strategy to utilization. Pacemaker may then move guests to other hosts."
    return warning("placement", sentence, remedy)


def _publisher(cluster: Configuration, manager: str) -> Check:
    name = cluster.publisher
    if cluster.is_cloned:
        return ok("publisher", f"resource {printable(name)} publishes what each host offers")
    clone = _CLONE.get(manager, "").format(shlex.quote(name))
    if name:
        sentence = f"resource {printable(name)} is not a clone: only one host publishes its queues."
        return warning("publisher", sentence, "Make it a clone.", *filter(None, [clone]))
    sentence = (
        "no resource ocf:apvfio:Queues is configured: no host publishes its queues, and no guest starts."
    )
    return problem("publisher", sentence, "Configure it, as a clone.", *_PUBLISH.get(manager, ()))


def _published(cluster: Configuration, here: str) -> Iterator[Check]:
    mine = cluster.published.get(here)
    faults = False
    for node, published in cluster.published.items():
        name, attributes = printable(node), published.attributes
        if sentence := attributes.get(PROBLEM):
            faults = True
            yield warning("published", f"node {name} publishes: {printable(sentence, 400)}", "See there.")
        elif VERSION not in attributes:
            faults = True
            remedy = (
                "Check that apvfio is installed there, and that the clone of ocf:apvfio:Queues runs there."
            )
            sentence = (
                f"node {name} has published nothing since it joined the cluster: no guest starts there."
            )
            yield warning("published", sentence, remedy, "crm_mon -1")
        elif mine is None or node == here or VERSION not in mine.attributes:
            continue
        else:
            for check in _differences(name, attributes, mine.attributes, cluster.guests):
                faults = True
                yield check
    if not faults:
        yield ok("published", "all nodes that are online have published their queues")


def _differences(
    node: str, there: Mapping[str, str], mine: Mapping[str, str], guests: tuple[GuestResource, ...]
) -> Iterator[Check]:
    if there[VERSION] != mine[VERSION]:
        sentence = f"node {node} has apvfio {printable(there[VERSION])}, this host has {mine[VERSION]}."
        yield warning("published", sentence, "Install the same version on all nodes.")
    if there.get(FILES) != mine.get(FILES):
        sentence = f"the guests' files on node {node} are not the same as on this host."
        directories = sorted({os.path.dirname(guest.config) for guest in guests if guest.config})
        remedy = "Compare them on both hosts, and copy the right ones."
        commands = (f"sha256sum {shlex.quote(directory)}/*.xml" for directory in directories)
        yield warning("published", sentence, remedy, *commands)


def _guest(guest: GuestResource, file: GuestFile | None, words: Words) -> Iterator[Check]:
    """What keeps Pacemaker from running one guest as its file asks."""
    show = words.apvfio("cluster", "guest", guest.config)
    again = "Compare it with the configuration that this command prints, and change it."
    found: list[Check] = []
    if file is None:
        found.append(warning("cluster-guest", "its resource names no file.", "Set the parameter config."))
    elif file.error:
        found.append(of_error("cluster-guest", file.error)._replace(state=WARNING))
    elif file.request is None:
        sentence = f"{printable(file.path)} has no annotation: the guest starts without queues."
        command = words.apvfio("guest", "set", "--help")
        found.append(warning("cluster-guest", sentence, "Add one with 'apvfio guest set --xml'.", command))
    else:
        uses = {name: value for name, value in guest.utilization.items() if name.startswith(PREFIX)}
        if uses != {name: str(count) for name, count in utilization(file.request).items()}:
            sentence = f"its resource uses other queues (utilization) than {printable(file.path)} requests."
            found.append(warning("cluster-guest", sentence, again, show))
    if not guest.has_rule:
        sentence = f"no location rule tests {eligibility_attribute(printable(guest.name))}: Pacemaker may "
        sentence += "try to start it on a host that has no such queues."
        found.append(warning("cluster-guest", sentence, again, show))
    if not guest.is_retried:
        sentence = "it has no failure-timeout: after a refused start it is never started on that host again."
        option = "--meta --set-parameter failure-timeout --parameter-value 120s"
        command = f"crm_resource --resource {shlex.quote(guest.name)} {option}"
        found.append(warning("cluster-guest", sentence, "Set one.", command))
    for check in found or [ok("cluster-guest", "its resource agrees with its file")]:
        yield check._replace(guest=guest.name)


def _ways(found: ClusterFacts) -> Iterator[Check]:
    """Whether guests can be migrated to the other nodes."""
    if found.answers is None:
        yield skipped("cluster-ssh", ROOT_ONLY)
        return
    for node, answer in found.answers.items():
        name = printable(node)
        if answer.problem:
            sentence = (
                f"no guest can be migrated to node {name}, since ssh does not reach apvfio there: "
                f"{answer.problem}."
            )
            remedy = "Set up ssh so that root can run this without a prompt, in both directions."
            command = f"ssh -o BatchMode=yes {shlex.quote(f'root@{node}')} apvfio --version"
            yield warning("cluster-ssh", sentence, remedy, command)
        elif abs(answer.clock) > _APART:
            which = "ahead of" if answer.clock > 0 else "behind"
            sentence = f"the clock of node {name} is {abs(answer.clock):.0f} s {which} this host's: "
            sentence += (
                "the times in both hosts' logs cannot be compared, and failed starts expire at a wrong time."
            )
            yield warning("cluster-clock", sentence, "Run an NTP client, such as chrony, on all nodes.")
    if found.answers and not any(answer.problem for answer in found.answers.values()):
        yield ok("cluster-ssh", "all other nodes that are online can be reached by ssh")


def _named(names: Iterable[str]) -> str:
    return ", ".join(map(printable, names))
