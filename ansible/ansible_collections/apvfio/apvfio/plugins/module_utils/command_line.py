# SPDX-License-Identifier: Apache-2.0
"""The command lines that the modules run, and what the documents that they print mean; no input or output."""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_OPTIONS = {
    "adapters": "--adapters",
    "domains": "--domains",
    "criteria": "--any",
    "cards": "--cards",
    "control_domains": "--control-domains",
    "free_by": "--free-by",
}
"""The parameters that make a request, and the options of ``apvfio guest set`` for them."""

DEVICE_OPTIONS = {
    ("present", "keep"): "--no-hostdev",
    ("present", "new"): "--new-device",
    ("absent", "keep"): "--keep-hostdev",
    ("absent", "remove"): "--remove-hostdev",
}
"""The options for ``state`` and ``hostdev``; other pairs make no sense."""


def contradiction(params: Mapping[str, typing.Any]) -> str:
    """Return a sentence about parameters of apvfio_guest that exclude each other, '' if there are none."""
    state, hostdev, scope = params["state"], params["hostdev"], params["scope"]
    if hostdev != "auto" and (state, hostdev) not in DEVICE_OPTIONS:
        return f"state={state} and hostdev={hostdev} exclude each other."
    if state == "present":
        return ""
    given = [name for name in (*REQUEST_OPTIONS, "unchecked") if params[name]]
    if given:
        return f"state=absent and {given[0]} exclude each other."
    if hostdev == "keep" and "live" in scope:
        # The command does not say whether it removed the annotation of the running guest.
        return "state=absent, hostdev=keep and scope=live exclude each other."
    return ""


def guest_words(params: Mapping[str, typing.Any], *, dry_run: bool) -> list[str]:
    """Return the words of ``apvfio guest set`` or ``apvfio guest clear`` for the parameters of apvfio_guest.

    A parameter that is None adds no word: the command then keeps what the guest has.
    """
    words = ["guest", "set" if params["state"] == "present" else "clear", "--json"]
    for name, option in REQUEST_OPTIONS.items():
        given = params[name]
        if given is not None:
            words += [f"{option}={value}" for value in (given if isinstance(given, list) else [given])]
    if params["hostdev"] != "auto":
        words.append(DEVICE_OPTIONS[params["state"], params["hostdev"]])
    words += [f"--{scope}" for scope in params["scope"]]
    words += ["--unchecked"] if params["unchecked"] else []
    words += ["--dry-run"] if dry_run else []
    words += [f"--connect={params['connect']}"] if params["connect"] else []
    # What follows "--" is no option, whatever a guest is called.
    return [*words, f"--xml={params['xml']}"] if params["xml"] else [*words, "--", params["name"]]


def is_change(printed: Mapping[str, typing.Any], *, live: bool) -> bool:
    """Return whether ``guest set --json`` or ``guest clear --json`` printed a change, made or previewed."""
    if printed["definition"] or printed.get("mdev"):
        return True
    plan = printed.get("plan")
    if not live or not plan:
        return False
    # A plan without these keys gives queues to a running guest that has none.
    return "gained" not in plan or bool(plan["gained"] or plan["given_up"] or plan["steps"])


def failure(error: Mapping[str, typing.Any]) -> str:
    """Return an error that a command printed as the one line that the command shows without ``--json``."""
    guest = f"guest {error['guest']}: " if error.get("guest") else ""
    return " ".join(filter(None, (guest + error["message"], error.get("remedy"))))


def primitive(resource: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """Return what ``cluster guest --json`` printed as an item of ``ha_cluster_resource_primitives``."""
    return {
        "id": resource["resource"],
        "agent": resource["agent"],
        "instance_attrs": [{"attrs": _pairs(resource["parameters"])}],
        "meta_attrs": [{"attrs": _pairs(resource["meta"])}],
        "operations": [
            {"action": action, "attrs": _pairs(operation)}
            for action, operation in resource["operations"].items()
        ],
        "utilization": [{"attrs": _pairs(resource["utilization"])}],
    }


def location(resource: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """Return the rule of ``cluster guest --json`` as an item of ``ha_cluster_constraints_location``."""
    return {
        "resource": {"id": resource["resource"]},
        "rule": resource["rule"],
        "options": [{"name": "score", "value": "-INFINITY"}],
    }


def _pairs(values: Mapping[str, typing.Any]) -> list[dict[str, typing.Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]
