# SPDX-License-Identifier: Apache-2.0
"""The destination of a migration: libvirt's URI, and the command that runs apvfio there. Pure."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from apvfio.model.errors import UsageError, printable

_LONGEST = 1000
_BY_SSH = ("ssh", "libssh", "libssh2")
_BOUNDED = [
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
]
"""ssh ends some 20 seconds after the other host, or the way to it, has become silent."""
_DRIVER = "qemu"
_PATH = "/system"
# No leading hyphen, which ssh would take for an option. The percent sign begins an IPv6 zone.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*")
_EXAMPLE = "Write qemu+ssh://root@host/system."
_HOW = "Name the command that is apvfio there: --at 'ssh root@host apvfio'."


class Address(NamedTuple):
    """A destination."""

    uri: str
    """What libvirt opens."""
    command: list[str]
    """What runs apvfio there, as words; a guest's XML goes to its standard input."""


def parse_address(uri: str, at: str | None = None) -> Address:
    """Return the destination ``uri``, and the command that runs apvfio there.

    ``at`` is that command in a shell's notation; no shell runs it. Without ``at``, ssh is called as libvirt's
    URI says (host, user, port, ``keyfile``, ``no_tty``). UsageError says what is wrong with either.
    """
    try:
        if len(uri) > _LONGEST or not uri.isprintable() or " " in uri:
            raise ValueError
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise UsageError(f"the destination {printable(uri)!r} is not a URI.", remedy=_EXAMPLE) from None
    driver, _, transport = parts.scheme.partition("+")
    if driver != _DRIVER or parts.path != _PATH:
        sentence = f"the destination {printable(uri)!r} is not the system's libvirt daemon for QEMU."
        raise UsageError(sentence, remedy=_EXAMPLE)
    if at is not None:
        return Address(uri, _words(at))
    if transport not in _BY_SSH:
        raise UsageError(f"{printable(uri)!r} does not say how to run apvfio there.", remedy=_HOW)
    return Address(uri, _ssh(parts, port))


def _ssh(parts: SplitResult, port: int | None) -> list[str]:
    host, user = parts.hostname or "", parts.username or ""
    if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
        raise UsageError(
            f"the destination {printable(parts.netloc)!r} has a host or user name that ssh does not accept.",
            remedy=_EXAMPLE,
        )
    options = parse_qs(parts.query)
    if "command" in options:
        raise UsageError("the destination's URI selects another ssh program.", remedy=_HOW)
    words = ["ssh", "-T", "-e", "none", *_BOUNDED]
    for key in options.get("keyfile", [])[:1]:
        words += ["-i", key]
    if options.get("no_tty", ["0"])[0] != "0":
        words += ["-o", "BatchMode=yes"]
    words += ["-p", str(port)] if port is not None else []
    words += ["-l", user] if user else []
    return [*words, "--", host, "apvfio"]


def _words(at: str) -> list[str]:
    try:
        words = shlex.split(at)
    except ValueError as error:
        raise UsageError(f"--at {printable(at)!r}: {error}.", remedy=_HOW) from None
    if not words or not words[0] or "\0" in at:
        raise UsageError(f"--at {printable(at)!r} is not a command.", remedy=_HOW)
    return words
