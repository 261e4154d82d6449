# SPDX-License-Identifier: Apache-2.0
"""What ``cluster guest`` prints, given to pcs, crm and cibadmin in a real cluster: the same by each."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.xml_tree import etree
from apvfio.mdev import programs
from cluster.node import Node, node
from domain_xml import domain
from pacemaker_env import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["node"]
_KEY = "a1b2" * 8
_ASKED = {
    "one kind": f'<ap:any mode="ep11" adapters="2" mkvp="0x{_KEY}"/>',
    "several": '<ap:any domains="2"><ap:cards mode="accel" adapters="2"/>'
    f'<ap:cards mode="ep11" adapters="1" min-generation="7" mkvp-wk="0x{_KEY}"/></ap:any>',
}


def facts(cib: etree._Element) -> dict[str, object]:
    """What a configuration says, whatever its ids."""
    (primitive,) = cib.iterfind("configuration/resources/primitive")
    sets = {
        tag: sorted((pair.get("name"), pair.get("value")) for pair in primitive.iterfind(f"{tag}/nvpair"))
        for tag in ("instance_attributes", "meta_attributes", "utilization")
    }
    named = {"id", "name"}
    operations = {
        op.get("name"): {k: v for k, v in op.items() if k not in named} for op in primitive.iter("op")
    }
    rules = [
        (rule.get("score"), rule.get("boolean-op"), [tuple(e.get(k) for k in _EXPRESSION) for e in rule])
        for rule in cib.iterfind("configuration/constraints/rsc_location/rule")
    ]
    return {**sets, "operations": operations, "rules": rules}


_EXPRESSION = ("attribute", "operation", "value")


@pytest.fixture(params=_ASKED)
def guest(node: Node, request: pytest.FixtureRequest) -> Iterator[str]:
    """The file of a guest that the cluster does not have yet."""
    file = node.guests / "db1.xml"
    file.write_bytes(domain(_ASKED[request.param]))
    yield str(file)
    node.run("cibadmin", "--delete", "--xpath", "//rsc_location[@rsc='db1']", check=False)
    node.run("cibadmin", "--delete", "--xpath", "//primitive[@id='db1']", check=False)


def printed(node: Node, file: str, form: str) -> str:
    return node.run(str(node.apvfio), "cluster", "guest", file, form)


def by_cibadmin(node: Node, file: str) -> dict[str, object]:
    for element in etree.fromstring(f"<all>{printed(node, file, '--xml')}</all>"):
        scope = "resources" if element.tag == "primitive" else "constraints"
        text = etree.tostring(element, encoding="unicode")
        node.run("cibadmin", "--create", "--scope", scope, "--xml-text", text)
    return facts(node.cib())


@pytest.mark.parametrize("program", ["pcs", "crm"])
def test_it_is_the_same_by_each_program(node: Node, guest: str, program: str) -> None:
    require_program(program)
    for line in printed(node, guest, f"--{program}").splitlines():
        assert shlex.split(line)[0] == program
        node.run("sh", "-c", line)
    found = facts(node.cib())
    assert found["utilization"]
    assert found["rules"]
    node.run("cibadmin", "--delete", "--xpath", "//rsc_location[@rsc='db1']")
    node.run("cibadmin", "--delete", "--xpath", "//primitive[@id='db1']")
    assert by_cibadmin(node, guest) == found
    assert programs.find("crm_verify")
    node.run("crm_verify", "--live-check")
