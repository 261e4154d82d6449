# SPDX-License-Identifier: Apache-2.0
"""Import the modules of apvfio with less work than Python's own finders: a guest's start imports seventy.

The bytecode that an ordinary import has left in ``__pycache__`` is loaded, under the same conditions (PEP
552): this version of Python has compiled it, and the source file still has the recorded size and time. If
this is not so or cannot be determined, this finder finds nothing, and the ordinary import runs.

A package manager can replace the files meanwhile, and modules of two versions can fit together well enough to
do harm. A process that meets an update when it begins therefore waits for its end. If a module is replaced
later, its import ends with an ImportError. The check uses the ctime of the file, which no package manager can
set.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from _frozen_importlib_external import MAGIC_NUMBER  # importlib.util has it, too, and costs milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_HEAD = MAGIC_NUMBER + bytes(4)
"""How bytecode begins that is valid for a source of one time and size."""
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_WORD = 0xFFFFFFFF
_LARGEST = 1 << 16
"""Bytes of bytecode; a larger module is left to the ordinary import."""
_Spec = type(__spec__)
_SETTLING = 2.0
"""Seconds after which an update that has replaced this module has replaced the others, too."""
_LATELY = 1.0
"""Seconds: a file that was replaced more recently may belong to an update that is not complete."""


def install() -> None:
    """Let this process look for apvfio's modules with a `LeanFinder` first.

    If this module was replaced just now, wait until the others are.
    """
    age = time.time() - os.stat(__file__).st_ctime
    if 0 <= age < _SETTLING:
        time.sleep(_SETTLING - age)
    sys.meta_path.insert(0, LeanFinder(time.time()))


class LeanFinder:
    """Finder and loader of the compiled modules and packages below ``apvfio``.

    ``begun``: when the process began, in seconds since the epoch.
    """

    def __init__(self, begun: float) -> None:
        self._lately = begun - _LATELY

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module with its code; None if there is no bytecode that is valid."""
        if not path or not name.startswith("apvfio."):
            return None
        directory, stem = path[0], name.rpartition(".")[2]
        if name.count(".") == 1:  # a room
            return self._package(name, f"{directory}/{stem}") or self._spec(name, directory, stem)
        return self._spec(name, directory, stem) or self._package(name, f"{directory}/{stem}")

    def _package(self, name: str, directory: str) -> ModuleSpec | None:
        spec = self._spec(name, directory, "__init__")
        if spec:
            spec.submodule_search_locations = [directory]
        return spec

    def _spec(self, name: str, directory: str, stem: str) -> ModuleSpec | None:
        source, cached = f"{directory}/{stem}.py", f"{directory}/__pycache__/{stem}{_SUFFIX}"
        code = self._valid_code(name, source, cached)
        if code is None:
            return None
        spec = _Spec(name, self, origin=source, loader_state=code)  # type: ignore[arg-type]
        spec.has_location, spec.cached = True, cached
        return spec

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        """Leave that to Python."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the code that was found."""
        spec = module.__spec__
        assert spec
        code, spec.loader_state = spec.loader_state, None
        exec(code, module.__dict__)  # noqa: S102

    def _valid_code(self, name: str, source: str, cached: str) -> CodeType | None:
        try:
            status = os.stat(source)
            # Unless the clock was set back since.
            if status.st_ctime > self._lately and status.st_ctime <= time.time():
                raise ImportError(f"{name} has just been replaced")
            descriptor = os.open(cached, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, _LARGEST)
            finally:
                os.close(descriptor)
            stamp = (status.st_size & _WORD) << 32 | int(status.st_mtime) & _WORD
            if len(data) == _LARGEST or data[:16] != _HEAD + stamp.to_bytes(8, "little"):
                return None
            code = marshal.loads(data[16:])  # noqa: S302
        except (OSError, EOFError, ValueError, TypeError):
            return None
        return code if isinstance(code, type(install.__code__)) else None
