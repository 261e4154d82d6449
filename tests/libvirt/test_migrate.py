# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate`` between two real libvirt daemons on two simulated hosts: QEMU's memory really moves."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.store.policy_file import POLICY
from daemon_env import (
    REQUESTED,
    START,
    apvfio,
    eventually,
    holding_our_lock,
    hook_that_is_slow,
    leases,
    let_grace_pass,
)
from hosts import a_matrix, mdev
from json_schema import require
from lifecycle_cases import state
from migration_env import NAME, Pair, Standing, a_letter, tree, uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess


STAYS = "Nothing is held for it at the destination. It runs here with its queues."
HERE_WITHOUT, THERE, THERE_WITHOUT, BOTH, UNCLEAR, NOWHERE = range(20, 26)


@pytest.fixture
def pair(two_labs: Pair) -> Iterator[Pair]:
    """Two hosts on which all comes home in the end."""
    before = two_labs.standing()
    yield two_labs
    two_labs.clean()
    assert two_labs.standing() == before


def arrived(pair: Pair, started: Standing) -> None:
    """See that the guest is there, with its queues, and nothing of it is here."""
    found = pair.standing()
    assert (found.runs_here, found.runs_there, found.device_there) == (False, True, True)
    assert (found.there, found.here.leases, found.here.pending) == (started.here, 0, False)
    assert found.here.host == started.there.host
    assert pair.holder(pair.there) == {NAME: mdev(1)}


