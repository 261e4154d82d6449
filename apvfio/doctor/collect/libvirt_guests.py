# SPDX-License-Identifier: Apache-2.0
"""What libvirt-guests does with guests when the host shuts down.

Its script has a default of its own, which distributions change, and sources one configuration file.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

from apvfio.doctor.facts import SUSPEND, GuestShutdown, otherwise
from apvfio.mdev import programs

if TYPE_CHECKING:
    from collections.abc import Iterable

UNIT = "libvirt-guests.service"
_SCRIPTS = ("usr/libexec/libvirt-guests.sh", "usr/lib/libvirt/libvirt-guests.sh")
_CONFIGURATIONS = ("etc/sysconfig/libvirt-guests", "etc/default/libvirt-guests")
_LIMIT = 1 << 20


def look_at_guest_shutdown(root: str = "/") -> GuestShutdown | None:
    """Return what happens to guests; None if libvirt-guests is not installed."""
    script = _first(root, _SCRIPTS)
    text = _text(root, script) if script else ""
    if not text:
        return None
    # The script names the file of its distribution.
    named = [path for path in _CONFIGURATIONS if path.partition("/")[2] in text]
    configuration = named[0] if named else _CONFIGURATIONS[0]
    # The script sets its default first, and uses the variable again further down.
    given = _settings(_text(root, configuration))[-1:] or _settings(text)[:1] or [SUSPEND]
    return GuestShutdown(given[0], f"/{configuration}")


def is_enabled() -> bool:
    """Return whether systemd runs libvirt-guests when the host shuts down."""
    code, text = programs.ask(["systemctl", "show", "-p", "UnitFileState,ActiveState", UNIT])
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    enabled = said.get("UnitFileState", "").startswith("enabled") or said.get("ActiveState") == "active"
    return code == 0 and enabled


def _settings(text: str) -> list[str]:
    """The values that the shell text gives, one after the other."""
    return re.findall(r"^\s*(?:export\s+)?ON_SHUTDOWN=[\"']?(\w+)", text, re.MULTILINE)


def _first(root: str, paths: Iterable[str]) -> str:
    return next((path for path in paths if os.path.isfile(os.path.join(root, path))), "")


def _text(root: str, path: str) -> str:
    return otherwise(partial(_read, os.path.join(root, path)), "")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_LIMIT)
