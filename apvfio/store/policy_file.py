# SPDX-License-Identifier: Apache-2.0
"""The policy's file, /etc/apvfio/apvfio.toml: every mistake in it is named."""

from __future__ import annotations

from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.model.host import MASKS, OVERRIDES
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn
from apvfio.model.policy import DRAINS, IGNORE, REFUSE, WARN, Busy, Keep, Policy, Times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Files
    from apvfio.store.toml_table import Reader, Sections

POLICY = "etc/apvfio/apvfio.toml"
_LONGEST_SENTENCE = 300
_TABLES = ("[reserve]", "[keep]", "[busy]", "[time]")


def read_policy(files: Files) -> Policy:
    """Return the policy in force, with the drained area.

    RequestError names what is wrong with the file, FileError why it cannot be read; ApvfioError if the drains
    cannot be understood.
    """
    policy = parse_policy(files.read(POLICY))
    drains = files.read(DRAINS)
    if drains is None:
        return policy
    # Only a host with a drain pays for its parser.
    from apvfio.store.drain_file import drained_area, parse_drains  # noqa: PLC0415

    return policy._replace(drained=drained_area(parse_drains(drains)))


def read_times(files: Files) -> Times:
    """The policy's waits, or the usual ones where it cannot be used: no typo shall keep a guest's queues."""
    try:
        return parse_policy(files.read(POLICY)).times
    except ApvfioError:
        return Times()


def _sets_nothing(text: str) -> bool:
    """Return whether the file has only comments and names of tables; the parser decides unclear cases."""
    lines = text.split("\n")
    said = [line for line in lines if line and not line.startswith("#")]
    plain = all(map(str.isprintable, lines))
    return plain and len(set(said)) == len(said) and all(line in _TABLES for line in said)


def parse_policy(text: str | None) -> Policy:
    """Return the policy in the file's ``text``, None for no file. RequestError names what is wrong."""
    if text is None or _sets_nothing(text):
        return Policy()
    # Most hosts have no such file, or that of the package: only those that set something pay for its parser.
    from apvfio.store.toml_table import TOP, read_settings  # noqa: PLC0415

    try:
        found = read_settings(text, sections())
        top = found[TOP]
        if top.get("mechanism") == OVERRIDES and top.get("over_provisioning"):
            raise ValueError(
                'mechanism = "overrides" and over-provisioning = true exclude each other: '
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
            raise ValueError(f"has {str(item)!r}, which is not a queue such as 01.001b")
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
        raise ValueError(error.clause) from None


def sections() -> Sections:
    """Return every key with the reader of its value; examples/apvfio.toml explains each."""
    from apvfio.store.toml_table import TOP, one_of, true_or_false, whole_number  # noqa: PLC0415

    def blank_or(*words: str) -> Reader:
        chosen = one_of(*words)
        return lambda value: "" if value == "" else chosen(value)

    severity, count = one_of(REFUSE, WARN, IGNORE), whole_number(0, 65536)
    busy = ("requests", "zkey", "zcrypt-nodes", "default-domain")
    return {
        TOP: {
            "mechanism": blank_or(MASKS, OVERRIDES),
            "prefer": blank_or("adapters", "domains"),
            "over-provisioning": true_or_false,
        },
        "reserve": {"queues": _queues, "adapters": _ids, "domains": _ids},
        "keep": dict.fromkeys(("cca", "ep11", "accel"), count),
        "busy": dict.fromkeys(busy, severity),
        "time": {
            "release-wait": whole_number(1, 60),
            "lock-wait": whole_number(1, 600),
            "release-budget": whole_number(0, 60),
        },
    }


def _bad(why: str) -> RequestError:
    end = "" if why.endswith("?") else "."
    return RequestError(f"the policy /{POLICY} cannot be used: {why}{end}", remedy="Correct the file.")
