# SPDX-License-Identifier: Apache-2.0
"""Packages of this checkout, and of a version that comes after it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from apvfio.store import ledger_file

NEXT_LEDGER = ledger_file.VERSION + 1
CHECKOUT = Path(__file__).parents[1]
_MODULES = "usr/lib/python3/dist-packages/apvfio"
_NEW_VERSION = "99.0"
_RENAMED = {
    "ledger_file": "ledger_of_this_boot",
    "start_guest": "begin_guest",
    "stop_records": "recorded_stops",
    "bring_up_to_date": "update",
}
"""Modules and functions that have other names in the next version: its modules and ours are no match."""


def built(kind: str, place: Path) -> Path:
    """Build a package from this checkout, as packaging/deb or packaging/rpm does."""
    done = subprocess.run(
        [str(CHECKOUT / "packaging" / kind), str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = place.glob(f"apvfio[_-][0-9]*.{kind}")
    return found


def next_version(package: Path, place: Path) -> Path:
    """Make the next Debian package of one: other modules, another hook, and a ledger of the next version."""
    tree = place / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    _edit(tree / "DEBIAN/control", r"^Version: .*$", f"Version: {_NEW_VERSION}")
    _edit(tree / "etc/libvirt/hooks/qemu.d/50-apvfio", r"\Z", "# That is all.\n")
    modules = tree / _MODULES
    _edit(modules / "_version.py", r'"[0-9.]+"', f'"{_NEW_VERSION}"')
    _edit(modules / "store/ledger_file.py", rf"^VERSION = {ledger_file.VERSION}$", f"VERSION = {NEXT_LEDGER}")
    for source in modules.rglob("*.py"):
        text = source.read_text()
        for name, new in _RENAMED.items():
            text = re.sub(rf"\b{name}\b", new, text)
        source.write_text(text)
        if source.stem in _RENAMED:
            os.rename(source, source.with_name(f"{_RENAMED[source.stem]}.py"))
    made = place / f"apvfio_{_NEW_VERSION}_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(made)], check=True, capture_output=True
    )
    return made


def _edit(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, path
    path.write_text(text)
