# SPDX-License-Identifier: Apache-2.0
"""The module over ssh, on two hosts with a real libvirtd each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import migration_ssh
from ansible_env import Play, command, missing
from apvfio.model.errors import HostError
from lab.hook import hook_script
from lab.lab import Lab
from migration_env import Pair, tree, uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WANTING = missing() or migration_ssh.missing()
pytestmark = [pytest.mark.slow, pytest.mark.libvirt, pytest.mark.skipif(bool(WANTING), reason=WANTING)]
HOSTS = ("host1", "host2")
NAME = "db1"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Two hosts that know the guest, which requests nothing yet."""
    try:
        with Lab(hook_script()) as here, Lab(hook_script()) as there:
            made = Pair(here, there)
            for env in (made.here, made.there):
                env.define(NAME, None, None)
            yield made
            made.clean()
            made.end()
    except HostError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def play(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    directory = tmp_path_factory.mktemp("play")
    keys = tmp_path_factory.mktemp("ssh")
    with migration_ssh.Ssh(keys) as ssh:
        hosts = {
            name: ssh.inventory() | {"apvfio": str(_apvfio(directory / name, tree(env), uri(env)))}
            for name, env in zip(HOSTS, (pair.here, pair.there))
        }
        yield Play(directory, hosts)


def _apvfio(path: Path, root: str, libvirt: str) -> Path:
    return command(path, "--root", root, "--connect", libvirt)


def changed(play: Play, *words: str, **params: object) -> list[bool]:
    """Run the module; on which host something changed."""
    found = play.run("apvfio_guest", *words, name=NAME, **params)
    assert not any(result.get("failed") for result in found.values()), found
    return [bool(found[name]["changed"]) for name in HOSTS]


def test_the_definition_of_a_guest(pair: Pair, play: Play) -> None:
    """Previewed, written, not written again, removed, and not removed again."""
    before = [env.virsh("dumpxml", NAME).stdout for env in (pair.here, pair.there)]
    wanted = {"adapters": "0,0xa", "domains": "1-2"}
    assert changed(play, "--check", "--diff", **wanted) == [True, True]
    assert [env.virsh("dumpxml", NAME).stdout for env in (pair.here, pair.there)] == before
    assert changed(play, **wanted) == [True, True]
    for env in (pair.here, pair.there):
        xml = env.virsh("dumpxml", NAME).stdout.replace("'", '"')
        assert '<ap:matrix adapters="0,10" domains="1-2"/>' in xml
        assert "<hostdev" in xml
    assert changed(play, **wanted) == [False, False]
    assert changed(play, "--check", state="absent") == [True, True]
    assert changed(play, state="absent") == [True, True]
    assert [env.virsh("dumpxml", NAME).stdout for env in (pair.here, pair.there)] == before
    assert changed(play, state="absent") == [False, False]


def test_a_running_guest(pair: Pair, play: Play) -> None:
    """It gets queues, other queues, and none, on the one host where it runs; the other one says so."""
    pair.here.virsh("start", "--paused", NAME)
    wanted = {"adapters": "0", "domains": "1", "scope": ["live", "config"]}

    def changes(*words: str, **params: object) -> bool:
        found = play.run("apvfio_guest", *words, name=NAME, **params)
        assert "does not run" in found["host2"]["msg"]
        assert "failed" not in found["host1"] or not found["host1"]["failed"], found
        return bool(found["host1"]["changed"])

    for given in (wanted, {**wanted, "domains": "1-2"}, {**wanted, "control_domains": "1"}):
        assert changes("--check", **given)
        assert changes(**given)
        assert not changes(**given)
    assert set(pair.holder(pair.here)) == {NAME}
    gone = {"state": "absent", "scope": ["live", "config"]}
    assert changes("--check", **gone)
    assert set(pair.holder(pair.here)) == {NAME}
    assert changes(**gone)
    assert not changes(**gone)
    assert not pair.holder(pair.here)
