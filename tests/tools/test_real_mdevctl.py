# SPDX-License-Identifier: Apache-2.0
"""Definitions made and changed by apvfio and by real releases of mdevctl, in any order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apvfio.kernel.snapshot import read_host
from apvfio.mdev.definitions import AUTO, MANUAL, Definition, parse, parse_dump
from apvfio.model.errors import Exit
from apvfio.store.definitions import FOLDER, load_definition, matrix_of
from hosts import a_matrix, mdev
from lab.guest import guest_xml
from mdevctl_cases import AP, device
from real_tools import tool_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.matrix import Matrix
    from real_tools import ToolHost, Tools

EXAMPLES = max(4, int(os.environ.get("APVFIO_EXAMPLES", "150")) // 30)
FILE = f"{FOLDER}/{mdev(1)}"
MATRICES = {"row": a_matrix("0", "1-2"), "cross": a_matrix("0,10", "4")}
DEFINITIONS = {"row": device(["0x0"], ["1", "0x2"]), "cross": device(["0", "10"], ["4"])}
LIST = """\
import sys
from apvfio.mdev.mdevctl import Mdevctl
for (parent, uuid), device in Mdevctl().list(defined=sys.argv[1:] == ["defined"]).items():
    print(parent, uuid, device.text().replace("\\n", ""))
