# SPDX-License-Identifier: Apache-2.0
"""apvfio at the destination of a migration, called through its command ``incoming``."""

from __future__ import annotations

import json
import os
import re
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from apvfio.mdev import programs
from apvfio.mdev.devices import is_uuid
from apvfio.migration.compare_queues import Equipment, equipment_from
from apvfio.migration.hold import Hold
from apvfio.model import errors
from apvfio.model.errors import ApvfioError, Exit, HostError, RequestError, printable
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from apvfio.migration.budget import Budget

_PATIENCE = 300.0
"""Seconds for one command there: some hundred queues may be reset one after the other."""
_ENDING = 5.0
"""Seconds for a process there that has closed its output."""
_LIMIT = 8 << 20
_SAID = 300
_KEPT = ("HOME", "USER", "LOGNAME", "TERM", "DISPLAY", "SSH_AUTH_SOCK", "SSH_ASKPASS", "KRB5CCNAME")
_KINDS = {
    kind.kind: kind
    for kind in (
        *(errors.ApvfioError, errors.ConflictError, errors.PolicyError),
        *(errors.HostError, errors.RequestError, errors.UsageError),
    )
}


def ssh_environment() -> dict[str, str]:
    """Return the part of the environment with which ssh finds its keys and asks for a password."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class Prospect(NamedTuple):
    """What the destination would do for a guest."""

    plan: dict[str, Any]
    """As ``plan --json`` prints it, by whatever apvfio is there."""
    equipment: dict[Apqn, Equipment]
    migratable: bool = False
    """Whether its kernel takes a guest with its device; False for an apvfio that does not say so."""
    control_domains: IdSet | None = None
    """The control domains that it has; None if it does not say so."""


class Expectation(NamedTuple):
    """What the destination holds for a guest."""

    mdev: str
    """The uuid of its mediated device, lower case."""
    waits: bool
    """Whether the destination still waits for the guest: libvirt's hook has not run for it there."""


class OtherHost:
    """apvfio at the destination, run by ``command``; answers that cannot be understood are errors.

    A guest is named by its letter (`apvfio.domain.xml_editor.minimal_xml`).
    """

    def __init__(self, command: Sequence[str], budget: Budget) -> None:
        self._command = list(command)
        self._budget = budget

    def preview(self, letter: bytes) -> Prospect:
        """What `expect` would do there; its refusal is raised as an error of the same kind."""
        answer = self._ask(["--dry-run"], letter)
        try:
            equipment = equipment_from(answer.get("equipment"))
        except ValueError as error:
            raise self._strange(str(error)) from None
        plan = answer.get("plan")
        if not isinstance(plan, dict):
            raise self._strange("it has no plan")
        control_domains = answer.get("control_domains")
        try:
            controls = _ids(control_domains) if isinstance(control_domains, str) else None
        except RequestError as error:
            raise self._strange(error.clause) from None
        return Prospect(plan, equipment, answer.get("migratable") is True, controls)

    def expect(self, letter: bytes) -> Expectation:
        """Free its queues and create its mediated device; again it does nothing."""
        answer = self._ask([], letter)
        mdev, waits = answer.get("mdev"), answer.get("expected")
        if not isinstance(mdev, str) or not is_uuid(mdev):
            raise self._strange("it names no device")
        return Expectation(mdev.lower(), waits=bool(waits))

    def hold(self, letter: bytes) -> Hold:
        """The same for a guest that comes with its device; masks and overrides are held still there."""
        with tempfile.TemporaryFile() as errors:
            try:
                held = Hold(
                    [*self._command, "incoming", "--hold", "--json"], letter, ssh_environment(), errors
                )
            except programs.ProgramError as error:
                raise self._unreachable(str(error)) from None
            seconds = min(_PATIENCE, self._budget.for_call())
            try:
                answer = held.answer(seconds)
                if answer is None:
                    code = held.end(_ENDING)
                    errors.seek(0)
                    self._judge(code if code is not None else -1, held.output, errors.read(_LIMIT))
                    raise self._strange("it holds nothing still")
            except TimeoutError:
                held.end(0)
                command = printable(self._command[0])
                raise self._unreachable(f"{command} did not answer within {seconds:.0f} s") from None
            except BaseException:
                held.end(0)
                raise
        return held

    def let_go(self, held: Hold) -> bool:
        """End that: masks and overrides may change there again; whether the destination waits for the guest.

        HostError if that is not known.
        """
        code = held.end(min(_PATIENCE, self._budget.for_call()))
        if code is None:
            raise self._unreachable("it did not end in time")
        if code:
            self._judge(code, held.output, b"")
        return bool((held.last_answer() or {}).get("expected"))

    def give_up(self, letter: bytes) -> None:
        """Return the queues that are held for the guest, if any."""
        self._ask(["--give-up"], letter)

    def _ask(self, options: list[str], letter: bytes) -> dict[str, Any]:
        words = [*self._command, "incoming", *options, "--json"]
        seconds = min(_PATIENCE, self._budget.for_call())
        try:
            done = programs.run(words, stdin=letter, timeout=seconds, more=ssh_environment(), shielded=True)
        except programs.ProgramError as error:
            raise self._unreachable(str(error)) from None
        return self._judge(done.returncode, done.stdout, done.stderr)

    def _judge(self, code: int, output: bytes, errors: bytes) -> dict[str, Any]:
        """What a command that has ended answered; its refusal is raised as an error of the same kind."""
        answer = _document(output) if len(output) <= _LIMIT else None
        if answer is None:
            said = " ".join(errors.decode("utf-8", "replace").split())
            if code == Exit.USAGE and "incoming" in said:
                raise self._strange("it does not know the command 'incoming'")
            raise self._unreachable(f"exit code {code}: {printable(said, _SAID) or 'no answer'}")
        if code:
            refused = answer.get("error")
            refused = refused if isinstance(refused, dict) else {}
            if refused.get("kind") == "usage":
                raise self._strange("it does not know the command 'incoming'")
            raise _refusal(refused)
        return answer

    def _unreachable(self, why: str) -> HostError:
        return HostError(
            f"apvfio at the destination ({printable(self._command[0])}) does not answer: {why.rstrip('.')}.",
            remedy="See whether it is installed there and can be run as root, or name it with --at.",
        )

    def _strange(self, why: str) -> HostError:
        sentence = f"the answer of apvfio at the destination is not understood: {why}."
        return HostError(sentence, remedy="Have the same version on both hosts.")


def _ids(text: str) -> IdSet:
    return parse_list(text, "control_domains") if text else NO_IDS


def _document(output: bytes) -> dict[str, Any] | None:
    """Return the JSON object at the end of a command's output; a login may print text before it."""
    text = output.decode("utf-8", "replace")
    starts = [0, *(match.start() for match in re.finditer(r"^\{", text, re.MULTILINE))]
    for start in reversed(starts):
        try:
            found = json.loads(text[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _refusal(error: dict[str, Any]) -> ApvfioError:
    kind = _KINDS.get(str(error.get("kind")), ApvfioError)
    named = error.get("queues")
    queues = [Apqn.parse(name) for name in named if isinstance(name, str)] if isinstance(named, list) else []
    return kind(
        f"the destination refuses: {printable(str(error.get('message') or 'it does not say why.'), 1000)}",
        remedy=str(error.get("remedy") or ""),
        queues=[queue for queue in queues if queue],
    )
