# SPDX-License-Identifier: Apache-2.0
"""The process ``apvfio``, from its first instruction to its exit code.

SIGINT ends it at any moment with exit code 130 and without a traceback, also while modules are loaded. A
SIGINT that the parent process ignores stays ignored. Python's own cleanup does not run: it can fail or be
interrupted, and would print a traceback after the exit code is known.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal takes a while to load
import os
import sys
from errno import ENOMEM

_INTERRUPTED = 130
_FAILURE = 1
_NO_MEMORY = 5
_NO_MEMORY_SAYS = b"""\
apvfio: apvfio ran out of memory. The next call finishes or undoes what was begun; give that one more memory.
"""
_MIXED_SAYS = (
    "apvfio's modules do not fit together: {}. If it is being updated, try again; otherwise install it again."
)
"""As errors.unexpected says it, which could not be imported perhaps."""


def main() -> None:
    """Run the command line of this process and end the process."""
    try:
        _main()
    except (MemoryError, SystemError, OSError, ImportError) as error:
        # As errors.is_lack_of_memory, which could perhaps not be imported now.
        if isinstance(error, OSError) and error.errno != ENOMEM:
            raise
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):
            if os.environ.get("APVFIO_TRACEBACK"):
                raise
            os.write(2, f"apvfio: {_MIXED_SAYS.format(error)}\n".encode())
            os._exit(_FAILURE)
        os.write(2, _NO_MEMORY_SAYS)
    os._exit(_NO_MEMORY)


def _main() -> None:
    listens = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if listens:
        _signal.signal(_signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from apvfio.cli import standard_streams  # noqa: PLC0415
    from apvfio.cli.main import main as run  # noqa: PLC0415

    standard_streams.guard()
    try:
        if listens:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while an error was being printed
        code = _INTERRUPTED
    except SystemExit as end:  # --help and --version
        code = end.code if isinstance(end.code, int) else 0
    standard_streams.finish(code)
