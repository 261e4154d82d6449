# SPDX-License-Identifier: Apache-2.0
"""The files that other programs run or read, as they are shipped: in a checkout, or where pip put them."""

from __future__ import annotations

import os
import re
import shlex
import sys

from apvfio.model.errors import HostError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def asset(name: str) -> str:
    """The text of a shipped file, such as ``hooks/qemu``; HostError if this installation lacks it."""
    for place in (os.path.dirname(_PACKAGE), os.path.join(sys.prefix, "share", "apvfio")):
        try:
            with open(os.path.join(place, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            continue
    raise HostError(f"this installation has no {name}.", remedy="Install apvfio again.")


def script(name: str, python: str = sys.executable, *, packages: str | None = None) -> str:
    """The text of a shipped script that starts ``python``, which finds apvfio in the directory ``packages``.

    Without that it is here, if ``python`` is the interpreter that runs this; with '' it has to be looked for.
    """
    if packages is None:
        packages = os.path.dirname(_PACKAGE) if python == sys.executable else ""
    text = asset(name)
    for word, value in (("python", python), ("packages", packages)):
        line = f"{word}={shlex.quote(value)}".replace("\\", r"\\")
        text = re.sub(rf"^{word}=.*$", line, text, count=1, flags=re.MULTILINE)
    return text
