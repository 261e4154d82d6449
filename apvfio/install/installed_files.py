# SPDX-License-Identifier: Apache-2.0
"""What an installation consists of: each file's place, mode and text."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from apvfio.mdev.callouts import SCRIPTS
from apvfio.model.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = "etc/libvirt/hooks/qemu.d/50-apvfio"
NOTIFIER = f"{SCRIPTS[1]}/notifiers/50-apvfio"
CALLOUTS = tuple(f"{place}/callouts" for place in SCRIPTS)
"""Where mdevctl looks for callouts: from 1.3 on in both, first in the first; 1.2 knows the second only."""
CALLOUT = "00-apvfio"
"""Before ap-check by name: mdevctl gives a type of device to the first callout that answers for it."""

PATH_UNIT = "apvfio-reconcile.path"
PREPARE_UNIT = "apvfio-prepare.service"
RECONCILE_UNIT = "apvfio-reconcile.service"
METRICS_TIMER = "apvfio-metrics.timer"
"""Enabled by the administrator, if at all."""
_UNITS = (PREPARE_UNIT, RECONCILE_UNIT, PATH_UNIT, "apvfio-metrics.service", METRICS_TIMER)
_FILES = {
    "lib/udev/rules.d/90-apvfio.rules": "hooks/90-apvfio.rules",
    "lib/tmpfiles.d/apvfio.conf": "hooks/apvfio.tmpfiles",
    "lib/systemd/catalog/apvfio.catalog": "hooks/apvfio.catalog",
    "share/bash-completion/completions/apvfio": "hooks/completion.bash",
}
PAGE = (
    *("manifest.json", "index.html", "style.css", "matrix.css", "page.js", "actions.js", "command.js"),
    *("dialog.js", "dom.js", "guests.js", "host.js", "matrix.js", "problem.js", "question.js", "queue.js"),
    *("text.js", "theme.js", "words.js"),
)
_COMMANDS = (
    *("cluster", "define", "demo", "doctor", "drain", "dump", "guest", "incoming", "install", "keys"),
    *("log", "masks", "mechanism", "metrics", "migrate", "plan", "policy", "queues", "reconcile", "release"),
    *("sim", "status", "undefine", "uninstall"),
)
_OF_COMMANDS = tuple(f"apvfio-{command}.8" for command in _COMMANDS)
MANUALS = ("apvfio.8", "apvfio.toml.5", *_OF_COMMANDS, "apvfio-annotation.7")

PREFIXES = ("/usr/local", "/usr")
"""Below which systemd, udev, man and bash look: systemd.unit(5), udev(7), tmpfiles.d(5), manpath(5)."""

MARK = "Installed by 'apvfio install'; 'apvfio uninstall' removes it."
"""The mark of every installed file. A file without it is another program's."""
PACKAGED = "Part of the package apvfio."
"""The mark of a packaged file: only the package manager may replace it."""

_COMMENTS = {
    "css": "/* {} */",
    "html": "<!-- {} -->",
    "js": "// {}",
    "5": '.\\" {}',
    "7": '.\\" {}',
    "8": '.\\" {}',
}
"""The comment syntax of a kind of file; that of others is #."""

_SCRIPT = 0o755
_TEXT = 0o644
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The directory of the package apvfio."""


class Item(NamedTuple):
    """One file of the installation."""

    path: str
    """Below the root, without a leading slash."""
    mode: int
    text: str


class Choices(NamedTuple):
    """The choices of an installation."""

    prefix: str = PREFIXES[0]
    """Where systemd's, udev's and man's files go; packages use /usr."""
    python: str = "/usr/bin/python3"
    """The interpreter that libvirt and systemd start; apvfio is installed for it."""
    notifier: bool = True
    """Whether there is an mdevctl, which calls the notifier."""
    cockpit: bool = True
    """Whether there is a cockpit to show the page."""
    callouts: str = ""
    """The one of `CALLOUTS` where mdevctl finds apvfio's callout, '' for none."""
    packaged: bool = False
    """Whether the files are part of a package."""
    packages: str = ""
    """In a package: the directory of the interpreter's packages, '' if its build has yet to write it."""


def contents(choices: Choices) -> Iterator[Item]:
    """The files to install; HostError if a shipped one is missing."""
    mark = PACKAGED if choices.packaged else MARK
    for path, mode, text in _unmarked(choices):
        yield Item(path, mode, _marked(path, text, mark))


def _unmarked(choices: Choices) -> Iterator[Item]:
    packages = choices.packages if choices.packaged else None
    scripts = {HOOK: script("hooks/qemu", choices.python, packages=packages)}
    if choices.notifier:
        scripts[NOTIFIER] = script("hooks/mdevctl-notifier", choices.python)
    for path, text in scripts.items():
        yield Item(path, _SCRIPT, _guarded(text, choices.prefix) if choices.packaged else text)
    if choices.callouts:
        yield Item(f"{choices.callouts}/{CALLOUT}", _SCRIPT, script("hooks/mdevctl-callout", choices.python))
    prefix = choices.prefix.strip("/")
    command = f"{choices.python} -I -m apvfio"
    for unit in _UNITS:
        text = asset(f"hooks/{unit}").replace("@APVFIO@", command)
        yield Item(f"{prefix}/lib/systemd/system/{unit}", _TEXT, text)
    for place, name in _FILES.items():
        yield Item(f"{prefix}/{place}", _TEXT, asset(name))
    if choices.cockpit:
        for name in PAGE:
            yield Item(f"{prefix}/share/cockpit/apvfio/{name}", _TEXT, asset(f"cockpit/{name}"))
    for manual in MANUALS:
        section = manual.rpartition(".")[2]
        yield Item(f"{prefix}/share/man/man{section}/{manual}", _TEXT, asset(f"man/{manual}"))


def _guarded(text: str, prefix: str) -> str:
    """A script that does nothing without its package, whose files in /etc stay until it is purged."""
    guard = f"[ -e {prefix}/bin/apvfio ] || exit 0"
    return re.sub(r"^python=.*$", rf"\g<0>\n{guard}", text, count=1, flags=re.MULTILINE)


def _marked(path: str, text: str, mark: str) -> str:
    """Return the text of a file with apvfio's mark in its second line, or in the first if it is no script."""
    first, _, rest = text.partition("\n")
    kind = path.rpartition(".")[2]
    if kind == "json":
        return f'{first}\n    "comment": "{mark}",\n{rest}'
    comment = _COMMENTS.get(kind, "# {}").format(mark)
    lines = [first, comment, rest] if first.startswith("#!") else [comment, first, rest]
    return "\n".join(lines)


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
