# SPDX-License-Identifier: Apache-2.0
"""Migrations in which a process dies, hangs or is interrupted, or the link is cut, at a random moment.

Each ends with an exit code that says where the guest is, and the same command, or ``--back``, brings it to
an end within its time. Both hosts have a network of their own, and a watcher asks both QEMUs all the time
whether the guest's processors run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from apvfio.migration.places import BOTH, EXIT_CODES, HERE_WITHOUT, NOWHERE, THERE, THERE_WITHOUT, UNCLEAR
from cluster.switch import Switch
from cluster.watching import Watcher, have_watched
from daemon_env import REQUESTED
from hosts import mdev
from lab.namespace import environment
from migration_env import NAME, Pair, Standing, tree, uri
from migration_ssh import Ssh, children, in_network, missing, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LIMIT = 40
"""Seconds that a command may take."""
GRACE = 8
"""Seconds more for the interpreter's start and end on a busy machine."""
QEMU = "qemu-system-s390x"
SLOW = 4.0
"""Within so many seconds of its start a migration is struck."""


class Blow(NamedTuple):
    """What strikes a migration."""

    victim: str
    number: int
    """The signal; 0 for the link, which gets none."""
    after: float

    def __str__(self) -> str:
        what = f"{signal.Signals(self.number).name} to" if self.number else "cut of"
        return f"{what} {self.victim} after {self.after:.2f} s"


VICTIMS = {
    "migrate": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    "group of migrate": (signal.SIGINT, signal.SIGKILL),
    "transfer": (signal.SIGKILL, signal.SIGSTOP),
    "incoming": (signal.SIGKILL, signal.SIGSTOP),
    "libvirtd here": (signal.SIGKILL, signal.SIGSTOP),
    "libvirtd there": (signal.SIGKILL, signal.SIGSTOP),
    "qemu here": (signal.SIGKILL, signal.SIGSTOP),
    "qemu there": (signal.SIGKILL, signal.SIGSTOP),
    "ssh": (signal.SIGKILL, signal.SIGSTOP),
    "sshd": (signal.SIGKILL, signal.SIGSTOP),
    "link": (0,),
}


def blow(seed: int) -> Blow:
    choice = random.Random(seed)
    victim = choice.choice(sorted(VICTIMS))
    return Blow(victim, choice.choice(VICTIMS[victim]), choice.uniform(0.2, SLOW))


ADDRESS = {"here": "10.78.0.1", "there": "10.78.0.2"}
SWITCH = "10.78.0.254"


class Way(NamedTuple):
    """The way between the two hosts, and who looks at both."""

    switch: Switch
    ssh: Ssh
    watcher: Watcher


