# SPDX-License-Identifier: Apache-2.0
"""One tree of errors. Each has its facts in attributes, and a remedy."""

from __future__ import annotations

from errno import ENOMEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self


_LONGEST = 1000
"""Characters of a sentence or a remedy; the longest of our own have some 400."""


class Exit:
    """The exit codes of every command and of the hook."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFLICT = 3
    POLICY = 4
    HOST = 5
    REQUEST = 6
    INTERRUPTED = 130
    """By SIGINT; as the shell reports it."""


class ApvfioError(Exception):
    """An error for a user: one sentence, the queues that it concerns, and a remedy.

    ``kind`` is the stable name of the error in JSON, ``code`` the process' exit code.
    """

    code = Exit.FAILURE
    kind = "failure"
    facts: tuple[str, ...] = ()
    """The names of the attributes that this kind has beyond those of all; keywords of its constructor."""

    def __init__(
        self,
        sentence: str,
        *,
        remedy: str = "",
        guest: str = "",
        queues: Iterable[tuple[int, int]] = (),
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.guest = guest
        self.queues = tuple(sorted(queues))
        """Of `apvfio.model.matrix.Apqn`, which knows of errors and is not known here."""

    def for_guest(self, guest: str) -> ApvfioError:
        """The same error, naming ``guest`` if it names none yet."""
        self.guest = self.guest or guest
        return self

    def adding(self, sentence: str = "", *, remedy: str = "") -> Self:
        """The same error, with more to its sentence or its remedy."""
        self.sentence = f"{self.sentence} {sentence}".strip()
        self.remedy = f"{self.remedy} {remedy}".strip()
        return self

    @property
    def clause(self) -> str:
        """The sentence as a part of another."""
        return self.sentence.strip().removesuffix(".")

    def __str__(self) -> str:
        who = f"guest {printable(self.guest)}: " if self.guest else ""
        # Both may quote foreign text: a path, a list of ids, an option.
        what_to_do = f" {printable(self.remedy, _LONGEST)}" if self.remedy else ""
        return f"{who}{printable(self.sentence, _LONGEST)}{what_to_do}"

    def as_json(self) -> dict[str, object]:
        """The error as documents hold it; a command that fails prints ``{"error": ...}``."""
        return {
            "kind": self.kind,
            "message": self.sentence,
            "guest": self.guest or None,
            "queues": [str(queue) for queue in self.queues],
            "remedy": self.remedy or None,
            **{name: getattr(self, name) for name in self.facts},
        }


class UsageError(ApvfioError):
    """The command line is wrong."""

    code = Exit.USAGE
    kind = "usage"


class ConflictError(ApvfioError):
    """A queue, or the mediated device, has another owner."""

    code = Exit.CONFLICT
    kind = "conflict"


class PolicyError(ApvfioError):
    """The administrator's policy forbids it."""

    code = Exit.POLICY
    kind = "policy"


class HostError(ApvfioError):
    """The host lacks something: the AP bus, a driver, an adapter, a right."""

    code = Exit.HOST
    kind = "host"


class FileError(HostError):
    """A file of apvfio's cannot be read or written. ``errno`` and ``path`` say why and which."""

    kind = "file"
    facts = ("errno", "path")

    def __init__(self, sentence: str, *, errno: int, path: str, remedy: str = "") -> None:
        super().__init__(sentence, remedy=remedy)
        self.errno = errno
        self.path = path


class RequestError(ApvfioError):
    """The request, or another text given to us, cannot be understood."""

    code = Exit.REQUEST
    kind = "request"


class KernelRefusedError(ApvfioError):
    """The kernel refused a write. ``errno``, ``path`` (below /sys) and ``value`` say which."""

    kind = "kernel"
    facts = ("errno", "path", "value")

    def __init__(self, sentence: str, *, errno: int, path: str, value: str, remedy: str = "") -> None:
        super().__init__(sentence, remedy=remedy)
        self.errno = errno
        self.path = path
        self.value = value


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether memory was lacking; Python says so in several ways.

    Its own modules raise SystemError where they forget to set an error; dlopen(3) gives a text alone.
    """
    return (
        isinstance(error, (MemoryError, SystemError))
        or (isinstance(error, OSError) and error.errno == ENOMEM)
        or (isinstance(error, ImportError) and "failed to map segment" in str(error))
    )


def unexpected(error: Exception, remedy: str = "Please report this.") -> ApvfioError:
    """The error to print in place of a traceback."""
    if is_lack_of_memory(error):
        return HostError(
            "apvfio ran out of memory.",
            remedy="The next call finishes or undoes what was begun; give that one more memory.",
        )
    if isinstance(error, RecursionError):
        return RequestError("the input is nested too deeply.", remedy="Simplify it.")
    if isinstance(error, ImportError):
        return ApvfioError(
            f"apvfio's modules do not fit together: {printable(str(error))}.",
            remedy="If it is being updated, try again; otherwise install it again.",
        )
    return ApvfioError(f"unexpected {type(error).__name__}: {error}.", remedy=remedy)


def printable(text: str, limit: int = 80) -> str:
    """Untrusted text made fit for one line of a terminal or a log, at most ``limit`` characters."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
