# SPDX-License-Identifier: Apache-2.0
"""The packages on a host: all works once one is installed, and nothing is left once it is removed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from boot_container import CHECKOUT, until
from boot_host import lay_out, switched_on
from built_packages import built
from hosts import a_matrix, mdev
from lab.guest import guest_xml

if TYPE_CHECKING:
    from pathlib import Path

    from boot_container import Computer

HOOK = "/etc/libvirt/hooks/qemu.d/50-apvfio"
BY_HAND = ("env", f"PYTHONPATH={CHECKOUT}", os.path.join(os.path.dirname(sys.executable), "apvfio"))
"""The command of this checkout, also where a package has one of its own."""
DB1 = guest_xml("db1", a_matrix("0,10", "1,2,4"), mdev(1))


@pytest.fixture(scope="module")
def rpm_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RPM package."""
    return built("rpm", tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="module")
def host(computer: Computer, package: Path) -> Computer:
    """A host on which libvirt runs when the package comes."""
    lay_out(computer)
    computer.write("/apvfio.deb", package.read_bytes())
    switched_on(computer)
    # With it the image of a container forbids its packages to start anything.
    computer.did("rm", "--force", "/usr/sbin/policy-rc.d")
    return computer


def _files(host: Computer) -> set[str]:
    found = host.run("find", "/etc", "/usr", "/var/lib", "/run", "-xdev", "-name", "*apvfio*")
    return set(found.stdout.splitlines())


def _pending(host: Computer) -> str:
    return str(json.loads(host.did("apvfio", "status", "--json"))["pending"]["apmask"])


def _problems(host: Computer) -> list[str]:
    """What doctor has against the files of the package."""
    checks = json.loads(host.run("apvfio", "doctor", "--json").stdout)["checks"]
    concerned = [check for check in checks if check["id"] in ("hook", "files")]
    assert len(concerned) > 1
    return [check["message"] for check in concerned if check["state"] != "ok"]


