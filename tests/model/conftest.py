# SPDX-License-Identifier: Apache-2.0
"""What the model tier has tried is told at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.figures import TOLD

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that the tests have left."""
    for line in TOLD.lines():
        terminalreporter.write_line(line)
