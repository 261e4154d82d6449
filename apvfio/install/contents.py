# SPDX-License-Identifier: Apache-2.0
"""What an installation consists of: each file's place, mode and text."""

from __future__ import annotations

import os
from typing import NamedTuple

from apvfio.assets import asset, script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = "etc/libvirt/hooks/qemu.d/50-apvfio"
NOTIFIERS = "etc/mdevctl.d/scripts.d/notifiers"
CALLOUTS = ("usr/lib/mdevctl/scripts.d/callouts", "etc/mdevctl.d/scripts.d/callouts")
"""Where mdevctl looks for callouts: from 1.3 on in both, first in the first; 1.2 knows the second only."""
NOTIFIER = "50-apvfio"
CALLOUT = "00-apvfio"
"""Before ap-check by name: mdevctl gives a type of device to the first callout that answers for it."""

PATH_UNIT = "apvfio-reconcile.path"
PREPARE_UNIT = "apvfio-prepare.service"
_UNITS = (PREPARE_UNIT, "apvfio-reconcile.service", PATH_UNIT)
_MANUALS = ("apvfio.8", "apvfio.toml.5", "apvfio-guest.7")

MARK = "Installed by 'apvfio install'; 'apvfio uninstall' removes it."
"""What every installed file says of itself. A file without it is somebody else's."""

_SCRIPT = 0o755
_TEXT = 0o644


class Item(NamedTuple):
    """One file of the installation."""

    path: str
    """Below the root, without a leading slash."""
    mode: int
    text: str


class Choices(NamedTuple):
    """What the administrator decides."""

    prefix: str = "/usr/local"
    """Where systemd's, udev's and man's files go; packages use /usr."""
    python: str = "/usr/bin/python3"
    """The interpreter that libvirt and systemd start; apvfio is installed for it."""
    callout: bool = False
    """Whether mdevctl frees queues by itself before it starts a device."""


def contents(root: str, choices: Choices) -> list[Item]:
    """The files to install on the host at ``root``; HostError if a shipped file is missing."""
    callouts = possible_callouts(choices)
    packaging = os.path.realpath(root) != "/"
    there = [place for place in CALLOUTS if os.path.isdir(os.path.join(root, place))]
    if packaging:
        there = [CALLOUTS[0]]
    return [
        _item(HOOK, script("hooks/qemu", choices.python), _SCRIPT),
        # Without mdevctl its directories are not there, and nobody would run these.
        *([_notifier(choices)] if packaging or os.path.isdir(os.path.join(root, NOTIFIERS)) else []),
        *([callouts[CALLOUTS.index(there[0])]] if choices.callout and there else []),
        *_system_files(choices),
    ]


def everything(choices: Choices) -> list[Item]:
    """All files that any installation with this prefix may have left."""
    hook = _item(HOOK, script("hooks/qemu", choices.python), _SCRIPT)
    return [hook, _notifier(choices), *possible_callouts(choices), *_system_files(choices)]


def possible_callouts(choices: Choices) -> list[Item]:
    """The callout in each of its places."""
    text = script("hooks/mdevctl-callout", choices.python)
    return [_item(f"{place}/{CALLOUT}", text, _SCRIPT) for place in CALLOUTS]


def _notifier(choices: Choices) -> Item:
    return _item(f"{NOTIFIERS}/{NOTIFIER}", script("hooks/mdevctl-notifier", choices.python), _SCRIPT)


def _system_files(choices: Choices) -> Iterator[Item]:
    prefix = choices.prefix.strip("/")
    command = f"{choices.python} -I -m apvfio"
    for unit in _UNITS:
        text = asset(f"hooks/{unit}").replace("@APVFIO@", command)
        yield _item(f"{prefix}/lib/systemd/system/{unit}", text)
    yield _item(f"{prefix}/lib/udev/rules.d/90-apvfio.rules", asset("hooks/90-apvfio.rules"))
    yield _item(f"{prefix}/lib/tmpfiles.d/apvfio.conf", asset("hooks/apvfio.tmpfiles"))
    yield _item(f"{prefix}/share/bash-completion/completions/apvfio", asset("hooks/completion.bash"))
    for manual in _MANUALS:
        section = manual.rpartition(".")[2]
        yield _item(f"{prefix}/share/man/man{section}/{manual}", asset(f"man/{manual}"), comment='.\\"')


def _item(path: str, text: str, mode: int = _TEXT, comment: str = "#") -> Item:
    """A file whose second line, or first if it is no script, says whose it is."""
    first, _, rest = text.partition("\n")
    mark = f"{comment} {MARK}"
    lines = [first, mark, rest] if first.startswith("#!") else [mark, first, rest]
    return Item(path, mode, "\n".join(lines))
