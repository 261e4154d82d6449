# SPDX-License-Identifier: Apache-2.0
"""How a guest is configured in a cluster: its resource, its utilization and its location rule."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import quoteattr

from apvfio.cluster.classes import utilization
from apvfio.cluster.offer import eligibility_attribute
from apvfio.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.cluster.guest_files import GuestFile

AGENT = ("ocf", "apvfio", "Guest")
HYPERVISOR = "qemu:///system"
_NOT_COUNTED = ("autoset_utilization_cpu", "autoset_utilization_hv_memory", "autoset_utilization_host_memory")
"""VirtualDomain would count processors and memory, and no guest could start where no host publishes those."""
_OPERATIONS = {
    "start": {"interval": "0s", "timeout": "120s"},
    "stop": {"interval": "0s", "timeout": "180s"},
    "monitor": {"interval": "10s", "timeout": "30s"},
    "migrate_to": {"interval": "0s", "timeout": "300s"},
    "migrate_from": {"interval": "0s", "timeout": "120s"},
}


class Resource(NamedTuple):
    """A guest as a resource of a cluster."""

    name: str
    config: str
    """The file with its XML, the same on all hosts."""
    migratable: bool
    utilization: Mapping[str, int]

    @classmethod
    def of(cls, guest: GuestFile) -> Resource:
        """Return the resource of the guest in a file; the file's error, or RequestError without request."""
        if guest.error:
            raise guest.error
        if guest.request is None:
            raise RequestError(
                f"{guest.path} has no annotation.",
                guest=guest.name,
                remedy="Add one with 'apvfio guest set --xml FILE'.",
            )
        config = os.path.abspath(guest.path)
        return cls(guest.name, config, not guest.request.secure, utilization(guest.request))

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the agent."""
        return {"config": self.config, "hypervisor": HYPERVISOR, **dict.fromkeys(_NOT_COUNTED, "false")}

    @property
    def meta(self) -> dict[str, str]:
        """The meta attributes. A start that was refused is tried again when something may have changed."""
        return {
            "allow-migrate": "true" if self.migratable else "false",
            "migration-threshold": "2",
            "failure-timeout": "120s",
        }

    @property
    def rule(self) -> str:
        """The condition under which the guest must not run on a host, as pcs and crm write it."""
        name = eligibility_attribute(self.name)
        return f"not_defined {name} or {name} ne 1"

    def as_json(self) -> dict[str, object]:
        """What ``cluster guest --json`` prints."""
        return {
            "resource": self.name,
            "agent": ":".join(AGENT),
            "parameters": self.parameters,
            "meta": self.meta,
            "operations": _OPERATIONS,
            "utilization": dict(self.utilization),
            "rule": self.rule,
        }

    def pcs(self) -> Iterator[str]:
        """The commands for pcs."""
        words = ["pcs", "resource", "create", self.name, ":".join(AGENT), *_pairs(self.parameters)]
        for operation, options in _OPERATIONS.items():
            words += ["op", operation, *_pairs(options)]
        yield shlex.join([*words, "meta", *_pairs(self.meta)])
        yield shlex.join(["pcs", "resource", "utilization", self.name, *_pairs(self.utilization)])
        rule = f"constraint location {shlex.quote(self.name)} rule score=-INFINITY {self.rule}"
        yield f"pcs {rule}"

    def crm(self) -> Iterator[str]:
        """The commands for crm."""
        words = ["primitive", self.name, ":".join(AGENT), "params", *_pairs(self.parameters)]
        for operation, options in _OPERATIONS.items():
            words += ["op", operation, *_pairs(options)]
        words += ["meta", *_pairs(self.meta), "utilization", *_pairs(self.utilization)]
        yield f"crm configure {shlex.join(words)}"
        yield f"crm configure location {self.name}-queues {self.name} rule -inf: {self.rule}"

    def xml(self) -> Iterator[str]:
        """The elements of the CIB: of its resources and its constraints."""
        standard, provider, kind = AGENT
        head = {"id": self.name, "class": standard, "provider": provider, "type": kind}
        yield f"<primitive {_attributes(head)}>"
        for tag, values in (
            ("instance_attributes", self.parameters),
            ("meta_attributes", self.meta),
            ("utilization", self.utilization),
        ):
            yield from self._nvset(tag, values)
        yield "  <operations>"
        for operation, options in _OPERATIONS.items():
            ids = {"id": f"{self.name}-{operation}", "name": operation, **options}
            yield f"    <op {_attributes(ids)}/>"
        yield "  </operations>"
        yield "</primitive>"
        yield from self._location()

    def _nvset(self, tag: str, values: Mapping[str, object]) -> Iterator[str]:
        name = f"{self.name}-{tag}"
        yield f"  <{tag} id={quoteattr(name)}>"
        for key, value in values.items():
            yield f"    <nvpair {_attributes({'id': f'{name}-{key}', 'name': key, 'value': value})}/>"
        yield f"  </{tag}>"

    def _location(self) -> Iterator[str]:
        name, attribute = f"{self.name}-queues", eligibility_attribute(self.name)
        rule = {"id": f"{name}-rule", "score": "-INFINITY", "boolean-op": "or"}
        absent = {"id": f"{name}-absent", "attribute": attribute, "operation": "not_defined"}
        other = {"id": f"{name}-no", "attribute": attribute, "operation": "ne", "value": "1"}
        yield f"<rsc_location {_attributes({'id': name, 'rsc': self.name})}>"
        yield f"  <rule {_attributes(rule)}>"
        for expression in (absent, other):
            yield f"    <expression {_attributes(expression)}/>"
        yield "  </rule>"
        yield "</rsc_location>"


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _attributes(values: Mapping[str, object]) -> str:
    return " ".join(f"{key}={quoteattr(str(value))}" for key, value in values.items())
