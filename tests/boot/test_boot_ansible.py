# SPDX-License-Identifier: Apache-2.0
"""The role of the Ansible collection on a host: it installs apvfio, and a second run changes nothing."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from ansible_env import PLAYBOOK, missing
from boot_container import CHECKOUT
from boot_host import lay_out, switched_on

if TYPE_CHECKING:
    from pathlib import Path

    from boot_container import Computer

WITHOUT_APT = subprocess.run(["/usr/bin/python3", "-c", "import apt"], capture_output=True, check=False)
WANTING = missing() or ("python3-apt is not installed" if WITHOUT_APT.returncode else "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WANTING), reason=WANTING)]
UNITS = ("apvfio-prepare.service", "apvfio-reconcile.path")


@pytest.fixture(scope="module")
def host(computer: Computer, package: Path) -> Computer:
    """A host on which libvirt runs when the role comes."""
    lay_out(computer)
    computer.write("/root/apvfio.deb", package.read_bytes())
    switched_on(computer)
    # With it the image of a container forbids its packages to start anything.
    computer.did("rm", "--force", "/usr/sbin/policy-rc.d")
    return computer


def play(host: Computer, *words: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run the role on the host itself."""
    book = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "roles": ["apvfio.apvfio.install"],
            "vars": {
                "ansible_python_interpreter": "/usr/bin/python3",
                "apvfio_install_packages": ["/root/apvfio.deb"],
                **variables,
            },
        }
    ]
    host.write("/root/book.json", json.dumps(book))
    paths = f"ANSIBLE_COLLECTIONS_PATH={CHECKOUT}/ansible"
    return host.run("env", paths, str(PLAYBOOK), "-i", "localhost,", *words, "/root/book.json")


def test_the_role_installs_and_a_second_run_changes_nothing(host: Computer) -> None:
    done = play(host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" not in done.stdout
    assert all(host.unit(unit, "UnitFileState") == "enabled" for unit in UNITS)
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
    assert host.run("apvfio", "doctor").returncode == 0
    done = play(host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout


def test_a_problem_that_the_doctor_finds_fails_the_play(host: Computer) -> None:
    host.did("mv", "/etc/libvirt/hooks/qemu.d/50-apvfio", "/root/hook")
    try:
        done = play(host)
        assert done.returncode != 0
        assert "50-apvfio" in done.stdout + done.stderr
        assert play(host, apvfio_install_doctor=False).returncode == 0
    finally:
        host.did("mv", "/root/hook", "/etc/libvirt/hooks/qemu.d/50-apvfio")
