# SPDX-License-Identifier: Apache-2.0
"""The finder of a guest's start imports what an ordinary import does, and nothing that is out of date."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.libvirt import lean_import

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[3]
WORK = "import apvfio.libvirt.hook, apvfio.engine.start, apvfio.engine.stop, apvfio.mdev.watchdog"
REPORT = """\
for name in sorted(sys.modules):
    module = sys.modules[name]
    if name.startswith("apvfio"):
        print(name, module.__file__, module.__package__, getattr(module, "__path__", ()), module.__doc__)
"""


def run(*lines: str, tree: Path = CHECKOUT) -> str:
    """What a process like the hook's prints, and whether it imports anything."""
    program = "\n".join([f"import sys; sys.path.append({str(tree)!r})", *lines])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


INSTALL = "from apvfio.libvirt import lean_import; lean_import.install()"
AT_ONCE = (
    "from apvfio.libvirt import lean_import; sys.meta_path.insert(0, lean_import.LeanFinder(float('inf')))"
)
"""The same of a tree whose files were written just now."""


def test_it_imports_the_same_modules() -> None:
    ordinary, lean = (run(first, WORK, REPORT) for first in ("import apvfio.libvirt.lean_import", INSTALL))
    assert lean == ordinary
    assert lean.count("\n") > 50


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package ``apvfio`` with the finder, a module and a package, all compiled."""
    package = tmp_path / "apvfio"
    (package / "libvirt").mkdir(parents=True)
    (package / "inner").mkdir()
    for name in ("__init__.py", "libvirt/__init__.py", "libvirt/lean_import.py"):
        shutil.copy(CHECKOUT / "apvfio" / name, package / name)
    (package / "inner/__init__.py").write_text("VALUE = 'package'\n")
    (package / "module.py").write_text("VALUE = 'old'\n")
    for source in package.rglob("*.py"):
        py_compile.compile(str(source), doraise=True)
    return tmp_path


def loaded(tree: Path) -> list[str]:
    """The values of package and module, and by whom they were loaded."""
    return run(
        AT_ONCE,
        "import apvfio.inner, apvfio.module",
        "for m in apvfio.inner, apvfio.module: print(m.VALUE, type(m.__spec__.loader).__name__)",
        tree=tree,
    ).splitlines()


def test_valid_bytecode_is_loaded(tree: Path) -> None:
    assert loaded(tree) == ["package LeanFinder", "old LeanFinder"]


def cached(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def changed_later(source: Path) -> None:
    source.write_text("VALUE = 'new'\n")
    os.utime(source, (1, 1))


def changed_in_size(source: Path) -> None:
    times = source.stat()
    source.write_text("VALUE = 'newer'[:3]\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))


def not_compiled(source: Path) -> None:
    source.write_text("VALUE = 'new'\n")
    cached(source).unlink()


def of_another_python(source: Path) -> None:
    """Bytecode that must not be run: were it loaded, the value would be 'old'."""
    not_compiled(source)
    code = compile("VALUE = 'old'\n", "module", "exec")
    write(source, marshal.dumps(code), magic=b"\x00\x00\r\n")


def by_hash(source: Path) -> None:
    source.write_text("VALUE = 'new'\n")
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    py_compile.compile(str(source), doraise=True, invalidation_mode=mode)


def write(source: Path, body: bytes, magic: bytes = importlib.util.MAGIC_NUMBER) -> None:
    status = source.stat()
    numbers = (int(status.st_mtime), status.st_size)
    stamp = b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers)
    cached(source).write_bytes(magic + bytes(4) + stamp + body)


def too_large(source: Path) -> None:
    source.write_text(f"TEXT = {'x' * (1 << 16)!r}\nVALUE = 'new'\n")
    py_compile.compile(str(source), doraise=True)


@pytest.mark.parametrize(
    "change", [changed_later, changed_in_size, not_compiled, of_another_python, by_hash, too_large]
)
def test_what_is_not_valid_is_imported_as_ever(tree: Path, change: Callable[[Path], None]) -> None:
    change(tree / "apvfio/module.py")
    assert loaded(tree) == ["package LeanFinder", "new SourceFileLoader"]


@pytest.mark.parametrize("body", [b"", b"\xff", marshal.dumps(("no", "code")), marshal.dumps("x" * 9)[:-2]])
def test_damaged_bytecode_is_left_to_python(tree: Path, body: bytes) -> None:
    """Python itself says what is wrong with it; nothing of it is run here."""
    source = tree / "apvfio/module.py"
    write(source, body)
    found = lean_import.LeanFinder(float("inf")).find_spec("apvfio.module", [str(source.parent)])
    assert found is None


def test_it_finds_nothing_else(tmp_path: Path) -> None:
    finder = lean_import.LeanFinder(float("inf"))
    assert finder.find_spec("json.decoder", [str(tmp_path)]) is None
    assert finder.find_spec("apvfio.none", [str(tmp_path)]) is None
    assert finder.find_spec("apvfio") is None


REPLACE = """\
import os, shutil
def replace(path):
    shutil.copy(path, path + ".dpkg-new")
    os.replace(path + ".dpkg-new", path)
def attempt(name):
    try:
        __import__(name)
        print("loaded")
    except ImportError as error:
        print(error)
"""


def test_what_was_replaced_since_the_process_began_is_not_loaded(tree: Path) -> None:
    """All files were replaced just before: that is waited for."""
    replaced = run(
        INSTALL,
        REPLACE,
        "attempt('apvfio.inner')",
        f"replace({str(tree / 'apvfio/module.py')!r})",
        "attempt('apvfio.module')",
        tree=tree,
    )
    assert replaced.splitlines() == ["loaded", "apvfio.module has just been replaced"]


def test_an_update_that_has_not_reached_all_files_is_met(tree: Path) -> None:
    """Not the finder itself, whose file is old by then."""
    program = "from apvfio.libvirt import lean_import; lean_import._SETTLING = 0; lean_import.install()"
    assert run(program, REPLACE, "attempt('apvfio.module')", tree=tree) == (
        "apvfio.module has just been replaced\n"
    )


def test_a_clock_that_was_set_back_keeps_nothing_from_being_loaded(tree: Path) -> None:
    program = "import time; time.time = lambda: 1000.0"
    assert run(program, INSTALL, REPLACE, "attempt('apvfio.module')", tree=tree) == "loaded\n"
