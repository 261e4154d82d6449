# SPDX-License-Identifier: Apache-2.0
"""What is written to the cluster: only what has changed; no passing fault removes anything."""

from __future__ import annotations

import pytest

from apvfio.cluster.cib import Published, published
from apvfio.cluster.guest_files import GuestFile
from apvfio.cluster.offer import GuestOffer, Offer
from apvfio.cluster.publish import ATTRIBUTE, PROBLEM, UTILIZATION, Change, changes
from apvfio.cluster.resource import Resource
from apvfio.model.errors import HostError, RequestError
from hosts import a_request
from pacemaker_env import a_cib

NOTHING = Published({}, {})


def offer(*guests: GuestOffer, **utilization: int) -> Offer:
    return Offer({name.replace("_", "-"): count for name, count in utilization.items()}, guests)


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
    ]
    after = Published({"ap-ep11": "4", "cpu": "8"}, {"apvfio-db1": "1", "apvfio-db2": "0", "other": "x"})
    assert changes(made, after) == []


def test_what_is_offered_no_more_is_removed_and_nothing_of_others() -> None:
    before = Published(
        {"ap-ep11": "4", "ap-cca": "1", "cpu": "8"}, {"apvfio-db1": "1", "apvfio-db9": "1", "o": "1"}
    )
    assert changes(offer(a_guest("db1"), ap_ep11=3), before) == [
        Change(UTILIZATION, "ap-ep11", "4", "3"),
        Change(UTILIZATION, "ap-cca", "1", None),
        Change(ATTRIBUTE, "apvfio-db9", "1", None),
    ]


@pytest.mark.parametrize("guests", [(), (broken("db1"),)])
def test_nothing_is_removed_while_guests_cannot_be_read(guests: tuple[GuestOffer, ...]) -> None:
    before = Published({"ap-ep11": "4", "ap-ep11-cex8": "1"}, {"apvfio-db1": "1"})
    due = changes(offer(*guests, ap_ep11=4), before)
    assert [change.name for change in due] == [PROBLEM] * len(guests)


def test_a_fault_is_an_attribute_as_long_as_it_lasts() -> None:
    (change,) = changes(offer(broken("db1"), broken("db2")), NOTHING)
    assert change.after == "guest db1: its XML makes no sense. There are 1 more such files."
    shown = Published({}, {PROBLEM: change.after, "apvfio-db1": "1"})
    assert changes(offer(broken("db1"), broken("db2")), shown) == []
    assert changes(offer(a_guest("db1")), shown) == [Change(ATTRIBUTE, PROBLEM, change.after, None)]


def test_what_is_published_is_read_from_the_cib() -> None:
    guest = Resource("db1", "/db1.xml", migratable=True, utilization={"ap-ep11": 1})
    cib = a_cib({"n1": ({"ap-ep11": 4}, ["db1"]), "n2": ({"ap-ep11": 2}, [])}, [guest])
    assert published(cib, "n1") == Published({"ap-ep11": "4"}, {"apvfio-db1": "1"})
    assert published(cib, "n2") == Published({"ap-ep11": "2"}, {})
    assert published(cib, "n3") == NOTHING
