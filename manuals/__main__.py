# SPDX-License-Identifier: Apache-2.0
"""Write the manual pages into man/, and remove those that have no source any more."""

from __future__ import annotations

from manuals.pages import MAN, pages

if __name__ == "__main__":
    found = pages()
    for path in MAN.iterdir():
        if path.name not in found:
            path.unlink()
    for name, text in found.items():
        (MAN / name).write_text(text)
