# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest`` with requests by property, on a libvirt that is a dictionary."""

from __future__ import annotations

import json

import pytest

from apvfio.cli.main import main
from apvfio.errors import Exit, RequestError
from apvfio.guests import annotation
from apvfio.matrix import Matrix
from apvfio.wish import Wish
from test_request import HOSTDEV, UUID, domain

WORDS = "any 2 adapters x 1 domain, ep11, CEX7 or newer"


class FakeGuest:
    """A guest whose annotation is what was set last."""

    name = "db1"
    active = False

    def __init__(self) -> None:
        self.asked: Matrix | Wish | None = None

    def annotate(self, asked: Matrix | Wish | None, *, config: bool, live: bool) -> None:
        self.asked = asked

    def xml(self, *, live: bool = False) -> bytes:
        if self.asked is None:
            return (
                f"<domain><name>db1</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
            )
        inside = annotation(self.asked).removeprefix("<guest>").removesuffix("</guest>")
        return domain(inside.replace("<", "<ap:", 1))


class FakeLibvirt:
    """A connection to a libvirt with one guest."""

    guest = FakeGuest()

    def __init__(self, uri: str) -> None:
        pass

    def __enter__(self) -> FakeLibvirt:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def find(self, name: str) -> FakeGuest:
        if name != "db1":
            raise RequestError("libvirt knows no such guest.")
        return self.guest

    def all(self) -> list[FakeGuest]:
        return [self.guest]


@pytest.fixture(autouse=True)
def guest(monkeypatch: pytest.MonkeyPatch) -> FakeGuest:
    FakeLibvirt.guest = FakeGuest()
    monkeypatch.setattr("apvfio.cli.guest.Guests", FakeLibvirt)
    return FakeLibvirt.guest


def test_set_show_and_list(guest: FakeGuest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guest", "set", "db1", "--any", "mode=ep11,adapters=2,min-generation=7"]) == Exit.OK
    assert guest.asked == Wish("ep11", 2, 1, 7)
    assert capsys.readouterr().err == ""
    assert main(["guest", "show", "db1"]) == Exit.OK
    out = capsys.readouterr().out
    assert f"any             {WORDS}\n" in out
    assert "adapters  " not in out
    assert main(["guest", "show", "db1", "--json"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert (document["any"], document["adapters"], document["control_domains"]) == (WORDS, None, "")
    assert main(["guest", "list"]) == Exit.OK
    assert capsys.readouterr().out.split(maxsplit=3) == ["db1", "shut", "off", f"{WORDS}\n"]


def test_control_domains_beside_a_wish(guest: FakeGuest) -> None:
    assert main(["guest", "set", "db1", "--any", "mode=cca", "--control-domains", "0-1,4"]) == Exit.OK
    assert isinstance(guest.asked, Wish)
    assert str(guest.asked.control_domains) == "0-1,4"


def test_explicit_ids_as_ever(guest: FakeGuest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guest", "set", "db1", "--adapters", "0,0xa", "--domains", "1"]) == Exit.OK
    assert isinstance(guest.asked, Matrix)
    assert main(["guest", "show", "db1"]) == Exit.OK
    out = capsys.readouterr().out
    assert "adapters        0,10\n" in out
    assert "any" not in out
    assert main(["guest", "list"]) == Exit.OK
    assert "adapters 0,10, domains 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], Exit.USAGE, "either --adapters and --domains, or --any"),
        (["--adapters", "1"], Exit.USAGE, "either --adapters and --domains, or --any"),
        (["--any", "mode=ep11", "--domains", "1"], Exit.USAGE, "either --adapters and --domains"),
        (["--any", "mode=none"], Exit.REQUEST, "mode of --any is 'none'"),
    ],
)
def test_words_that_make_no_sense(
    words: list[str], code: Exit, says: str, guest: FakeGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["guest", "set", "db1", *words]) == code
    assert says in capsys.readouterr().err
    assert guest.asked is None
