# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook run as the process that it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apvfio.events.audit_log import AUDIT_LOG
from apvfio.kernel.snapshot import read_host
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from hosts import IBM_DOMAINS
from lab.hook import hook_script

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 60


class Hook:
    """libvirt's hook as it is installed, on a simulated host."""

    def __init__(self, directory: Path) -> None:
        self.script = directory / "50-apvfio"
        self.script.write_text(hook_script())
        self.script.chmod(0o755)
        self.sim = directory / "host.json"
        create_sim(
            str(self.sim), SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
        )

    def call(
        self, xml: bytes, operation: str = "prepare", name: str = "db1", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.script, name, operation, "begin", "-"],
            input=xml,
            env={"APVFIO_SIM": str(self.sim), **(env or {})},
            cwd=self.script.parent,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def state(self) -> dict[str, Any]:
        """The host as its file has it, but for the audit log, which tells of what was refused."""
        state: dict[str, Any] = json.loads(self.sim.read_bytes())
        state["files"] = {
            path: file for path, file in state["files"].items() if not AUDIT_LOG.startswith(path)
        }
        return state

    def mdevs(self) -> list[str]:
        with open_sim(str(self.sim)) as system:
            return list(read_host(system.sysfs).mdevs)
