# SPDX-License-Identifier: Apache-2.0
"""The browser and the page for tests, or the reason why there can be none."""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from cockpit_env import Page, chromium, cockpit, on_simulated_host, require_programs
from lab.hook import hook_script
from lab.lab import Lab
from lab_env import LabEnv
from other_user import readable_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver

HERE = os.path.dirname(__file__)
HURRY = """
const {setTimeout: later, setInterval: often} = window;
window.setTimeout = (act, delay, ...rest) => later(act, delay / 5, ...rest);
window.setInterval = (act, delay, ...rest) => often(act, delay / 5, ...rest);
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.cockpit)


@contextmanager
def _needed() -> Iterator[None]:
    """What is done in it is needed; where it cannot be done the test is skipped, but in CI it fails."""
    try:
        yield
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """One browser for all."""
    with _needed():
        if importlib.util.find_spec("selenium") is None:
            raise HostError("the page cannot be tried without selenium.", remedy="pip install selenium.")
        require_programs()
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def hurried(browser: WebDriver) -> Iterator[None]:
    """Pages that are opened find their clocks five times as fast."""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HURRY})
    yield
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


@pytest.fixture(scope="session")
def lab_env() -> Iterator[LabEnv]:
    """A lab with the shipped hook."""
    with ExitStack() as stack:
        with _needed():
            lab = stack.enter_context(Lab(hook_script()))
        yield LabEnv(lab)


@pytest.fixture
def open_page(browser: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Page]]:
    """Opens the page on a simulated host's file, or with a command of one's own; it must not complain."""
    with ExitStack() as stack:
        pages: list[Page] = []

        def opened(
            file: str = "", *, command: list[str] | None = None, limited: bool = False, shown: bool = True
        ) -> Page:
            words, env = (command, {}) if command else on_simulated_host(file)
            directory = tmp_path_factory.mktemp("cockpit")
            # The way to it is root's alone, and nobody has to go there.
            for path in (directory, *directory.parents[:2]):
                path.chmod(0o755)
            if limited:
                # The checkout may be where nobody else can go, as in /root.
                words, readable = readable_copy(directory)
                env |= readable
            page = Page(browser, stack.enter_context(cockpit(directory, words, env=env, limited=limited)))
            pages.append(page)
            if shown:
                page.until("#live", "live")
            return page

        yield opened
        for page in pages:
            assert page.complaints() == []
        browser.get("about:blank")
        browser.set_window_size(1400, 1000)
