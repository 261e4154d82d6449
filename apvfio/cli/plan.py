# SPDX-License-Identifier: Apache-2.0
"""``apvfio plan``: show what the start of a guest would do to this host."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.guest_source import add_source, read_domain, read_domains
from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.domain.request import request_of
from apvfio.engine.master_keys import known_keys
from apvfio.engine.plan_start import all_named
from apvfio.engine.preview import preview_start
from apvfio.engine.state import look
from apvfio.kernel.usage import read_usage
from apvfio.model.criteria import count
from apvfio.model.errors import ApvfioError, Exit, RequestError, printable
from apvfio.model.host import OVERRIDES
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.all_guests import plan_all_guests
from apvfio.plan.key_warnings import dependence_warnings
from apvfio.plan.start_plan import ALREADY_FREE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText
    from apvfio.plan.all_guests import AllGuests
    from apvfio.plan.options import Option
    from apvfio.plan.start_plan import Plan


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("plan", help="preview the start of a guest; change nothing")
    add_source(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="plan all guests that libvirt knows, or those of several --xml, together",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan and print."""
    return _run_all(args) if args.all else _run_one(args)


def _run_one(args: argparse.Namespace) -> int:
    xml, what = read_domain(args)
    with opened(args) as system:
        request = request_of(system.files, xml)
        if request is None:
            raise RequestError(f"{what} has no annotation.", remedy="Add one with 'apvfio guest set'.")
        found = preview_start(system, request)
    print_result(args, found.as_json(), describe(found))
    return Exit.OK


def _run_all(args: argparse.Namespace) -> int:
    documents = read_domains(args)
    with opened(args) as system:
        requests, errors = _requests(system, documents)
        host, ledger, policy = look(system)
        requests, unmet = all_named(system, requests, host, ledger, policy)
        facts = read_usage(system, host, [request.matrix for request in requests], policy)
        found = plan_all_guests(requests, host, ledger, policy, facts)
        told = [said for request in found.guests for said in _about_keys(system, host, request)]
    found = found._replace(warnings=(*found.warnings, *told))
    found = found._replace(errors=(*errors, *unmet, *found.errors))
    print_result(args, found.as_json(), all_guests_text(found))
    return Exit.OK


def _about_keys(system: System, host: Host, request: Request) -> Iterator[WarningText]:
    """What to warn of, in sentences that name the guest, if it depends on master keys."""
    if request.secure or (request.criteria and request.criteria.names_keys):
        keys = known_keys(system, host, request.matrix.queues())
        for said in dependence_warnings(request, keys):
            yield f"guest {printable(request.guest)}: {said}"


def _requests(system: System, documents: list[bytes]) -> tuple[list[Request], list[ApvfioError]]:
    """Return the requests of all guests, and the errors in the annotations of the others."""
    requests, errors = [], []
    for xml in documents:
        try:
            request = request_of(system.files, xml)
        except ApvfioError as error:
            errors.append(error)
        else:
            requests += [request] if request else []
    return requests, errors


def describe(found: Plan) -> list[str]:
    """The plan in lines for a person."""
    secure = " (Secure Execution)" if found.request.secure else ""
    lines = [f"{'guest':<13}{printable(found.request.guest)}{secure}"]
    if found.keeps is not None:
        has = "has no queues from apvfio" if found.keeps.empty else f"keeps {found.keeps} until it stops"
        lines.append(
            f"{'now':<13}it runs and {has}; this is the plan of its next start, if nothing else changes"
        )
    rows = [
        ("mdev", found.request.mdev),
        *([("criteria", str(found.request.criteria))] if found.request.criteria else []),
        ("queues", str(found.request.matrix)),
        ("freed by", _option_text(found)),
        *([("reason", found.preference_reason)] if found.preference_reason else []),
        *([("alternative", _cost_text(found.runner_up))] if found.runner_up else []),
        *(("master keys", text) for text in keys_text(found.keys)),
        *(("warning", warning) for warning in found.warnings),
    ]
    lines += [f"{label:<13}{text}" for label, text in rows]
    lines += ["", "steps:"]
    lines += [f"  {step.op:<7} echo {step.value} > /sys/{step.path}" for step in found.steps]
    lines += [f"equivalent chzdev command: {command}" for command in found.chzdev()]
    return lines


def keys_text(keys: Mapping[Apqn, SeenKeys]) -> Iterator[str]:
    """Which master keys were read now, and since when the others are remembered."""
    fresh = [queue for queue, seen in keys.items() if seen.fresh]
    if fresh:
        yield f"read now: {some_queues(fresh)}"
    for when in sorted({seen.when for seen in keys.values() if not seen.fresh}):
        old = [queue for queue, seen in keys.items() if not seen.fresh and seen.when == when]
        yield f"remembered since {when}: {some_queues(old)}"


def _option_text(found: Plan) -> str:
    if found.mechanism == OVERRIDES:
        return "driver_override, queue by queue; no collateral queues"
    if found.freed_by == ALREADY_FREE:
        return "no mask change needed: the queues are already free"
    return _cost_text(found.chosen)


def _cost_text(option: Option) -> str:
    lost = ", ".join(map(str, option.collateral)) or "none"
    bits = count(option.clear.size, "mask bit")
    return f"{option.name}: {bits}; collateral queues: {lost}"


def all_guests_text(found: AllGuests) -> Iterator[str]:
    """The plan in lines for a person."""
    for error in found.errors:
        yield f"cannot start: {error}"
    if not found.guests:
        yield "no guest requests queues that this host has"
        return
    options = found.freed_by_guest
    for request in found.guests:
        option = options.get(request.guest_uuid)
        how = f'; free-by="{option}"' if option else ""
        yield f"{printable(request.guest)}: {request.matrix}{how}"
    yield ""
    yield from _who_with_whom(found)
    yield from _cost(found)
    yield from (f"warning: {warning}" for warning in found.warnings)


def _who_with_whom(found: AllGuests) -> Iterator[str]:
    if not found.conflicts:
        yield "all of them can run together"
    for one, other, queues in found.conflicts:
        what = some_queues(queues) if queues else "the same mediated device"
        yield f"{printable(one)} and {printable(other)} cannot run together: both request {what}"


def _cost(found: AllGuests) -> Iterator[str]:
    if found.joint_plan is None:
        yield "no combination of options leaves the host the queues that the policy reserves for it"
        return
    if found.mechanism == OVERRIDES:
        yield "no collateral queues: driver_override moves single queues"
        return
    lost, least = found.joint_plan.collateral, found.joint_plan.least
    if not lost:
        yield "the host loses no collateral queue"
    else:
        proven = "no combination of options loses fewer"
        if least < len(lost):
            proven = (
                f"no combination of options loses fewer than {least}; there are too many guests to try all"
            )
        yield f"the host loses {count_queues(len(lost), 'collateral')}: {some_queues(lost)}; {proven}"
    if found.prefer:
        yield f'for this in any order of starts, set prefer = "{found.prefer}" in the policy'
    else:
        yield "for this in any order of starts, set the free-by above in each guest's annotation"
