# SPDX-License-Identifier: Apache-2.0
"""The agent Guest on a real libvirtd: ocf-tester, what a refused start says, and what a stop leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from hosts import a_matrix, mdev
from lab.guest import guest_xml
from lab.hook import hook_script
from lab_env import LabEnv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from apvfio.model.matrix import Matrix
    from lab_env import MakeLab

CHECKOUT = Path(__file__).parents[2]
AGENT = CHECKOUT / "pacemaker/ocf/Guest"
BASE = Path("/usr/lib/ocf/resource.d/heartbeat/VirtualDomain")
APVFIO = Path(sys.executable).with_name("apvfio")
pytestmark = pytest.mark.skipif(not BASE.exists(), reason="resource-agents is not installed")
SUCCESS, GENERIC, CONFIGURED, INSTALLED, NOT_RUNNING = 0, 1, 6, 5, 7
NAME = "db1"


@pytest.fixture(scope="module")
def lab_env(make_lab: MakeLab) -> Iterator[LabEnv]:
    with make_lab(hook_script()) as lab:
        yield LabEnv(lab)


@pytest.fixture
def env(lab_env: LabEnv) -> Iterator[LabEnv]:
    yield lab_env
    lab_env.virsh("destroy", NAME, check=False)


def config(env: LabEnv, requested: Matrix | None) -> str:
    """The guest's file, as it is called in the lab."""
    path = Path(env.lab.work) / f"{NAME}.xml"
    path.write_text(guest_xml(NAME, requested, mdev(1)))
    return str(path)


def agent(env: LabEnv, action: str, file: str, **more: str) -> CompletedProcess[str]:
    """Run the agent as Pacemaker does."""
    given = {
        "config": file,
        "hypervisor": "qemu:///system",
        "apvfio": str(APVFIO),
        "force_stop": "true",
        "CRM_meta_timeout": "60000",
        **{f"autoset_utilization_{what}": "false" for what in ("cpu", "hv_memory", "host_memory")},
        **more,
    }
    words = [f"OCF_RESKEY_{name}={value}" for name, value in given.items()]
    words += ["OCF_ROOT=/usr/lib/ocf", f"OCF_RESOURCE_INSTANCE={NAME}", "OCF_RESOURCE_TYPE=Guest"]
    return env.run(["env", *words, str(AGENT), action])


def reason(done: CompletedProcess[str]) -> str:
    """What crm_mon would show."""
    found = re.findall(r"^ocf-exit-reason:(.*)$", done.stderr, flags=re.MULTILINE)
    return str(found[-1]) if found else ""


def test_a_guest_starts_with_its_queues_and_stops(env: LabEnv) -> None:
    file = config(env, a_matrix("0", "1"))
    assert agent(env, "validate-all", file).returncode == SUCCESS
    assert agent(env, "monitor", file).returncode == NOT_RUNNING
    done = agent(env, "start", file)
    assert done.returncode == SUCCESS, done.stderr
    assert read_host(env.system.sysfs).mdevs == {mdev(1): a_matrix("0", "1")}
    assert agent(env, "monitor", file).returncode == SUCCESS
    assert agent(env, "start", file).returncode == SUCCESS
    assert agent(env, "stop", file).returncode == SUCCESS
    assert read_host(env.system.sysfs).mdevs == {}
    assert agent(env, "stop", file).returncode == SUCCESS


@pytest.mark.parametrize(
    ("requested", "code", "said"),
    [
        (a_matrix("5", "1"), INSTALLED, "guest db1: this host has no adapter 5 (0x5); it has 0-1,10."),
        (None, CONFIGURED, "has no annotation"),
    ],
)
def test_a_start_that_is_refused_says_why_in_one_line(
    env: LabEnv, requested: Matrix | None, code: int, said: str
) -> None:
    done = agent(env, "start", config(env, requested))
    assert done.returncode == code
    assert said in reason(done)
    assert "{" not in reason(done)


def test_a_guest_that_is_not_valid_is_told_before_it_starts(env: LabEnv) -> None:
    file = config(env, a_matrix("0", "1"))
    Path(file).write_text(Path(file).read_text().replace('domains="1"', 'domains="1000"'))
    done = agent(env, "validate-all", file)
    assert (done.returncode, "1000" in reason(done)) == (CONFIGURED, True)


@pytest.mark.parametrize("timeout", ["1000", "10000", "300000"])
def test_a_migration_that_fails_is_no_reason_to_ban_the_guest(env: LabEnv, timeout: str) -> None:
    file = config(env, a_matrix("0", "1"))
    assert agent(env, "start", file).returncode == SUCCESS
    known = {"CRM_meta_migrate_target": "nowhere.invalid", "CRM_meta_timeout": timeout}
    for uri in ("qemu+ssh://root@nowhere.invalid/system", "nonsense:///system"):
        done = agent(env, "migrate_to", file, remoteuri=uri, **known)
        assert done.returncode == GENERIC, done.stderr
        assert ("10 s or more" in reason(done)) == (timeout == "1000"), reason(done)
        assert "--timeout" not in reason(done)
    assert agent(env, "monitor", file).returncode == SUCCESS


@pytest.mark.skipif(not shutil.which("ocf-tester"), reason="ocf-tester is not installed")
def test_ocf_tester_finds_no_fault(env: LabEnv) -> None:
    file = config(env, a_matrix("0", "1"))
    options = {"config": file, "hypervisor": "qemu:///system", "apvfio": str(APVFIO), "force_stop": "true"}
    options |= {f"autoset_utilization_{what}": "false" for what in ("cpu", "hv_memory", "host_memory")}
    words = ["ocf-tester", "-n", NAME]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    done = env.run([*words, str(AGENT)])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Guest", "Queues"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_meta_data_fits_the_schema(tmp_path: Path, name: str, version: str) -> None:
    schema = Path(f"/usr/share/pcs/data/ocf-{version}.rng")
    if not schema.exists():
        pytest.skip("pcs, which has the schema of OCF, is not installed")
    made = subprocess.run([AGENT.with_name(name), "meta-data"], capture_output=True, check=True)
    words = ["xmllint", "--noout", "--nonet", "--relaxng", str(schema), "-"]
    done = subprocess.run(words, input=made.stdout, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
