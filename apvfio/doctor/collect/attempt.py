# SPDX-License-Identifier: Apache-2.0
"""Reading that may fail: the failure is a fact like others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from apvfio.doctor.facts import Unseen
from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def attempt(read: Callable[[], T]) -> T | Unseen:
    """What ``read`` returns, or why it could not."""
    try:
        return read()
    except ApvfioError as error:
        return Unseen(error, hidden=isinstance(error.__cause__, PermissionError))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return Unseen(ApvfioError(f"{what}."), hidden=isinstance(error, PermissionError))


def listed(path: str) -> list[str]:
    """The names in a directory, sorted; none where it cannot be listed."""
    return sorted(otherwise(lambda: os.listdir(path), list[str]()))


def otherwise(read: Callable[[], T], default: T) -> T:
    """What ``read`` returns, or the default where there is nothing to read."""
    found = attempt(read)
    return default if isinstance(found, Unseen) else found
