# SPDX-License-Identifier: Apache-2.0
"""The files that other programs run, as they are shipped: in a checkout, or where pip put them."""

from __future__ import annotations

import os
import re
import sys

from apvfio.errors import HostError

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def hook_script(python: str = sys.executable) -> str:
    """The text of hooks/qemu, running ``python``; HostError if this installation lacks it."""
    places = (os.path.dirname(_PACKAGE), os.path.join(sys.prefix, "share", "apvfio"))
    for place in places:
        try:
            with open(os.path.join(place, "hooks", "qemu"), encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        return re.sub(r"^python=.*$", lambda _: f"python={python}", text, count=1, flags=re.MULTILINE)
    raise HostError("this installation has no hooks/qemu.", remedy="Install apvfio again.")
