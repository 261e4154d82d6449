# SPDX-License-Identifier: Apache-2.0
"""Which files of the product know each other; imports for type checkers and inside functions count."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from hook_imports import hook_modules

CHECKOUT = Path(__file__).parents[3]


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    return name.removesuffix(".__init__")


# apvfio/mdev is a symbolic link, which a search for files may pass by.
MODULES = {
    module_name(path): path
    for directory in (CHECKOUT / "apvfio", CHECKOUT / "apvfio/mdev")
    for path in directory.rglob("*.py")
}


def imports() -> dict[str, set[str]]:
    """The modules of the product that each of them imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module, f"{path}: a relative import"
                submodules = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= (submodules | {node.module}) & MODULES.keys()
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & MODULES.keys()
        found[name] -= {"apvfio", name}
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """The imports, those of packages without code left out."""
    return {
        name: {other for other in others if MODULES[other].name != "__init__.py"}
        for name, others in imports().items()
    }


def importers(arrows: dict[str, set[str]], module: str) -> set[str]:
    """The rooms with a file that imports ``module``, and ``module``'s own."""
    return {name.split(".")[1] for name, others in arrows.items() if module in others}


def test_no_file_imports_itself_by_way_of_others(arrows: dict[str, set[str]]) -> None:
    assert len(arrows) > 150
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_only_the_engine_changes_a_host(arrows: dict[str, set[str]]) -> None:
    assert importers(arrows, "apvfio.kernel.apply") == {"engine"}
    writers = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "write"
        if ast.unparse(node.value).rpartition(".")[2] in ("sysfs", "_sysfs")
    }
    # The second passes on what the first writes.
    assert writers == {"apvfio.kernel.apply", "apvfio.kernel.announced_sysfs"}


def test_no_hook_waits_for_a_scan(arrows: dict[str, set[str]]) -> None:
    """From Linux 7.3 on only SIGKILL interrupts that wait."""
    assert importers(arrows, "apvfio.engine.bus_wait") == {"cli"}
    scanners = {name for name, path in MODULES.items() if re.search(r"import .*\bscan\b", path.read_text())}
    assert scanners == {"apvfio.engine.bus_wait"}
    assert "apvfio.engine.bus_wait" not in hook_modules()


def test_values_know_nothing_of_other_rooms(arrows: dict[str, set[str]]) -> None:
    known = {other for name, others in arrows.items() if name.startswith("apvfio.model.") for other in others}
    assert {other.split(".")[1] for other in known} == {"model", "mdev"}


def test_only_the_hook_goes_without_typing() -> None:
    """It takes longer to load than all of a start; elsewhere ordinary code is easier to read."""
    hook = hook_modules()
    assert len(hook) > 50
    special = {
        name
        for name, path in MODULES.items()
        if re.search(r"^TYPE_CHECKING = False$|^from apvfio\.model\.typed ", path.read_text(), re.MULTILINE)
    }
    assert special - hook == set()
