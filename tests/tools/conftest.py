# SPDX-License-Identifier: Apache-2.0
"""The real programs for tests, or the reason why they cannot run here."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from real_tools import Tools, fetched, tool_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_tools import ToolHost

HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.tools)


def cannot(why: str) -> None:
    """They cannot run: the test is skipped, but in CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The programs."""
    if os.geteuid():
        cannot("the real programs run in a namespace, for which root is needed")
    try:
        found = fetched()
        with tool_host(found):
            return found
    except HostError as error:
        cannot(str(error))
    except subprocess.CalledProcessError as error:
        cannot(str(error.stderr).strip())
    raise AssertionError


@pytest.fixture
def host(tools: Tools) -> Iterator[ToolHost]:
    """IBM's example host, as Linux 7.2 shows it."""
    with tool_host(tools) as made:
        yield made
