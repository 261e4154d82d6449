# SPDX-License-Identifier: Apache-2.0
"""What an installation consists of: each file's place, mode and text."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.assets import asset, script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = "etc/libvirt/hooks/qemu.d/50-apvfio"
NOTIFIER = "etc/mdevctl.d/scripts.d/notifiers/50-apvfio"
CALLOUTS = ("usr/lib/mdevctl/scripts.d/callouts", "etc/mdevctl.d/scripts.d/callouts")
"""Where mdevctl looks for callouts: from 1.3 on in both, first in the first; 1.2 knows the second only."""
CALLOUT = "00-apvfio"
"""Before ap-check by name: mdevctl gives a type of device to the first callout that answers for it."""

PATH_UNIT = "apvfio-reconcile.path"
PREPARE_UNIT = "apvfio-prepare.service"
_UNITS = (PREPARE_UNIT, "apvfio-reconcile.service", PATH_UNIT)
_MANUALS = ("apvfio.8", "apvfio.toml.5", "apvfio-guest.7")

PREFIXES = ("/usr/local", "/usr")
"""Below which systemd, udev, man and bash look: systemd.unit(5), udev(7), tmpfiles.d(5), manpath(5)."""

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
    """What is to be decided about an installation."""

    prefix: str = PREFIXES[0]
    """Where systemd's, udev's and man's files go; packages use /usr."""
    python: str = "/usr/bin/python3"
    """The interpreter that libvirt and systemd start; apvfio is installed for it."""
    notifier: bool = True
    """Whether there is an mdevctl to tell of what it did."""
    callouts: str = ""
    """The one of `CALLOUTS` where mdevctl shall find what frees queues for it, '' for none."""


def contents(choices: Choices) -> Iterator[Item]:
    """The files to install; HostError if a shipped one is missing."""
    yield _item(HOOK, script("hooks/qemu", choices.python), _SCRIPT)
    if choices.notifier:
        yield _item(NOTIFIER, script("hooks/mdevctl-notifier", choices.python), _SCRIPT)
    if choices.callouts:
        text = script("hooks/mdevctl-callout", choices.python)
        yield _item(f"{choices.callouts}/{CALLOUT}", text, _SCRIPT)
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
