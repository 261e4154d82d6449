# SPDX-License-Identifier: Apache-2.0
"""Copies of the scripts that package managers and editors leave where every executable file is run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hosts import a_matrix, mdev
from lab.guest import guest_xml

HOOKS = Path(__file__).parents[3] / "hooks"
CALLS = {
    "qemu": ["db1", "prepare", "begin", "-"],
    "mdevctl-notifier": ["-t", "vfio_ap-passthrough", "-e", "notify", "-a", "start"],
    "mdevctl-callout": ["-t", "vfio_ap-passthrough", "-e", "pre", "-a", "start"],
}
NAMES = {"qemu": "50-apvfio", "mdevctl-notifier": "50-apvfio", "mdevctl-callout": "00-apvfio"}
NOT_MINE = {"qemu": 0, "mdevctl-notifier": 0, "mdevctl-callout": 2}
"""2 tells mdevctl to ask the next callout."""


def run(shipped: str, script: Path) -> int:
    """Run the shipped script as ``script``, with an interpreter that ends with 7."""
    python = script.parent.parent / "python3"
    python.write_text("#!/bin/sh\ncat >/dev/null\nexit 7\n")
    python.chmod(0o755)
    ledger = script.parent.parent / "ledger.json"
    ledger.touch()
    text = (HOOKS / shipped).read_text()
    for word, value in (("python", python), ("ledger", ledger)):
        text = re.sub(f"^{word}=.*$", f"{word}={value}", text, flags=re.MULTILINE)
    script.parent.mkdir()
    script.write_text(text)
    script.chmod(0o755)
    domain = guest_xml("db1", a_matrix("0", "1"), mdev(1))
    done = subprocess.run(
        [script, *CALLS[shipped]], input=domain.encode(), capture_output=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    return done.returncode


@pytest.mark.parametrize("shipped", CALLS)
def test_under_its_own_name_a_script_works(tmp_path: Path, shipped: str) -> None:
    assert run(shipped, tmp_path / "qemu.d" / NAMES[shipped]) == 7


@pytest.mark.parametrize("shipped", CALLS)
@pytest.mark.parametrize(
    "end", [".dpkg-new", ".dpkg-old", ".dpkg-dist", ".rpmsave", ".rpmnew", ";65f0a1b2", "~", ".bak"]
)
def test_a_copy_beside_it_does_nothing(tmp_path: Path, shipped: str, end: str) -> None:
    assert run(shipped, tmp_path / "qemu.d" / (NAMES[shipped] + end)) == NOT_MINE[shipped]


@pytest.mark.parametrize("place", ["hooks/qemu", "qemu.d/60-apvfio"])
def test_the_hook_works_where_an_administrator_puts_it(tmp_path: Path, place: str) -> None:
    assert run("qemu", tmp_path / place) == 7
