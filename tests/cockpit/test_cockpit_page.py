# SPDX-License-Identifier: Apache-2.0
"""What the page shows of a simulated host, and that it follows it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.stop import release_guest
from apvfio.libvirt.status import read_status
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.view.status_report import status_json
from hosts import a_matrix, a_request, guest, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver.chrome.webdriver import WebDriver

    from cockpit_env import Page

    OpenPage = Callable[..., Page]

MODES = ("accel", "cca", "ep11", "cca")


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def status(host: SimulatedHost) -> dict[str, object]:
    with host.opened() as system:
        return status_json(read_status(system))


def drawn(host: SimulatedHost) -> dict[str, str]:
    picture = status(host)["picture"]
    assert isinstance(picture, dict)
    marks = picture["marks"]
    assert isinstance(marks, dict)
    return marks


def test_a_small_host(host: SimulatedHost, open_page: OpenPage) -> None:
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["01.001b"]\n')
    host.start(a_request("0,10", "1,2,4"))
    host.make_mdev(mdev(5), a_matrix("10", "27"))
    page = open_page(host.path)
    page.until("#legend", "guest g1")
    assert page.marks() == drawn(host)
    assert set(page.marks().values()) == {"a", "1", "○", "·", "■"}
    page.until("#legend", "6 queues")
    page.until("#leases", "adapters 0,10, domains 1-2,4")
    page.until("#host", "apmask 0,10")
    page.until("#matrix .matrix", "CEX8P")


def test_a_queue_is_told_in_both_notations(host: SimulatedHost, open_page: OpenPage) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page = open_page(host.path)
    cells = page.driver.find_elements(By.CSS_SELECTOR, ".matrix td[role=gridcell]")
    ActionChains(page.driver).move_to_element(cells[-1]).perform()
    page.until("#told", "0a.001b = 10.27, host, cex4queue")
    page.js("document.querySelector('.matrix td[tabindex=\"0\"]').focus()")
    page.until("#told", "00.0001 = 0.1")
    for keys, apqn in (
        ([Keys.ARROW_RIGHT, Keys.ARROW_DOWN], "01.0002"),
        ([Keys.END], "01.001b"),
        ([Keys.ARROW_RIGHT], "01.001b"),
        ([Keys.HOME, Keys.ARROW_UP, Keys.ARROW_UP], "00.0001"),
    ):
        ActionChains(page.driver).send_keys(*keys).perform()
        page.until("#told", f"{apqn} = ")
        assert page.js("return document.querySelectorAll('.matrix td[tabindex=\"0\"]').length") == 1


def test_sixteen_adapters_and_85_domains(tmp_path: Path, open_page: OpenPage) -> None:
    adapters = {adapter: MODES[adapter % 4] for adapter in range(16)}
    host = SimulatedHost(tmp_path, SimKernel.new(adapters=adapters, domains=IdSet(range(85))))
    host.start(a_request("0-3", "0-9"))
    page = open_page(host.path)
    assert page.marks() == drawn(host)
    assert len(page.marks()) == 16 * 85
    for width in (1400, 500):
        page.driver.set_window_size(width, 900)
        wide = page.js("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert isinstance(wide, list)
        assert wide[0] <= wide[1], "the page scrolls sideways, and not the matrix alone"


def test_the_page_follows_a_guest_and_keeps_the_focus(host: SimulatedHost, open_page: OpenPage) -> None:
    page = open_page(host.path)
    assert set(page.marks().values()) == {"·"}
    page.js("document.querySelector('.matrix td[tabindex=\"0\"]').focus()")
    host.start(a_request("0,10", "1,2,4"))
    page.until("#legend", "guest g1")
    assert page.marks() == drawn(host)
    page.until("#told", "00.0001 = 0.1, guest g1, vfio_ap")
    page.js("document.querySelector('[aria-label=\"Release g1\"]').focus()")
    host.start(a_request("1", "27", n=2))
    page.until("#leases", "g2")
    assert page.js("return document.activeElement.getAttribute('aria-label')") == "Release g1"
    page.js("document.querySelector('.matrix td[tabindex=\"0\"]').focus()")
    with host.opened() as system:
        release_guest(system, guest(1))
        release_guest(system, guest(2))
    page.until("#leases", "No guest holds queues.")
    assert page.marks() == drawn(host)
    assert page.js("return document.activeElement.getAttribute('aria-label')") == page.text("#told")


def test_drift_is_shown_and_reconciled(host: SimulatedHost, open_page: OpenPage) -> None:
    host.start(a_request("0", "1"))
    host.write("sys/devices/vfio_ap/matrix/" + mdev(1) + "/remove", "1")
    page = open_page(host.path)
    page.until("#drift", f"guest g1: its mediated device {mdev(1)} is gone")
    page.click("Reconcile…")
    page.until("dialog", "return to the host")
    assert host.read("run/apvfio/ledger.json")
    assert status(host)["leases"]
    page.finish("Reconcile")
    page.until("#leases", "No guest holds queues.")
    page.gone("#drift .alert")
    assert status(host)["apmask"] == "0-255"


def test_light_and_dark(host: SimulatedHost, open_page: OpenPage) -> None:
    page = open_page(host.path)
    ground = "return getComputedStyle(document.body).backgroundColor"
    grounds = set()
    for style in ("light", "dark"):
        page.js("localStorage.setItem('shell:style', arguments[0])", style)
        page.js(
            "window.dispatchEvent(new CustomEvent('cockpit-style', {detail: {style: arguments[0]}}))", style
        )
        grounds.add(page.js(ground))
    assert len(grounds) == 2
    page.driver.refresh()
    page.until("#live", "live")
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    page.js("localStorage.removeItem('shell:style')")


def test_cockpit_has_it_in_its_menu_and_shows_it(
    host: SimulatedHost, open_page: OpenPage, browser: WebDriver
) -> None:
    page = open_page(host.path)
    browser.get(page.address.split("/cockpit/")[0] + "/apvfio")
    page.until("#host-apps, nav", "Crypto queues")
    inside = (
        "return [...document.querySelectorAll('iframe')].map(f => f.contentDocument?.body?.innerText).join()"
    )
    page.eventually(lambda: "12 queues" in str(page.js(inside)))
    # Cockpit's own pages complain of a machine without systemd.
    assert not [complaint for complaint in page.complaints() if "/apvfio/" in complaint]
    browser.get("about:blank")
    page.complaints()


def test_everything_has_a_name(host: SimulatedHost, open_page: OpenPage) -> None:
    host.start(a_request("0,10", "1,2,4"))
    page = open_page(host.path)
    page.click("Change the masks…")
    page.until("dialog", "apmask")
    for _ in range(2):
        tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})
        seen = [node for node in tree["nodes"] if not node["ignored"]]
        named = {"button", "textbox", "combobox", "checkbox", "grid", "gridcell", "dialog", "table", "region"}
        for node in seen:
            if node["role"]["value"] in named:
                assert node.get("name", {}).get("value"), json.dumps(node)
        page.js("document.querySelector('dialog')?.close()")
    roles = {node["role"]["value"] for node in seen}
    assert {"button", "grid", "gridcell", "rowheader", "columnheader", "table", "region"} <= roles


def test_without_rights_the_page_says_so(host: SimulatedHost, open_page: OpenPage) -> None:
    page = open_page(host.path, limited=True, shown=False)
    page.until("#access", "Limited access")
    page.until("#alerts", "ermission denied")
    assert page.text("#live") == "not live"


def test_without_rights_nothing_can_be_changed(host: SimulatedHost, open_page: OpenPage) -> None:
    host.start(a_request("0,10", "1,2,4"))
    everybody(host)
    page = open_page(host.path, limited=True)
    page.until("#access", "Limited access")
    page.until("#legend", "guest g1")
    assert page.marks() == drawn(host)
    changes = "return [...document.querySelectorAll('.change')].map(button => button.checkVisibility())"
    found = page.js(changes)
    assert isinstance(found, list)
    assert len(found) >= 3
    assert not any(found)


def everybody(host: SimulatedHost) -> None:
    """Let nobody, too, read the simulated host."""
    os.chmod(host.path, 0o666)
    for directory in list(Path(host.path).parents)[:3]:
        directory.chmod(0o755)
    os.chmod(os.path.dirname(host.path), 0o777)


def test_without_apvfio_the_page_says_so(open_page: OpenPage) -> None:
    page = open_page(command=["/nowhere/apvfio"], shown=False)
    page.until("#alerts", "apvfio")
    assert page.text("#live") == "not live"
