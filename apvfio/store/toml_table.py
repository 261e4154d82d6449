# SPDX-License-Identifier: Apache-2.0
"""Read a settings file in TOML by a table of its keys; every mistake is named.

The table has the known keys of each section, '' for the top of the file. Each key has a reader that turns its
value into apvfio's, or raises ValueError with the rest of the sentence.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from apvfio.model.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    Reader = Callable[[object], Any]
    Sections = Mapping[str, Mapping[str, Reader]]

_SHOWN = 80

TOP = ""


def read_settings(text: str, sections: Sections) -> dict[str, dict[str, Any]]:
    """Return the settings in ``text`` by section, keys with underscores; ValueError says what is wrong."""
    tomllib = toml_parser()
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"it is not valid TOML: {error}") from None
    found = {}
    for section, readers in sections.items():
        table = document.get(section, {}) if section else document
        if not isinstance(table, dict):
            raise ValueError(f"{section} is not a table: write [{section}] on a line of its own")
        values = {key: value for key, value in table.items() if section or not key or key not in sections}
        for key in values:
            _require_known(key, section, sections)
        found[section] = {
            key.replace("-", "_"): _read(value, readers[key], f"{section}.{key}" if section else key)
            for key, value in values.items()
        }
    return found


def toml_parser() -> ModuleType:
    """Return tomllib or, before Python 3.11, tomli, which became it; HostError if there is neither."""
    from importlib import import_module  # noqa: PLC0415

    for name in ("tomllib", "tomli", "apvfio.bundled.tomli"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise HostError(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} needs the module tomli to read TOML.",
        remedy="Install the package python3-tomli.",
    )


def one_of(*words: str) -> Reader:
    """A reader of one of some words."""

    def read(value: object) -> str:
        if value in words:
            return str(value)
        if len(words) == 2:
            raise ValueError(f"is {_shown(value)}, which is neither {words[0]} nor {words[1]}")
        raise ValueError(f"is {_shown(value)}, which is not one of {', '.join(words)}")

    return read


def whole_number(least: int, most: int) -> Reader:
    """A reader of a whole number from ``least`` to ``most``."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"is {_shown(value)}, which is not a whole number from {least} to {most}")
        return value

    return read


def true_or_false(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"is {_shown(value)}, which is neither true nor false, written without quotes")
    return value


def _read(value: object, reader: Reader, name: str) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _require_known(key: str, section: str, sections: Sections) -> None:
    keys = [*sections[section], *(() if section else filter(None, sections))]
    if key in keys:
        return
    where = f"[{section}]" if section else "the file"
    raise ValueError(f"{where} has the unknown key {_shown(key)}{_hint(key, keys, sections)}")


def _hint(key: str, keys: list[str], sections: Sections) -> str:
    for home, readers in sections.items():
        if key in readers:
            return f", which belongs {f'in [{home}]' if home else 'at the top, before the first [table]'}"
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(key, keys, 1)
    return f", did you mean {near[0]}?" if near else f"; known are {', '.join(keys)}"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return repr(text[:_SHOWN])