def test_lintian_finds_nothing(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", *map(str, package.parent.glob("*.deb"))],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_rpmlint_finds_nothing(rpm_package: Path) -> None:
    config = os.path.join(CHECKOUT, "packaging/rpmlint.toml")
    packages = list(map(str, rpm_package.parent.glob("*.rpm")))
    assert len(packages) == 3
    assert "0 errors, 0 warnings" in _said("rpmlint", "--config", config, *packages)[-1]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_the_page_for_cockpit_has_a_package_of_its_own(package: Path, rpm_package: Path, kind: str) -> None:
    ours = {"deb": package, "rpm": rpm_package}[kind]
    listing = {"deb": ("dpkg-deb", "--contents"), "rpm": ("rpm", "--query", "--list", "--package")}[kind]
    (page,) = ours.parent.glob(f"cockpit-apvfio*.{kind}")
    manifest = "/usr/share/cockpit/apvfio/manifest.json"
    assert [line for line in _said(*listing, str(page)) if line.endswith(manifest)]
    assert not [line for line in _said(*listing, str(ours)) if "/usr/share/cockpit" in line]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_package_has_all_manuals_pages_and_examples(package: Path, rpm_package: Path, kind: str) -> None:
    """Whoever adds one has named it where setup and packages look."""
    ours = {"deb": package, "rpm": rpm_package}[kind]
    listing = {"deb": ("dpkg-deb", "--contents"), "rpm": ("rpm", "--query", "--list", "--package")}[kind]
    (agents,) = ours.parent.glob(f"apvfio-pacemaker*.{kind}")
    lines = [line for package in (ours, agents) for line in _said(*listing, str(package))]
    paths = [line.split()[-1].removesuffix(".gz") for line in lines]
    for place, source in (("/share/man/", "man"), ("/share/doc/", "docs"), ("/share/doc/", "examples")):
        files = [path for path in _said("git", "-C", CHECKOUT, "ls-files", source) if path.count("/") == 1]
        wanted = {os.path.basename(path) for path in files if not path.endswith("/demo")}
        assert wanted
        assert wanted <= {os.path.basename(path) for path in paths if place in path}


def _said(*words: str) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def test_packages_say_which_python_they_need(package: Path, rpm_package: Path) -> None:
    (depends,) = _said("dpkg-deb", "--field", str(package), "Depends")
    assert "python3 (>= 3.9~)" in depends.split(", ")
    assert "python3 >= 3.9" in _said("rpm", "--query", "--requires", "--package", str(rpm_package))


def test_rpm_alone_knows_the_files_of_its_package(rpm_package: Path) -> None:
    """pip, which has put them there first, finds no list of them."""
    files = _said("rpm", "--query", "--list", "--package", str(rpm_package))
    names = {os.path.basename(path) for path in files if f".dist-info{os.sep}" in path}
    assert names == {"INSTALLER", "LICENSE", "METADATA", "WHEEL", "entry_points.txt", "top_level.txt"}
    sources = [path for path in files if path.endswith(".py") and "packages" in path]
    assert len([path for path in files if path.endswith(".pyc")]) == len(sources)


def test_from_installation_to_purge(host: Computer) -> None:
    before = _files(host)
    host.virsh("define", "/dev/stdin", stdin=DB1)
    host.did("dpkg", "--install", "/apvfio.deb")
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
    assert host.unit("apvfio-prepare.service", "UnitFileState") == "enabled"
    assert host.unit("apvfio-prepare.service", "Result") == "success"
    assert host.did("stat", "--format=%a", "/run/apvfio") == "700\n"
    for name, page in (
        ("apvfio", "apvfio"),
        ("apvfio-guest", "apvfio-guest"),
        ("apvfio-undefine", "apvfio-define"),
    ):
        assert host.did("man", "--where", "8", name) == f"/usr/share/man/man8/{page}.8.gz\n"
    assert _problems(host) == []

    host.virsh("start", "db1")
    assert _pending(host) == "0,10"
    for command in (("apvfio",), BY_HAND):
        answer = host.run(*command, "install")
        assert "the package apvfio is installed on this host" in answer.stderr
        assert answer.returncode == 3

    answer = host.run("dpkg", "--remove", "apvfio")
    assert answer.returncode != 0
    assert "guest db1 holds queues, which nothing returns after apvfio is removed" in answer.stderr
    assert _pending(host) == "0,10"
    host.did("dpkg", "--install", "/apvfio.deb")  # an upgrade, while the guest runs
    assert _pending(host) == "0,10"

    host.virsh("destroy", "db1")
    until(lambda: _pending(host) == "")
    host.did("dpkg", "--remove", "apvfio")
    assert host.run("test", "-x", HOOK).returncode == 0
    assert (
        f"{HOOK} is left over from the package apvfio, which is not installed"
        in host.run(*BY_HAND, "doctor").stdout
    )
    answer = host.run("virsh", "start", "db1")
    assert (answer.returncode, "mediated device" in answer.stderr) == (1, True)

    host.did("dpkg", "--install", "/apvfio.deb")
    host.virsh("start", "db1")
    host.virsh("destroy", "db1")
    until(lambda: _pending(host) == "")
    host.did("dpkg", "--purge", "apvfio")
    assert _files(host) == before
    assert host.unit("apvfio-reconcile.path", "LoadState") == "not-found"


def _repaired(host: Computer, name: str) -> None:
    """Paste the doctor's remedy for the check ``name``, which then is well."""
    checks = json.loads(host.run("apvfio", "doctor", "--json").stdout)["checks"]
    (fault,) = [check for check in checks if (check["id"], check["state"] != "ok") == (name, True)]
    assert fault["commands"]
    for command in fault["commands"]:
        host.did("sh", "-c", command)
    assert _problems(host) == []


def test_the_doctors_remedies_beside_the_package(host: Computer, package: Path) -> None:
    """'apvfio install' is refused there; the package manager puts its own files back, from a repository."""
    host.did("dpkg", "--install", "/apvfio.deb")
    index = subprocess.run(
        ["dpkg-deb", "--field", str(package)], capture_output=True, text=True, check=True
    ).stdout.strip()
    size, data = package.stat().st_size, package.read_bytes()
    fields = f"{index}\nFilename: ./apvfio.deb\nSize: {size}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    host.write("/repository/apvfio.deb", data)
    host.write("/repository/Packages", fields.encode())
    host.did("sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
    host.write("/etc/apt/sources.list.d/own.list", b"deb [trusted=yes] file:/repository ./\n")
    host.did("apt-get", "update")
    host.did("sh", "-c", f"printf '#!/bin/sh\\nexit 0\\n' >{HOOK}")
    _repaired(host, "hook")
    assert host.did("cat", "/etc/libvirt/50-apvfio.not-ours") == "#!/bin/sh\nexit 0\n"
    for damage in (f"rm {HOOK}", f"mv {HOOK} /etc/kept; ln -s /etc/kept {HOOK}", f"echo '# more' >>{HOOK}"):
        host.did("sh", "-c", damage)
        _repaired(host, "hook")
    host.did("sh", "-c", "echo '# more' >>/etc/mdevctl.d/scripts.d/notifiers/50-apvfio")
    _repaired(host, "files")
    host.virsh("start", "db1")
    host.virsh("destroy", "db1")
    until(lambda: _pending(host) == "")
    host.did("sh", "-c", "rm -r /etc/libvirt/*.not-ours* /etc/mdevctl.d/scripts.d/*.not-ours* /etc/kept")


def test_nothing_of_the_package_goes_with_the_callout(host: Computer) -> None:
    host.did("dpkg", "--install", "/apvfio.deb")
    host.virsh("start", "db1")
    before = _files(host)
    host.did("apvfio", "install", "--callout")
    (callout,) = {path for path in _files(host) - before if "callouts" in path}
    host.did("apvfio", "uninstall")
    assert _files(host) == before
    for unit in ("apvfio-reconcile.path", "apvfio-prepare.service"):
        assert host.unit(unit, "UnitFileState") == "enabled"
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
    host.virsh("destroy", "db1")
    until(lambda: _pending(host) == "")
    # Without the interpreter's package it would keep mdevctl from starting devices.
    host.did("apvfio", "install", "--callout")
    host.did("dpkg", "--purge", "apvfio")
    assert host.run("test", "-e", callout).returncode == 1


def test_a_stop_that_is_not_served_yet_is_served_before_the_removal(host: Computer) -> None:
    host.did("dpkg", "--install", "/apvfio.deb")
    host.write("/etc/apvfio/apvfio.toml", "[time]\nrelease-budget = 0\n")
    host.virsh("start", "db1")
    host.did("systemctl", "mask", "--runtime", "apvfio-reconcile.service")
    host.virsh("destroy", "db1")
    host.did("dpkg", "--remove", "apvfio")
    host.did("systemctl", "unmask", "--runtime", "apvfio-reconcile.service")
    assert host.did("cat", "/sys/bus/ap/apmask").strip() == f"0x{'f' * 64}"
    assert host.run("test", "-e", "/run/apvfio").returncode == 1
    host.did("dpkg", "--purge", "apvfio")
    host.did("rm", "--recursive", "--force", "/etc/apvfio")


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_package_is_not_installed_over_an_installation(
    host: Computer, rpm_package: Path, kind: str
) -> None:
    host.write("/apvfio.rpm", rpm_package.read_bytes())
    command = {"deb": ("dpkg", "--install"), "rpm": ("rpm", "--install", "--nodeps")}[kind]
    before = _files(host)
    host.did(*BY_HAND, "install")
    installed = _files(host)
    answer = host.run(*command, f"/apvfio.{kind}")
    assert answer.returncode != 0
    assert "Run 'apvfio uninstall', then install the package." in answer.stderr
    assert _files(host) == installed
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
    host.did(*BY_HAND, "uninstall")
    if kind == "deb":
        host.run("dpkg", "--purge", "apvfio")
    assert _files(host) == before


def test_a_removal_ends_well_although_files_are_gone(host: Computer) -> None:
    """As after a removal that was killed."""
    before = _files(host)
    host.did(*BY_HAND, "install")
    for unit in ("apvfio-reconcile.path", "apvfio-prepare.service"):
        (path,) = {path for path in _files(host) if path.endswith(f"/lib/systemd/system/{unit}")}
        host.did("rm", path)
    answer = host.run(*BY_HAND, "uninstall")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert _files(host) == before
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "inactive"
    assert host.did("systemctl", "--failed", "--quiet") == ""


def test_the_rpm_package(host: Computer, rpm_package: Path) -> None:
    """rpm knows nothing of what dpkg has installed."""
    host.write("/apvfio.rpm", rpm_package.read_bytes())
    before = _files(host)
    host.did("rpm", "--install", "--nodeps", "/apvfio.rpm")
    assert _problems(host) == []
    assert host.unit("apvfio-reconcile.path", "ActiveState") == "active"
    assert host.unit("apvfio-prepare.service", "UnitFileState") == "enabled"
    host.virsh("start", "db1")
    assert _pending(host) == "0,10"
    answer = host.run("rpm", "--erase", "apvfio")
    assert (answer.returncode, "guest db1 holds queues, which nothing returns" in answer.stderr) == (1, True)
    host.virsh("destroy", "db1")
    until(lambda: _pending(host) == "")
    # What %systemd_preun does with Fedora's macros.
    host.did("systemctl", "disable", "--now", "apvfio-prepare.service", "apvfio-reconcile.path")
    host.did("rpm", "--erase", "apvfio")
    # rpm knows no purge: who had which queue stays.
    assert _files(host) == before | {"/var/lib/apvfio"}
