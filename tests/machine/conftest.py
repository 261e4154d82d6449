# SPDX-License-Identifier: Apache-2.0
"""What runs in this tier, and its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from machine_env import MachineEnv

if TYPE_CHECKING:
    from collections.abc import Iterator

ESSENTIAL = "essential"
SHARED = {"test_machine_hard_cases.py", "test_machine_lifecycle.py", "test_machine_live.py"}
"""The modules whose cases also run on a simulated host with a libvirt daemon."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    if not os.environ.get("APVFIO_MACHINE"):
        skip = pytest.mark.skip(reason="runs inside the machine with emulated AP hardware: tests/machine/run")
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(skip)
    elif not os.environ.get("APVFIO_THOROUGH"):
        # Each takes some ten seconds here, and runs on the simulated drivers too: unless told to be thorough,
        # only those that speak for the others.
        shared = [item for item in items if item.path.name in SHARED]
        left_out = {item for item in shared if not item.get_closest_marker(ESSENTIAL)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{ESSENTIAL}: a hard case that also the machine tier always runs")


@pytest.fixture
def env() -> Iterator[MachineEnv]:
    made = MachineEnv()
    yield made
    made.clean()
