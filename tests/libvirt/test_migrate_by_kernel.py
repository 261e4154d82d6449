# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate --by-kernel`` between two real libvirt daemons; the hosts, with the draft, are simulated.

libvirt and QEMU migrate the guest with its device in its configuration. That the device is there, and that
its state travels, is played: QEMU does not know of it (`ap_monitor`), and no kernel is asked for its state.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from ap_monitor import BLOCKED, REASON
from apvfio.migration.places import EXIT_CODES, THERE
from apvfio.model.errors import Exit
from apvfio.store.policy_file import POLICY
from daemon_env import (
    HOOKS,
    REQUESTED,
    START,
    eventually,
    holding_our_lock,
    hook_that_is_slow,
    let_grace_pass,
)
from hosts import a_matrix, mdev
from json_schema import require
from lifecycle_cases import state
from migration_env import NAME, Pair, Standing, tree, uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from lab_env import LabEnv

ONLY, AUTO = ("--by-kernel", "only"), ("--by-kernel", "auto")
STAYS = "Nothing is held for it at the destination. It runs here with its queues."
HELD_STILL = f"masks and overrides cannot be changed while the kernel migrates guest {NAME} (process "
BY_CRITERIA = '<ap:any mode="ep11" adapters="1" domains="1"/>'


@pytest.fixture
def pair(two_draft_labs: Pair) -> Iterator[Pair]:
    """Two hosts on which all comes home in the end."""
    before = two_draft_labs.standing()
    yield two_draft_labs
    two_draft_labs.recover()
    assert two_draft_labs.standing() == before


def arrived(pair: Pair, started: Standing) -> None:
    """See that the guest is there, with its queues, and nothing of it is here."""
    found = pair.standing()
    assert (found.runs_here, found.runs_there, found.device_there) == (False, True, True)
    assert (found.there, found.here.leases, found.here.pending) == (started.here, 0, False)
    assert found.here.host == started.there.host


