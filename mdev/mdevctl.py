# SPDX-License-Identifier: Apache-2.0
"""The command mdevctl, run through sh with a fixed path and a clean environment."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from apvfio.mdev.definitions import DefinitionError, parse_dump
from apvfio.mdev.programs import ENVIRONMENT, PATIENCE, find

if TYPE_CHECKING:
    from typing import Any

    from apvfio.mdev.definitions import Definition

_STDIN = "/proc/self/fd/0"
"""/dev/stdin is but a link to it, which a bare system may lack."""


class MdevctlError(Exception):
    """mdevctl is missing or refused; the message is a clause that says why."""


class Mdevctl:
    """The mdevctl of this machine; MdevctlError if there is none."""

    def __init__(self) -> None:
        found = find("mdevctl")
        if found is None:
            raise MdevctlError("mdevctl is not installed")
        self._command = found

    def define(self, parent: str, uuid: str, definition: str) -> None:
        """Make a definition of the JSON text ``definition``; there must be none of that uuid."""
        self._run("define", "--parent", parent, "--uuid", uuid, "--jsonfile", _STDIN, _in=definition)

    def redefine(self, parent: str, uuid: str, definition: str) -> None:
        """Replace an existing definition with ``definition``; an existing device stays as it is.

        mdevctl keeps no fields that it does not know, and 1.2 may end without any definition.
        """
        if self._modifies:
            self._run("modify", "--parent", parent, "--uuid", uuid, "--jsonfile", _STDIN, _in=definition)
        else:
            self.undefine(parent, uuid)
            self.define(parent, uuid, definition)

    def list(self, *, defined: bool) -> dict[tuple[str, str], Definition]:
        """Return the defined devices, or the existing ones, by parent and uuid.

        Only a callout tells what an existing device holds. Without a callout the device has no attributes, or
        with mdevctl 1.2 those of its definition. One invalid file in /etc/mdevctl.d keeps mdevctl from
        listing any.
        """
        said = self._run("list", "--dumpjson", *(["--defined"] if defined else []))
        try:
            return parse_dump(said)
        except DefinitionError as error:
            raise MdevctlError(f"mdevctl list printed unexpected output: {error}") from None

    def undefine(self, parent: str, uuid: str) -> None:
        """Remove the definition of ``uuid``; an existing device stays."""
        self._run("undefine", "--parent", parent, "--uuid", uuid)

    def version(self) -> str:
        """Its version, as ``1.4.0``."""
        return self._run("--version").removeprefix("mdevctl").strip()

    @property
    def _modifies(self) -> bool:
        """Whether ``modify`` takes a whole definition: since 1.3."""
        major, _, rest = self.version().partition(".")
        minor = rest.partition(".")[0]
        return major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) >= (1, 3)

    def _run(self, *words: str, **how: Any) -> str:
        sh = _library()
        try:
            command = sh.Command(self._command)
            done = command(*words, _env=ENVIRONMENT, _timeout=PATIENCE, **how)
        except sh.TimeoutException:
            raise MdevctlError(f"mdevctl did not end within {PATIENCE:.0f} s") from None
        except sh.ErrorReturnCode as error:
            lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
            raise MdevctlError(f"mdevctl {words[0]} failed: {_reason(lines)}") from None
        return str(done)


def _library() -> Any:
    """The library sh, of this system or, where that has none, of the package; it takes 84 ms to load."""
    for name in ("sh", "apvfio.bundled.sh"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MdevctlError("sh, a Python library that mdevctl is called with, is not installed")


def _reason(lines: list[str]) -> str:
    """Return the line of mdevctl's output that has the reason, or the last line of its callouts."""
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return " ".join((errors or lines[-1:])[0].split())[:300]
