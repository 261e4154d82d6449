# SPDX-License-Identifier: Apache-2.0
"""Suggestions for words that were probably misspelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 80


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``Did you mean db1? `` for the most similar of the ``known`` words, '' if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415  only after a mistake

    found = get_close_matches(word[:_LONGEST], list(known), 1)
    return f"Did you mean {printable(found[0])}? " if found else ""
