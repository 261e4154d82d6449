# SPDX-License-Identifier: Apache-2.0
"""apvfio metrics: Prometheus understands it, and it says what status says."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events import audit_log
from apvfio.model.errors import Exit
from apvfio.model.host import MASK_NAMES
from apvfio.model.mask_grammar import parse_list
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.ledger_file import LEDGER
from apvfio.view.metrics.families import COUNTER, FAMILIES, Family, Sample, text
from apvfio.view.metrics.measure import EVENTS
from hosts import a_matrix, a_request, guest, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[3]
Labels = frozenset[tuple[str, str]]


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def labelled(**labels: str) -> Labels:
    return frozenset(labels.items())


def read(written: str) -> dict[str, dict[Labels, float]]:
    """The samples by their names, as Prometheus' own client reads them."""
    found: dict[str, dict[Labels, float]] = {}
    for family in parse(written):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


def measured(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[Labels, float]]:
    assert host.run("metrics") == Exit.OK
    return read(capsys.readouterr().out)


def by(samples: Mapping[Labels, float], label: str) -> dict[str, int]:
    """The sums over everything but one label."""
    sums: dict[str, int] = {}
    for labels, number in samples.items():
        value = dict(labels)[label]
        sums[value] = sums.get(value, 0) + int(number)
    return sums


