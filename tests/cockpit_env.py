# SPDX-License-Identifier: Apache-2.0
"""Debian's cockpit with our page, on a simulated host or in a lab, and a Chromium that looks at it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.model.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver

    from lab.lab import Lab

PAGE = Path(__file__).parent.parent / "cockpit"
WS = "/usr/lib/cockpit/cockpit-ws"
PACKAGES = {
    WS: "cockpit-ws",
    "/usr/bin/cockpit-bridge": "cockpit-bridge",
    "/usr/bin/chromium": "chromium",
    "/usr/bin/chromedriver": "chromium-driver",
}
_PATIENCE = 30.0
_NOBODY = 65534


def require_programs() -> None:
    """HostError naming the packages that are not there, or if this is not root, whom a lab needs."""
    if os.geteuid():
        raise HostError("the page is tried by root.", remedy="Run it as root.")
    missing = sorted(package for path, package in PACKAGES.items() if not os.path.exists(path))
    if missing:
        raise HostError(
            f"the page cannot be tried without {', '.join(missing)}.",
            remedy=f"Install {', '.join(missing)} (names as in Debian).",
        )


@contextmanager
def cockpit(
    directory: Path, apvfio: list[str], *, env: dict[str, str], limited: bool = False
) -> Iterator[str]:
    """A cockpit that is logged in already, whose ``apvfio`` is a command; the address of our page.

    With ``limited`` its user is nobody, and can become nobody else.
    """
    (directory / "share/cockpit").mkdir(parents=True)
    shutil.copytree(PAGE, directory / "share/cockpit/apvfio")
    (directory / "bin").mkdir()
    (directory / "home").mkdir(mode=0o777)
    command = directory / "bin/apvfio"
    # In the place of the bridge's shell, so that what ends the one ends the other.
    command.write_text(f'#!/bin/sh\nexec {shlex.join(apvfio)} "$@"\n')
    command.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [WS, "--no-tls", "--address", "127.0.0.1", "--port", str(port), "--local-session=cockpit-bridge"]
    environment = {
        "PATH": f"{directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": f"{directory}/home",
        "XDG_DATA_DIRS": f"{directory}/share:/usr/share",
        "XDG_RUNTIME_DIR": f"{directory}/home",
        "LC_ALL": "C.UTF-8",
        **env,
    }
    who = _NOBODY if limited else None
    with (directory / "ws.log").open("w") as log:
        server = subprocess.Popen(
            words,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            user=who,
            group=who,
        )
    try:
        address = f"http://127.0.0.1:{port}/cockpit/@localhost/apvfio/index.html"
        _wait_for(f"http://127.0.0.1:{port}/ping", server, directory / "ws.log")
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(_PATIENCE)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=_PATIENCE):
                return
        except urllib.error.URLError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise HostError(f"cockpit does not start: {log.read_text()[-500:]}") from None
            time.sleep(0.05)


def on_simulated_host(file: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment for a simulated host in a file."""
    package = str(PAGE.parent)
    return [sys.executable, "-m", "apvfio"], {"APVFIO_SIM": file, "PYTHONPATH": package}


def in_lab(lab: Lab) -> list[str]:
    """The command in a lab, for a bridge that is outside."""
    first = lab.path("/").split("/")[2]
    return [
        *("nsenter", "--target", first, "--mount", "--pid", "--"),
        *("env", f"PYTHONPATH={PAGE.parent}", sys.executable, "-m", "apvfio"),
    ]


@contextmanager
def chromium(profile: Path) -> Iterator[WebDriver]:
    """A browser without a window."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in (
        "--headless=new",
        "--no-sandbox",  # as root there is none, and the page is our own
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page in a browser, as somebody sees it who uses it."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self.driver = driver
        self.address = address
        driver.get_log("browser")  # type: ignore[no-untyped-call]  # what was said before is another page's
        driver.get(address)

    def js(self, code: str, *arguments: object) -> object:
        """What ``code``, a function's body, returns."""
        found: object = self.driver.execute_script(code, *arguments)
        return found

    def text(self, selector: str) -> str:
        """The text of the first element, '' if there is none."""
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def until(self, selector: str, expected: str) -> None:
        """Wait until the element's text holds ``expected``."""
        self.eventually(
            lambda: expected in self.text(selector), lambda: f"{expected!r} is not in {self.text(selector)!r}"
        )

    def gone(self, selector: str) -> None:
        """Wait until there is no such element."""
        there = "return document.querySelector(arguments[0]) !== null"
        self.eventually(lambda: not self.js(there, selector), lambda: self.text(selector))

    def plan(self, button: str, **values: str) -> None:
        """Press a button that opens a dialog, give its fields values and have the plan shown."""
        self.click(button)
        self.plan_anew(**values)

    def plan_anew(self, **values: str) -> None:
        """Change fields of the open dialog, and have the plan shown."""
        for field, value in values.items():
            self.enter(field, value)
        self.click("Show plan", "dialog")

    def finish(self, button: str) -> None:
        """Press what closes the dialog, as the deed that is planned does when it is done."""
        self.click(button, "dialog")
        self.gone("dialog")

    def eventually(self, said: Callable[[], bool], instead: Callable[[], str] = str) -> None:
        """Wait until that is so; ``instead`` tells what is."""
        deadline = time.monotonic() + _PATIENCE
        while not said():
            assert time.monotonic() < deadline, instead()
            time.sleep(0.05)

    def marks(self) -> dict[str, str]:
        """The mark of each queue that is drawn."""
        found = self.js(
            "return [...document.querySelectorAll('.matrix td[role=gridcell]')]"
            ".filter(cell => cell.textContent)"
            ".map(cell => [cell.getAttribute('aria-label').split(' ')[0], cell.textContent])"
        )
        assert isinstance(found, list)
        return dict(found)

    def click(self, text: str, within: str = "body") -> None:
        """Press the button that says ``text``, or is called so, when it can be pressed."""
        self._when(
            "const one = [...document.querySelectorAll(`${arguments[0]} button`)].find(button =>"
            " [button.textContent, button.ariaLabel].includes(arguments[1]) && !button.disabled"
            " && button.checkVisibility()); if (one) one.click(); return Boolean(one)",
            within,
            text,
        )

    def enter(self, field: str, value: str) -> None:
        """Give a field of the dialog a value, as typing it would."""
        self._when(
            "const one = document.querySelector(`dialog [name='${arguments[0]}']`);"
            "if (!one) return false; one.value = arguments[1];"
            "one.dispatchEvent(new Event('input', {bubbles: true})); return true",
            field,
            value,
        )

    def _when(self, code: str, *arguments: object) -> None:
        self.eventually(lambda: bool(self.js(code, *arguments)), lambda: f"{arguments}: {self.text('body')}")

    def complaints(self) -> list[str]:
        """What the browser has to say against the page since it was opened."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [json.dumps(entry) for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
