# SPDX-License-Identifier: Apache-2.0
"""The files that other programs run or read, as they are shipped: in a checkout, or where pip put them."""

from __future__ import annotations

import os
import re
import sys

from apvfio.errors import HostError

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def asset(name: str) -> str:
    """The text of a shipped file, such as ``hooks/qemu``; HostError if this installation lacks it."""
    for place in (os.path.dirname(_PACKAGE), os.path.join(sys.prefix, "share", "apvfio")):
        try:
            with open(os.path.join(place, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            continue
    raise HostError(f"this installation has no {name}.", remedy="Install apvfio again.")


def script(name: str, python: str = sys.executable) -> str:
    """The text of a shipped script that starts ``python``."""
    return re.sub(r"^python=.*$", lambda _: f"python={python}", asset(name), count=1, flags=re.MULTILINE)


def hook_script(python: str = sys.executable) -> str:
    """The text of libvirt's hook, running ``python``."""
    return script("hooks/qemu", python)
