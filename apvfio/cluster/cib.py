# SPDX-License-Identifier: Apache-2.0
"""The cluster's information base (CIB), read and written by Pacemaker's own programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.xml_tree import etree
from apvfio.mdev import programs
from apvfio.model.errors import ApvfioError, HostError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE = 20.0
"""Seconds that one of the programs has: the agent's monitor operation has 30."""
_SAID = 300
_OTHER_CIBS = ("CIB_file", "CIB_shadow")
"""Variables with which Pacemaker's programs work on a copy: cibadmin(8), crm_shadow(8)."""
_INSTALL = "Install pacemaker, and its command-line utilities."


class Published(NamedTuple):
    """What the CIB has of one node."""

    utilization: Mapping[str, str]
    attributes: Mapping[str, str]
    """The transient ones, which end with the node's membership."""


def run(words: Sequence[str], stdin: bytes = b"") -> str:
    """Return what one of Pacemaker's programs prints.

    HostError if it is not installed or does not end, ApvfioError with its words if it fails.
    """
    try:
        more = {name: os.environ[name] for name in _OTHER_CIBS if os.environ.get(name)}
        done = programs.run(words, stdin=stdin, timeout=_PATIENCE, more=more)
    except programs.ProgramError as error:
        raise HostError(f"the cluster cannot be asked: {error}.", remedy=_INSTALL) from None
    if done.returncode:
        said = printable(" ".join((done.stderr or done.stdout).decode("utf-8", "replace").split()), _SAID)
        raise ApvfioError(
            f"{words[0]} failed with exit code {done.returncode}: {said}.",
            remedy="If the cluster does not run on this host, start it.",
        )
    return done.stdout.decode("utf-8", "replace")


def local_node() -> str:
    """Return the name of this host in the cluster."""
    return run(["crm_node", "--name"]).strip()


def read_cib() -> etree._Element:
    """Return the CIB as this host has it."""
    return parse_output(run(["cibadmin", "--query", "--local"]), "cibadmin")


def parse_output(text: str, program: str) -> etree._Element:
    """Return the XML that ``program`` has printed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ApvfioError(
            f"{program} did not print XML: {printable(str(error))}.", remedy="See what it prints."
        ) from None


def published(cib: etree._Element, node: str) -> Published:
    """Return the published attributes of ``node``."""
    found = [one for one in cib.iterfind("configuration/nodes/node") if one.get("uname") == node]
    states = [one for one in cib.iterfind("status/node_state") if one.get("uname") == node]
    return Published(
        dict(pairs(found, "utilization/nvpair")),
        dict(pairs(states, "transient_attributes/instance_attributes/nvpair")),
    )


def set_utilization(node: str, name: str, value: str | None) -> None:
    """Give ``node`` a utilization attribute; None takes it away."""
    what = ["--delete"] if value is None else ["--update", value]
    run(["crm_attribute", "--type", "nodes", "--node", node, "--utilization", "--name", name, *what])


def set_attribute(name: str, value: str | None) -> None:
    """Give this host a transient node attribute; None takes it away."""
    run(["attrd_updater", "--name", name, *(["--delete"] if value is None else ["--update", value])])


def pairs(elements: Sequence[etree._Element], path: str) -> Iterator[tuple[str, str]]:
    """The names and values of the nvpair elements at ``path`` below ``elements``."""
    for element in elements:
        for pair in element.iterfind(path):
            yield pair.get("name") or "", pair.get("value") or ""
