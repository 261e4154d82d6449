# SPDX-License-Identifier: Apache-2.0
"""What `virsh start` and `virsh destroy` must do, the same on a simulated host and on real drivers.

Each tier has a fixture ``env`` of its own and inherits the cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from apvfio.kernel.snapshot import read_guest_queues, read_host
from apvfio.model.host import Host
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.store.ledger_file import load
from hosts import a_matrix, mdev

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from apvfio.kernel.seam import System


class GuestEnv(Protocol):
    """A libvirt daemon with our hook, and the host it runs on: IBM's example, 3 adapters x 4 domains."""

    @property
    def system(self) -> System:
        """What goes between us and that host."""

    def virsh(self, *words: str, check: bool = True) -> CompletedProcess[str]:
        """Run virsh; with ``check`` a failure fails the test."""

    def define(self, name: str, requested: Matrix | None, device: str | None) -> None:
        """Define a small guest with an annotation for ``requested`` and a vfio-ap hostdev of that uuid."""


class State(NamedTuple):
    """All of a host that a guest start can change."""

    host: Host
    leases: int
    pending: bool


def state(env: GuestEnv) -> State:
    """The host and the ledger as they are now."""
    host = read_host(env.system.sysfs)
    ledger = load(env.system.files, env.system.boot_id)
    return State(host, len(ledger.leases), bool(ledger.pending))


def with_driver(host: Host, driver: str) -> set[str]:
    """The names of the queues bound to ``driver``."""
    return {str(queue) for queue, bound in host.drivers.items() if bound == driver}


class Lifecycle:
    """The cases."""

    def start_refused(self, env: GuestEnv, name: str, *says: str) -> None:
        """Start a guest that must not start: virsh's user reads why, and nothing has changed."""
        before = state(env)
        answer = env.virsh("start", "--paused", name, check=False)
        assert answer.returncode == 1
        for text in says:
            assert text in answer.stderr
        assert "Traceback" not in answer.stderr
        assert state(env) == before
        assert name not in env.virsh("list", "--name").stdout.split()

    @pytest.mark.essential
    def test_ibms_guest_gets_its_queues_and_returns_them(self, env: GuestEnv) -> None:
        before = state(env)
        assert len(with_driver(before.host, "cex4queue")) == 12
        requested = Matrix(parse_list("0,0xa"), parse_list("1,2,4"), parse_list("1,2,4"))
        env.define("ibm", requested, mdev(1))
        env.virsh("start", "--paused", "ibm")

        running = state(env)
        assert running.host.mdevs == {mdev(1): requested}
        assert read_guest_queues(env.system.sysfs, mdev(1), requested) == set(requested.queues())
        collateral = {"00.001b", "0a.001b"}
        assert (
            with_driver(running.host, "vfio_ap") == {str(queue) for queue in requested.queues()} | collateral
        )
        assert with_driver(running.host, "cex4queue") == {"01.0001", "01.0002", "01.0004", "01.001b"}
        assert (running.leases, running.pending) == (1, True)

        env.virsh("destroy", "ibm")
        assert state(env) == before

    def test_a_guest_without_annotation_is_left_alone(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("plain", None, None)
        env.virsh("start", "--paused", "plain")
        assert state(env) == before
        env.virsh("destroy", "plain")
        assert state(env) == before

    @pytest.mark.essential
    def test_a_guest_whose_queues_are_taken_does_not_start(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("first", a_matrix("0", "1-2"), mdev(1))
        env.define("second", a_matrix("0-1", "2"), mdev(2))
        env.virsh("start", "--paused", "first")
        self.start_refused(env, "second", "guest second: 00.0002 is held by guest first. Stop that guest")
        env.virsh("destroy", "first")
        assert state(env) == before

    @pytest.mark.essential
    def test_neighbours_overlap_in_time(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("left", a_matrix("1", "1"), mdev(1))
        env.define("right", a_matrix("1", "2"), mdev(2))
        env.virsh("start", "--paused", "left")
        env.virsh("start", "--paused", "right")
        both = state(env).host
        assert both.mdevs == {mdev(1): a_matrix("1", "1"), mdev(2): a_matrix("1", "2")}
        assert {"01.0001", "01.0002"} <= with_driver(both, "vfio_ap")
        assert Apqn(1, 27) in both.drivers

        env.virsh("destroy", "left")
        alone = state(env).host
        assert alone.mdevs == {mdev(2): a_matrix("1", "2")}
        assert "01.0002" in with_driver(alone, "vfio_ap")

        env.virsh("destroy", "right")
        assert state(env) == before

    def test_a_second_guest_with_the_same_device_leaves_the_first_alone(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("owner", a_matrix("10", "4"), mdev(1))
        env.define("thief", a_matrix("10", "4"), mdev(1))
        env.virsh("start", "--paused", "owner")
        self.start_refused(env, "thief", f"the mediated device {mdev(1)} is held by guest owner")
        env.virsh("destroy", "owner")
        assert state(env) == before

    def test_bad_requests_stop_the_start_with_a_sentence(self, env: GuestEnv) -> None:
        env.define("odd", a_matrix("5", "1"), mdev(1))
        self.start_refused(env, "odd", "guest odd: this host has no adapter 5 (0x5); it has 0-1,10.")
        env.define("bare", a_matrix("0", "1"), None)
        self.start_refused(env, "bare", "guest bare: it requests AP queues but has no mediated device.")

    @pytest.mark.essential
    def test_a_guest_can_start_again_and_again(self, env: GuestEnv) -> None:
        before = state(env)
        env.define("again", Matrix(parse_list("1"), parse_list("0x1b"), NO_IDS), mdev(3))
        for _ in range(2):
            env.virsh("start", "--paused", "again")
            assert state(env).host.mdevs == {mdev(3): a_matrix("1", "27")}
            env.virsh("destroy", "again")
            assert state(env) == before
