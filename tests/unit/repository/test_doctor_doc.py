# SPDX-License-Identifier: Apache-2.0
"""docs/doctor.md tells of every check, in its group, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from apvfio.doctor.catalogue import CATALOGUE, CHECK_FAILED, GROUP_OF

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "apvfio" / "doctor").rglob("*.py"))


def test_every_check_has_its_row() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    told: dict[str, str] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        group, _, body = section.partition("\n")
        for row in re.findall(r"^\| (`.*?) \|", body, flags=re.MULTILINE):
            told |= dict.fromkeys(re.findall(r"`(.*?)`", row), group)
    assert told == GROUP_OF


def test_every_check_is_made_somewhere() -> None:
    """As a word in quotes, where it is judged or where install finds it."""
    sources = [path.read_text() for path in SOURCES if path.name != "catalogue.py"]
    sources.append((ROOT / "apvfio" / "install" / "checks.py").read_text())
    code = "\n".join(sources)
    missing = {name for names in CATALOGUE.values() for name in names if f'"{name}"' not in code}
    assert missing == set()
    assert "CHECK_FAILED" in code
    assert CHECK_FAILED in GROUP_OF


def test_no_name_is_in_two_groups() -> None:
    names = [name for group in CATALOGUE.values() for name in group]
    assert len(names) == len(set(names))
