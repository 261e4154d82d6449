# SPDX-License-Identifier: Apache-2.0
"""What is written to the cluster: only what has changed; no passing fault removes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio._version import __version__
from apvfio.cluster.cib import Published, published
from apvfio.cluster.guest_files import GuestFile, digest_of, read_guest_files
from apvfio.cluster.offer import GuestOffer, Offer
from apvfio.cluster.publish import ATTRIBUTE, FILES, PROBLEM, UTILIZATION, VERSION, Change, changes
from apvfio.cluster.resource import Resource
from apvfio.model.errors import HostError, RequestError
from domain_xml import domain
from hosts import a_request
from memory_host import Machine
from pacemaker_env import a_cib

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = Published({}, {})


def offer(*guests: GuestOffer, **utilization: int) -> Offer:
    return Offer({name.replace("_", "-"): count for name, count in utilization.items()}, guests)


def host(made: Offer) -> dict[str, str]:
    """What every host publishes of itself."""
    return {FILES: digest_of([one.guest for one in made.guests]), VERSION: __version__}


def a_guest(name: str, *, eligible: bool = True) -> GuestOffer:
    error = None if eligible else HostError("it lacks something.")
    return GuestOffer(GuestFile(name, f"/{name}.xml", a_request("0", "1")), error)


def broken(name: str) -> GuestOffer:
    error = RequestError("its XML makes no sense.", guest=name)
    return GuestOffer(GuestFile(name, f"/{name}.xml", None, error), error)


def test_all_is_written_once() -> None:
    made = offer(a_guest("db1"), a_guest("db2", eligible=False), ap_ep11=4)
    due = changes(made, NOTHING)
    assert due == [
        Change(UTILIZATION, "ap-ep11", None, "4"),
        Change(ATTRIBUTE, "apvfio-db1", None, "1"),
        Change(ATTRIBUTE, "apvfio-db2", None, "0"),
        *(Change(ATTRIBUTE, name, None, value) for name, value in host(made).items()),
    ]
    attributes = {"apvfio-db1": "1", "apvfio-db2": "0", "other": "x", **host(made)}
    after = Published({"ap-ep11": "4", "cpu": "8"}, attributes)
    assert changes(made, after) == []


def test_what_is_offered_no_more_is_removed_and_nothing_of_others() -> None:
    made = offer(a_guest("db1"), ap_ep11=3)
    attributes = {"apvfio-db1": "1", "apvfio-db9": "1", "o": "1", **host(made)}
    before = Published({"ap-ep11": "4", "ap-cca": "1", "cpu": "8"}, attributes)
    assert changes(made, before) == [
        Change(UTILIZATION, "ap-ep11", "4", "3"),
        Change(UTILIZATION, "ap-cca", "1", None),
        Change(ATTRIBUTE, "apvfio-db9", "1", None),
    ]


@pytest.mark.parametrize("guests", [(), (broken("db1"),)])
def test_nothing_is_removed_while_guests_cannot_be_read(guests: tuple[GuestOffer, ...]) -> None:
    made = offer(*guests, ap_ep11=4)
    before = Published({"ap-ep11": "4", "ap-ep11-cex8": "1"}, {"apvfio-db1": "1", **host(made)})
    due = changes(made, before)
    assert [change.name for change in due] == [PROBLEM] * len(guests)


def test_a_fault_is_an_attribute_as_long_as_it_lasts() -> None:
    made = offer(broken("db1"), broken("db2"))
    (change,) = changes(made, Published({}, host(made)))
    assert change.after == "guest db1: its XML makes no sense. There are 1 more such files."
    shown = {PROBLEM: change.after, "apvfio-db1": "1"}
    assert changes(made, Published({}, {**shown, **host(made)})) == []
    after = offer(a_guest("db1"))
    ended = changes(after, Published({}, {**shown, **host(after)}))
    assert ended == [Change(ATTRIBUTE, PROBLEM, change.after, None)]


def test_another_file_of_a_guest_is_another_value(tmp_path: Path) -> None:
    file = tmp_path / "db1.xml"
    values = set()
    for mode in ("ep11", "cca"):
        file.write_bytes(domain(f'<ap:any mode="{mode}"/>'))
        guests = read_guest_files(Machine().files, str(tmp_path))
        values.add(digest_of(guests))
        assert digest_of(guests) == digest_of(guests[::-1])
    file.rename(tmp_path / "db2.xml")
    values.add(digest_of(read_guest_files(Machine().files, str(tmp_path))))
    assert len(values) == 3


def test_what_is_published_is_read_from_the_cib() -> None:
    guest = Resource("db1", "/db1.xml", migratable=True, utilization={"ap-ep11": 1})
    cib = a_cib({"n1": ({"ap-ep11": 4}, ["db1"]), "n2": ({"ap-ep11": 2}, [])}, [guest])
    assert published(cib, "n1") == Published({"ap-ep11": "4"}, {"apvfio-db1": "1"})
    assert published(cib, "n2") == Published({"ap-ep11": "2"}, {})
    assert published(cib, "n3") == NOTHING
