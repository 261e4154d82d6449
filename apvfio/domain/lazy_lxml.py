# SPDX-License-Identifier: Apache-2.0
"""lxml's ``etree``, imported when something of it is first used.

Each command imports the modules of all commands, and most commands need no XML library. Without it they
work as ever; a command that reads or edits XML ends with a sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import HostError

if TYPE_CHECKING:
    from lxml import etree
else:

    class _Etree:
        def __getattr__(self, name: str) -> object:
            try:
                from lxml import etree as found  # noqa: PLC0415
            except ImportError:
                raise HostError(
                    "lxml, the XML library for Python, is not installed.",
                    remedy="Install python3-lxml.",
                ) from None
            value = getattr(found, name)
            setattr(self, name, value)
            return value

    etree = _Etree()

__all__ = ["etree"]
