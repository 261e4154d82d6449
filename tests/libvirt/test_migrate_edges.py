# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate`` where a daemon dies or is silent, and where a host is not what it should be."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.migration.places import EXIT_CODES, HERE_WITHOUT, NOWHERE, THERE, THERE_WITHOUT, UNCLEAR
from apvfio.model.errors import Exit
from daemon_env import OURS, eventually, hook_that_is_slow, leases
from hosts import mdev
from lab.guest import guest_uuid
from lab.hook import hook_script
from lab.libvirtd import write_file
from migration_env import NAME, Pair, Standing, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


WITHOUT, ARRIVED = EXIT_CODES[HERE_WITHOUT], EXIT_CODES[THERE]


@pytest.fixture
def pair(two_labs: Pair) -> Iterator[Pair]:
    """Two hosts on which all comes home in the end."""
    before = two_labs.standing()
    yield two_labs
    two_labs.recover()
    assert two_labs.standing() == before


@pytest.fixture
def started(pair: Pair) -> Standing:
    pair.start()
    return pair.standing()


def here_with(pair: Pair) -> bool:
    found = pair.standing()
    return (found.runs_here, found.runs_there, found.device_here) == (True, False, True)


def there_with(pair: Pair) -> bool:
    found = pair.standing()
    return (found.runs_here, found.runs_there, found.device_there) == (False, True, True)


def test_the_way_back_needs_this_host_alone(pair: Pair, started: Standing) -> None:
    pair.dies("unplug")
    assert not pair.standing().device_here
    assert "its device is unplugged for a migration" in pair.here.apvfio("guest", "list").stdout
    assert "which 'apvfio migrate' has unplugged" in pair.here.apvfio("doctor", NAME).stdout
    assert "it still runs" in pair.here.apvfio("release", NAME).stderr
    pair.there.crash_daemon()
    done = pair.migrate()
    assert done.returncode == WITHOUT
    assert "It runs here without its queues. Repeat the command to continue, or add --back" in done.stderr
    done = pair.migrate("--back")
    assert (done.returncode, done.stdout) == (0, f"guest {NAME} runs here and has its queues\n"), done.stderr
    pair.there.start_daemon()
    assert here_with(pair)


def test_the_destinations_daemon_dies_as_the_guest_leaves(pair: Pair, started: Standing) -> None:
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin()
        eventually(busy.there)
        pair.there.crash_daemon()
        _, err = migration.communicate(timeout=90)
    assert migration.returncode == EXIT_CODES[UNCLEAR], err
    assert "This host runs it, the destination could not be asked." in err
    pair.there.start_daemon()
    assert here_with(pair)
    assert pair.migrate("--back").returncode == 0
    assert pair.standing() == started


def test_this_hosts_daemon_dies_as_the_guest_arrives(pair: Pair, started: Standing) -> None:
    """libvirt then leaves a halted guest here, or a definition, though the guest runs there."""
    with hook_that_is_slow(pair.here, "90-slow", "stopped") as busy:
        migration = pair.begin("--timeout", "40")
        eventually(busy.there)
        pair.here.crash_daemon()
        busy.over()
        _, err = migration.communicate(timeout=60)
    pair.here.start_daemon()
    assert migration.returncode in (0, ARRIVED, EXIT_CODES[UNCLEAR]), err
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    assert there_with(pair)
    assert NAME not in pair.here.virsh("list", "--all", "--name").stdout.split()
    assert leases(pair.here) == {}


def test_a_frozen_daemon_at_the_destination(pair: Pair, started: Standing) -> None:
    pair.there.lab.libvirtd.freeze()
    begun = time.monotonic()
    try:
        done = pair.migrate("--timeout", "12")
    finally:
        pair.there.lab.libvirtd.thaw()
    assert time.monotonic() - begun < 12 + 6
    assert done.returncode == Exit.HOST, done.stderr
    assert "It runs here with its queues." in done.stderr
    assert pair.standing() == started


def test_the_guest_ends_before_it_leaves(pair: Pair, started: Standing) -> None:
    """What the destination holds for it is given up, though the guest runs nowhere."""
    pair.dies("expect")
    assert pair.holder(pair.there) == {NAME: mdev(1)}
    pair.here.virsh("destroy", NAME)
    done = pair.migrate("--back")
    assert done.returncode == EXIT_CODES[NOWHERE], done.stderr
    assert leases(pair.there) == {}


def test_its_device_there_is_removed_meanwhile(pair: Pair, started: Standing) -> None:
    pair.dies("move")
    pair.there.system.sysfs.write(f"devices/vfio_ap/matrix/{mdev(1)}/remove", "1")
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    assert there_with(pair)


def test_a_host_without_the_hook(pair: Pair, started: Standing) -> None:
    ours = pair.there.path(OURS)
    pair.there.stop_daemon()
    pair.there.run(["mv", OURS, "/var/lib/libvirt/hook"])
    pair.there.start_daemon()
    try:
        done = pair.migrate()
        assert done.returncode in (ARRIVED, EXIT_CODES[THERE_WITHOUT]), done.stderr
        assert "libvirt's hook did not run at the destination" in done.stderr
    finally:
        pair.there.stop_daemon()
        write_file(ours, hook_script().encode(), 0o755)
        pair.there.start_daemon()


def test_it_starts_with_its_host_there_too(pair: Pair, started: Standing) -> None:
    pair.here.virsh("autostart", NAME)
    assert pair.migrate().returncode == 0
    assert "Autostart:      enable" in pair.there.virsh("dominfo", NAME).stdout
    pair.there.virsh("autostart", "--disable", NAME)


def test_a_login_banner_and_a_uuid(pair: Pair, started: Standing, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text(
        f'echo "Welcome. {{ Today: cake }}"\nexec {sys.executable} -m apvfio --root {tree(pair.there)} "$@"\n'
    )
    argv = [guest_uuid(NAME) if word == NAME else word for word in pair.words(at=f"sh {login}")]
    done = pair.run(argv)
    assert done.returncode == 0, done.stderr
    assert there_with(pair)


def test_an_apvfio_that_does_not_know_how(pair: Pair, started: Standing) -> None:
    done = pair.migrate(at="sh -c 'echo \"apvfio: argument COMMAND: invalid choice: incoming\" >&2; exit 2'")
    assert done.returncode == Exit.HOST
    assert "it does not know the command 'incoming'. It runs here with its queues." in done.stderr
    assert "Have the same version on both hosts." in done.stderr
    assert pair.standing() == started


def test_the_destination_is_this_host(pair: Pair, started: Standing) -> None:
    argv = pair.words("--json")
    here = argv[argv.index("--connect") + 1]
    done = pair.run([*argv[:-2], here, "--json"])
    assert done.returncode == EXIT_CODES[UNCLEAR] or "the destination is this host" in done.stdout, done
    assert "the destination is this host" in json.loads(done.stdout)["error"]["message"]
    assert pair.standing() == started
