# SPDX-License-Identifier: Apache-2.0
"""What the administrator keeps for the host and allows to guests: /etc/apvfio/apvfio.toml.

No annotation can override it: a guest says what it wants, the policy says what may be had.
"""

from __future__ import annotations

from functools import lru_cache

from apvfio.errors import ApvfioError, RequestError, printable
from apvfio.host import MASKS, OVERRIDES
from apvfio.mask import NO_IDS, IdSet, parse_list
from apvfio.matrix import Apqn
from apvfio.settings import TOP, one_of, read_settings, true_or_false, whole_number
from apvfio.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from apvfio.settings import Sections
    from apvfio.system import Files

POLICY = "etc/apvfio/apvfio.toml"

REFUSE = "refuse"
WARN = "warn"
IGNORE = "ignore"

_LONGEST_SENTENCE = 300


class Keep(NamedTuple):
    """How many usable queues of each mode stay with the host, whatever guests ask for."""

    cca: int = 0
    ep11: int = 0
    accel: int = 0


class Busy(NamedTuple):
    """What a start does that would take a queue the host uses: `REFUSE`, `WARN` or `IGNORE`."""

    requests: str = WARN
    """It has requests under way: taking it makes them fail."""
    zkey: str = REFUSE
    """A key of zkey's repository is bound to it: volumes encrypted with that key need it."""
    zcrypt_nodes: str = REFUSE
    """A device node made with zcryptctl is open to it: a container or a program was given it."""
    default_domain: str = WARN
    """It is the last that the host has of its default domain, which requests go to that name none."""


class Times(NamedTuple):
    """How long apvfio waits for others, in seconds."""

    release_wait: float = 3
    """For the last guest to let go of a device when it is taken home: its queues are being reset."""
    lock_wait: float = 60
    """For the locks, all those of one call together: for another apvfio, and for tools of s390-tools,
    which were seen to hold theirs for 14 s while the kernel reset queues slowly."""
    release_budget: float = 2
    """For a call of libvirt's to give queues back; what would take longer is left to a unit of systemd's."""


class Policy(NamedTuple):
    """The queues no guest may have and no mask change may take from the host, and the other rules."""

    queues: frozenset[Apqn] = frozenset()
    adapters: IdSet = NO_IDS
    domains: IdSet = NO_IDS
    mode: str = ""
    """Which mechanism to use on a host where both are open: ``masks`` or ``overrides``, '' for either."""
    prefer: str = ""
    """Which way to free guests by, with the masks: ``adapters`` or ``domains``, '' for the cheaper."""
    over_provisioning: bool = False
    """Whether guests may ask for adapters and domains that this host does not have (yet)."""
    keep: Keep = Keep()
    busy: Busy = Busy()
    times: Times = Times()

    def reserves(self, queue: Apqn) -> bool:
        """Whether ``queue`` must stay with the host."""
        return queue in self.queues or queue.adapter in self.adapters or queue.domain in self.domains


def read_policy(files: Files) -> Policy:
    """The policy in force; RequestError names what is wrong with its file, FileError why none can be read."""
    return parse_policy(files.read(POLICY))


def read_times(files: Files) -> Times:
    """The policy's waits, or the usual ones where it cannot be used: no typo shall keep a guest's queues."""
    try:
        return read_policy(files).times
    except ApvfioError:
        return Times()


# A start reads it twice: for the wait for the lock, and again under the lock.
@lru_cache(maxsize=1)
def parse_policy(text: str | None) -> Policy:
    """The policy in the file's ``text``; None is no file. RequestError names what is wrong."""
    if text is None:
        return Policy()
    try:
        found = read_settings(text, SECTIONS)
        top = found[TOP]
        if top.get("mode") == OVERRIDES and top.get("over_provisioning"):
            raise ValueError(
                'mode = "overrides" and over-provisioning = true exclude each other: '
                "a queue that is not there has no driver_override"
            )
    except (ValueError, RecursionError) as error:
        raise _bad(printable(str(error), _LONGEST_SENTENCE)) from None
    return Policy(
        **found["reserve"],
        **top,
        keep=Keep(**found["keep"]),
        busy=Busy(**found["busy"]),
        times=Times(**found["time"]),
    )


def _queues(value: object) -> frozenset[Apqn]:
    if not isinstance(value, list):
        raise ValueError('is not a list such as ["01.001b"]')
    queues = []
    for item in value:
        queue = Apqn.parse(item) if isinstance(item, str) else None
        if queue is None:
            raise ValueError(f"has {str(item)!r}, which is no queue such as 01.001b")
        if queue in queues:
            raise ValueError(f"has {queue} twice")
        queues.append(queue)
    return frozenset(queues)


def _ids(value: object) -> IdSet:
    if not isinstance(value, str):
        raise ValueError('is not a text such as "0,0xa,3-5"')
    try:
        return parse_list(value, "")
    except RequestError as error:
        raise ValueError(error.sentence.strip().removesuffix(".")) from None


def _blank_or(*words: str) -> Any:
    chosen = one_of(*words)
    return lambda value: "" if value == "" else chosen(value)


_SEVERITY = one_of(REFUSE, WARN, IGNORE)
_COUNT = whole_number(0, 65536)

SECTIONS: Sections = {
    TOP: {
        "mode": _blank_or(MASKS, OVERRIDES),
        "prefer": _blank_or("adapters", "domains"),
        "over-provisioning": true_or_false,
    },
    "reserve": {"queues": _queues, "adapters": _ids, "domains": _ids},
    "keep": {"cca": _COUNT, "ep11": _COUNT, "accel": _COUNT},
    "busy": {
        "requests": _SEVERITY,
        "zkey": _SEVERITY,
        "zcrypt-nodes": _SEVERITY,
        "default-domain": _SEVERITY,
    },
    "time": {
        "release-wait": whole_number(1, 60),
        "lock-wait": whole_number(1, 600),
        "release-budget": whole_number(0, 60),
    },
}
"""Every key, and what reads its value; examples/apvfio.toml tells an administrator of each."""


def _bad(why: str) -> RequestError:
    end = "" if why.endswith("?") else "."
    return RequestError(f"the policy /{POLICY} cannot be used: {why}{end}", remedy="Mend the file.")
