# SPDX-License-Identifier: Apache-2.0
"""``apvfio install``: install the files that other programs run and read."""

from __future__ import annotations

import argparse
import os
import sys

from apvfio.cli.host_options import opened
from apvfio.cli.install_steps import Work, add_options, end, is_host, run_all, show
from apvfio.install import checks, manifest, reload_commands
from apvfio.install.checks import Finding
from apvfio.install.file_changes import NEW, Found, apply, look, packaged, require_ours
from apvfio.install.installed_files import CALLOUT, CALLOUTS, HOOK, PREFIXES, Choices, contents
from apvfio.model.errors import ConflictError, HostError, UsageError, printable


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "install",
        help="install apvfio's hook, units, rules and manuals on this host",
        description="Show each change, then make it. No daemon is restarted.\n"
        "With --root DIR the files are put below DIR, and no command is run.",
    )
    parser.add_argument(
        "--prefix",
        metavar="DIR",
        default=PREFIXES[0],
        help=f"directory for units and manuals (default: {PREFIXES[0]}; packages use /usr)",
    )
    parser.add_argument(
        "--callout",
        action="store_true",
        help="also install the callout, by which mdevctl frees queues before it starts a device",
    )
    parser.add_argument(
        "--python",
        metavar="FILE",
        default=sys.executable,
        help="Python interpreter for libvirt's hook and the units (default: this one)",
    )
    parser.add_argument(
        "--package",
        action="store_true",
        help="with --root: gather the files of a package, and show the commands for its scripts",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Install it."""
    prefix, python = _prefix(args.prefix), _interpreter(args.python)
    with opened(args) as system:
        here = is_host(args, system)
        if args.package and here:
            raise UsageError("--package requires --root.", remedy="Add --root DIR.")
        known = manifest.load(system.files)
        choices = Choices(
            prefix,
            python,
            notifier=not here or checks.has_mdevctl(),
            cockpit=not here or checks.has_cockpit(),
            callouts=_place_for_callout(known, chosen=args.callout, here=here),
            packaged=args.package,
        )
        found = look(args.root, contents(choices), known.files)
        of_package = not args.package and packaged(args.root)
        if of_package:
            # The callout is the only choice that a package leaves.
            found = [f for f in found if os.path.basename(f.path) == CALLOUT]
            _require_choice(found)
        findings = checks.check(choices) if here else []
        _require_fit(findings)
        require_ours(found)
        package = reload_commands.of_package(choices) if args.package else {}
        work = Work(found, findings, [], [], package, _notes(found) if here else [])
        changes = here and not of_package
        done = changes and work.nothing and reload_commands.enabled() and not known.unfinished
        if changes and not done:
            work = work._replace(
                after=reload_commands.after_install(choices, [f.path for f in found if f.item])
            )
        show(work, args)
        failed = []
        if not args.dry_run:
            if args.package:
                apply(args.root, found)
            else:
                known = manifest.change(args.root, system.files, known, found)
                failed = run_all(work.after)
                if not failed:
                    manifest.finish(args.root, system.files, known)
    return end(work, args, failed)


def _prefix(path: str) -> str:
    normal = f"/{os.path.normpath(path).strip('/')}"
    if not os.path.isabs(path) or normal == "/" or not _plain(path):
        raise UsageError(
            f"--prefix is {printable(path)!r}.",
            remedy="Write an absolute path without blanks, such as /usr/local.",
        )
    return normal


def _interpreter(path: str) -> str:
    if not os.path.isabs(path) or not _plain(path):
        raise UsageError(
            f"--python is {printable(path)!r}.",
            remedy="Write an absolute path without blanks, such as /usr/bin/python3.",
        )
    return path


def _plain(path: str) -> bool:
    """Whether neither a shell nor systemd would read more into it."""
    return all(c.isascii() and (c.isalnum() or c in "/._-+") for c in path)


def _place_for_callout(known: manifest.Record, *, chosen: bool, here: bool) -> str:
    # An earlier choice is kept, and its files are updated.
    if not chosen and not any(f"{place}/{CALLOUT}" in known.files for place in CALLOUTS):
        return ""
    return checks.place_for_callout() if here else CALLOUTS[0]


def _require_choice(found: list[Found]) -> None:
    if not any(f.item for f in found):
        raise ConflictError(
            "the package apvfio is installed on this host.",
            remedy="Remove the package first; beside it only 'apvfio install --callout' is possible.",
        )


def _require_fit(findings: list[Finding]) -> None:
    hindering = [finding for finding in findings if finding.hinders]
    if hindering:
        first, *others = hindering
        more = "".join(f" In addition, {other.sentence} {other.remedy}" for other in others)
        raise HostError(first.sentence, remedy=f"{first.remedy}{more}")


def _notes(found: list[Found]) -> list[str]:
    directory = os.path.dirname(f"/{HOOK}")
    first = not os.path.exists("/etc/libvirt/hooks/qemu") and not _has_scripts(directory)
    daemon = checks.daemon_to_reload()
    if first and daemon and any(f.path == HOOK and f.state == NEW for f in found):
        return [
            f"libvirt had no hook so far. Let it look for hooks: systemctl reload {daemon}. "
            "Running guests are not affected."
        ]
    return []


def _has_scripts(directory: str) -> bool:
    try:
        return any(os.access(os.path.join(directory, name), os.X_OK) for name in os.listdir(directory))
    except OSError:
        return False
