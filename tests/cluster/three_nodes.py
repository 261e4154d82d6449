# SPDX-License-Identifier: Apache-2.0
"""A real cluster of three nodes with simulated hosts, between which guests fail over and migrate.

Real are libvirtd, the hook, QEMU, sshd, corosync, Pacemaker and fence_ibmz; not the HMC and the queues.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.cluster import cib
from apvfio.domain.xml_tree import etree
from apvfio.mdev import programs
from apvfio.model.errors import HostError
from cluster.corosync import write_configuration
from cluster.hmc import MACHINE, Hmc
from cluster.lab_node import GUESTS, LabNode
from cluster.ssh import write_ssh
from cluster.switch import Switch
from cluster.watching import Watcher
from lab.guest import guest_xml
from lab.namespace import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self

NODES = {"n1": ("10.77.0.1", "1-6"), "n2": ("10.77.0.2", "11-16"), "n3": ("10.77.0.3", "21-26")}
"""By name the address, and the domains of the host."""
_HMC = "10.77.0.254"
_PROGRAMS = {
    "corosync": "corosync",
    "pacemakerd": "pacemaker",
    "cibadmin": "pacemaker-cli-utils",
    "fence_ibmz": "fence-agents",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "openssl": "openssl",
}
OPTIONS = {"stonith-enabled": "true", "placement-strategy": "utilization"}
_CONFIGURATION = """\
<primitive id="hmc" class="stonith" type="fence_ibmz">
  <instance_attributes id="hmc-parameters">
    <nvpair id="hmc-ip" name="ip" value="{hmc}"/>
    <nvpair id="hmc-username" name="username" value="fence"/>
    <nvpair id="hmc-password" name="password" value="secret"/>
    <nvpair id="hmc-map" name="pcmk_host_map" value="{partitions}"/>
    <nvpair id="hmc-action" name="pcmk_reboot_action" value="off"/>
  </instance_attributes>
  <operations><op id="hmc-monitor" name="monitor" interval="60s" timeout="60s"/></operations>
</primitive>
<clone id="queues-clone">
  <meta_attributes id="queues-meta">
    <nvpair id="queues-interleave" name="interleave" value="true"/>
  </meta_attributes>
  <primitive id="queues" class="ocf" provider="apvfio" type="Queues">
    <meta_attributes id="queues-failures">
      <nvpair id="queues-failure-timeout" name="failure-timeout" value="60s"/>
    </meta_attributes>
    <operations><op id="queues-monitor" name="monitor" interval="10s" timeout="30s"/></operations>
  </primitive>
