# SPDX-License-Identifier: Apache-2.0
"""mdevctl's protocol for callouts and notifiers (callouts.rs).

Both are programs, called with the same words and with the device's JSON on standard input; mdevctl 1.3 and
newer give notifiers no JSON. mdevctl calls a callout before (``pre``) and after (``post``) each action, and
for information that only the callout has (``get``). One callout serves a type of device, and its refusal of
``pre`` ends the action. All notifiers run after every action, also after a failed one; their exit codes and
output are dropped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from apvfio.mdev.devices import is_uuid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCRIPTS = ("usr/lib/mdevctl/scripts.d", "etc/mdevctl.d/scripts.d")
"""Where the directories ``callouts`` and ``notifiers`` are, in the order in which 1.3 and newer look; 1.2
knows the second only."""

PRE, POST, GET = "pre", "post", "get"
START, STOP, MODIFY = "start", "stop", "modify"
DEFINE, UNDEFINE = "define", "undefine"
ATTRIBUTES = "attributes"

SERVED = 0
REFUSED = 1
NOT_MINE = 2
"""The exit code of a callout for devices that are not its own."""

_OPTIONS = {"-t": "type", "-e": "event", "-a": "action", "-s": "state", "-u": "uuid", "-p": "parent"}


class CallError(ValueError):
    """Words that are no call of mdevctl's; the message is a sentence that says why."""


class Call(NamedTuple):
    """One call by mdevctl."""

    type: str
    """The device's type, as below its parent's ``mdev_supported_types``."""
    event: str
    action: str
    state: str
    """How the action went: ``success``, ``failure``, or ``none`` before it."""
    uuid: str
    """The device's, lower case."""
    parent: str


def parse_call(words: Sequence[str]) -> Call:
    """The call that a callout's or notifier's arguments make; CallError if they make none."""
    options, values = words[::2], words[1::2]
    unknown = [option for option in options if option not in _OPTIONS]
    if unknown:
        raise CallError(f"{unknown[0][:40]!r} is not an option of mdevctl's callouts.")
    if sorted(options) != sorted(_OPTIONS) or len(values) != len(_OPTIONS):
        raise CallError(f"mdevctl's callouts are given each of {' '.join(_OPTIONS)} once, with a value.")
    call = Call(**{_OPTIONS[option]: value for option, value in zip(options, values)})
    if not is_uuid(call.uuid):
        raise CallError(f"{call.uuid[:40]!r} is not a UUID.")
    return call._replace(uuid=call.uuid.lower())


def attributes(values: Iterable[tuple[str, str]]) -> str:
    """Return the answer to ``get attributes``: the attributes of the existing device, for another one."""
    return json.dumps([{name: value} for name, value in values])
