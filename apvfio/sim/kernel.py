# SPDX-License-Identifier: Apache-2.0
"""A simulated kernel: its /sys, and controls that are outside /sys on a real machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apvfio.model.ids import MAX_ID, IdSet
from apvfio.sim import json_fields, modules, vfio_state
from apvfio.sim.bus import Rules
from apvfio.sim.profile import NEWEST
from apvfio.sim.state import Hardware, State
from apvfio.sim.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from apvfio.sim.vfio_state import DeviceState

IBM_ADAPTERS = {0: "accel", 1: "cca", 10: "ep11"}
IBM_DOMAINS = IdSet([1, 2, 4, 0x1B])
"""The host of the examples in IBM's documentation."""


class SimKernel(Tree):
    """A host's kernel; its tree is behind the seam `apvfio.kernel.seam.Sysfs`."""

    def __init__(self, state: State) -> None:
        super().__init__(Rules(state))
        self.state = state

    @classmethod
    def new(
        cls,
        profile: str = NEWEST,
        *,
        adapters: Mapping[int, str] | None = None,
        domains: IdSet = IBM_DOMAINS,
        control_domains: IdSet | None = None,
        apmask: str | None = None,
        aqmask: str | None = None,
        vfio_ap: bool = True,
        max_adapter: int | None = None,
        max_domain: int | None = None,
    ) -> SimKernel:
        """A freshly booted host. ``adapters`` have modes accel, cca or ep11; the masks are boot parameters.

        RequestError if there can be no such host.
        """
        hardware = Hardware(
            adapters=dict(IBM_ADAPTERS if adapters is None else adapters),
            domains=domains,
            control_domains=domains if control_domains is None else control_domains,
            max_adapter=MAX_ID if max_adapter is None else max_adapter,
            max_domain=MAX_ID if max_domain is None else max_domain,
        )
        hardware.check()
        kernel = cls(State(profile, hardware, boot_apmask=apmask, boot_aqmask=aqmask))
        for module in ("zcrypt_cex4", "vfio_ap") if vfio_ap else ("zcrypt_cex4",):
            kernel.load(module)
        return kernel

    # Modules: OSError as modprobe and rmmod would report it.

    def load(self, module: str) -> None:
        """Load a module and the modules that it needs."""
        modules.load(self._rules, module)

    def unload(self, module: str) -> None:
        """Unload a module."""
        modules.unload(self._rules, module)

    # Hardware: the bus scans at once. RequestError if the machine cannot be like that.

    def plug_adapter(self, adapter: int, mode: str) -> None:
        """Give this host an adapter, or set up the one it has in another mode."""
        self._change(adapters={**self.state.hardware.adapters, adapter: mode})

    def unplug_adapter(self, adapter: int) -> None:
        """Take an adapter away from this host."""
        adapters = self.state.hardware.adapters
        self._change(
            adapters={number: mode for number, mode in adapters.items() if number != adapter},
            standby=self.state.hardware.standby - IdSet([adapter]),
        )

    def set_domains(self, domains: IdSet, control_domains: IdSet | None = None) -> None:
        """Give this host other usage domains; unless told otherwise, it controls the same."""
        self._change(domains=domains, control_domains=domains if control_domains is None else control_domains)

    def configure(self, adapter: int, configured: bool) -> None:
        """Set an adapter to standby, or back to work."""
        standby = self.state.hardware.standby
        self._change(standby=standby - IdSet([adapter]) if configured else standby | IdSet([adapter]))

    # Guests.

    def attach_guest(self, uuid: str, vm: str, opener: int = 0) -> None:
        """The virtual machine ``vm``, whose process is ``opener``, opens the mediated device.

        OSError as open(2) would answer. ``vm`` is '' for a process without a virtual machine.
        """
        self._rules.vfio.open(uuid, vm, opener)

    def detach_guest(self, uuid: str) -> None:
        """The process that has the mediated device open closes it, or ends; ENODEV if none has."""
        self._rules.vfio.close(uuid)

    def save_device(self, uuid: str) -> DeviceState:
        """What the kernel hands over of a migrating guest's mediated device; OSError as it answers."""
        return vfio_state.save(self._rules, uuid)

    def load_device(self, uuid: str, state: DeviceState) -> None:
        """Give an incoming guest's mediated device the ``state`` of its source; OSError as it answers."""
        vfio_state.load(self._rules, uuid, state)

    # JSON.

    def to_json(self) -> dict[str, Any]:
        """The kernel, as `from_json` takes it back."""
        return json_fields.dump_fields(self.state)

    @classmethod
    def from_json(cls, document: object) -> SimKernel:
        """The kernel that `to_json` wrote; RequestError says what is wrong with another document."""
        state = json_fields.load_fields(State, document, "kernel")
        state.check()
        return cls(state)

    def _change(self, **changes: Any) -> None:
        changed = replace(self.state.hardware, **changes)
        changed.check()
        vars(self.state.hardware).update(vars(changed))
        if self.state.loaded("ap"):
            self._rules.bus.scan()