</clone>
"""
PATIENCE = 120.0


class ThreeNodes:
    """The cluster, between ``with`` and its end. HostError if there can be none here.

    ``guests`` are their names, each with its criteria as ``guest set --any`` takes them.
    """

    def __init__(self, work: Path, guests: Mapping[str, str]) -> None:
        self.work = work
        self.guests = guests
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid():
            raise HostError("a cluster needs the rights of root.")
        missing = {name: package for name, package in _PROGRAMS.items() if programs.find(name) is None}
        if missing:
            raise HostError(f"not installed: {', '.join(missing)} ({', '.join(missing.values())}).")
        with ExitStack() as stack:
            self.switch = stack.enter_context(Switch(_HMC))
            self.nodes = {name: self._node(name) for name in NODES}
            self.hmc = Hmc(self.work, self.switch.listening(6794), self.nodes)
            stack.callback(self.hmc.stop)
            for node in self.nodes.values():
                # fence_ibmz verifies the HMC's certificate.
                node.environment["REQUESTS_CA_BUNDLE"] = str(self.hmc.certificate)
                node.environment["PYTHONWARNINGS"] = "ignore"
                stack.callback(node.cut_power)
                node.power_on()
            self.wait(lambda: self.online() == set(NODES), "all nodes")
            self.watcher = stack.enter_context(Watcher(self.work))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _node(self, name: str) -> LabNode:
        work = self.work / name
        work.mkdir()
        write_configuration(work, {name: address for name, (address, _) in NODES.items()})
        if not (self.work / "ssh").exists():
            write_ssh(self.work / "ssh", NODES)
        (work / "ssh").symlink_to(self.work / "ssh")
        (work / "bin").mkdir()
        command = work / "bin/apvfio"
        path = environment()["PYTHONPATH"]
        command.write_text(f'#!/bin/sh\nexec env PYTHONPATH={path} {sys.executable} -m apvfio "$@"\n')
        command.chmod(0o755)
        node = LabNode(name, *NODES[name], work, self.switch)
        node.guests = self.guest_files()
        return node

    def guest_files(self) -> dict[str, str]:
        """The guests' XML, made by our own command."""
        directory = self.work / "guests"
        directory.mkdir(exist_ok=True)
        for name, criteria in self.guests.items():
            file = directory / f"{name}.xml"
            if not file.exists():
                file.write_text(guest_xml(name))
                words = ["guest", "set", "--xml", str(file), "--unchecked", "--any", criteria]
                words = [sys.executable, "-m", "apvfio", *words]
                subprocess.run(words, env=environment(), check=True, stdout=subprocess.DEVNULL)
        return {name: (directory / f"{name}.xml").read_text() for name in self.guests}

    def configure(self) -> None:
        """Configure fencing, the publisher and the guests."""
        partitions = ";".join(f"{name}:{MACHINE}/{name}" for name in NODES)
        for name, value in OPTIONS.items():
            self.run("crm_attribute", "--name", name, "--update", value)
        stay = ["--name", "resource-stickiness", "--update", "100"]
        self.run("crm_attribute", "--type", "rsc_defaults", *stay)
        self.create(_CONFIGURATION.format(hmc=_HMC, partitions=partitions))
        for name in self.guests:
            self.create(self.run("apvfio", "cluster", "guest", f"{GUESTS}/{name}.xml", "--xml"))
            # The lab's guests have no system that could shut down.
            words = ["--parameter-value", "true", "--set-parameter", "force_stop"]
            self.run("crm_resource", "--resource", name, *words)

    def mend(self) -> None:
        """Give all nodes power, network and services again, and forget failures."""
        self.hmc.answers = True
        for name, node in self.nodes.items():
            node.power_on()
            self.switch.mend(name)
        self.wait(lambda: self.online() == set(NODES), "all nodes")
        for name, node in self.nodes.items():
            self.run("crm_standby", "--node", name, "--delete")
            node.sh("for file in /sys/devices/ap/card*/config; do echo 1 >$file; done")
        self.run("stonith_admin", "--cleanup", "--history", "*")
        self.run("crm_resource", "--cleanup")

    def create(self, xml: str) -> None:
        """Add elements to the configuration."""
        for element in etree.fromstring(f"<all>{xml}</all>"):
            scope = "constraints" if str(element.tag).startswith("rsc_") else "resources"
            text = etree.tostring(element, encoding="unicode")
            self.run("cibadmin", "--create", "--scope", scope, "--xml-text", text)

    @property
    def up(self) -> list[LabNode]:
        """The nodes that run."""
        return [node for node in self.nodes.values() if node.runs]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command on one of the nodes; what it prints."""
        return self.up[0].run(*words, check=check)

    def state(self) -> str:
        """What crm_mon shows."""
        return self.run("crm_mon", "-1", "-A", "-r", "-f", check=False)

    def attributes(self, node: str) -> dict[str, str]:
        """The attributes of ``node`` that end when it leaves the cluster."""
        return dict(
            cib.published(etree.fromstring(self.run("cibadmin", "--query").encode()), node).attributes
        )

    def online(self) -> set[str]:
        """The nodes that the first one counts among its own."""
        shown = self.run("crm_mon", "-1", "--output-as=xml", check=False)
        try:
            root = etree.fromstring(shown.encode())
        except etree.XMLSyntaxError:
            return set()
        return {one.get("name") or "" for one in root.iterfind("nodes/node") if one.get("online") == "true"}

    def where(self) -> dict[str, str]:
        """The node on which each running guest runs, as the watcher sees it."""
        return {guest: nodes[0] for guest, nodes in self.watcher.where().items()}

    def wait_for(self, guests: Iterable[str], seconds: float = PATIENCE) -> None:
        """Wait until all of ``guests`` run."""
        wanted = set(guests)
        self.wait(lambda: wanted <= self.where().keys(), f"{', '.join(sorted(wanted))}", seconds)

    def wait_idle(self, seconds: float = PATIENCE) -> None:
        """Wait until Pacemaker has nothing to do."""
        node = self.up[0]
        done = node.result("crm_resource", "--wait", f"--timeout={seconds:.0f}", timeout=seconds + 20)
        assert done.returncode == 0, f"{done.stderr}{self.state()}"

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait until ``condition`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {seconds} s\n{self.state()}"
            time.sleep(0.2)
