# SPDX-License-Identifier: Apache-2.0
"""The command lines of the Ansible modules, as apvfio's own parser reads them, and its documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.apvfio.apvfio.plugins.module_utils.command_line import (
    contradiction,
    failure,
    guest_words,
    is_change,
    location,
    primitive,
)
from apvfio.cli.main import build_parser

if TYPE_CHECKING:
    import argparse

OMITTED: dict[str, Any] = {
    **dict.fromkeys(
        ("name", "xml", "adapters", "domains", "criteria", "cards", "control_domains", "free_by", "connect")
    ),
    "state": "present",
    "hostdev": "auto",
    "scope": ["config"],
    "unchecked": False,
}


def parsed(*, dry_run: bool = False, **params: Any) -> argparse.Namespace:
    """What apvfio makes of the words for these parameters."""
    return build_parser().parse_args(guest_words(OMITTED | params, dry_run=dry_run))


def test_each_parameter_of_a_request_arrives() -> None:
    args = parsed(
        name="db1",
        adapters="0,0xa",
        domains="1-2",
        control_domains="",
        free_by="none",
        hostdev="new",
        scope=["config", "live"],
        unchecked=True,
        connect="qemu:///session",
    )
    assert (args.guest, args.xml, args.adapters, args.domains) == ("db1", None, "0,0xa", "1-2")
    assert (args.control_domains, args.free_by, args.any) == ("", "none", None)
    assert (args.new_device, args.no_hostdev, args.unchecked) == (True, False, True)
    assert (args.config, args.live, args.connect) == (True, True, "qemu:///session")
    assert (args.json, args.dry_run) == (True, False)


def test_a_file_and_criteria() -> None:
    args = parsed(xml="/g/db1.xml", criteria="mode=ep11", hostdev="keep", dry_run=True)
    assert (args.guest, args.xml, args.any) == (None, "/g/db1.xml", "mode=ep11")
    assert (args.no_hostdev, args.dry_run) == (True, True)


def test_several_kinds_of_adapters() -> None:
    kinds = ["mode=cca,adapters=2", "mode=ep11,adapters=1"]
    args = parsed(name="db1", criteria="domains=1", cards=kinds, control_domains="usage")
    assert (args.any, args.cards, args.control_domains) == ("domains=1", kinds, "usage")


@pytest.mark.parametrize("hostdev", ["auto", "keep", "remove"])
def test_a_request_is_removed(hostdev: str) -> None:
    args = parsed(name="db1", state="absent", hostdev=hostdev)
    assert (args.verb, args.guest) == ("clear", "db1")
    assert (args.keep_hostdev, args.remove_hostdev) == (hostdev == "keep", hostdev == "remove")


def test_a_name_or_a_value_is_never_an_option() -> None:
    args = parsed(name="--live", adapters="--unchecked", domains="-n")
    assert (args.guest, args.adapters, args.domains) == ("--live", "--unchecked", "-n")
    assert (args.live, args.unchecked, args.dry_run) == (False, False, False)


@pytest.mark.parametrize(
    "params",
    [
        {"state": "present", "hostdev": "remove"},
        {"state": "absent", "hostdev": "new"},
        {"state": "absent", "adapters": "0"},
        {"state": "absent", "unchecked": True},
        {"state": "absent", "hostdev": "keep", "scope": ["live"]},
    ],
)
def test_parameters_that_exclude_each_other(params: dict[str, Any]) -> None:
    assert contradiction(OMITTED | params).endswith("exclude each other.")


def test_parameters_that_go_together() -> None:
    together: list[dict[str, Any]] = [
        *({"hostdev": "new"}, {"adapters": "0"}, {"state": "absent", "hostdev": "keep"}),
        {"state": "absent", "xml": "/g/db1.xml"},
    ]
    for params in together:
        assert contradiction(OMITTED | params) == ""


LIVE: dict[str, list[Any]] = {"gained": [], "given_up": [], "steps": []}


@pytest.mark.parametrize(
    ("printed", "live", "changed"),
    [
        ({"definition": [], "plan": {"steps": [{}]}}, False, False),
        ({"definition": ["+ <ap:any/>"], "plan": None}, False, True),
        ({"definition": [], "plan": LIVE}, True, False),
        ({"definition": [], "plan": {**LIVE, "given_up": ["00.0001"]}}, True, True),
        ({"definition": [], "plan": {**LIVE, "steps": [{}]}}, True, True),
        ({"definition": [], "plan": {"steps": []}}, True, True),
        ({"definition": [], "mdev": None}, True, False),
        ({"definition": [], "mdev": "0a0b0c0d-1111-4111-8111-111111111111"}, True, True),
    ],
)
def test_what_is_a_change(printed: dict[str, Any], live: bool, changed: bool) -> None:
    assert is_change(printed, live=live) is changed


def test_an_error_is_one_line() -> None:
    error = {"message": "it has no annotation.", "guest": "db1", "remedy": "Name its queues."}
    assert failure(error) == "guest db1: it has no annotation. Name its queues."
    assert failure({**error, "guest": None, "remedy": None}) == "it has no annotation."


def test_variables_of_ha_cluster() -> None:
    resource = {
        "resource": "db1",
        "agent": "ocf:apvfio:Guest",
        "parameters": {"config": "/g/db1.xml"},
        "meta": {"allow-migrate": "true"},
        "operations": {"start": {"interval": "0s", "timeout": "120s"}},
        "utilization": {"ap-ep11": 2},
        "rule": "not_defined apvfio-db1 or apvfio-db1 ne 1",
    }
    assert primitive(resource) == {
        "id": "db1",
        "agent": "ocf:apvfio:Guest",
        "instance_attrs": [{"attrs": [{"name": "config", "value": "/g/db1.xml"}]}],
        "meta_attrs": [{"attrs": [{"name": "allow-migrate", "value": "true"}]}],
        "operations": [
            {
                "action": "start",
                "attrs": [{"name": "interval", "value": "0s"}, {"name": "timeout", "value": "120s"}],
            }
        ],
        "utilization": [{"attrs": [{"name": "ap-ep11", "value": 2}]}],
    }
    assert location(resource) == {
        "resource": {"id": "db1"},
        "rule": "not_defined apvfio-db1 or apvfio-db1 ne 1",
        "options": [{"name": "score", "value": "-INFINITY"}],
    }
