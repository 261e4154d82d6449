# SPDX-License-Identifier: Apache-2.0
"""The examination as text: a line for each check, then each problem and warning with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import OK, PROBLEM, SKIPPED, WARNING
from apvfio.model.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.doctor.check import Check
    from apvfio.doctor.run_checks import Examination

    Paint = Callable[[str, str], str]

_MARKS = {OK: "ok", WARNING: "warning", PROBLEM: "PROBLEM", SKIPPED: "-"}
_DECISIVE = ("ap-bus", "policy", "ledger", "connection", "guest", "start")
"""Checks that are necessary to say that guests start."""
_LONGEST = 1000


def _plain(text: str, _: str) -> str:
    return text


def lines(found: Examination, guest: str = "", paint: Paint = _plain) -> Iterator[str]:
    """All of it; ``paint`` gives a text the color of a state."""
    group = ""
    for check in found.checks:
        if check.group != group:
            group = check.group
            yield group
        yield f"  {paint(_MARKS[check.state], check.state)}{' ' * (8 - len(_MARKS[check.state]))}{check.text}"
    for state, title in ((PROBLEM, "problems"), (WARNING, "warnings")):
        checks = [check for check in found.checks if check.state == state]
        if checks:
            yield ""
            yield paint(f"{title}:", state)
        for number, check in enumerate(checks, 1):
            yield from _remedy(number, check)
    yield ""
    yield paint(_verdict(found, guest), PROBLEM if found.problems else OK)


def _remedy(number: int, check: Check) -> Iterator[str]:
    yield f"{number:>3}. {check.text}"
    if check.remedy:
        yield f"     {printable(check.remedy, _LONGEST)}"
    for command in check.commands:
        yield f"         {printable(command, _LONGEST)}"


def _verdict(found: Examination, guest: str) -> str:
    n, who = len(found.problems), f"guest {printable(guest)}"
    if n:
        what = f"{n} problem{'' if n == 1 else 's'}"
        if guest and any(check.state == SKIPPED and check.id == "guest" for check in found.checks):
            return f"{what}, and {who} was not checked."
        return f"{what}: {who} does not get its queues." if guest else f"{what}."
    if any(check.state == SKIPPED and check.id in _DECISIVE for check in found.checks):
        return "No problems found, but not everything could be checked."
    if any(check.state == WARNING and check.id == "start" for check in found.checks):
        return f"No problems found, but {who if guest else 'a guest'} runs without its queues."
    return f"No problems found: nothing keeps {who} from its queues." if guest else "No problems found."
