# SPDX-License-Identifier: Apache-2.0
"""Text for a file that the user names, or for standard output."""

from __future__ import annotations

import os
import stat
import sys

from apvfio.cli.standard_streams import output
from apvfio.model.errors import HostError, UsageError, printable
from apvfio.store.files import RealFiles

STANDARD_OUTPUT = "-"
READABLE = 0o644
_LONGEST = 1000


def write_text(path: str, text: str, mode: int = 0o600) -> None:
    """Write ``text`` into the file ``path``, as a whole or not at all.

    An ordinary file of that name is replaced and keeps its mode if it is ours; a link, a directory
    or a device is left alone: UsageError. A new file has ``mode``: it is for its owner alone.
    """
    if path == STANDARD_OUTPUT:
        # The text itself is ASCII; the characters of guests' names are written as they are.
        with output():
            sys.stdout.buffer.write(text.encode())
            sys.stdout.buffer.flush()
        return
    target = os.path.abspath(path)
    RealFiles("/").write(target.lstrip("/"), text, _mode(path, target, mode))


def _mode(path: str, target: str, new: int) -> int:
    name = printable(path, _LONGEST)
    if not path:
        raise UsageError("the name of the file is empty.", remedy="Name a file.")
    if not os.path.isdir(os.path.dirname(target)):
        raise HostError(f"{name} cannot be written: its directory does not exist.", remedy="Create it first.")
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return new
    except OSError as error:
        raise HostError(
            f"{name} cannot be written: {error.strerror}.", remedy="Choose another place."
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{name} is not a regular file.", remedy="Choose another name, or - to pipe it.")
    return stat.S_IMODE(found.st_mode) & 0o666 if found.st_uid == os.geteuid() else new
