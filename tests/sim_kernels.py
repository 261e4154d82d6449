# SPDX-License-Identifier: Apache-2.0
"""Small words for the tests of the simulated kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.sim.profile import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.sim.kernel import SimKernel

VERSIONS = tuple(PROFILES)
BUS = "bus/ap"


def uuid(n: int) -> str:
    """The uuid of the n-th mediated device."""
    return f"{n:08x}-1111-4111-8111-111111111111"


def refused(call: Callable[[], object]) -> str:
    """The name of the errno that ``call`` ends with."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        call()
    return errno.errorcode[caught.value.errno or 0]


def write(kernel: SimKernel, path: str, *values: str) -> str:
    """What the last of those writes is answered with: OK or the name of an errno; the others are OK."""
    for value in values[:-1]:
        kernel.write(path, value)
    try:
        kernel.write(path, values[-1])
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "OK"


def driver(kernel: SimKernel, queue: str) -> str:
    """The driver of a queue, '' if it has none."""
    link = f"{BUS}/devices/{queue}/driver"
    return kernel.readlink(link).rpartition("/")[2] if kernel.exists(link) else ""


def bound(kernel: SimKernel, name: str) -> list[str]:
    """The queues that the driver ``name`` has; those that have none for ''."""
    return [d for d in kernel.list(f"{BUS}/devices") if "." in d and driver(kernel, d) == name]


def make(kernel: SimKernel, n: int, adapters: str = "", domains: str = "") -> str:
    """Make the n-th mediated device and assign that; its directory."""
    kernel.write(AP_MDEVS.create, uuid(n))
    for name, numbers in (("adapter", adapters), ("domain", domains)):
        for number in numbers.split():
            kernel.write(f"{AP_MDEVS.device(uuid(n))}/assign_{name}", number)
    return AP_MDEVS.device(uuid(n))


def matrix(kernel: SimKernel, directory: str) -> list[str]:
    """The lines of ``matrix``."""
    return kernel.read(f"{directory}/matrix").split()


def guest_matrix(kernel: SimKernel, directory: str) -> list[str]:
    """The lines of ``guest_matrix``."""
    return kernel.read(f"{directory}/guest_matrix").split()
