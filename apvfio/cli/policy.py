# SPDX-License-Identifier: Apache-2.0
"""``apvfio policy``: the settings in force, and whether the policy's file is valid."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.model.errors import Exit
from apvfio.model.ids import format_list
from apvfio.model.text import some_queues
from apvfio.store.policy_file import POLICY, parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.policy import Policy


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    policy = commands.add_parser("policy", help="show the policy in force, and check its file")
    verbs = policy.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="show all settings, including defaults")
    show.set_defaults(run=_show)
    add_json(show)
    check = verbs.add_parser("check", help="check the policy's file, and whether its reserved queues exist")
    check.set_defaults(run=_check)


def _show(args: argparse.Namespace) -> int:
    with opened(args) as system:
        policy = parse_policy(system.files.read(POLICY))
    print_result(args, settings(policy), _lines(settings(policy)))
    return Exit.OK


def _check(args: argparse.Namespace) -> int:
    with opened(args) as system:
        text = system.files.read(POLICY)
        policy = parse_policy(text)
        there = set(system.sysfs.list("bus/ap/devices"))
    print(f"/{POLICY} {'does not exist: the defaults apply' if text is None else 'is valid'}")
    absent = [queue for queue in policy.queues if str(queue) not in there]
    if absent:
        print(f"reserved, but not on this host: {some_queues(absent)}")
    return Exit.OK


def settings(policy: Policy) -> dict[str, object]:
    """Return all settings by their key, as the file has them; those of a table are an object of their own."""
    times = {key.replace("_", "-"): value for key, value in policy.times._asdict().items()}
    return {
        "mechanism": policy.mechanism,
        "prefer": policy.prefer,
        "over-provisioning": policy.over_provisioning,
        "reserve": {
            "queues": [str(queue) for queue in sorted(policy.queues)],
            "adapters": format_list(policy.adapters),
            "domains": format_list(policy.domains),
        },
        "keep": policy.keep._asdict(),
        "busy": {key.replace("_", "-"): value for key, value in policy.busy._asdict().items()},
        "time": {key: int(value) for key, value in times.items()},
    }


def _lines(found: dict[str, object]) -> Iterator[str]:
    """The settings as a file that could be the policy's."""
    for key, value in found.items():
        if not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}"
    for table, values in found.items():
        if isinstance(values, dict):
            yield from ("", f"[{table}]", *(_line(key, value) for key, value in values.items()))


def _line(key: str, value: object) -> str:
    # A list of ids cannot be empty in the file.
    return f"{'#' if value == '' else ''}{key} = {json.dumps(value)}"
