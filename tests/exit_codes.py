# SPDX-License-Identifier: Apache-2.0
"""The exit codes by their names."""

from __future__ import annotations

from apvfio.model.errors import Exit

EXIT_CODES: dict[str, int] = {name: code for name, code in vars(Exit).items() if name.isupper()}
