# SPDX-License-Identifier: Apache-2.0
"""The one error that the machine itself has."""


class MachineError(Exception):
    """The machine, not the command in it, came to grief: one sentence. ``status`` is what run exits with."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message)
        self.status = status


class TimedOutError(MachineError):
    """The deadline has passed."""

    def __init__(self) -> None:
        super().__init__("timeout", 124)
