# SPDX-License-Identifier: Apache-2.0
"""The scope of a change of a guest: ``--config``, ``--live``, ``--dry-run``."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.host_options import add_if_state
from apvfio.cli.terminal import warn
from apvfio.domain.xml_editor import difference
from apvfio.model.errors import ApvfioError, RequestError, UsageError, printable
from apvfio.plan.secure_execution import lost_binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.libvirt.guests import Guest
    from apvfio.model.ledger import Lease


def add_guest_or_file(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the argument GUEST and ``--xml`` in its place."""
    parser.add_argument("guest", nargs="?", metavar="GUEST", help="name, UUID or id of the guest")
    parser.add_argument(
        "--xml", metavar="FILE", help="file with the domain XML of the guest, in place of GUEST"
    )


def require_guest_or_file(args: argparse.Namespace) -> None:
    """Raise UsageError unless the command is given either a guest or a file, and no file is changed live."""
    verb = f"guest {args.verb}"
    if bool(args.guest) == bool(args.xml):
        sentence = f"{verb} takes either a guest's name or --xml FILE."
        raise UsageError(sentence, remedy=f"See 'apvfio {verb} --help'.")
    if args.xml and args.live:
        raise UsageError("a file has no running guest to change.", remedy="Omit --live.")


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options."""
    parser.add_argument("--config", action="store_true", help="change the guest's next start (default)")
    parser.add_argument(
        "--live",
        action="store_true",
        help="change the running guest at once; with --config, change its next start as well",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_if_state(parser)


class Scope(NamedTuple):
    """For when it is."""

    config: bool
    live: bool

    @classmethod
    def of(cls, args: argparse.Namespace, guest: Guest) -> Scope:
        """What the options say; RequestError if the guest has no next start, or does not run."""
        scope = cls(args.config or not args.live, args.live)
        if scope.config and not guest.persistent:
            raise RequestError(
                "it is transient and has no next start to change.",
                guest=guest.name,
                remedy="Use --live, or define it first.",
            )
        if scope.live and not guest.active:
            raise RequestError("it does not run.", guest=guest.name, remedy="Omit --live.")
        return scope


def warn_of_saved(guest: Guest) -> None:
    """Say on standard error that the definition does not count for the next start of a saved guest."""
    if not guest.saved:
        return
    name = shlex.quote(printable(guest.name))
    warning = RequestError(
        "its next start restores what 'virsh managedsave' stored, with the annotation and device of "
        "that time, not its present definition.",
        guest=guest.name,
        remedy=f"If the stored memory may be lost, run 'virsh managedsave-remove {name}'.",
    )
    warn(str(warning))


def warn_of_binding(lease: Lease) -> None:
    """Warn on standard error that a Secure Execution guest loses the binding of all its queues."""
    if lease.secure:
        warning = f"guest {printable(lease.guest)}: {lost_binding(list(lease.matrix.queues()))}"
        warn(f"{warning}.")


class DefinitionEdit(NamedTuple):
    """A change of a guest's definition, made by ``change`` from one XML to another."""

    before: bytes
    change: Callable[[bytes], bytes]

    @classmethod
    def of(cls, guest: Guest, change: Callable[[bytes], bytes]) -> DefinitionEdit:
        """The change of the definition that ``guest`` has now."""
        return cls(guest.xml(), change)

    @property
    def after(self) -> bytes:
        """The definition as it will be, without passwords."""
        return self.change(self.before)

    def lines(self) -> Iterator[str]:
        """What will change, in lines."""
        return difference(self.before, self.after)

    def make(self, guest: Guest) -> Callable[[], None]:
        """Let libvirt make the change; return the function that undoes it.

        ApvfioError if the definition has changed since it was read, or if libvirt refuses: nothing has
        changed then.
        """
        if guest.xml() != self.before:
            raise ApvfioError(
                "its definition was changed by another program.",
                guest=guest.name,
                remedy="Check it and try again.",
            )
        whole = guest.xml(secrets=True)
        changed = self.change(whole)
        if not any(difference(whole, changed)):
            return lambda: None
        guest.define(changed)
        return lambda: guest.define(whole)


def edited(edit: DefinitionEdit, guest: str, *, dry_run: bool) -> str:
    """Return, in a sentence, what an edit does to the definition of ``guest``, or would do in a dry run."""
    if not any(edit.lines()):
        return f"the definition of guest {guest} is like this already"
    return f"{'would change' if dry_run else 'changed'} the definition of guest {guest}"
