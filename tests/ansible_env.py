# SPDX-License-Identifier: Apache-2.0
"""Playbooks that run for real, on hosts where apvfio sees a simulated host."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.namespace import environment

CHECKOUT = Path(__file__).parents[1]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
_PATIENCE = 180.0


def missing() -> str:
    """What running a playbook lacks on this machine, as a sentence; '' if nothing."""
    return "" if PLAYBOOK.exists() else "ansible-core is not installed beside this Python"


def command(path: Path, *words: str) -> Path:
    """Write a program that is apvfio with the options ``words``."""
    argv = ["env", f"PYTHONPATH={environment()['PYTHONPATH']}", sys.executable, "-m", "apvfio", *words]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
    path.chmod(0o755)
    return path


class Play:
    """Tasks on hosts; ``hosts`` has the variables of each, ``apvfio`` among them, the path of its command."""

    def __init__(self, directory: Path, hosts: dict[str, dict[str, str]]) -> None:
        self._directory = directory
        self._hosts = list(hosts)
        python = {"ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {name: python | more for name, more in hosts.items()}}}
        (directory / "inventory.json").write_text(json.dumps(inventory))

    def run(self, module: str, *words: str, **params: object) -> dict[str, dict[str, Any]]:
        """Run one task to its end; what it returned on each host."""
        task = {
            f"apvfio.apvfio.{module}": {**params, "executable": "{{ apvfio }}"},
            "register": "result",
            "ignore_errors": True,
        }
        written = f"{self._directory}/{{{{ inventory_hostname }}}}.result"
        write = {
            "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": written, "mode": "0600"},
            "delegate_to": "localhost",
            "check_mode": False,
            "diff": False,
        }
        book = [{"hosts": "all", "gather_facts": False, "tasks": [task, write]}]
        path = self._directory / "book.json"
        path.write_text(json.dumps(book))
        for name in self._hosts:
            (self._directory / f"{name}.result").unlink(missing_ok=True)
        done = subprocess.run(
            [PLAYBOOK, "-i", self._directory / "inventory.json", *words, path],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env=self._environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: json.loads((self._directory / f"{name}.result").read_text()) for name in self._hosts}

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._directory),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "ansible"),
            "ANSIBLE_HOST_KEY_CHECKING": "false",
        }
