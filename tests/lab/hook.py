# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook as it is installed, for libvirt in the lab and for tests."""

from __future__ import annotations

import sys

from apvfio.install.installed_files import script


def hook_script(python: str = sys.executable) -> str:
    """Return the text of the hook, running ``python``."""
    return script("hooks/qemu", python)
