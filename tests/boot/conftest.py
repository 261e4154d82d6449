# SPDX-License-Identifier: Apache-2.0
"""A machine that boots, or the reason why there can be none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from boot_container import Computer
from built_packages import built

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.boot)


@pytest.fixture(scope="module")
def computer() -> Iterator[Computer]:
    """A machine, switched off; where there can be none the test is skipped, but in CI it fails."""
    made = None
    try:
        made = Computer()
        made.boot()
        made.power_off()
    except HostError as error:
        if made:
            made.close()
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    return built("deb", tmp_path_factory.mktemp("deb"))