"""
VETO = """\
#!/bin/sh
# A callout that forbids what the file /run/veto names.
[ "$3,$4" = -e,pre ] || exit 2
read -r action </run/veto
[ "$6" != "$action" ] || { echo "not today" >&2; exit 1; }
exit 2
"""


@pytest.fixture(scope="module", params=["the machine's", "newer"])
def shared(tools: Tools, request: pytest.FixtureRequest) -> Iterator[ToolHost]:
    """A host whose adapters 0 and 10 are free for devices."""
    newer = request.param == "newer"
    with tool_host(tools, newer_mdevctl=newer) as made:
        version = made.run("mdevctl", "--version").stdout.split()[1]
        assert not newer or version.split(".") >= ["1", "4"]
        made.system.sysfs.write("bus/ap/apmask", "-0,-10")
        for name, matrix in MATRICES.items():
            Path(made.work, f"{name}.xml").write_text(guest_xml("db1", matrix, mdev(1)))
        yield made


@pytest.fixture
def host(shared: ToolHost) -> ToolHost:
    clean(shared)
    return shared


def clean(host: ToolHost) -> None:
    host.mdevctl("stop", 1, code=None)
    for name in host.system.files.list(FOLDER):
        host.system.files.remove(f"{FOLDER}/{name}")


def define(host: ToolHost, name: str, *words: str, code: int = 0) -> str:
    return host.apvfio("define", "--xml", f"{host.work}/{name}.xml", *words, code=code).stderr


def undefine(host: ToolHost) -> None:
    host.apvfio("undefine", "--xml", f"{host.work}/row.xml")


def definition(host: ToolHost) -> Definition | None:
    return load_definition(host.system.files, mdev(1))


def listed(host: ToolHost, *what: str) -> dict[str, Definition]:
    """What our own reading of ``mdevctl list`` yields, inside."""
    found = {}
    for line in host.run(host.python, "-c", LIST, *what).stdout.splitlines():
        parent, uuid, text = line.split(" ", 2)
        assert parent == "matrix"
        found[uuid] = parse(text)
    return found


def test_what_one_defines_the_other_lists(host: ToolHost) -> None:
    define(host, "row")
    attrs = (("assign_adapter", "0x0"), ("assign_domain", "0x1"), ("assign_domain", "0x2"))
    assert listed(host, "defined") == {mdev(1): Definition(AP, MANUAL, attrs)}
    assert listed(host) == {}
    said = host.run("mdevctl", "list", "--defined").stdout
    assert said.split() == [mdev(1), "matrix", AP, MANUAL]
    host.mdevctl("start", 1)
    assert read_host(host.system.sysfs).mdevs == {mdev(1): MATRICES["row"]}
    assert listed(host).keys() == {mdev(1)}
    host.mdevctl("define", 2, DEFINITIONS["cross"])
    defined = listed(host, "defined")
    assert {uuid: matrix_of(found) for uuid, found in defined.items()} == {
        mdev(1): MATRICES["row"],
        mdev(2): MATRICES["cross"],
    }
    undefine(host)
    assert listed(host, "defined").keys() == {mdev(2)}
    assert listed(host).keys() == {mdev(1)}


def test_a_definition_is_changed_only_when_told_and_keeps_what_is_not_ours(host: ToolHost) -> None:
    document = json.loads(DEFINITIONS["row"]) | {"start": "auto", "owner": {"team": "db"}}
    host.system.files.write(FILE, json.dumps(document), 0o644)
    said = define(host, "cross", code=Exit.CONFLICT)
    assert "is defined with adapters 0, domains 1-2; it requests adapters 0,10, domains 4." in said
    assert "--replace" in said
    assert host.system.files.read(FILE) == json.dumps(document)
    define(host, "row")
    assert host.system.files.read(FILE) == json.dumps(document)
    define(host, "cross", "--replace")
    changed = definition(host)
    assert changed
    assert (matrix_of(changed), changed.start, changed.more) == (
        MATRICES["cross"],
        AUTO,
        {"owner": {"team": "db"}},
    )
    assert host.path(f"/{FILE}").stat().st_mode & 0o777 == 0o644
    assert matrix_of(listed(host, "defined")[mdev(1)]) == MATRICES["cross"]


def usage(host: ToolHost) -> str:
    return host.run("mdevctl", "modify", "--help").stdout


@pytest.mark.parametrize("action", ["define", "modify", "undefine"])
def test_a_callouts_veto_changes_nothing(host: ToolHost, action: str) -> None:
    """Whatever way this release goes from one definition to another."""
    document = json.dumps(json.loads(DEFINITIONS["row"]) | {"owner": "db"})
    host.system.files.write(FILE, document, 0o644)
    scripts = [
        host.path(f"/{place}/mdevctl{d}/scripts.d/callouts/50-veto")
        for place, d in (("usr/lib", ""), ("etc", ".d"))
    ]
    host.path("/run/veto").write_text(f"{action}\n")
    for script in scripts:
        script.write_text(VETO)
        script.chmod(0o755)
    try:
        replaced = host.apvfio("define", "--xml", f"{host.work}/cross.xml", "--replace", code=None)
        if replaced.returncode:
            assert replaced.returncode == Exit.HOST
            assert replaced.stderr.startswith("apvfio: mdevctl ")
            assert replaced.stderr.count("\n") == 1
            assert host.system.files.read(FILE) == document
        vetoed = {"modify"} if "--jsonfile" in usage(host) else {"define", "undefine"}
        assert bool(replaced.returncode) == (action in vetoed)
    finally:
        for script in scripts:
            script.unlink()


def test_a_file_that_keeps_mdevctl_from_listing_is_told_before_anything_is_defined(host: ToolHost) -> None:
    host.system.files.write(f"{FOLDER}/{mdev(9)}", "not JSON", 0o644)
    host.run("mdevctl", "list", "--defined", code=1)
    said = define(host, "row", code=Exit.HOST)
    assert said.startswith("apvfio: mdevctl list failed: expected ident at line 1 column 2.")
    assert f"a file in /{FOLDER} that is not a definition" in said
    assert definition(host) is None


def test_why_mdevctl_cannot_start_it_and_that_a_guest_can(host: ToolHost) -> None:
    define(host, "row")
    host.system.sysfs.write("bus/ap/apmask", "+0")
    try:
        said = host.mdevctl("start", 1, code=1)
        assert "Failed to write 0x1 to attribute assign_domain" in said
        assert "Cannot assign requested address" in said
        assert read_host(host.system.sysfs).mdevs == {}
        xml = Path(host.work, "row.xml").read_text()
        for operation in (("prepare", "begin"), ("release", "end")):
            host.run(host.python, "-m", "apvfio.libvirt.hook", "db1", *operation, "-", stdin=xml)
            there = operation[0] == "prepare"
            assert listed(host).keys() == ({mdev(1)} if there else set())
            assert listed(host, "defined").keys() == {mdev(1)}
    finally:
        host.system.sysfs.write("bus/ap/apmask", "-0")


class Model:
    """What must be so after any calls of both programs."""

    def __init__(self, host: ToolHost) -> None:
        self.host = host
        self.defined: Matrix | None = None
        self.start = MANUAL
        self.active: Matrix | None = None

    def apvfio_define(self, name: str, replace: bool) -> None:
        wanted = MATRICES[name]
        refused = self.defined not in (None, wanted) and not replace
        define(self.host, name, *(["--replace"] if replace else []), code=Exit.CONFLICT if refused else 0)
        if not refused:
            self.start = self.start if self.defined else MANUAL
            self.defined = wanted

    def apvfio_undefine(self) -> None:
        undefine(self.host)
        self.defined = None

    def apvfio_status(self) -> None:
        shown = json.loads(self.host.apvfio("status", "--json").stdout)
        held = {queue["queue"] for queue in shown["queues"] if queue["owner"] == f"mdev {mdev(1)}"}
        assert held == {str(queue) for queue in self.active.queues()} if self.active else not held
        assert shown["leases"] == []

    def mdevctl_define(self, name: str) -> None:
        self.host.mdevctl("define", 1, DEFINITIONS[name], code=1 if self.defined else 0)
        if not self.defined:
            self.defined, self.start = MATRICES[name], MANUAL

    def mdevctl_undefine(self) -> None:
        self.host.mdevctl("undefine", 1, code=0 if self.defined else 1)
        self.defined = None

    def mdevctl_modify(self, start: str) -> None:
        done = self.host.run("mdevctl", "modify", "-u", mdev(1), f"--{start}", code=None)
        assert bool(done.returncode) == (self.defined is None)
        self.start = start

    def mdevctl_start(self) -> None:
        able = self.defined is not None and self.active is None
        self.host.mdevctl("start", 1, code=0 if able else 1)
        if able:
            self.active = self.defined

    def mdevctl_stop(self) -> None:
        self.host.mdevctl("stop", 1, code=0 if self.active else 1)
        self.active = None

    def check(self) -> None:
        for words, there in ((["--defined"], self.defined), ([], self.active)):
            found = parse_dump(self.host.run("mdevctl", "list", "--dumpjson", *words).stdout)
            assert found.keys() == ({("matrix", mdev(1))} if there else set())
        kept = definition(self.host)
        assert (kept and (matrix_of(kept), kept.start)) == (self.defined and (self.defined, self.start))
        mdevs = read_host(self.host.system.sysfs).mdevs
        assert mdevs == ({mdev(1): self.active} if self.active else {})


calls = st.one_of(
    st.tuples(st.just(Model.apvfio_define), st.sampled_from(["row", "cross"]), st.booleans()),
    st.tuples(st.just(Model.mdevctl_define), st.sampled_from(["row", "cross"])),
    st.tuples(st.just(Model.mdevctl_modify), st.sampled_from([AUTO, MANUAL])),
    st.sampled_from(
        [
            (Model.apvfio_undefine,),
            (Model.apvfio_status,),
            (Model.mdevctl_undefine,),
            (Model.mdevctl_start,),
            (Model.mdevctl_stop,),
        ]
    ),
)


@given(st.lists(calls, min_size=4, max_size=12))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_in_any_order(host: ToolHost, todo: list[tuple[Any, ...]]) -> None:
    clean(host)
    model = Model(host)
    for call, *arguments in todo:
        call(model, *arguments)
        model.check()
