# SPDX-License-Identifier: Apache-2.0
"""The command mdevctl, run through sh with a fixed path and a clean environment."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLACES = ("/usr/sbin/mdevctl", "/usr/bin/mdevctl")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_STDIN = "/proc/self/fd/0"
"""/dev/stdin is but a link to it, which a bare system may lack."""
_PATIENCE = 120
"""Seconds; ap-check alone waits 99 s for the lock of s390-tools."""


class MdevctlError(Exception):
    """mdevctl is missing or refused; the message is a clause that says why."""


class Mdevctl:
    """The mdevctl of this machine; MdevctlError if there is none."""

    def __init__(self) -> None:
        found = next((place for place in _PLACES if os.access(place, os.X_OK)), None)
        if found is None:
            raise MdevctlError("mdevctl is not installed")
        self._command = found

    def define(self, parent: str, uuid: str, definition: str) -> None:
        """Make a definition of the JSON text ``definition``; there must be none of that uuid."""
        self._run("define", "--parent", parent, "--uuid", uuid, "--jsonfile", _STDIN, _in=definition)

    def undefine(self, parent: str, uuid: str) -> None:
        """Remove the definition of ``uuid``; a device that is there stays."""
        self._run("undefine", "--parent", parent, "--uuid", uuid)

    def version(self) -> str:
        """Its version, as ``1.4.0``."""
        return self._run("--version").removeprefix("mdevctl").strip()

    def _run(self, *words: str, **how: Any) -> str:
        # 84 ms that only those who call mdevctl spend.
        import sh  # noqa: PLC0415

        try:
            command = sh.Command(self._command)
            done = command(*words, _env=_ENVIRONMENT, _timeout=_PATIENCE, _return_cmd=True, **how)
        except sh.TimeoutException:
            raise MdevctlError(f"mdevctl did not end within {_PATIENCE} s") from None
        except sh.ErrorReturnCode as error:
            lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
            raise MdevctlError(f"mdevctl {words[0]} failed: {_reason(lines)}") from None
        return str(done)


def _reason(lines: list[str]) -> str:
    """The line in which mdevctl says it, or the last of what its callouts said."""
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return " ".join((errors or lines[-1:])[0].split())[:300]
