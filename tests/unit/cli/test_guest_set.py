# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest set`` and ``clear``: real definitions in libvirt's test driver, a simulated host."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.domain.request import asked_in, free_by_in, parse_domain
from apvfio.domain.xml_editor import device_uuids, own_mdev, own_mdevs
from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt.guests import Guest
from apvfio.model.criteria import Criteria
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.store.ledger_file import load
from criteria import a_criteria
from domain_xml import rest
from hosts import a_matrix, a_request, guest, mdev
from libvirt_test_driver import URI, Driver, definition, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apvfio.model.ledger import Lease

IBM = ("--adapters", "0,0xa", "--domains", "1-2")
OWN = own_mdev(guest(1))


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        yield made


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def asked(domain: Any) -> Matrix | Criteria | None:
    request = parse_domain(definition(domain).encode())
    return request and (request.criteria or request.matrix)


def leases(host: SimulatedHost) -> list[Lease]:
    with host.opened() as system:
        return list(load(system.files, system.boot_id).leases.values())


def devices(host: SimulatedHost) -> dict[str, Matrix]:
    from apvfio.kernel.snapshot import read_host

    with host.opened() as system:
        return read_host(system.sysfs).mdevs


class TestSet:
    """For the next start."""

    def test_both_are_written_and_nothing_else_changes(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        before = definition(domain)
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        said = capsys.readouterr()
        assert said.err == ""
        assert asked(domain) == a_matrix("0,10", "1-2")
        assert device_uuids(definition(domain).encode()) == {OWN}
        assert rest(definition(domain), mdev=OWN) == rest(before)
        assert "passwd='secret'" in definition(domain)
        for shown in (f"mdev         {OWN}", "freed by     domains", "+    <ap:guest", "+    <hostdev"):
            assert shown in said.out
        assert "secret" not in said.out
        assert devices(host) == {}

    def test_again_it_changes_nothing(
        self, libvirtd: Driver, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        domain = libvirtd.define("db1", 1)
        host.run("guest", "set", "db1", *IBM, "-c", URI)
        once = definition(domain)
        monkeypatch.setattr(Guest, "define", lambda *_: pytest.fail("it was defined again"))
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert definition(domain) == once

    def test_a_guest_that_runs_keeps_what_it_has(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1, a_matrix("0", "1-2"), mdev(1))
        domain.create()
        host.start(a_request("0", "1-2", 1))
        assert host.run("guest", "set", "db1", "--adapters", "0", "--domains", "2,4", "-c", URI) == Exit.OK
        keeps = "it runs and keeps adapters 0, domains 1-2 until it stops; this is the plan of its next"
        assert keeps in capsys.readouterr().out
        assert devices(host) == {mdev(1): a_matrix("0", "1-2")}
        assert asked(domain) == a_matrix("0", "2,4")
        running = parse_domain(libvirtd.guest("db1").xml(live=True))
        assert running
        assert running.matrix == a_matrix("0", "1-2")

    @pytest.mark.parametrize(
        ("before", "words", "after"),
        [
            ("--adapters 0,10 --domains 1 --control-domains 1-2", "--domains 2", ("0,10", "2", "1-2", "")),
            ("--adapters 0 --domains 1 --free-by domains", "--control-domains 1", ("0", "1", "1", "domains")),
            ("--adapters 0 --domains 1 --free-by domains", "--adapters 10", ("10", "1", "", "domains")),
            ("--adapters 0 --domains 1 --free-by domains", "--free-by none", ("0", "1", "", "")),
            ("--adapters 0 --domains 1 --control-domains 1", "--control-domains=", ("0", "1", "", "")),
            ("--any mode=ep11 --control-domains 1", "--adapters 0 --domains 1", ("0", "1", "1", "")),
        ],
    )
    def test_what_is_not_given_is_kept(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        before: str,
        words: str,
        after: tuple[str, str, str, str],
    ) -> None:
        domain = libvirtd.define("db1", 1)
        for options in (before, words):
            assert host.run("guest", "set", "db1", *options.split(), "--unchecked", "-c", URI) == Exit.OK
        xml = definition(domain).encode()
        adapters, domains, control, free_by = after
        kept = a_matrix(adapters, domains)._replace(
            control_domains=parse_list(control) if control else NO_IDS
        )
        assert (asked_in(xml), free_by_in(xml)) == (kept, free_by)

    @pytest.mark.parametrize(
        ("words", "after"),
        [
            ("--any domains=2", a_criteria("ep11", 2, 2, control_domains=IdSet([1]))),
            ("--control-domains 2", a_criteria("ep11", 2, 1, control_domains=IdSet([2]))),
            ("--any mode=cca", a_criteria("cca", control_domains=IdSet([1]))),
        ],
    )
    def test_criteria_that_are_not_given_are_kept(
        self, libvirtd: Driver, host: SimulatedHost, words: str, after: Criteria
    ) -> None:
        domain = libvirtd.define("db1", 1)
        for options in ("--any mode=ep11,adapters=2 --control-domains 1", words):
            assert host.run("guest", "set", "db1", *options.split(), "--unchecked", "-c", URI) == Exit.OK
        assert asked(domain) == after

    @pytest.mark.parametrize("words", ["", "--domains 1", "--any mode=ep11 --free-by domains"])
    def test_an_incomplete_request(self, libvirtd: Driver, host: SimulatedHost, words: str) -> None:
        before = definition(libvirtd.define("db1", 1))
        assert host.run("guest", "set", "db1", *words.split(), "-c", URI) == Exit.USAGE
        assert definition(libvirtd.connection.lookupByName("db1")) == before

    def test_the_guest_is_named_by_its_uuid_or_id(self, libvirtd: Driver, host: SimulatedHost) -> None:
        domain = libvirtd.define("db1", 1)
        domain.create()
        for name in (domain.UUIDString(), domain.UUIDString().upper(), str(domain.ID())):
            assert host.run("guest", "set", name, *IBM, "-n", "-c", URI) == Exit.OK

    def test_the_connection_is_named_before_the_command_or_by_the_environment(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        libvirtd.define("db1", 1)
        assert host.run("-c", URI, "guest", "set", "db1", *IBM, "-n") == Exit.OK
        assert host.run("-c", URI, "queues") == Exit.USAGE
        monkeypatch.setenv("LIBVIRT_DEFAULT_URI", URI)
        assert host.run("guest", "set", "db1", *IBM, "-n") == Exit.OK
        assert host.run("guest", "set", "bd1", *IBM, "-n") == Exit.REQUEST
        assert "Did you mean db1? " in capsys.readouterr().err

    def test_a_device_that_is_there_stays(self, libvirtd: Driver, host: SimulatedHost) -> None:
        domain = libvirtd.define("db1", 1, device=mdev(1))
        assert host.run("guest", "set", "db1", "--any", "mode=ep11", "-c", URI) == Exit.OK
        assert device_uuids(definition(domain).encode()) == {mdev(1)}
        assert asked(domain) == a_criteria("ep11")

    def test_without_a_device(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        assert host.run("guest", "set", "db1", *IBM, "--no-hostdev", "-c", URI) == Exit.OK
        assert device_uuids(definition(domain).encode()) == set()
        assert (
            "warning: guest db1: it requests AP queues but has no mediated device" in capsys.readouterr().err
        )

    def test_the_last_line_says_what_was_done(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        libvirtd.define("db1", 1)
        for words, last in (
            (("set", "db1", *IBM, "--dry-run"), "would change the definition of guest db1"),
            (("set", "db1", *IBM), "changed the definition of guest db1"),
            (("set", "db1", *IBM), "the definition of guest db1 is like this already"),
            (("clear", "db1", "--dry-run"), "would change the definition of guest db1"),
            (("clear", "db1"), "changed the definition of guest db1"),
        ):
            assert host.run("guest", *words, "-c", URI) == Exit.OK
            assert capsys.readouterr().out.splitlines()[-1] == last

    def test_a_dry_run_shows_all_and_changes_nothing(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        before = definition(domain)
        assert host.run("guest", "set", "db1", *IBM, "--dry-run", "--json", "-c", URI) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert document["guest"] == "db1"
        assert document["plan"]["collateral"] == ["01.0001", "01.0002"]
        assert any(line.startswith("+") and OWN in line for line in document["definition"])
        assert definition(domain) == before

    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            (("--adapters", "5", "--domains", "1"), Exit.HOST, "this host has no adapter 5"),
            (("--adapters", "1", "--domains", "4"), Exit.CONFLICT, "01.0004 is held by guest g2"),
            (("--adapters", "0", "--domains", "0x1b"), Exit.POLICY, "00.001b is reserved for the host"),
            (("--any", "mode=ep11,adapters=2"), Exit.HOST, "no rectangle of 2 adapters"),
        ],
    )
    def test_what_this_host_cannot_give_is_refused_unless_unchecked(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        words: tuple[str, ...],
        code: int,
        says: str,
    ) -> None:
        host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["00.001b"]')
        host.start(a_request("1", "4", 2))
        domain = libvirtd.define("db1", 1)
        before = definition(domain)
        assert host.run("guest", "set", "db1", *words, "-c", URI) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"apvfio: guest db1: {says}")
        assert said.err.endswith("--unchecked writes the request anyway.\n")
        assert definition(domain) == before
        assert host.run("guest", "set", "db1", *words, "--unchecked", "-c", URI) == Exit.OK
        assert asked(domain)

    def test_libvirt_refuses(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        domain = libvirtd.define("db1", 1)
        before = definition(domain)
        define = Guest.define
        monkeypatch.setattr(
            Guest, "define", lambda self, xml: define(self, xml.replace(b"<name>db1", b"<name>/db1"))
        )
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.FAILURE
        assert "apvfio: guest db1: libvirt refused: " in capsys.readouterr().err
        assert definition(domain) == before

    def test_the_definition_changes_meanwhile(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        libvirtd.define("db1", 1)

        def plan(*_: Any, **__: Any) -> None:
            libvirtd.define("db1", 1, device=mdev(7))

        monkeypatch.setattr("apvfio.cli.guest_set.preview_start", plan)
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.FAILURE
        assert "its definition was changed by another program" in capsys.readouterr().err
        assert asked(libvirtd.connection.lookupByName("db1")) is None


class TestClones:
    """virt-clone copies the annotation and the device; each guest needs a device of its own."""

    ORIGINAL = OWN
    CLONES = own_mdev(guest(2))

    def both(self, libvirtd: Driver, device: str = OWN) -> tuple[Any, Any]:
        """A guest that was set up by apvfio, and its clone."""
        return (
            libvirtd.define("db1", 1, a_matrix("0", "1-2"), device),
            libvirtd.define("db2", 2, a_matrix("0", "1-2"), device),
        )

    def devices(self, domain: Any) -> set[str]:
        return device_uuids(definition(domain).encode())

    def test_a_clone_gets_its_own(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        original, clone = self.both(libvirtd)
        words = ("--adapters", "0", "--domains", "1-2", "-c", URI)
        assert host.run("guest", "set", "db2", *words) == Exit.OK
        said = capsys.readouterr().out
        assert (
            f"guest db1 has the mediated device {OWN} as well: guest db2 gets its own, {self.CLONES}" in said
        )
        assert f"mdev         {self.CLONES}" in said
        assert (self.devices(original), self.devices(clone)) == ({OWN}, {self.CLONES})
        for domain in (original, clone):
            request = parse_domain(definition(domain).encode())
            assert request
            assert request.matrix == a_matrix("0", "1-2")
        for name, own in (("db1", OWN), ("db2", self.CLONES)):
            assert host.run("guest", "set", name, *words, "--json") == Exit.OK
            device = json.loads(capsys.readouterr().out)["device"]
            assert device == {"mdev": own, "before": own, "shared_with": None}
        assert (self.devices(original), self.devices(clone)) == ({OWN}, {self.CLONES})

    def test_the_original_keeps_its_own(self, libvirtd: Driver, host: SimulatedHost) -> None:
        original, clone = self.both(libvirtd)
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert (self.devices(original), self.devices(clone)) == ({OWN}, {OWN})

    def test_with_the_original_running(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        original, clone = self.both(libvirtd, mdev(7))
        original.create()
        host.start(a_request("0", "1-2", 1)._replace(mdev=mdev(7), guest="db1"))
        other = ("--adapters", "1", "--domains", "1", "-c", URI)
        assert host.run("guest", "set", "db2", *other) == Exit.OK
        assert self.devices(clone) == {self.CLONES}
        assert host.run("guest", "set", "db1", "--adapters", "0", "--domains", "1", "-c", URI) == Exit.OK
        assert self.devices(original) == {mdev(7)}  # it runs with it
        assert devices(host) == {mdev(7): a_matrix("0", "1-2")}

    def test_what_a_start_of_the_clone_says_can_be_done(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, clone = self.both(libvirtd)
        host.start(a_request("0", "1-2", 1)._replace(mdev=OWN, guest="db1"))
        before = definition(clone)
        assert host.run("plan", "db2", "-c", URI) == Exit.CONFLICT
        remedy = re.search("'apvfio (guest set .*)'", capsys.readouterr().err)
        assert remedy
        assert host.run(*shlex.split(remedy[1]), "-c", URI) == Exit.OK
        said = capsys.readouterr()
        assert f"the mediated device {OWN} is replaced with {self.CLONES}" in said.out
        assert "warning: guest db2: it cannot start now: 00.0001, 00.0002 are held by guest db1" in said.err
        assert definition(clone) == before.replace(OWN, self.CLONES)

    def test_a_new_device_for_any_guest(self, libvirtd: Driver, host: SimulatedHost) -> None:
        domain = libvirtd.define("db1", 1, a_criteria("ep11"), mdev(7))
        seen = [mdev(7)]
        for _ in range(3):
            assert host.run("guest", "set", "db1", "--new-device", "-c", URI) == Exit.OK
            (now,) = self.devices(domain)
            assert now != seen[-1]
            seen.append(now)
            assert asked(domain) == a_criteria("ep11")
        assert seen[1] == seen[3] == OWN

    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            (("--new-device", "--live"), Exit.USAGE, "a running guest keeps its mediated device"),
            (("--new-device", "--adapters", "0"), Exit.USAGE, "either --adapters and --domains, or --any"),
            (("--new-device",), Exit.REQUEST, "guest db1: it has no annotation. Name its queues"),
        ],
    )
    def test_what_makes_no_sense(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        words: tuple[str, ...],
        code: int,
        says: str,
    ) -> None:
        domain = libvirtd.define("db1", 1, device=mdev(7))
        domain.create()
        before = definition(domain)
        assert host.run("guest", "set", "db1", *words, "-c", URI) == code
        assert says in capsys.readouterr().err
        assert definition(domain) == before

    def test_unchecked(self, libvirtd: Driver, host: SimulatedHost) -> None:
        _, clone = self.both(libvirtd)
        assert host.run("guest", "set", "db2", *IBM, "--unchecked", "-c", URI) == Exit.OK
        assert self.devices(clone) == {self.CLONES}

    def test_its_hostdev_is_left_alone_if_wanted(self, libvirtd: Driver, host: SimulatedHost) -> None:
        _, clone = self.both(libvirtd)
        assert host.run("guest", "set", "db2", *IBM, "--no-hostdev", "-c", URI) == Exit.OK
        assert self.devices(clone) == {OWN}

    def test_clear_removes_the_originals_device_from_a_clone(
        self, libvirtd: Driver, host: SimulatedHost
    ) -> None:
        original, clone = self.both(libvirtd)
        assert host.run("guest", "clear", "db2", "-c", URI) == Exit.OK
        assert (self.devices(original), self.devices(clone)) == ({OWN}, set())

    def test_clear_removes_any_device_if_wanted(self, libvirtd: Driver, host: SimulatedHost) -> None:
        original, clone = self.both(libvirtd, mdev(7))
        assert host.run("guest", "clear", "db2", "-c", URI) == Exit.OK
        assert self.devices(clone) == {mdev(7)}
        assert host.run("guest", "clear", "db2", "--remove-hostdev", "-c", URI) == Exit.OK
        assert (self.devices(original), self.devices(clone)) == ({mdev(7)}, set())

    # Whoever else has the device that would be made.

    @pytest.mark.parametrize("who", ["guest", "device", "lease"])
    def test_another_is_made(self, libvirtd: Driver, host: SimulatedHost, who: str) -> None:
        domain = libvirtd.define("db1", 1)
        if who == "guest":
            libvirtd.define("odd", 2, device=OWN)
        elif who == "device":
            host.write("sys/bus/ap/apmask", "-1")
            host.make_mdev(OWN, a_matrix("1", "4"))
        else:
            host.start(a_request("1", "4", 2)._replace(mdev=OWN))
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert self.devices(domain) == {own_mdev(guest(1), 2)}
        assert host.run("guest", "clear", "db1", "-c", URI) == Exit.OK
        assert self.devices(domain) == set()

    def test_all_are_taken(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        for number, uuid in enumerate(own_mdevs(guest(1)), 2):
            libvirtd.define(f"odd{number}", number, device=uuid)
        before = definition(domain)
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.CONFLICT
        assert "is already in use. Give it a vfio-ap <hostdev>" in capsys.readouterr().err
        assert definition(domain) == before


class TestStrays:
    """What has apvfio's namespace and is no annotation is replaced, so that the guest can start."""

    SPACE = f"xmlns:ap='{NAMESPACE}'"
    BARE = f"<ap:matrix {SPACE} adapters='1' domains='4'/>"

    def define(self, libvirtd: Driver, metadata: str) -> Any:
        xml = definition(libvirtd.define("db1", 1, device=mdev(7)))
        return libvirtd.connection.defineXML(xml.replace("<metadata>", f"<metadata>{metadata}"))

    @pytest.mark.parametrize(
        "metadata",
        [
            BARE,
            f"<ap:any {SPACE} mode='cca'/>",
            f"<ap:guest {SPACE}/>",
            "<ap:guest xmlns:ap='urn:apvfio:guest:2'><ap:matrix adapters='1' domains='4'/></ap:guest>",
            f"{BARE}<x:matrix xmlns:x='urn:apvfio:guest'/>",
        ],
    )
    def test_set_and_clear_repair_it(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str], metadata: str
    ) -> None:
        domain = self.define(libvirtd, metadata)
        kept = rest(re.sub("<ap:.*>|<x:.*>|</ap:.*>", "", definition(domain)))
        for command in (("guest", "show"), ("plan",)):
            assert host.run(*command, "db1", "-c", URI) == Exit.REQUEST
            assert "guest set" in capsys.readouterr().err
        assert host.run("guest", "list", "-c", URI) == Exit.OK
        assert "db1" in capsys.readouterr().out
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert asked(domain) == a_matrix("0,10", "1-2")
        assert rest(definition(domain)) == kept
        assert host.run("guest", "show", "db1", "-c", URI) == Exit.OK
        again = self.define(libvirtd, metadata)
        assert host.run("guest", "clear", "db1", "-c", URI) == Exit.OK
        assert "apvfio" not in definition(again)
        assert rest(definition(again)) == kept

    def test_what_libvirt_does_not_keep_is_undone(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        domain = libvirtd.define("db1", 1)
        before, define = definition(domain), Guest.define
        for extra in (self.BARE, f"<ap:guest {self.SPACE}>{self.BARE}</ap:guest>"):
            # As if somebody else had put it there meanwhile.
            monkeypatch.setattr(
                Guest,
                "define",
                lambda self, xml, extra=extra: define(
                    self, xml.replace(b"<metadata>", f"<metadata>{extra}".encode()) if b"ap:" in xml else xml
                ),
            )
            assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.FAILURE
            assert "guest db1: libvirt did not keep the annotation: " in capsys.readouterr().err
            assert definition(domain) == before

    def test_a_running_guest(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        newer = "<ap:guest xmlns:ap='urn:apvfio:guest:2'/>"
        domain = self.define(libvirtd, newer)
        domain.create()
        host.start(a_request("0", "1-2", 1)._replace(mdev=mdev(7)))
        before = domain.XMLDesc()
        assert host.run("guest", "set", "db1", *IBM, "--live", "-c", URI) == Exit.REQUEST
        assert "its running configuration has the element <guest>" in capsys.readouterr().err
        assert (domain.XMLDesc(), devices(host)) == (before, {mdev(7): a_matrix("0", "1-2")})
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert asked(domain) == a_matrix("0,10", "1-2")

    def test_libvirt_replaces_what_has_the_same_namespace(
        self, libvirtd: Driver, host: SimulatedHost
    ) -> None:
        domain = self.define(libvirtd, self.BARE)
        domain.create()
        host.start(a_request("0", "1-2", 1)._replace(mdev=mdev(7)))
        assert (
            host.run("guest", "set", "db1", "--adapters", "0", "--domains", "1", "--live", "-c", URI)
            == Exit.OK
        )
        running = parse_domain(domain.XMLDesc().encode())
        assert running
        assert running.matrix == a_matrix("0", "1")

    @pytest.mark.parametrize("uri", ["not a uri", "a b", "http://[", "relative"])
    def test_others_metadata_is_kept_whatever_its_namespace(
        self, libvirtd: Driver, host: SimulatedHost, uri: str
    ) -> None:
        domain = self.define(libvirtd, f"<x:note xmlns:x='{uri}'><x:deep/></x:note>")
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.OK
        assert asked(domain) == a_matrix("0,10", "1-2")
        assert f'xmlns:x="{uri}"' in definition(domain)
        assert host.run("guest", "clear", "db1", "-c", URI) == Exit.OK
        assert f'xmlns:x="{uri}"' in definition(domain)


class TestClear:
    """What was set goes again, and what was there before stays."""

    @pytest.mark.parametrize("device", ["", mdev(1)])
    def test_what_set_added_goes(self, libvirtd: Driver, host: SimulatedHost, device: str) -> None:
        domain = libvirtd.define("db1", 1, device=device)
        before = definition(domain)
        host.run("guest", "set", "db1", *IBM, "-c", URI)
        assert definition(domain) != before
        for _ in range(2):
            assert host.run("guest", "clear", "db1", "-c", URI) == Exit.OK
            assert definition(domain) == before

    def test_the_device_is_kept(self, libvirtd: Driver, host: SimulatedHost) -> None:
        domain = libvirtd.define("db1", 1)
        host.run("guest", "set", "db1", *IBM, "-c", URI)
        assert host.run("guest", "clear", "db1", "--keep-hostdev", "-c", URI) == Exit.OK
        assert (asked(domain), device_uuids(definition(domain).encode())) == (None, {OWN})

    def test_a_dry_run(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        host.run("guest", "set", "db1", *IBM, "-c", URI)
        before = definition(domain)
        capsys.readouterr()
        assert host.run("guest", "clear", "db1", "--dry-run", "-c", URI) == Exit.OK
        assert "-    <hostdev" in capsys.readouterr().out
        assert definition(domain) == before


class TestLive:
    """A guest that runs. The driver's have no devices that are plugged: it refuses."""

    def running(self, libvirtd: Driver, host: SimulatedHost) -> Any:
        domain = libvirtd.define("db1", 1, a_matrix("0", "1-2"), mdev(1))
        domain.create()
        host.start(a_request("0", "1-2", 1))
        return domain

    def live(self, libvirtd: Driver) -> Matrix | Criteria | None:
        request = parse_domain(libvirtd.guest("db1").xml(live=True))
        return request and (request.criteria or request.matrix)

    @pytest.mark.parametrize("also", [(), ("--config",)])
    def test_queues_and_annotation_change_together(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str], also: tuple[str, ...]
    ) -> None:
        domain = self.running(libvirtd, host)
        words = ("--adapters", "0-1", "--domains", "2")
        assert host.run("guest", "set", "db1", *words, "--live", *also, "-c", URI) == Exit.OK
        said = capsys.readouterr()
        assert "the guest gets 1 queue: 01.0002" in said.out
        assert "the guest gives up 1 queue: 00.0001" in said.out
        assert devices(host) == {mdev(1): a_matrix("0-1", "2")}
        assert [(lease.matrix, lease.state) for lease in leases(host)] == [(a_matrix("0-1", "2"), "held")]
        assert self.live(libvirtd) == a_matrix("0-1", "2")
        assert asked(domain) == a_matrix("0-1", "2") if also else a_matrix("0", "1-2")

    def test_a_dry_run(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.running(libvirtd, host)
        assert host.run("guest", "set", "db1", *IBM, "--live", "--config", "--dry-run", "-c", URI) == Exit.OK
        out = capsys.readouterr().out
        assert "the guest would get 2 queues: 0a.0001, 0a.0002" in out
        assert out.endswith(
            "\nwould change the running guest db1\nwould change the definition of guest db1\n"
        )
        assert devices(host) == {mdev(1): a_matrix("0", "1-2")}
        assert self.live(libvirtd) == a_matrix("0", "1-2")

    def test_libvirt_refuses_and_all_goes_back(
        self,
        libvirtd: Driver,
        host: SimulatedHost,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        domain = self.running(libvirtd, host)
        before, had = definition(domain), host.read("run/apvfio/ledger.json")
        # libvirt itself answers so to an element that is none.
        set_annotation = Guest.set_annotation

        def refused(guest: Guest, text: str, *, config: bool = False, live: bool = False) -> None:
            set_annotation(guest, "<" if "0,10" in text else text, config=config, live=live)

        monkeypatch.setattr(Guest, "set_annotation", refused)
        assert host.run("guest", "set", "db1", *IBM, "--live", "--config", "-c", URI) == Exit.FAILURE
        assert "guest db1: libvirt refused: " in capsys.readouterr().err
        assert devices(host) == {mdev(1): a_matrix("0", "1-2")}
        assert definition(domain) == before
        assert self.live(libvirtd) == a_matrix("0", "1-2")
        after = json.loads(host.read("run/apvfio/ledger.json") or "")
        assert after["leases"] == json.loads(had or "")["leases"]

    def test_a_device_that_cannot_be_plugged_in_leaves_nothing(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        domain = libvirtd.define("db1", 1)
        domain.create()
        before = definition(domain)
        assert host.run("guest", "set", "db1", *IBM, "--live", "--config", "-c", URI) == Exit.FAILURE
        assert "guest db1: libvirt refused: " in capsys.readouterr().err
        assert (devices(host), leases(host)) == ({}, [])
        assert definition(domain) == before
        assert self.live(libvirtd) is None

    def test_a_device_of_somebody_elses(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        libvirtd.define("db1", 1, device=mdev(3)).create()
        host.write(f"sys/{AP_MDEVS.create}", mdev(3))
        for gone, why in (
            (False, f"apvfio did not create its device {mdev(3)}"),
            (True, f"its mediated device {mdev(3)} is gone: it has no queues"),
        ):
            if gone:
                host.write(f"sys/{AP_MDEVS.remove(mdev(3))}", "1")
            for verb in (("set", "db1", *IBM), ("clear", "db1")):
                assert host.run("guest", *verb, "--live", "-c", URI) == Exit.CONFLICT
                assert why in capsys.readouterr().err

    @pytest.mark.parametrize("verb", [("set", "db1", *IBM), ("clear", "db1")])
    def test_a_guest_that_does_not_run(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
    ) -> None:
        libvirtd.define("db1", 1)
        assert host.run("guest", *verb, "--live", "-c", URI) == Exit.REQUEST
        assert "guest db1: it does not run." in capsys.readouterr().err

    def test_a_guest_without_definition(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.running(libvirtd, host).undefine()
        assert host.run("guest", "set", "db1", *IBM, "-c", URI) == Exit.REQUEST
        assert "it is transient and has no next start" in capsys.readouterr().err
        assert host.run("guest", "set", "db1", *IBM, "--live", "-c", URI) == Exit.OK
        assert self.live(libvirtd) == a_matrix("0,10", "1-2")

    def test_unchecked_is_not_for_a_guest_that_runs(
        self, libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.running(libvirtd, host)
        assert host.run("guest", "set", "db1", *IBM, "--live", "--unchecked", "-c", URI) == Exit.USAGE
        assert "Choose one of them" in capsys.readouterr().err
