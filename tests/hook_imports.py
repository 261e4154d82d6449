# SPDX-License-Identifier: Apache-2.0
"""The modules that a guest's start, stop or reconnection loads on a real host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from domain_xml import ANY, domain

CHECKOUT = Path(__file__).parents[1]
_PROGRAM = """\
import builtins, json, sys
sys.path.append(sys.argv[1])
imports, load = [], builtins.__import__
def noting(name, globals=None, locals=None, fromlist=(), level=0):
    names = [name, *(f"{name}.{other}" for other in fromlist or ())]
    imports.append(((globals or {}).get("__name__", ""), names))
    return load(name, globals, locals, fromlist, level)
builtins.__import__ = noting
from apvfio.libvirt import hook
from apvfio.sim.kernel import SimKernel
from apvfio.sim.host_file import SimSystem
import apvfio.engine.migration_lease, apvfio.engine.rollback, apvfio.events.journal
import apvfio.libvirt.lean_import, apvfio.mdev.watchdog, apvfio.store.definitions, apvfio.store.system
system, guests = SimSystem.new(SimKernel.new()), json.load(sys.stdin)
for guest in guests:
    for operation in ("prepare", "reconnect", "release"):
        code = hook.main(["db1", operation, "begin", "-"], system, guest.encode())
        assert code == 0, (operation, code)
modules = [name for name in sys.modules if name.startswith("apvfio")]
json.dump({"imports": imports, "modules": modules}, sys.stdout)
"""
_BEGIN = {
    "apvfio.libvirt.hook",
    "apvfio.libvirt.lean_import",
    # A real host's /sys, files and journal.
    *("apvfio.store.system", "apvfio.mdev.watchdog", "apvfio.events.journal"),
    # A guest without an annotation; one that arrives by a migration; a live change that was interrupted.
    *("apvfio.store.definitions", "apvfio.engine.migration_lease", "apvfio.engine.rollback"),
}
"""Where the imports begin."""
_GUESTS = (domain(), domain(ANY))


def hook_modules() -> set[str]:
    """Run guests by id and by property on a simulated host; what only the simulator loads is left out."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, CHECKOUT],
        input=json.dumps([guest.decode() for guest in _GUESTS]).encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    answer = json.loads(done.stdout)
    modules = set(answer["modules"])
    found: set[str] = set()
    following = set(_BEGIN)
    while following:
        found |= following
        imported = {name for importer, names in answer["imports"] if importer in following for name in names}
        following = {name for name in imported & modules if not name.startswith("apvfio.sim")} - found
    return found
