# SPDX-License-Identifier: Apache-2.0
"""What the administrator reserves for the host: /etc/apvfio/apvfio.toml.

No annotation can override it: a guest says what it wants, the policy says what may be had.
"""

from __future__ import annotations

from typing import NamedTuple

from apvfio.errors import RequestError, printable
from apvfio.host import MASKS, OVERRIDES
from apvfio.mask import NO_IDS, IdSet, parse_list
from apvfio.matrix import Apqn

POLICY = "etc/apvfio/apvfio.toml"


class Policy(NamedTuple):
    """The queues no guest may have and no mask change may take from the host."""

    queues: frozenset[Apqn] = frozenset()
    adapters: IdSet = NO_IDS
    domains: IdSet = NO_IDS
    mode: str = ""
    """Which mechanism to use on a host where both are open: ``masks`` or ``overrides``, '' for either."""
    prefer: str = ""
    """Which way to free guests by, with the masks: ``adapters`` or ``domains``, '' for the cheaper."""

    def reserves(self, queue: Apqn) -> bool:
        """Whether ``queue`` must stay with the host."""
        return queue in self.queues or queue.adapter in self.adapters or queue.domain in self.domains


def parse_policy(text: str | None) -> Policy:
    """The policy in the file's ``text``; None is no file: nothing reserved. RequestError names the line."""
    if text is None:
        return Policy()
    # Most hosts have no policy: only those that have one pay for the parser.
    import tomllib  # noqa: PLC0415

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(f"it is not valid TOML: {printable(str(error))}") from None
    _known(document, ("mode", "prefer", "reserve"), "the file")
    mode = _one_of(document, "mode", (MASKS, OVERRIDES))
    prefer = _one_of(document, "prefer", ("adapters", "domains"))
    reserve = document.get("reserve", {})
    if not isinstance(reserve, dict):
        raise _bad("reserve is not a table")
    _known(reserve, ("queues", "adapters", "domains"), "[reserve]")
    return Policy(
        frozenset(_queues(reserve.get("queues", []))),
        _ids(reserve, "adapters"),
        _ids(reserve, "domains"),
        mode,
        prefer,
    )


def _known(table: dict[str, object], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            import difflib  # noqa: PLC0415

            near = difflib.get_close_matches(key, keys, 1)
            hint = f", did you mean {near[0]}?" if near else f"; known are {', '.join(keys)}"
            raise _bad(f"{where} has the unknown key {printable(key)!r}{hint}")


def _one_of(table: dict[str, object], key: str, words: tuple[str, str]) -> str:
    value = table.get(key, "")
    if value not in ("", *words):
        raise _bad(f"{key} is {printable(str(value))!r}, which is neither {words[0]} nor {words[1]}")
    return str(value)


def _queues(value: object) -> list[Apqn]:
    if not isinstance(value, list):
        raise _bad('reserve.queues is not a list such as ["01.001b"]')
    queues = []
    for item in value:
        queue = Apqn.parse(item) if isinstance(item, str) else None
        if queue is None:
            raise _bad(f"reserve.queues has {printable(str(item))!r}, which is no queue such as 01.001b")
        queues.append(queue)
    return queues


def _ids(table: dict[str, object], key: str) -> IdSet:
    if key not in table:
        return NO_IDS
    value = table[key]
    if not isinstance(value, str):
        raise _bad(f'reserve.{key} is not a text such as "0,0xa,3-5"')
    return parse_list(value, f"reserve.{key} in /{POLICY}")


def _bad(why: str) -> RequestError:
    return RequestError(f"the policy /{POLICY} cannot be used: {why}.", remedy="Mend the file.")