def failed(done: CompletedProcess[str], code: int, *says: str) -> None:
    """See a migration fail, and say why."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    text = done.stderr.splitlines()[-1]
    assert all(part in text for part in says), text


def masks(env: LabEnv) -> CompletedProcess[str]:
    """Try to change a mask at ``env``."""
    return Pair.run(["--root", tree(env), "masks", "--yes", "apmask=-1"])


def test_there_and_back_again(pair: Pair, started: Standing) -> None:
    done = pair.migrate(*ONLY, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    require("migration", said)
    assert said["done"] == ["expect-same", "move-by-kernel", "return"]
    assert (said["by_kernel"], said["why_unplugged"]) == (True, None)
    arrived(pair, started)
    assert NAME not in pair.here.virsh("list", "--all", "--name").stdout.split()
    done = pair.migrate(*ONLY, back=True)
    assert (done.returncode, done.stdout) == (
        0,
        f"guest {NAME} runs at {uri(pair.here)} and has its queues\n",
    )
    assert pair.standing() == started
    pair.here.virsh("destroy", NAME)
    assert state(pair.here)[1:] == (0, False)


def test_what_would_be_done(pair: Pair, started: Standing) -> None:
    done = pair.migrate(*ONLY, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "both hosts refuse changes of masks and overrides\n" in done.stdout
    assert "unplug" not in done.stdout
    assert pair.standing() == started


def test_without_the_option_it_is_unplugged(pair: Pair, started: Standing) -> None:
    said = json.loads(pair.migrate("--json").stdout)
    assert "unplug" in said["done"]
    assert (said["by_kernel"], said["why_unplugged"]) == (False, "--by-kernel was not given")
    arrived(pair, started)


def test_qemu_is_asked_and_libvirt_notes_it(pair: Pair, started: Standing) -> None:
    tainted = "custom monitor control commands issued"
    assert tainted not in pair.here.virsh("dominfo", NAME).stdout
    assert pair.migrate(*ONLY, "--dry-run").returncode == 0
    assert tainted in pair.here.virsh("dominfo", NAME).stdout
    assert pair.standing() == started


def test_qemu_names_a_reason(pair: Pair, started: Standing) -> None:
    pair.here.run(["touch", BLOCKED])
    failed(pair.migrate(*ONLY), Exit.HOST, f"QEMU cannot migrate it now: {REASON}.")
    assert pair.standing() == started
    done = pair.migrate(*AUTO)
    assert done.returncode == 0, done.stderr
    assert f"guest {NAME}: queues are unplugged for the move: QEMU cannot migrate it now: {REASON}\n" in (
        done.stderr
    )
    arrived(pair, started)


def test_one_that_chooses_keeps_what_it_has(pair: Pair) -> None:
    """Its criteria would be met by other queues there; for the kernel they must be the same."""
    xml = pair.here.xml(NAME, REQUESTED, mdev(1))
    pair.here.define_xml(NAME, xml.replace('<ap:matrix adapters="0,10" domains="1-2"/>', BY_CRITERIA))
    pair.here.define("owner", a_matrix("10", "1"), mdev(2))
    pair.here.virsh(*START, "owner")
    pair.here.virsh(*START, NAME)
    mine = state(pair.here).host.mdevs[mdev(1)]
    pair.here.virsh("destroy", "owner")
    done = pair.migrate(*ONLY)
    assert done.returncode == 0, done.stderr
    assert mine.overlap(a_matrix("10", "1")).empty
    assert state(pair.there).host.mdevs == {mdev(1): mine}
    assert pair.migrate(*ONLY, back=True).returncode == 0


def test_the_very_same_queues_are_not_to_be_had(pair: Pair, started: Standing) -> None:
    pair.there.define("owner", REQUESTED, mdev(2))
    pair.there.virsh(*START, "owner")
    before = pair.standing()
    failed(pair.migrate(*ONLY), Exit.CONFLICT, "the destination refuses: ")
    done = pair.migrate(*AUTO)  # nor are they without the kernel
    failed(done, Exit.CONFLICT, "the destination refuses: ", "are held by guest owner.")
    assert pair.standing() == before
    pair.there.virsh("destroy", "owner")


def test_others_are_to_be_had_without_the_kernel(pair: Pair) -> None:
    """A guest that requests by criteria is unplugged then, if that is allowed."""
    xml = pair.here.xml(NAME, REQUESTED, mdev(1))
    pair.here.define_xml(NAME, xml.replace('<ap:matrix adapters="0,10" domains="1-2"/>', BY_CRITERIA))
    pair.here.virsh(*START, NAME)
    mine = state(pair.here).host.mdevs[mdev(1)]
    pair.there.define("owner", mine, mdev(2))
    pair.there.virsh(*START, "owner")
    failed(pair.migrate(*ONLY), Exit.CONFLICT, "the destination refuses: ")
    done = pair.migrate(*AUTO)
    assert done.returncode == 0, done.stderr
    assert f"guest {NAME}: queues are unplugged for the move: the destination refuses: " in done.stderr
    assert state(pair.there).host.mdevs[mdev(1)].overlap(mine).empty


def test_they_are_reserved_there(pair: Pair, started: Standing) -> None:
    pair.there.system.files.write(POLICY, '[reserve]\nqueues = ["0a.0001"]\n')
    try:
        failed(pair.migrate(*ONLY), Exit.POLICY, "0a.0001 is reserved for the host.")
        assert pair.standing() == started
    finally:
        pair.there.system.files.remove(POLICY)


@pytest.mark.parametrize("why", ["no way", "another hook", "a thief"])
def test_the_move_fails(pair: Pair, started: Standing, why: str) -> None:
    """The guest keeps its device all the time, and nothing is held still afterwards."""
    other = f"{HOOKS}/10-other"
    unassigned = f"echo 2 >/sys/devices/vfio_ap/matrix/{mdev(1)}/unassign_domain"
    text = {"another hook": "[ $2 != started ]", "a thief": f"[ $2 != prepare ] || {unassigned}"}.get(why)
    if text:
        script = f'printf "#!/bin/sh\\n%s\\n" "$1" >{other}; chmod +x {other}'
        pair.there.run(["sh", "-c", script, "sh", text])
        pair.there.reload_daemon()
    try:
        done = pair.migrate(*ONLY, way="unix:///nowhere/socket" if why == "no way" else "")
    finally:
        pair.there.run(["rm", "-f", other])
    said = {
        "no way": "Failed to bind socket",
        "another hook": "10-other",
        "a thief": f"its mediated device {mdev(1)} does not have what it has on its other host.",
    }
    failed(done, Exit.FAILURE, "libvirt refused: ", said[why], STAYS)
    assert pair.standing() == started
    for env in (pair.here, pair.there):
        assert masks(env).returncode == 0
        assert Pair.run(["--root", tree(env), "masks", "--yes", "apmask=+1"]).returncode == 0


def test_masks_are_held_still_on_both_hosts(pair: Pair, started: Standing) -> None:
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin(*ONLY)
        eventually(busy.there)
        for env in (pair.here, pair.there):
            done = masks(env)
            assert (done.returncode, done.stdout) == (Exit.CONFLICT, ""), done
            assert HELD_STILL in done.stderr
        busy.over()
        out, err = migration.communicate(timeout=60)
    assert migration.returncode == 0, out + err
    arrived(pair, started)
    assert masks(pair.there).returncode == 0
    assert Pair.run(["--root", tree(pair.there), "masks", "--yes", "apmask=+1"]).returncode == 0


def test_it_is_interrupted_on_its_way(pair: Pair, started: Standing) -> None:
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin(*ONLY)
        eventually(busy.there)
        migration.send_signal(signal.SIGINT)
        with pytest.raises(Exception, match="timed out"):
            migration.wait(2)
        _, err = migration.communicate(timeout=60)
        busy.over()
    assert "it was interrupted" in err
    eventually(lambda: pair.standing()[2:], (True, False, True, False))
    assert pair.migrate("--back").returncode == 0
    assert pair.standing() == started


STEPS = ["expect-same", "move-by-kernel"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_and_given_again(pair: Pair, started: Standing, step: str) -> None:
    pair.dies(step, "after", *ONLY)
    cut_off = pair.standing()
    assert cut_off.runs_here != cut_off.runs_there
    assert cut_off.device_here or cut_off.device_there
    done = pair.migrate(*ONLY)
    assert done.returncode == 0, done.stderr
    arrived(pair, started)


def test_killed_at_the_start_and_brought_back(pair: Pair, started: Standing) -> None:
    pair.dies("expect-same", "after", *ONLY)
    assert pair.holder(pair.there) == {NAME: mdev(1)}
    done = pair.migrate("--back")
    assert (done.returncode, done.stdout) == (0, f"guest {NAME} runs here and has its queues\n"), done.stderr
    assert pair.standing() == started
    assert masks(pair.here).returncode == 0
    assert Pair.run(["--root", tree(pair.here), "masks", "--yes", "apmask=+1"]).returncode == 0


def test_killed_at_the_start_and_the_destination_waits_in_vain(pair: Pair, started: Standing) -> None:
    """The process there ends with this one: masks may change, and a reconcile returns what is not fetched."""
    pair.dies("expect-same", "after", *ONLY)
    eventually(lambda: masks(pair.there).returncode, 0)
    assert Pair.run(["--root", tree(pair.there), "masks", "--yes", "apmask=+1"]).returncode == 0
    let_grace_pass(pair.there)
    assert pair.there.apvfio("reconcile").returncode == 0
    assert pair.standing() == started


def test_killed_while_libvirt_moves_it(pair: Pair, started: Standing) -> None:
    """libvirt ends a migration whose client has died: the guest stays, with its device."""
    with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
        migration = pair.begin(*ONLY)
        eventually(busy.there)
        migration.kill()
        migration.communicate()
        busy.over()
    eventually(lambda: pair.standing()[2:], (True, False, True, False))
    done = pair.migrate(*ONLY)
    assert done.returncode == 0, done.stderr
    arrived(pair, started)


def test_the_queues_here_cannot_come_home(pair: Pair, started: Standing) -> None:
    """It has arrived with its queues: it does not come back for what fails here."""
    pair.here.system.files.write(POLICY, "[time]\nlock-wait = 1")
    try:
        with hook_that_is_slow(pair.there, "90-slow", "prepare") as busy:
            migration = pair.begin(*ONLY)
            eventually(busy.there)
            with holding_our_lock(pair.here):
                busy.over()
                out, err = migration.communicate(timeout=60)
        assert (migration.returncode, out) == (EXIT_CODES[THERE], ""), err
        assert "It runs at the destination with its queues." in err
        done = pair.migrate(*ONLY, "--json")
        assert json.loads(done.stdout)["done"] == ["return"]
        arrived(pair, started)
    finally:
        pair.here.system.files.remove(POLICY)


def test_a_definition_may_stay(pair: Pair, started: Standing) -> None:
    done = pair.migrate(*ONLY, "--keep-definition")
    assert done.returncode == 0, done.stderr
    arrived(pair, started)
    assert NAME in pair.here.virsh("list", "--all", "--name").stdout.split()
