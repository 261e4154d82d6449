# SPDX-License-Identifier: Apache-2.0
"""What the page does: the plan first, then the deed, and a refusal in apvfio's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.store.ledger_file import load
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cockpit_env import Page

    OpenPage = Callable[..., Page]


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def masks(host: SimulatedHost) -> tuple[str, str]:
    with host.opened() as system:
        return system.sysfs.read("bus/ap/apmask"), system.sysfs.read("bus/ap/aqmask")


def can_act(page: Page) -> bool:
    return page.js("return document.querySelector('dialog button.primary').disabled") is False


def test_masks_are_planned_and_then_changed(host: SimulatedHost, open_page: OpenPage) -> None:
    before = masks(host)
    page = open_page(host.path)
    page.click("Change the masks…")
    page.enter("apmask", "-0xa")
    assert not can_act(page)
    page.plan_anew(scope="active")
    page.until("dialog", "4 queues: 0a.0001, 0a.0002, 0a.0004, 0a.001b")
    page.until("dialog", "echo -10 > /sys/bus/ap/apmask")
    assert masks(host) == before
    page.enter("apmask", "-1")
    assert not can_act(page), "what is planned is not what would be done"
    page.plan_anew(apmask="-0xa")
    page.finish("Change")
    page.until("#host", "0-9,11-255")
    assert masks(host)[0].strip() == "0x" + f"{(1 << 256) - 1 - (1 << 245):064x}"
    assert masks(host)[1] == before[1]
    assert [apqn for apqn, mark in page.marks().items() if mark == "○"] == [
        f"0a.{domain}" for domain in ("0001", "0002", "0004", "001b")
    ]


def test_a_refusal_is_told_with_its_remedy(host: SimulatedHost, open_page: OpenPage) -> None:
    host.start(a_request("0,10", "1,2"))
    before = masks(host)
    page = open_page(host.path)
    page.plan("Change the masks…", aqmask="+1")
    page.until("dialog [role=alert] strong", "guest g1")
    page.until("dialog [role=alert] p", "Stop the guest")
    assert not can_act(page)
    page.plan_anew(aqmask="", apmask="9-1")
    page.until("dialog [role=alert]", "9-1")
    page.plan_anew(apmask="$(reboot); --help")
    page.until("dialog [role=alert]", "$(reboot); --help")
    assert masks(host) == before
    page.finish("Cancel")


def test_a_lease_is_released(host: SimulatedHost, open_page: OpenPage) -> None:
    before = masks(host)
    host.start(a_request("0,10", "1,2"))
    page = open_page(host.path)
    page.click("Release g1")
    page.until("dialog", "queues are returned when it stops")
    page.click("Show plan", "dialog")
    page.until("dialog", f"echo 1 > /sys/{AP_MDEVS.remove(mdev(1))}")
    page.until("dialog", "echo +1-2 > /sys/bus/ap/aqmask")
    with host.opened() as system:
        assert load(system.files, system.boot_id).leases
        assert system.sysfs.list("bus/mdev/devices") == [mdev(1)]
    page.finish("Release")
    page.until("#leases", "No guest holds queues.")
    assert masks(host) == before


def test_what_stays_pending_is_told(host: SimulatedHost, open_page: OpenPage) -> None:
    host.start(a_request("0,10", "1,2,4"))
    host.make_mdev(mdev(5), a_matrix("10", "27"))
    page = open_page(host.path)
    page.plan("Release g1")
    page.until("dialog .plan", "Pending returns: apmask 10")


def test_an_action_that_fails_is_told_and_can_be_tried_again(
    host: SimulatedHost, open_page: OpenPage
) -> None:
    page = open_page(host.path)
    page.plan("Change the masks…", apmask="-0xa", scope="active")
    page.until("dialog .plan", "The host would lose")
    # Between plan and deed somebody reserves it.
    host.write("etc/apvfio/apvfio.toml", "[reserve]\nqueues = 7\n")
    page.click("Change", "dialog")
    page.until("dialog [role=alert]", "apvfio.toml")
    assert masks(host)[0].strip() == "0x" + "f" * 64
    host.write("etc/apvfio/apvfio.toml", "")
    page.plan_anew()
    page.finish("Change")
    page.until("#host", "0-9,11-255")