@pytest.mark.parametrize("profile", PROFILES)
def test_it_says_what_status_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(profile))
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["01.0004"]\n')
    host.start(a_request("0,10", "1-2"))
    host.make_mdev(mdev(9), a_matrix("1", "1"))
    assert host.run("status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    found = measured(host, capsys)
    owners = [queue["owner"].split()[0] for queue in told["queues"]]
    expected = {kind: owners.count(kind) for kind in ("host", "guest", "mdev", "free", "unbound")}
    assert by(found["apvfio_queues"], "owner") == expected
    assert expected == {"host": 6, "guest": 4, "mdev": 1, "free": 1, "unbound": 0}
    assert by(found["apvfio_adapter_queues"], "owner") == expected
    assert by(found["apvfio_adapter_queues"], "adapter") == {"00": 4, "01": 4, "0a": 4}
    assert found["apvfio_mechanism_info"] == {
        labelled(mechanism="masks"): 1,
        labelled(mechanism="overrides"): 0,
    }
    assert found["apvfio_guest_queues"] == {labelled(guest="g1", uuid=guest(1), mdev=mdev(1)): 4}
    assert found["apvfio_leases"][labelled(state="held")] == 1
    pending = {
        labelled(mask=mask): len(parse_list(told["pending"][mask])) if told["pending"][mask] else 0
        for mask in MASK_NAMES
    }
    assert found["apvfio_pending_mask_bits"] == pending
    assert sum(pending.values()) == 2
    assert sum(found["apvfio_unneeded_mask_bits"].values()) == 0
    assert found["apvfio_drift"] == {frozenset(): len(told["drift"])}
    assert found["apvfio_up"] == {frozenset(): 1}


def test_reserved_queues_that_another_has(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0,10", "1-2"))
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["00.0001", "01.0004"]\n')
    assert measured(host, capsys)["apvfio_reserved_queues_missing"] == {frozenset(): 1}


def test_queues_that_nobody_needs_are_overdue(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0,10", "1-2"))
    ledger = json.loads(host.read(LEDGER) or "")
    ledger["leases"] = {} if isinstance(ledger["leases"], dict) else []
    host.write(LEDGER, json.dumps(ledger))
    found = measured(host, capsys)
    assert by(found["apvfio_unneeded_mask_bits"], "mask") == by(found["apvfio_pending_mask_bits"], "mask")
    assert sum(found["apvfio_unneeded_mask_bits"].values()) == 2


def test_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("mechanism", "overrides") == 0
    capsys.readouterr()
    host.start(a_request("0", "1-2"))
    found = measured(host, capsys)
    assert found["apvfio_mechanism_info"][labelled(mechanism="overrides")] == 1
    assert found["apvfio_pending_overrides"] == {frozenset(): 2}
    assert found["apvfio_unneeded_overrides"] == {frozenset(): 0}


def test_events_are_counted_beyond_the_files_that_are_kept(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "FULL", 1500)
    monkeypatch.setattr(audit_log, "FILES", 6)
    last = dict.fromkeys(EVENTS, 0)
    for life in range(1, 40):
        with host.opened() as system:
            start_guest(system, a_request("0,10", "1-2"))
            release_guest(system, guest(1))
        if life % 6:
            continue
        now = by(measured(host, capsys)["apvfio_events_total"], "event")
        assert (now["started"], now["stopped"], now["planned"]) == (life, life, life)
        assert all(now[event] >= last[event] for event in EVENTS)
        last = now
    with host.opened() as system:
        kept = [event for event in audit_log.read(system.files) if event]
    assert sum(event.kind == "started" for event in kept) < last["started"]


def test_a_name_is_anybodys_text(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    name = 'db"1\\\n# TYPE apvfio_up counter\napvfio_up 0\x1b[2J'
    host.start(a_request("0", "1")._replace(guest=name))
    found = measured(host, capsys)
    assert found["apvfio_up"] == {frozenset(): 1}
    assert found["apvfio_guest_queues"] == {labelled(guest=name, uuid=guest(1), mdev=mdev(1)): 1}


SOME = Family("some", 'What "some" is:\nback\\slash', ("one", "other"))


@given(
    st.lists(st.tuples(st.tuples(st.text(), st.text()), st.integers(0, 1 << 40)), unique_by=lambda s: s[0])
)
def test_any_text_comes_back(samples: list[tuple[tuple[str, str], int]]) -> None:
    (family,) = parse(text({SOME: [Sample(*sample) for sample in samples]}))
    assert family.documentation == SOME.help
    assert [
        ((sample.labels["one"], sample.labels["other"]), sample.value) for sample in family.samples
    ] == samples


def test_what_no_utf8_has_is_no_end_of_it() -> None:
    (family,) = parse(text({SOME: [Sample(("\udcff", ""), 1)]}))
    assert family.samples[0].labels["one"] == "?"


@pytest.mark.parametrize("damage", ["{", '{"version": 99}'])
def test_of_a_host_that_cannot_be_read_it_says_so(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    host.start(a_request("0", "1"))
    host.write(LEDGER, damage)
    output = tmp_path / "apvfio.prom"
    assert host.run("metrics", "--output", str(output)) != Exit.OK
    assert LEDGER in capsys.readouterr().err
    found = read(output.read_text())
    assert found["apvfio_up"] == {frozenset(): 0}
    assert found["apvfio_events_total"][labelled(event="started")] == 1
    assert "apvfio_queues" not in found


def test_a_policy_that_cannot_be_used_is_no_all_clear(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0", "1"))
    host.write("etc/apvfio/apvfio.toml", "[reserve\n")
    output = tmp_path / "apvfio.prom"
    assert host.run("metrics", "--output", str(output)) == Exit.REQUEST
    assert "/etc/apvfio/apvfio.toml cannot be used" in capsys.readouterr().err
    found = read(output.read_text())
    assert found["apvfio_up"] == {frozenset(): 0}
    assert found["apvfio_queues"][labelled(owner="guest")] == 1
    assert "apvfio_reserved_queues_missing" not in found


def test_lines_that_cannot_be_understood_are_counted(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0", "1"))
    host.write(audit_log.AUDIT_LOG, (host.read(audit_log.AUDIT_LOG) or "") + "{\n[]\n")
    found = measured(host, capsys)
    assert found["apvfio_audit_log_damaged_lines"] == {frozenset(): 2}
    assert found["apvfio_events_total"][labelled(event="started")] == 1


def test_the_file_is_for_who_collects(host: SimulatedHost, tmp_path: Path) -> None:
    output = tmp_path / "apvfio.prom"
    assert host.run("metrics", "--output", str(output)) == Exit.OK
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    before = output.stat().st_ino
    assert host.run("metrics", "--output", str(output)) == Exit.OK
    assert output.stat().st_ino != before
    assert sorted(os.listdir(tmp_path)) == ["apvfio.prom", "host.json"]


def test_no_link_is_followed(host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "apvfio.prom").symlink_to("kept")
    assert host.run("metrics", "--output", str(tmp_path / "apvfio.prom")) == Exit.USAGE
    assert "is not a regular file" in capsys.readouterr().err
    assert (tmp_path / "kept").read_text() == "kept"
    assert host.run("metrics", "--output", str(tmp_path / "no" / "apvfio.prom")) == Exit.HOST


def test_all_families_are_told_of(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0", "1"))
    assert host.run("metrics") == 0
    families = {family.name: family for family in parse(capsys.readouterr().out)}
    for family in FAMILIES:
        found = families.pop(family.name.removesuffix("_total"))
        assert (found.type, found.documentation) == (family.kind, family.help)
        assert {tuple(sample.labels) for sample in found.samples} == {family.labels}
        assert family.name.endswith("_total") is (family.kind == COUNTER)
    assert not families


def test_the_page_tells_of_each() -> None:
    page = (CHECKOUT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(apvfio_\w+)` \| (\w+) \|(.*?)\|", page, re.MULTILINE)
    told = [(name, kind, tuple(re.findall("`(.+?)`", labels))) for name, kind, labels in rows]
    assert told == [(family.name, family.kind, family.labels) for family in FAMILIES]
    events = re.search(r"`event` \((.*?)\)", page)
    assert events
    assert set(events[1].split(", ")) == set(EVENTS)


def test_the_rules_ask_for_what_there_is() -> None:
    """Of what others measure, only for the time at which ours was read."""
    rules = yaml.safe_load((CHECKOUT / "examples/apvfio.rules.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        asked = set(re.findall(r"\b(?:apvfio|node)_[a-z_]+(?!\.)\b", rule["expr"]))
        assert asked
        assert asked <= {family.name for family in FAMILIES} | {"node_textfile_mtime_seconds"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")
