# SPDX-License-Identifier: Apache-2.0
"""The administrator's policy file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError, ConflictError, Exit, HostError, RequestError
from apvfio.model.matrix import Apqn
from apvfio.model.policy import REFUSE, WARN, Busy, Keep, Policy, Times
from apvfio.store.locks import OWN_LOCK, WAIT, own_lock
from apvfio.store.policy_file import POLICY, parse_policy, read_times
from apvfio.store.system import RealSystem
from hosts import a_request, guest, mdev
from memory_host import Machine


def test_no_file_reserves_nothing() -> None:
    assert parse_policy(None) == Policy() == parse_policy("")
    assert not Policy().reserves(Apqn(0, 0))


def test_queues_adapters_and_domains() -> None:
    policy = parse_policy('[reserve]\nqueues = ["01.001b"]\nadapters = "0xa"\ndomains = "80-84"\n')
    reserved = [Apqn(1, 27), Apqn(10, 0), Apqn(3, 84)]
    assert all(policy.reserves(queue) for queue in reserved)
    assert not policy.reserves(Apqn(1, 28))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reserve = 1", "not a table"),
        ("[reserve", "not valid TOML"),
        ("[reserved]\n", "'reserved', did you mean reserve?"),
        ("[reserve]\nqueue = []", "'queue', did you mean queues?"),
        ("[zzz]\n", "known are mechanism, prefer, over-provisioning, reserve, keep, busy, time"),
        ('[reserve]\nqueues = "01.001b"', "not a list"),
        ('[reserve]\nqueues = ["1.1b"]', "'1.1b', which is not a queue"),
        ("[reserve]\nqueues = [5]", "'5', which is not a queue"),
        ("[reserve]\nadapters = [1]", "not a text"),
        ('[reserve]\ndomains = "9-1"', "reserve.domains is '9-1': the range '9-1' runs backwards."),
        ('[reserve]\nadapters = "256"', "reserve.adapters is '256': '256' goes beyond 255"),
        ('[reserve]\nadapters = ""', "reserve.adapters is '': it is empty"),
        ('[reserve]\nqueues = ["01.0100"]', "'01.0100', which is not a queue"),
        ('[reserve]\nqueues = ["01.001b", "01.001b"]', "reserve.queues has 01.001b twice"),
        ("[reserve]\nqueues = []\nqueues = []", "not valid TOML"),
        ("[reserve]\n[reserve]", "not valid TOML"),
        ("[[reserve]]", "reserve is not a table: write [reserve]"),
        ('[reserve]\nmechanism = "masks"', "'mechanism', which belongs at the top, before the first [table]"),
        ("cca = 1", "the file has the unknown key 'cca', which belongs in [keep]"),
        ("[keep]\nrequests = 1", "[keep] has the unknown key 'requests', which belongs in [busy]"),
        ('"" = 1', "the unknown key ''"),
        ("[keep]\ncca = -1", "keep.cca is '-1', which is not a whole number from 0 to 65536"),
        ("[keep]\ncca = 65537", "not a whole number"),
        ("[keep]\nep11 = 1.5", "keep.ep11 is '1.5', which is not a whole number"),
        ("[keep]\naccel = true", "keep.accel is 'true', which is not a whole number"),
        ('[keep]\naccel = "1"', "not a whole number"),
        ("[keep]\nep12 = 1", "'ep12', did you mean ep11?"),
        ("[busy]\nzcrypt_nodes = 1", "did you mean zcrypt-nodes?"),
        ('[busy]\nrequests = "no"', "busy.requests is 'no', which is not one of refuse, warn, ignore"),
        ("[busy]\nzkey = true", "busy.zkey is 'true', which is not one of"),
        ("[busy]\nzcrypt-nodes = []", "busy.zcrypt-nodes is '[]', which is not one of"),
        ('over-provisioning = "true"', "neither true nor false, written without quotes"),
        ("over-provisioning = 1", "neither true nor false"),
        ('mechanism = "overrides"\nover-provisioning = true', "exclude each other"),
        ("[time]\nrelease-wait = 0", "time.release-wait is '0', which is not a whole number from 1 to 60"),
        ("[time]\nrelease-wait = 61", "not a whole number from 1 to 60"),
        ("[time]\nlock-wait = 601", "not a whole number from 1 to 600"),
        ("[time]\nlock-wait = nan", "not a whole number"),
        ("[time]\nlockwait = 9", "did you mean lock-wait?"),
        ("\x1b[31m", "not valid TOML"),
        ("a = " + "[" * 9999, "not valid TOML"),
        ("[keep]\ncca = " + "9" * 9999, "cannot be used"),
        ("[keep]\ncca = 0x" + "f" * 9999, "cannot be used"),
        ("[keep]\ncca = '" + "9" * 999 + "'", "not a whole number from 0 to 65536"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_policy(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("the policy /etc/apvfio/apvfio.toml cannot be used: ")
    assert str(caught.value).endswith(" Correct the file.")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert caught.value.code == Exit.REQUEST


def test_the_mode_preferred() -> None:
    assert parse_policy('mechanism = "overrides"').mechanism == "overrides"
    assert parse_policy("").mechanism == ""
    for text in ('mechanism = "both"', "mechanism = 5"):
        with pytest.raises(RequestError, match="neither masks nor overrides"):
            parse_policy(text)
    assert parse_policy('prefer = "domains"').prefer == "domains"
    with pytest.raises(RequestError, match="neither adapters nor domains"):
        parse_policy('prefer = "rows"')


def test_all_of_it() -> None:
    policy = parse_policy(
        """
        mechanism = "masks"
        prefer = "domains"
        over-provisioning = true
        [keep]
        cca = 1
        ep11 = 2
        accel = 3
        [busy]
        requests = "refuse"
        zkey = "warn"
        zcrypt-nodes = "ignore"
        [time]
        release-wait = 60
        lock-wait = 1
        """
    )
    assert policy == Policy(
        mechanism="masks",
        prefer="domains",
        over_provisioning=True,
        keep=Keep(1, 2, 3),
        busy=Busy("refuse", "warn", "ignore"),
        times=Times(60, 1),
    )


def test_what_goes_without_saying() -> None:
    policy = parse_policy("[keep]\n[busy]\n[time]\n[reserve]\n")
    assert policy == Policy()
    assert not any(policy.keep)
    assert policy.busy == Busy(requests=WARN, zkey=REFUSE, zcrypt_nodes=REFUSE)
    assert not policy.over_provisioning
    assert policy.times == Times(3, WAIT)


def test_the_waits_survive_a_policy_that_cannot_be_used() -> None:
    machine = Machine()
    assert read_times(machine.files) == Times()
    machine.files.texts[POLICY] = "[time]\nrelease-wait = 7\n"
    assert read_times(machine.files) == Times(release_wait=7)
    machine.files.texts[POLICY] = "[time]\nrelease-wait = 7\n[typo]\n"
    assert read_times(machine.files) == Times()


def test_a_typo_in_the_policy_stops_starts_but_no_release() -> None:
    machine = Machine()
    before = machine.host
    start_guest(machine, a_request("0", "1"))
    machine.files.texts[POLICY] = "[typo]\n"
    with pytest.raises(RequestError, match="unknown key 'typo'"):
        start_guest(machine, a_request("1", "4", 2))
    release_guest(machine, guest(1))
    assert machine.host == before


def test_the_wait_for_a_guest_to_let_go_is_the_policys(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    machine.kernel.attach_guest(mdev(1), "vm")
    machine.files.texts[POLICY] = "[time]\nrelease-wait = 7\n"
    now = [0.0]
    monkeypatch.setattr("apvfio.engine.stop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("apvfio.engine.stop.time.sleep", lambda seconds: now.append(now.pop() + seconds))
    with pytest.raises(ConflictError, match=r"00\.0001 in use"):
        release_guest(machine, guest(1))
    assert 7 <= now[0] < 7.2


def test_the_wait_for_the_lock_is_the_policys(tmp_path: Path) -> None:
    (tmp_path / "etc/apvfio").mkdir(parents=True)
    (tmp_path / POLICY).write_text("[time]\nlock-wait = 1\n")
    lock = RealSystem(str(tmp_path)).lock()
    with own_lock(str(tmp_path / OWN_LOCK)), pytest.raises(ApvfioError, match=r"for 1 s\."), lock:
        pass


def test_python_before_3_11_needs_tomli(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_policy("[reserve]\nqueues = []\n") == Policy()
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HostError, match="needs the module tomli to read TOML"):
        parse_policy("[reserve]\nqueues = []\n")
    assert parse_policy(None) == Policy()


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", False),
        ("# what it says\n[keep]\n[time]\n\n", False),
        ("[keep]\n[keep]\n", True),
        ("[keeps]\n", True),
        ("# a \x00\n", True),
        ("  [keep]\r\n", False),
    ],
)
def test_a_file_without_settings_is_judged_as_by_the_parser(text: str, refused: bool) -> None:
    if refused:
        with pytest.raises(RequestError):
            parse_policy(text)
    else:
        assert parse_policy(text) == Policy()
