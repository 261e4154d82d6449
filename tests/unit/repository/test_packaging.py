# SPDX-License-Identifier: Apache-2.0
"""What the recipes for packages say, where it has to agree with something else."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

from apvfio._version import __version__
from apvfio.install import checks
from apvfio.install.installed_files import HOOK
from apvfio.install.manifest import RECORD
from apvfio.mdev import programs
from apvfio.store import policy_file
from apvfio.store.policy_file import POLICY

CHECKOUT = Path(__file__).parents[3]
SPEC = (CHECKOUT / "packaging/apvfio.spec").read_text()
LEAST = ".".join(map(str, checks.LEAST_PYTHON))


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    """setup.cfg."""
    found = configparser.ConfigParser()
    found.read(CHECKOUT / "setup.cfg")
    return found


def test_every_shipped_file_is_named(setup: configparser.ConfigParser) -> None:
    """setuptools before 61 knows no patterns here."""
    listed = {place: sorted(names.split()) for place, names in setup["options.data_files"].items()}
    assert listed == {
        f"share/apvfio/{name}": sorted(f"{name}/{path.name}" for path in (CHECKOUT / name).glob("[!o]*"))
        for name in ("cockpit", "hooks", "man")
    }


def test_each_agent_is_in_the_package_for_pacemaker() -> None:
    rules = (CHECKOUT / "debian/rules").read_text()
    for agent in sorted(path.name for path in (CHECKOUT / "pacemaker/ocf").iterdir()):
        assert f"pacemaker/ocf/{agent} " in rules
        assert f"%{{_prefix}}/lib/ocf/resource.d/apvfio/{agent}\n" in SPEC
        assert f"ocf_apvfio_{agent}.7" in rules
        assert f"%{{_mandir}}/man7/ocf_apvfio_{agent}.7*\n" in SPEC


def test_the_ansible_collection_has_the_same_version() -> None:
    galaxy = CHECKOUT / "ansible/ansible_collections/apvfio/apvfio/galaxy.yml"
    assert f"\nversion: {__version__}\n" in galaxy.read_text()


def test_the_packages_have_a_policy_that_sets_nothing() -> None:
    """It is a configuration file, which no update replaces, and no start loads a parser for it."""
    policy = (CHECKOUT / "examples/apvfio.toml").read_text()
    assert policy_file._sets_nothing(policy)
    assert not policy_file._sets_nothing(policy.replace("#mechanism", "mechanism"))
    assert (
        f"install -D -m 0644 examples/apvfio.toml debian/apvfio/{POLICY}\n"
        in (CHECKOUT / "debian/rules").read_text()
    )
    assert "%config(noreplace) %{_sysconfdir}/apvfio/apvfio.toml\n" in SPEC


def test_all_want_the_same_python(setup: configparser.ConfigParser) -> None:
    assert setup["options"]["python_requires"] == f">={LEAST}"
    assert f"Depends: python3 (>= {LEAST}~),\n" in (CHECKOUT / "debian/control").read_text()
    assert re.search(rf"^Requires: +python3 >= {re.escape(LEAST)}$", SPEC, re.MULTILINE)


def test_an_interpreter_that_is_too_old_is_refused() -> None:
    """Some of apvfio can be imported by it all the same."""
    assert programs.ask([sys.executable, "-c", checks._TRY_HOOK])[0] == 0
    newer = checks._TRY_HOOK.replace(repr(checks.LEAST_PYTHON), "(9, 9)")
    this = ".".join(map(str, sys.version_info[:2]))
    assert programs.ask([sys.executable, "-c", newer]) == (
        1,
        f"it is Python {this}, and apvfio needs {LEAST} or newer",
    )


@pytest.mark.parametrize("recipe", ["debian/apvfio.preinst", "packaging/apvfio.spec"])
def test_a_package_looks_for_what_an_installation_records(recipe: str) -> None:
    assert f"grep -qs {HOOK} /{RECORD}" in (CHECKOUT / recipe).read_text()


@pytest.mark.parametrize("directory", ["apvfio", "mdev", "tests"])
def test_the_oldest_python_knows_all_that_is_written(directory: str) -> None:
    """Its syntax, and what is easily written by habit; tests/distributions runs the rest with it."""
    sources = [path for path in (CHECKOUT / directory).rglob("*.py") if path.is_file()]
    assert len(sources) > 5
    for path in sources:
        tree = ast.parse(path.read_text(), str(path), feature_version=checks.LEAST_PYTHON)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not (called == "zip" and node.keywords), (path, node.lineno)
                assert not called.endswith(".bit_count"), (path, node.lineno)
