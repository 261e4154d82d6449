# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of docs/cockpit.md: `.venv/bin/python tests/cockpit/screenshots.py`, as root.

A private libvirtd on an invented host has three guests; one of them runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from cockpit_env import Page, chromium, cockpit, in_lab
from hosts import a_matrix
from lab.hook import hook_script
from lab.lab import Lab
from lab_env import LabEnv

DOCS = Path(__file__).parents[2] / "docs"
ADAPTERS = {0: "accel", 1: "cca", 4: "cca", 10: "ep11", 11: "ep11"}
DOMAINS = IdSet([1, 2, 4, 27, 28, 40, 41])
GUESTS = {"db1": ("0,10", "1-2,4"), "web": ("4", "27-28"), "vault": ("11", "40-41")}
POLICY = '[reserve]\nqueues = ["01.001b"]\n'
WIDTH = 1000


def main() -> None:
    """Take them."""
    kernel = SimKernel.new(adapters=ADAPTERS, domains=DOMAINS)
    with Lab(hook_script(), kernel=kernel) as lab, tempfile.TemporaryDirectory() as work:
        env = LabEnv(lab)
        env.system.files.write("etc/apvfio/apvfio.toml", POLICY)
        for number, (name, ids) in enumerate(GUESTS.items()):
            env.define(name, a_matrix(*ids), f"0a0b0c0d-1111-4111-8111-{number:012}")
        env.virsh("start", "db1")
        env.virsh("start", "web")
        Path(work).chmod(0o755)
        served = cockpit(Path(work), in_lab(lab), env={})
        with served as address, chromium(Path(work) / "profile") as driver:
            page = Page(driver, address)
            page.until("#guests", "vault")
            for theme in ("light", "dark"):
                _take(page, theme)
        env.clean()


def _take(page: Page, theme: str) -> None:
    page.driver.set_window_size(WIDTH, 900)
    page.js("window.dispatchEvent(new CustomEvent('cockpit-style', {detail: {style: arguments[0]}}))", theme)
    page.js("document.querySelectorAll('.matrix td')[3].focus()")
    height = page.js("return document.documentElement.scrollHeight")
    assert isinstance(height, int)
    page.driver.set_window_size(WIDTH, height + 150)
    _save(page, f"cockpit-{theme}.png", "main")
    if theme == "light":
        page.plan("Change the masks…", apmask="-0xb", scope="active")
        page.until("dialog", "The host would lose")
        _save(page, "cockpit-plan.png", "dialog")
        page.click("Cancel", "dialog")


def _save(page: Page, name: str, selector: str) -> None:
    from selenium.webdriver.common.by import By

    found = page.driver.find_element(By.CSS_SELECTOR, selector)
    assert found.screenshot(str(DOCS / name))


if __name__ == "__main__":
    main()
