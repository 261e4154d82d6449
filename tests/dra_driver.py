# SPDX-License-Identifier: Apache-2.0
"""A stand-in for IBM's DRA driver for Crypto Express on a node, as far as its documentation tells.

It moves queues by ``driver_override`` alone, makes one mediated device for each claim, and at its start and
after each claim resets every override that says vfio_ap and has no mediated device behind it, whoever set it
(k8s-cex-dra-driver, documentation at commit 842162d). In which order it writes is not documented: here the
overrides come before the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_host
from apvfio.model.host import BUS, HOST_DRIVER, UNBOUND, VFIO_DRIVER
from apvfio.model.matrix import covering

if TYPE_CHECKING:
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.sim.kernel import SimKernel

_TYPE = "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough"


class PreflightError(Exception):
    """The driver does not serve this node."""


class DraDriver:
    """The driver on one node."""

    def __init__(self, kernel: SimKernel) -> None:
        self._kernel = kernel
        self.claims: dict[str, Matrix] = {}
        """The prepared claims by the UUIDs of their devices."""

    def start(self) -> None:
        """Begin to serve the node; PreflightError if a mask bit is clear."""
        for mask in ("apmask", "aqmask"):
            if set(self._kernel.read(f"{BUS}/{mask}").strip().removeprefix("0x")) != {"f"}:
                raise PreflightError(f"{mask} is not all ones")
        self.reset()

    def prepare(self, uuid: str, matrix: Matrix) -> None:
        """Make the device of a claim; what fails is taken down, and the kernel's error is raised."""
        try:
            for queue in matrix.queues():
                self._bind(queue, VFIO_DRIVER)
            self._kernel.write(f"{_TYPE}/create", uuid)
            for adapter in matrix.adapters:
                self._kernel.write(f"devices/vfio_ap/matrix/{uuid}/assign_adapter", str(adapter))
            for domain in matrix.domains:
                self._kernel.write(f"devices/vfio_ap/matrix/{uuid}/assign_domain", str(domain))
            self.claims[uuid] = matrix
        except OSError:
            self.unprepare(uuid)
            raise

    def unprepare(self, uuid: str) -> None:
        """Take down the device of a claim, and reset what has no device."""
        if uuid in read_host(self._kernel).mdevs:
            self._kernel.write(f"devices/vfio_ap/matrix/{uuid}/remove", "1")
        self.claims.pop(uuid, None)
        self.reset()

    def reset(self) -> None:
        """Reset each override without a device."""
        host = read_host(self._kernel)
        held = covering(host.mdevs.values())
        for queue, override in host.overrides.items():
            if override == VFIO_DRIVER and not held(queue):
                self._bind(queue, "")

    def _bind(self, queue: Apqn, override: str) -> None:
        self._kernel.write(f"{BUS}/devices/{queue}/driver_override", override or "\n")
        bound = read_host(self._kernel).drivers[queue]
        if bound not in (override or HOST_DRIVER, UNBOUND):
            self._kernel.write(f"{BUS}/drivers/{bound}/unbind", str(queue))
        self._kernel.write(f"{BUS}/drivers_probe", str(queue))