@pytest.fixture(scope="module")
def way(two_labs: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with connected(two_labs, tmp_path_factory) as way:
        yield way


@pytest.fixture(scope="module")
def draft_way(two_draft_labs: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """The same between hosts whose kernels have the draft of live migration."""
    with connected(two_draft_labs, tmp_path_factory) as way:
        yield way


@contextmanager
def connected(labs: Pair, directories: pytest.TempPathFactory) -> Iterator[Way]:
    """Two hosts connected, and watched."""
    if reason := missing():
        pytest.skip(reason)
    watched = directories.mktemp("watched")
    with Switch(SWITCH) as switch, Watcher(watched) as watcher:
        for name, env in (("here", labs.here), ("there", labs.there)):
            switch.plug(name, env.lab.network, ADDRESS[name])
            have_watched(env.lab, name, watched)
        with Ssh(directories.mktemp("ssh"), ADDRESS["there"], labs.there.lab.network) as ssh:
            yield Way(switch, ssh, watcher)
    assert watcher.looks().rate > 3, "too few looks to tell"


@pytest.fixture
def pair(two_labs: Pair, way: Way) -> Iterator[Pair]:
    with recovered(two_labs, way):
        yield two_labs


@pytest.fixture
def draft_pair(two_draft_labs: Pair, draft_way: Way) -> Iterator[Pair]:
    """Hosts whose kernels have the draft of live migration."""
    with recovered(two_draft_labs, draft_way):
        yield two_draft_labs


@contextmanager
def recovered(labs: Pair, way: Way) -> Iterator[None]:
    """Two hosts on which all comes home in the end."""
    way.switch.mend("there")
    before = labs.standing()
    yield
    way.switch.mend("there")
    labs.recover()
    assert labs.standing() == before


def words(pair: Pair, ssh: Ssh, *more: str) -> list[str]:
    return [
        *in_network(pair.here.lab.network),
        *(sys.executable, "-m", "apvfio", "--root", tree(pair.here), "migrate", "--connect", uri(pair.here)),
        *(
            "--at",
            ssh.at(pair.there),
            "--migrate-uri",
            f"tcp://{ADDRESS['there']}",
            "--back-uri",
            f"tcp://{ADDRESS['here']}",
        ),
        *("--timeout", str(LIMIT), NAME, ssh.uri(pair.there), *more),
    ]


def begin(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


class Strike:
    """Strikes once, and puts in order what it stopped, killed or cut."""

    def __init__(self, pair: Pair, way: Way, process: subprocess.Popen[str]) -> None:
        self._pair, self._way, self._ssh, self._process = pair, way, way.ssh, process
        self._stopped: list[int] = []

    def __call__(self, blow: Blow, choice: random.Random) -> bool:
        """Whether there was such a process."""
        if blow.victim == "group of migrate":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, blow.number)
                return True
            return False
        if blow.victim == "link":
            self._way.switch.cut("there")
            return True
        pids = self._victims(blow.victim)
        if pids:
            pid = choice.choice(pids)
            send(pid, blow.number)
            if blow.number == signal.SIGSTOP:
                self._stopped.append(pid)
        return bool(pids)

    def _victims(self, name: str) -> list[int]:
        here, there, ssh = self._pair.here, self._pair.there, self._ssh
        found: dict[str, Callable[[], list[int]]] = {
            "migrate": lambda: [self._process.pid],
            "transfer": lambda: children(self._process.pid)[:2],
            "incoming": lambda: ssh.incoming(there),
            "libvirtd here": lambda: here.lab.pids("libvirtd"),
            "libvirtd there": lambda: there.lab.pids("libvirtd"),
            "qemu here": lambda: here.lab.pids(QEMU),
            "qemu there": lambda: there.lab.pids(QEMU),
            "ssh": ssh.clients,
            "sshd": ssh.sessions,
        }
        return found[name]()

    def over(self) -> None:
        """Let what was stopped go on, mend the link, and start a daemon that was killed."""
        self._way.switch.mend("there")
        for pid in self._stopped:
            send(pid, signal.SIGCONT)
        for env in (self._pair.here, self._pair.there):
            env.start_daemon()  # unless it runs


def place(seen: Standing) -> tuple[str, bool | None]:
    if seen.runs_here and seen.runs_there:
        return "both", None
    if seen.runs_here:
        return "here", seen.device_here
    if seen.runs_there:
        return "there", seen.device_there
    return "nowhere", None


MEANS = {
    0: ("there", True),
    EXIT_CODES[HERE_WITHOUT]: ("here", False),
    EXIT_CODES[THERE]: ("there", True),
    EXIT_CODES[THERE_WITHOUT]: ("there", False),
    EXIT_CODES[BOTH]: ("both", None),
    EXIT_CODES[NOWHERE]: ("nowhere", None),
}


def trial(pair: Pair, way: Way, seed: int, *more: str) -> str:
    """One migration that is struck, and the command that follows; what came of it, in words."""
    struck, ssh, since = blow(seed), way.ssh, time.time()
    pair.here.define_xml(NAME, pair.here.xml(NAME, REQUESTED, mdev(1)))
    pair.here.virsh("start", NAME)
    begun = time.monotonic()
    process = begin(words(pair, ssh, *more))
    strike = Strike(pair, way, process)
    try:
        time.sleep(struck.after)
        hit = process.poll() is None and strike(struck, random.Random(seed))
        _, err = process.communicate(timeout=LIMIT + GRACE - (time.monotonic() - begun))
        took = time.monotonic() - begun
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        strike.over()
    code = process.returncode
    story = f"seed {seed}: {struck}{'' if hit else ' (missed)'}: {told(code, took, err)}"
    print(story)
    settled(pair)
    seen = pair.standing()
    if code >= 0 and code != EXIT_CODES[UNCLEAR]:
        meant = MEANS.get(code, ("here", True))
        # A QEMU that is killed may have died after the command had looked.
        if not struck.victim.startswith("qemu"):
            assert place(seen) == meant, story
    back = ["--back"] if seed % 2 else []
    begun = time.monotonic()
    again = begin(words(pair, ssh, *more, *back))
    _, err = again.communicate(timeout=LIMIT + GRACE)
    code = again.returncode
    story += f"\n   then {' '.join(back) or 'again'}: {told(code, time.monotonic() - begun, err)}"
    print(story)
    end = place(pair.standing())
    unfinished = [EXIT_CODES[place] for place in (UNCLEAR, HERE_WITHOUT, THERE_WITHOUT)]
    assert code not in unfinished, story
    if code == 0:
        assert end == (("here", True) if back else ("there", True)), story
    else:
        assert end == MEANS.get(code, ("here", True)), story
    assert way.watcher.twice(since) == [], story
    return story


def told(code: int, took: float, err: str) -> str:
    """How a command ended: its last line is the error."""
    return f"code {code} after {took:.1f} s: {(err.strip().splitlines() or [''])[-1]}"


def settled(pair: Pair) -> None:
    """Wait until libvirt has come to an end with a migration."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        first = place(pair.standing())
        time.sleep(0.5)
        if first[0] != "both" and place(pair.standing()) == first:
            return


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_struck_at_random(pair: Pair, way: Way, seed: int) -> None:
    trial(pair, way, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_struck_at_random_by_the_kernel(draft_pair: Pair, draft_way: Way, seed: int) -> None:
    """The kernel takes the device along."""
    trial(draft_pair, draft_way, seed, "--by-kernel", "only")