def failed(done: CompletedProcess[str], code: int, *says: str) -> None:
    """See a migration fail, and say why."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    text = done.stderr.splitlines()[-1]
    assert text.startswith(f"apvfio: guest {NAME}: "), text
    assert all(part in text for part in says), text


def test_there_and_back_again(pair: Pair, started: Standing) -> None:
    done = pair.migrate("--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    require("migration", said)
    assert said["done"] == [one["stage"] for one in said["stages"]]
    assert said["done"] == ["expect", "unplug", "move", "plug", "return"]
    arrived(pair, started)
    assert NAME not in pair.here.virsh("list", "--all", "--name").stdout.split()
    assert mdev(1) in pair.there.virsh("dumpxml", "--inactive", NAME).stdout
    done = pair.migrate(back=True)
    assert (done.returncode, done.stdout) == (
        0,
        f"guest {NAME} runs at {uri(pair.here)} and has its queues\n",
    )
    assert pair.standing() == started


def test_what_would_be_done(pair: Pair, started: Standing) -> None:
    done = pair.migrate("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "queues there               00.0001, 00.0002, 0a.0001, 0a.0002\n" in done.stdout
    assert "migrate it, running" in done.stdout
    assert "cannot be read whether 0a.0001, 0a.0002 at the destination" in done.stderr
    assert pair.standing() == started


def test_it_ends_there_as_any_guest_does(pair: Pair, started: Standing) -> None:
    assert pair.migrate().returncode == 0
    pair.there.virsh("destroy", NAME)
    assert state(pair.there) == started.there
    pair.there.virsh(*START, NAME)
    assert pair.holder(pair.there) == {NAME: mdev(1)}


def test_a_guest_without_definition_leaves_none(pair: Pair) -> None:
    pair.here.virsh("create", "/proc/self/fd/0", stdin=pair.here.xml(NAME, REQUESTED, mdev(1)))
    started = pair.standing()
    assert pair.migrate().returncode == 0
    arrived(pair, started)
    pair.there.virsh("destroy", NAME)
    for env in (pair.here, pair.there):
        assert NAME not in env.virsh("list", "--all", "--name").stdout.split()


def test_a_definition_may_stay(pair: Pair, started: Standing) -> None:
    assert pair.migrate("--keep-definition").returncode == 0
    arrived(pair, started)
    assert NAME in pair.here.virsh("list", "--all", "--name").stdout.split()


def test_again_there_is_nothing_to_do(pair: Pair, started: Standing) -> None:
    assert pair.migrate().returncode == 0
    done = pair.migrate("--json")
    assert (done.returncode, json.loads(done.stdout)["stages"]) == (0, [])
    arrived(pair, started)
    failed(pair.migrate("--back"), THERE, "has its queues there")


def test_the_destination_has_no_queues_for_it(pair: Pair, started: Standing) -> None:
    pair.there.define("owner", REQUESTED, mdev(2))
    pair.there.virsh(*START, "owner")
    before = pair.standing()
    failed(pair.migrate(), Exit.CONFLICT, "the destination refuses: ", "are held by guest owner.")
    assert pair.standing() == before


def test_the_destinations_queues_are_reserved(pair: Pair, started: Standing) -> None:
    pair.there.system.files.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["0a.0001"]\n')
    try:
        failed(pair.migrate(), Exit.POLICY, "0a.0001 is reserved for the host.")
        assert pair.standing() == started
    finally:
        pair.there.system.files.remove("etc/apvfio/apvfio.toml")


def test_the_destination_has_a_namesake(pair: Pair, started: Standing) -> None:
    other = pair.here.xml(NAME, REQUESTED, mdev(3)).replace(
        "<uuid>", "<uuid>11111111-2222-4333-8444-555555555555<!--"
    )
    pair.there.define_xml(NAME, other.replace("</uuid>", "--></uuid>"))
    failed(pair.migrate(), Exit.CONFLICT, "another guest of that name, 11111111-2222-4333-8444-555555555555")
    assert pair.standing() == started


def test_its_queues_there_are_taken_after_the_plan(pair: Pair, started: Standing, tmp_path: Path) -> None:
    thief = tmp_path / "thief.xml"
    thief.write_text(a_letter("thief", REQUESTED, pair.there), encoding="utf-8")
    there = f"{sys.executable} -m apvfio --root {tree(pair.there)}"
    late = tmp_path / "late"
    steals = f'[ "$*" != "incoming --json" ] || {there} incoming <{thief} >/dev/null'
    late.write_text(f'{steals}\nexec {there} "$@"\n', encoding="utf-8")
    failed(pair.migrate(at=f"sh {late}"), Exit.CONFLICT, "are held by guest thief.", STAYS)
    assert pair.standing().here == started.here
    assert leases(pair.there) == {"thief": "held"}
    apvfio(pair.there, "release", "thief")
    assert pair.standing() == started


def test_it_does_not_let_go_of_its_device(pair: Pair, started: Standing) -> None:
    pair.here.run(["touch", "/var/lib/libvirt/stubborn"])
    failed(
        pair.migrate("--timeout", "30"),
        Exit.FAILURE,
        f"did not release its mediated device {mdev(1)} within ",
        STAYS,
    )
    assert pair.standing() == started


@pytest.mark.parametrize("why", ["no way", "no kernel", "another hook"])
def test_the_migration_fails(pair: Pair, why: str) -> None:
    kernel = "/var/lib/libvirt/own-kernel"
    pair.here.run(["cp", "/var/lib/libvirt/idle-kernel", kernel])
    xml = pair.here.xml(NAME, REQUESTED, mdev(1))
    pair.here.define_xml(
        NAME, xml.replace("/var/lib/libvirt/idle-kernel", kernel) if why == "no kernel" else xml
    )
    pair.here.virsh(*START, NAME)
    started = pair.standing()
    if why == "another hook":
        pair.there.run(
            ["sh", "-c", 'printf "#!/bin/sh\\n[ \\$2 != started ]\\n" >"$0"; chmod +x "$0"', hook_name()]
        )
    try:
        done = pair.migrate(way="unix:///nowhere/socket" if why == "no way" else "")
    finally:
        pair.there.run(["rm", "-f", hook_name()])
    said = {"no way": "Failed to bind socket", "no kernel": kernel, "another hook": "90-other"}
    failed(done, Exit.FAILURE, "libvirt refused: ", said[why], STAYS)
    assert pair.standing() == started


def hook_name() -> str:
    return "/etc/libvirt/hooks/qemu.d/90-other"


def test_the_device_cannot_be_plugged_in_there(pair: Pair, started: Standing) -> None:
    """The guest has moved already: it comes back."""
    pair.there.run(["touch", "/var/lib/libvirt/full"])
    failed(pair.migrate(), Exit.FAILURE, "Bus 'ap-bus' is full", STAYS)
    assert pair.standing() == started
    assert NAME not in pair.there.virsh("list", "--all", "--name").stdout.split()
    assert mdev(1) in pair.here.virsh("dumpxml", "--inactive", NAME).stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_is_interrupted_on_its_way(pair: Pair, started: Standing, how: signal.Signals) -> None:
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin()
        eventually(busy.there)
        migration.send_signal(how)
        with pytest.raises(Exception, match="timed out"):
            migration.wait(2)
        out, err = migration.communicate(timeout=60)
        busy.over()
    assert (migration.returncode, out) == (UNCLEAR, ""), err
    assert "it was interrupted" in err
    assert "This host runs it, the destination could not be asked." in err
    eventually(lambda: pair.standing()[2:], (True, False, True, False))
    assert pair.migrate("--back").returncode == 0
    assert pair.standing() == started


def test_it_ends_in_time_though_a_hook_hangs(pair: Pair, started: Standing) -> None:
    """libvirt does not end a migration while a hook at the destination runs; its client has to leave."""
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        begun = time.monotonic()
        migration = pair.begin("--timeout", "18")
        eventually(busy.there)
        out, err = migration.communicate(timeout=60)
        took = time.monotonic() - begun
        busy.over()
    assert (migration.returncode, out) == (UNCLEAR, ""), err
    assert "could not be completed within 18 s" in err
    assert "This host runs it, the destination could not be asked." in err
    assert took < 18 + 6  # with its own start and end, on a busy machine
    eventually(lambda: pair.standing()[2:], (True, False, True, False))


STEPS = ["expect", "unplug", "move", "plug"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_and_given_again(pair: Pair, started: Standing, step: str) -> None:
    pair.dies(step)
    cut_off = pair.standing()
    assert cut_off.runs_here != cut_off.runs_there
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    arrived(pair, started)


@pytest.mark.parametrize("step", STEPS[:-1])
def test_killed_at_each_step_and_brought_back(pair: Pair, started: Standing, step: str) -> None:
    pair.dies(step)
    done = pair.migrate("--back")
    assert (done.returncode, done.stdout) == (0, f"guest {NAME} runs here and has its queues\n"), done.stderr
    assert pair.standing() == started


def test_killed_while_libvirt_moves_it(pair: Pair, started: Standing) -> None:
    """libvirt ends a migration whose client has died: the guest stays, without its device."""
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin()
        eventually(busy.there)
        migration.kill()
        migration.communicate()
        busy.over()
    eventually(lambda: pair.standing()[2:], (True, False, False, False))
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    arrived(pair, started)


@pytest.mark.parametrize("step", ["expect", "unplug", "move"])
def test_killed_and_the_guest_ends(pair: Pair, started: Standing, step: str) -> None:
    """Its end brings home what it has; what waits for it elsewhere comes home with the next reconcile."""
    pair.dies(step)
    for env in (pair.here, pair.there):
        if pair.live(env):
            env.virsh("destroy", NAME)
    assert state(pair.here)[1:] == (0, False)
    if step != "move":
        done = pair.migrate("--back")
        failed(done, NOWHERE, "it is not running. It runs neither here nor at the destination.")
    assert state(pair.there) == started.there


def test_killed_at_the_start_and_the_destination_waits_in_vain(pair: Pair, started: Standing) -> None:
    pair.dies("expect")
    assert pair.holder(pair.there) == {NAME: mdev(1)}
    apvfio(pair.there, "reconcile")
    assert pair.holder(pair.there) == {NAME: mdev(1)}  # it may come yet
    let_grace_pass(pair.there)
    apvfio(pair.there, "reconcile")
    assert pair.standing() == started


def test_killed_and_its_queues_here_are_taken(pair: Pair, started: Standing) -> None:
    """It runs there without its device until its queues are to be had, at either place."""
    pair.dies("move")
    pair.here.define("thief", REQUESTED, mdev(2))
    pair.here.virsh(*START, "thief")
    pair.there.run(["touch", "/var/lib/libvirt/full"])
    before = pair.standing()
    failed(pair.migrate("--back"), THERE_WITHOUT, "are held by guest thief.")
    failed(pair.migrate(), THERE_WITHOUT, "Bus 'ap-bus' is full")
    assert pair.standing() == before
    pair.here.virsh("destroy", "thief")
    done = pair.migrate("--back")
    assert (done.returncode, pair.standing()) == (0, started), done.stderr


def test_the_queues_here_cannot_come_home(pair: Pair, started: Standing) -> None:
    """Another apvfio does not come to its end: the guest has moved all the same."""
    pair.here.system.files.write(POLICY, "[time]\nlock-wait = 1")
    try:
        with holding_our_lock(pair.here):
            done = pair.migrate()
        failed(done, THERE, "was held by pid", "It runs at the destination with its queues.")
        assert leases(pair.here) == {NAME: "held"}
        done = pair.migrate("--json")
        assert json.loads(done.stdout)["done"] == ["return"]
        arrived(pair, started)
    finally:
        pair.here.system.files.remove(POLICY)


def test_two_at_once(pair: Pair, started: Standing) -> None:
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        first = pair.begin()
        eventually(busy.there)
        second = pair.migrate()
        assert second.returncode == HERE_WITHOUT, second
        assert "was held by pid" in second.stderr
        busy.over()
        assert first.communicate(timeout=60)[1] != ""
    assert first.returncode == 0
    arrived(pair, started)


def test_libvirt_alone_cannot_do_it(pair: Pair, started: Standing) -> None:
    """Whoever unplugs the device and migrates by hand is told by the hook at the destination."""
    pair.here.virsh("detach-device", "--live", NAME, "/proc/self/fd/0", stdin=device())
    eventually(lambda: pair.standing().device_here, False)
    done = pair.virsh("migrate", "--live", NAME, uri(pair.there), "--migrateuri", pair.way())
    assert "it requests AP queues but has no mediated device" in done.stderr
    done = pair.migrate("--back")
    assert (done.returncode, pair.standing()) == (0, started), done.stderr


def device() -> str:
    source = f"<source><address uuid='{mdev(1)}'/></source>"
    return f"<hostdev mode='subsystem' type='mdev' model='vfio-ap'>{source}</hostdev>"


def test_other_queues_than_it_has(pair: Pair) -> None:
    """A guest that asks by property gets whatever is alike."""
    xml = pair.here.xml(NAME, REQUESTED, mdev(1))
    requested = '<ap:any mode="ep11" adapters="1" domains="1"/>'
    pair.here.define_xml(NAME, xml.replace('<ap:matrix adapters="0,10" domains="1-2"/>', requested))
    pair.there.define("owner", a_matrix("10", "1"), mdev(2))
    pair.there.virsh(*START, "owner")
    pair.here.virsh(*START, NAME)
    assert state(pair.here).host.mdevs[mdev(1)] == a_matrix("10", "1")
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    assert state(pair.there).host.mdevs[mdev(1)].overlap(a_matrix("10", "1")).empty
    pair.there.virsh("destroy", "owner")


def test_adapters_of_several_kinds(pair: Pair) -> None:
    """At the destination each kind is served by an adapter of its mode, in a domain that is free for both."""
    xml = pair.here.xml(NAME, REQUESTED, mdev(1))
    kinds = '<ap:cards mode="accel" adapters="1"/><ap:cards mode="ep11" adapters="1"/>'
    requested = f'<ap:any domains="1" control-domains="usage">{kinds}</ap:any>'
    pair.here.define_xml(NAME, xml.replace('<ap:matrix adapters="0,10" domains="1-2"/>', requested))
    pair.there.define("owner", a_matrix("10", "1"), mdev(2))
    pair.there.virsh(*START, "owner")
    pair.here.virsh(*START, NAME)
    assert state(pair.here).host.mdevs[mdev(1)] == Matrix(IdSet([0, 10]), IdSet([1]), IdSet([1]))
    done = pair.migrate()
    assert done.returncode == 0, done.stderr
    arrived = state(pair.there).host.mdevs[mdev(1)]
    assert (arrived.adapters, arrived.control_domains) == (IdSet([0, 10]), arrived.domains)
    assert arrived.overlap(a_matrix("10", "1")).empty
    assert "its annotation does not ask for them" not in done.stderr
    pair.there.virsh("destroy", "owner")


def test_no_kernel_takes_its_device_along(pair: Pair, started: Standing) -> None:
    """Only a draft does: whoever insists is refused, others are told why the queues are unplugged."""
    why = "this host has no migratable in /sys/devices/vfio_ap/matrix/features"
    failed(pair.migrate("--by-kernel", "only"), Exit.HOST, f"{why}.")
    assert pair.standing() == started
    done = pair.migrate("--by-kernel", "auto")
    assert (done.returncode, f"queues are unplugged for the move: {why}\n" in done.stderr) == (0, True), done
    arrived(pair, started)
