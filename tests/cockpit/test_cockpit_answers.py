# SPDX-License-Identifier: Apache-2.0
"""Commands that hang, die, come late or answer nonsense: the page says so and goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from failing_commands import DEED, GUESTS, MASKS, PLAN, WATCH, SpoiltAnswers
from hosts import a_request
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from selenium.webdriver.chrome.webdriver import WebDriver

    from cockpit_env import Page

    OpenPage = Callable[..., Page]

HANGING = "sleep 1000; :"
STUBBORN = f"trap '' TERM; {HANGING}"
"""A shell that a polite signal does not end."""
ROW: dict[str, object] = {
    "guest": "db1",
    "state": "shut off",
    "error": None,
    "adapters": "0",
    "domains": "1",
    "control_domains": "",
    "criteria": None,
    "can_start": True,
    "conflicts": [],
}


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


@pytest.fixture
def answers(tmp_path: Path, host: SimulatedHost) -> SpoiltAnswers:
    made = SpoiltAnswers(tmp_path, host)
    made.answer(GUESTS, json.dumps([ROW]))
    return made


pytestmark = pytest.mark.usefixtures("hurried")


def some_rows(count: int = 1, **changed: object) -> str:
    return json.dumps([{**ROW, "guest": f"db{number}", **changed} for number in range(count)])


def ends(page: Page, answers: SpoiltAnswers, what: str) -> None:
    """No spoilt command of that kind is left."""
    page.eventually(lambda: not answers.running(what), lambda: f"{answers.running(what)} run")


class TestHanging:
    """A command that does not answer."""

    def test_one_of_a_kind_is_waited_for_and_its_card_says_so(
        self, answers: SpoiltAnswers, open_page: OpenPage
    ) -> None:
        answers.spoil(GUESTS, HANGING)
        page = open_page(command=answers.command)
        page.until("#guests", "No answer since ")
        assert "No guest requests queues" not in page.text("#guests")
        before = answers.asked(GUESTS)
        page.until("#guests [role=alert] strong", "apvfio guest list gave no answer within 30 seconds.")
        # It is asked every 15 seconds; nobody is left behind.
        most = 0
        while answers.asked(GUESTS) < before + 2:
            most = max(most, len(answers.running(GUESTS)))
            time.sleep(0.02)
        assert most == 1
        answers.answer(GUESTS, some_rows())
        page.until("#guests tbody th", "db0")
        page.gone("#guests .alert")

    def test_what_was_known_stays(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        page = open_page(command=answers.command)
        page.until("#guests tbody th", "db1")
        answers.spoil(GUESTS, HANGING)
        page.until("#guests .alert", "What is shown is from ")
        assert page.text("#guests tbody th") == "db1"

    @pytest.mark.parametrize("script", [HANGING, STUBBORN])
    def test_none_outlives_the_page(
        self, answers: SpoiltAnswers, open_page: OpenPage, browser: WebDriver, script: str
    ) -> None:
        for what in (GUESTS, MASKS):
            answers.spoil(what, script)
        page = open_page(command=answers.command)
        page.eventually(lambda: bool(answers.running(GUESTS) and answers.running(MASKS)))
        browser.get("about:blank")
        ends(page, answers, GUESTS)
        ends(page, answers, MASKS)

    def test_none_outlives_the_bridge(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        answers.spoil(GUESTS, HANGING)
        page = open_page(command=answers.command)
        page.eventually(lambda: bool(answers.running(GUESTS)))
        (command,) = answers.running(GUESTS)
        os.kill(bridge_of(command), signal.SIGKILL)
        page.until("#live", "not live")
        page.until("#alerts", "Reload the page")
        page.until("#alerts", "No answer since ")

    def test_a_plan_that_is_waited_for_no_more_is_ended(
        self, answers: SpoiltAnswers, open_page: OpenPage
    ) -> None:
        answers.spoil(PLAN, HANGING)
        page = open_page(command=answers.command)
        page.plan("Change the masks…", apmask="-1")
        page.eventually(lambda: len(answers.running(PLAN)) == 1)
        (first,) = answers.running(PLAN)
        for adapter in range(4):
            page.plan_anew(apmask=f"-{adapter}")
        page.eventually(lambda: first not in answers.running(PLAN))
        page.until("dialog [role=alert]", "apvfio masks gave no answer within 30 seconds.")
        ends(page, answers, PLAN)
        page.plan_anew()
        page.eventually(lambda: bool(answers.running(PLAN)))
        page.finish("Cancel")
        ends(page, answers, PLAN)

    def test_a_deed_can_be_stopped(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        answers.spoil(DEED, HANGING)
        page = open_page(command=answers.command)
        page.plan("Change the masks…", apmask="-1", scope="active")
        page.until("dialog .plan", "The host would lose")
        page.click("Change", "dialog")
        page.until("dialog .plan", "Working since ")
        page.eventually(lambda: bool(answers.running(DEED)))
        page.click("Stop", "dialog")
        page.until("dialog [role=alert]", "apvfio masks was stopped.")
        page.until("dialog [role=alert]", "may have been made in part")
        ends(page, answers, DEED)
        answers.repair(DEED)
        page.plan_anew()
        page.until("dialog .plan", "The host would lose")
        page.finish("Change")
        page.until("#host", "0,2-255")

    def test_a_watch_that_hangs_is_not_live(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        page = open_page(command=answers.command)
        answers.spoil(WATCH, "printf '{\"half'; " + HANGING)
        kill_all(watches(answers))
        page.until("#live", "not live")
        page.until("#alerts", "What is shown is from ")
        page.until("#alerts", "apvfio status --watch gave no answer within 30 seconds.")
        assert len(answers.running(WATCH)) <= 1
        answers.repair(WATCH)
        page.until("#live", "live")
        page.gone("#alerts .alert")
        # From now on nothing is heard of it, though it runs.
        for pid in watches(answers):
            os.kill(pid, signal.SIGSTOP)
        page.until("#alerts", "apvfio status --watch gave no answer within 90 seconds.")
        page.until("#live", "live")
        page.gone("#alerts .alert")


def bridge_of(pid: int) -> int:
    """The cockpit-bridge that has begun the process ``pid``, directly or not."""
    while pid > 1:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            before, _, after = file.read().rpartition(")")
        if "cockpit-bridge" in before:
            return pid
        pid = int(after.split()[1])
    raise AssertionError("no bridge has begun it")


def watches(answers: SpoiltAnswers) -> list[int]:
    """The processes of apvfio that watch the host."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file, open(f"/proc/{pid}/environ", "rb") as environ:
                ours = str(answers.directory).encode() in environ.read()
                if ours and b"apvfio\0status\0--watch" in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def kill_all(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


class TestNonsense:
    """A command that dies, or that does not say what it should."""

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("kill -9 $$", "apvfio guest list was killed (signal KILL)."),
            ("kill -11 $$", "apvfio guest list was killed"),
            ("exit 7", "apvfio guest list failed with exit status 7: no message"),
            ("echo 'no such luck' >&2; exit 1", "failed with exit status 1: no such luck"),
            ("exit 0", "apvfio guest list gave an answer that this page cannot read."),
            ('echo \'[{"guest": "db\'', "apvfio guest list gave an answer that this page cannot read."),
            ('printf \'[{"guest": "db\'; kill -9 $$', "apvfio guest list was killed (signal KILL)."),
            ("echo 5", "apvfio guest list gave an answer that this page cannot read."),
            ("echo '{}'", "apvfio guest list gave an answer that this page cannot read."),
            ("echo '[{}]'", "apvfio guest list gave an answer that this page cannot read."),
            ("echo '[null]'", "apvfio guest list gave an answer that this page cannot read."),
            (
                "head -c 3000000 /dev/zero | tr '\\0' x",
                "apvfio guest list gave an answer that this page cannot read.",
            ),
            ('echo \'{"error": {"message": {"code": 7}, "remedy": 5}}\'; exit 1', '{"code":7}'),
            (
                'echo \'{"error": {"message": "a\\u202eb\\u0007", "guest": "c\\u2066"}}\'; exit 1',
                "guest c?: a?b?",
            ),
            ("exec /nowhere/apvfio", "The command apvfio is not installed, or cannot be run: "),
        ],
    )
    def test_of_guests_is_on_their_card(
        self, answers: SpoiltAnswers, open_page: OpenPage, script: str, said: str
    ) -> None:
        answers.spoil(GUESTS, script)
        page = open_page(command=answers.command)
        page.until("#guests [role=alert] strong", said)
        page.until("#guests [role=alert]", "No answer since ")
        answers.answer(GUESTS, some_rows())
        page.until("#guests tbody th", "db0")
        page.gone("#guests .alert")

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("kill -9 $$", "was killed (signal KILL)."),
            ("exit 0", "apvfio has stopped watching the host."),
            ("echo '{\"half'", "gave an answer that this page cannot read."),
            ("echo '{}'; sleep 1000", "gave an answer that this page cannot read."),
            ("echo '{\"error\": [1, 2]}'; sleep 1000", "[1,2]"),
            (
                "head -c 20000000 /dev/zero | tr '\\0' y; sleep 1000",
                "gave an answer that this page cannot read.",
            ),
            ("exit 3", "failed with exit status 3: no message"),
        ],
    )
    def test_of_the_watch_is_on_top(
        self, answers: SpoiltAnswers, open_page: OpenPage, script: str, said: str
    ) -> None:
        answers.spoil(WATCH, script)
        page = open_page(command=answers.command, shown=False)
        page.until("#alerts strong", said)
        page.until("#alerts", "No answer since ")
        assert page.text("#live") == "not live"

    def test_of_the_masks_leaves_the_host_shown(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        answers.spoil(MASKS, "kill -9 $$")
        page = open_page(command=answers.command)
        page.until("#host .alert", "apvfio masks was killed (signal KILL).")
        page.until("#host", "0-255")
        answers.repair(MASKS)
        page.until("#host", "not stored")
        page.gone("#host .alert")

    @pytest.mark.parametrize("what", [PLAN, DEED])
    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("kill -9 $$", "apvfio masks was killed (signal KILL)."),
            ("echo '{\"ch'", "cannot read"),
            ("echo '{}'", ""),
        ],
    )
    def test_in_a_dialog_is_told_there(
        self,
        answers: SpoiltAnswers,
        host: SimulatedHost,
        open_page: OpenPage,
        what: str,
        script: str,
        said: str,
    ) -> None:
        answers.spoil(what, script)
        page = open_page(command=answers.command)
        page.plan("Change the masks…", apmask="-1", scope="active")
        if what == DEED:
            page.until("dialog .plan", "The host would lose")
            page.click("Change", "dialog")
            if not said:  # what it has done it need not say
                page.gone("dialog")
                return
        page.until("dialog [role=alert]", said or "cannot read")
        assert page.js("return document.querySelector('dialog button.primary').disabled")
        answers.repair(what)
        page.plan_anew()
        page.until("dialog .plan", "The host would lose")
        page.finish("Change")
        with host.opened() as system:
            assert system.sysfs.read("bus/ap/apmask").startswith("0xbf")

    def test_numbers_for_texts_are_shown(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        answers.answer(GUESTS, some_rows(guest=5, adapters=0, domains=0, state=0, conflicts=[7, None]))
        page = open_page(command=answers.command)
        page.until("#guests tbody", "adapters 0, domains 0")
        page.until("#guests tbody", "not together with 7, null")
        assert page.text("#guests tbody th") == "5"

    def test_a_thousand_guests_with_long_names(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        rivals = [f"{'r' * 200}{number}" for number in range(50)]
        answers.answer(GUESTS, some_rows(1000, conflicts=rivals))
        page = open_page(command=answers.command)
        page.until("#guests tbody tr:last-child th", "db999")
        page.until("#guests tbody", " and 42 more")
        wide = page.js("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert isinstance(wide, list)
        assert wide[0] <= wide[1]
        answers.answer(GUESTS, some_rows(guest="n" * 3000))
        page.eventually(lambda: page.text("#guests tbody th") == "n" * 79 + "…")


class TestOrder:
    """What is newer stays."""

    def test_an_older_answer_does_not_replace_a_newer_one(
        self, answers: SpoiltAnswers, host: SimulatedHost, open_page: OpenPage
    ) -> None:
        page = open_page(command=answers.command)
        page.until("#guests tbody th", "db1")
        (answers.directory / "old").write_text(some_rows(guest="older"))
        answers.spoil(GUESTS, f"sleep 1.5; cat {answers.directory}/old")
        before = answers.asked(GUESTS)
        page.eventually(lambda: answers.asked(GUESTS) > before)
        answers.answer(GUESTS, some_rows(guest="newer"))
        host.start(a_request("0", "1"))  # for which the page asks again
        page.until("#guests tbody th", "newer")
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert page.text("#guests tbody th") == "newer"
            time.sleep(0.05)

    def test_an_answer_after_the_time_is_nobodys(self, answers: SpoiltAnswers, open_page: OpenPage) -> None:
        """It is printed by one that no signal ends, as the page has given it up and asks the next."""
        (answers.directory / "old").write_text(some_rows(guest="older"))
        answers.spoil(GUESTS, f"trap '' TERM; sleep 8; cat {answers.directory}/old")
        page = open_page(command=answers.command)
        page.until("#guests [role=alert] strong", "gave no answer within 30 seconds.")
        answers.answer(GUESTS, some_rows(guest="newer"))
        page.until("#guests tbody th", "newer")
        ends(page, answers, GUESTS)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert page.text("#guests tbody th") == "newer"

    def test_a_button_pressed_twice_is_pressed_once(
        self, answers: SpoiltAnswers, host: SimulatedHost, open_page: OpenPage
    ) -> None:
        page = open_page(command=answers.command)
        page.js("for (const one of document.querySelectorAll('#host button')) { one.click(); one.click() }")
        assert page.js("return document.querySelectorAll('dialog').length") == 1
        page.plan_anew(apmask="-1", scope="active")
        page.until("dialog .plan", "The host would lose")
        page.js("const one = document.querySelector('dialog button.primary'); one.click(); one.click()")
        page.gone("dialog")
        assert answers.asked(DEED) == 1


def test_a_plan_made_on_another_state_is_refused(
    answers: SpoiltAnswers, host: SimulatedHost, open_page: OpenPage
) -> None:
    page = open_page(command=answers.command)
    page.plan("Change the masks…", apmask="-1", scope="active")
    page.until("dialog .plan", "The host would lose")
    # Another administrator, in another session.
    assert host.run("masks", "-a", "aqmask=-100") == 0
    page.click("Change", "dialog")
    page.until("dialog [role=alert] strong", "the host or the guest has changed since the plan was made.")
    assert page.js("return document.querySelector('dialog button.primary').disabled")
    with host.opened() as system:
        assert system.sysfs.read("bus/ap/apmask").strip() == "0x" + "f" * 64
    page.plan_anew()
    page.until("dialog .plan", "The active aqmask would be")
    page.finish("Change")
    page.until("#host", "0,2-255")


def test_a_dialog_without_fields_plans_again_too(
    answers: SpoiltAnswers, host: SimulatedHost, open_page: OpenPage
) -> None:
    host.start(a_request("0", "1"))
    with host.opened() as system:
        (device,) = system.sysfs.list("bus/mdev/devices")
    host.write(f"sys/devices/vfio_ap/matrix/{device}/remove", "1")
    page = open_page(command=answers.command)
    page.click("Reconcile…")
    page.until("dialog .plan", "return to the host")
    host.start(a_request("1", "2", n=2))
    page.click("Reconcile", "dialog")
    page.until("dialog [role=alert] strong", "has changed since the plan was made.")
    page.click("Show plan", "dialog")
    page.until("dialog .plan", "This host does not have to change.")
    page.finish("Reconcile")
    page.gone("#drift .alert")
