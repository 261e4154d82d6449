# SPDX-License-Identifier: Apache-2.0
"""mdevctl's definitions, read and written without loss."""

from __future__ import annotations

import json

import pytest

from apvfio.mdev.definitions import Definition, DefinitionError, parse, parse_dump
from apvfio.mdev.devices import MdevType

TEXT = """{
  "mdev_type": "vfio_ap-passthrough",
  "start": "auto",
  "attrs": [
    {
      "assign_adapter": "0x0a"
    },
    {
      "assign_domain": "1"
    },
    {
      "assign_domain": "0x4"
    }
  ],
  "note": {
    "by": "somebody"
  }
}
"""


def test_nothing_is_lost() -> None:
    definition = parse(TEXT)
    assert definition[:2] == ("vfio_ap-passthrough", "auto")
    assert list(definition.values("assign_domain")) == ["1", "0x4"]
    assert definition.more == {"note": {"by": "somebody"}}
    assert definition.text() == TEXT


def test_what_mdevctl_leaves_out_has_its_default() -> None:
    assert parse('{"mdev_type": "t"}') == Definition("t", "manual", ())
    assert json.loads(Definition("t", "manual", ()).text()) == {
        "mdev_type": "t",
        "start": "manual",
        "attrs": [],
    }
    assert MdevType("devices/vfio_ap/matrix", "any").definition("u") == "etc/mdevctl.d/matrix/u"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no mdev_type"),
        ('{"mdev_type": 5}', "no mdev_type"),
        ('{"mdev_type": "t", "start": "soon"}', "neither manual nor auto"),
        ('{"mdev_type": "t", "attrs": {}}', "not a list"),
        ('{"mdev_type": "t", "attrs": [5]}', "not one name and one value"),
        ('{"mdev_type": "t", "attrs": [{"a": "1", "b": "2"}]}', "not one name and one value"),
        ('{"mdev_type": "t", "attrs": [{"a": 1}]}', "is not text"),
    ],
)
def test_other_texts_are_refused(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        parse(text)


def test_a_dump_of_several_parents() -> None:
    device = json.loads(TEXT)
    plain = {"mdev_type": "x", "start": "manual"}
    dump = [{"matrix": [{"u1": device}, {"u2": plain}], "0.0.1": [{"u1": plain}]}]
    assert parse_dump(json.dumps(dump)) == {
        ("matrix", "u1"): parse(TEXT),
        ("matrix", "u2"): Definition("x", "manual", ()),
        ("0.0.1", "u1"): Definition("x", "manual", ()),
    }
    assert parse_dump("[]") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a list of devices"),
        ("3", "not a list of devices"),
        ("[3]", "not a list of devices"),
        ('[{"matrix": 3}]', "not a list of devices"),
        ('[{"matrix": [3]}]', "not a list of devices"),
        ("[" * 9999, "not a list of devices"),
        ('[{"matrix": [{"u1": 3}]}]', "not a JSON object"),
        (TEXT, "not a list of devices"),
    ],
)
def test_what_is_no_dump(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        parse_dump(text)
