# SPDX-License-Identifier: Apache-2.0
"""``apvfio status --svg``: whole, well-formed, safe and readable for everybody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from lxml import etree

from apvfio.libvirt.status import Status
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.owners import GUEST, HOST, Owner
from apvfio.model.policy import Policy
from apvfio.model.queue_states import QueueStates
from apvfio.view.matrix_svg import svg
from apvfio.view.picture import HUES, RESERVED, Picture, picture
from apvfio.view.status_report import status_report
from apvfio.view.svg_parts import DARK, LIGHT, Colors
from drawn_hosts import a_report, pictures
from hosts import NO_LEASES, a_host, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator

SVG = "{http://www.w3.org/2000/svg}"
SHOWN = Path(__file__).parents[3] / "docs" / "status.svg"


def squares(root: etree._Element) -> Iterator[tuple[Apqn, str, str, set[str]]]:
    """Each queue that is drawn: its name, what is said of it, its mark, and the classes of its parts."""
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "q":
            name, _, said = group.findtext(f"{SVG}title", "").partition(": ")
            queue = Apqn.parse(name)
            assert queue
            yield queue, said, group.findtext(f"{SVG}text", ""), {part.get("class", "") for part in group}


def number(element: etree._Element, name: str) -> int:
    """An attribute that holds a number."""
    return int(element.get(name, ""))


def only(root: etree._Element, name: str) -> etree._Element:
    """The one child of that name."""
    (found,) = root.findall(f"{SVG}{name}")
    return found


def lines(root: etree._Element) -> str:
    return "\n".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))


@settings(max_examples=40)
@given(pictures())
def test_every_queue_is_drawn_once_with_its_owners_mark(drawn: Picture) -> None:
    root = etree.fromstring(svg(a_report(drawn)))
    found = sorted(squares(root))
    assert [queue for queue, *_ in found] == list(drawn.cells)
    for queue, said, mark, _ in found:
        cell, entry = drawn.cells[queue], drawn.legend[drawn.cells[queue].owner]
        assert (said, mark) == (", ".join(filter(None, (entry.text, cell.state))), entry.mark)
    for entry in drawn.legend.values():
        assert f"{entry.text}   {entry.counted}" in lines(root)


@settings(max_examples=40)
@given(pictures())
def test_no_two_squares_and_no_text_lie_outside_or_over_each_other(drawn: Picture) -> None:
    root = etree.fromstring(svg(a_report(drawn)))
    width, height = number(root, "width"), number(root, "height")
    drawn_queues = (group for group in root.iter(f"{SVG}g") if group.get("class") == "q")
    places = [re.findall(r"\d+", group.get("transform", "")) for group in drawn_queues]
    assert len({tuple(place) for place in places}) == len(drawn.cells)
    for x, y in [(int(x), int(y)) for x, y in places]:
        assert x + 28 <= width
        assert y + 28 <= height
    assert all(
        0 <= number(t, "y") <= height and 0 <= number(t, "x") <= width for t in root.iter(f"{SVG}text")
    )


def test_it_needs_nothing_from_elsewhere_and_says_what_it_is() -> None:
    found = {Apqn(0, 1): HOST, Apqn(0, 2): Owner(GUEST, "db1", mdev(1))}
    text = svg(a_report(picture(found, lambda queue: queue.domain == 1)))
    root = etree.fromstring(text)
    assert root.get("role") == "img"
    title, description = (only(root, name) for name in ("title", "desc"))
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "guest db1: 1 queue; host, reserved by policy: 1 queue. Pending returns: nothing." in (
        description.text or ""
    )
    elsewhere = re.findall(r"https?://[^\"]*|url\([^)]*\)|href", text)
    assert elsewhere == [SVG.strip("{}"), "url(#apvfio-hatch)", "url(#apvfio-hatch)"]


def test_a_full_host_is_drawn_in_blocks_that_fit_a_page() -> None:
    found = dict.fromkeys(Matrix(IdSet(range(16)), IdSet(range(85))).queues(), HOST)
    root = etree.fromstring(svg(a_report(picture(found, lambda queue: queue.adapter == 15))))
    assert number(root, "width") < 1150
    drawn = list(squares(root))
    assert len(drawn) == 16 * 85
    assert all((mark == "■") is (queue.adapter == 15) for queue, _, mark, _ in drawn)
    shown = lines(root).split("\n")
    assert [shown.count(f"{domain:04x}") for domain in range(85)] == [1] * 85
    assert shown.count("15  0f") == 3  # decimals beside what reads otherwise


def test_whatever_a_sysfs_holds_it_is_well_formed() -> None:
    found = {Apqn(0, 0): HOST}
    seen = QueueStates({0: "\x01<&"})
    drift = ["queues are bound to \x02<evil>"]
    status = Status(a_host(), NO_LEASES, Policy(), found, drift, None, seen, policy_error=None)
    root = etree.fromstring(svg(status_report(status)))
    assert "?<&" in lines(root)
    assert "queues are bound to ?<evil>" in lines(root)


def test_the_sheet_is_wide_enough_for_the_longest_entry() -> None:
    names = ["W" * 48] * 2
    found = {Apqn(0, i): Owner(GUEST, name, mdev(i)) for i, name in enumerate(names)}
    root = etree.fromstring(svg(a_report(picture(found, lambda _: False))))
    assert number(root, "width") > 7 * len(f"guest {names[0]}, mdev {mdev(1)}")


def test_no_queues() -> None:
    nothing = a_report(picture({}, lambda _: False))
    assert "no queues" in lines(etree.fromstring(svg(nothing)))


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_all_text_can_be_read(colors: Colors) -> None:
    assert len(colors.hues) == HUES == len(set(colors.hues))
    for ground in (colors.paper, colors.host, colors.hatch, *colors.hues):
        assert contrast(colors.ink, ground) >= 4.5, ground
    for text in (colors.faint, colors.warning):
        assert contrast(text, colors.paper) >= 4.5, text
    assert contrast(colors.faint, colors.host) >= 4.5


def ibms_host(directory: Path) -> SimulatedHost:
    """The host that README shows, while its guest holds the queues."""
    host = SimulatedHost(directory)
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["01.001b"]\n')
    host.start(a_request("0,10", "1,2,4")._replace(guest="db1", mdev="0a0b0c0d-1111-4111-8111-111111111111"))
    with host.opened() as system:
        system.kernel.attach_guest("0a0b0c0d-1111-4111-8111-111111111111", "db1")
    return host


def test_the_picture_in_the_manual_is_the_one_that_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To change the picture, write it again with this command, and look at it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1769857200")
    host = ibms_host(tmp_path)
    assert host.run("status", "--svg", str(tmp_path / "status.svg")) == 0
    assert (tmp_path / "status.svg").read_text() == SHOWN.read_text()


def test_the_axes_are_named_where_their_ids_are(tmp_path: Path) -> None:
    """``adapter`` ends where the adapters' ids end; ``domain`` begins above the domains' ids."""
    host = ibms_host(tmp_path)
    assert host.run("status", "--svg", str(tmp_path / "status.svg")) == 0
    root = etree.fromstring((tmp_path / "status.svg").read_bytes())
    texts = {
        "".join(text.itertext()): (number(text, "x"), number(text, "y"))
        for text in root.iter(f"{SVG}text")
        if (text.get("x") and "label" in text.get("class", "")) or "id" in text.get("class", "").split()
    }
    assert texts["adapter"][0] == texts["00"][0]
    assert texts["domain"][0] < texts["0001"][0]
    assert texts["domain"][1] < texts["0001"][1] == texts["adapter"][1] < texts["00"][1]
    assert "AP matrix of host.json, 20" in lines(root)


def test_text_and_drawing_have_the_same_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = ibms_host(tmp_path)
    host.run("status")
    rows = [
        line.split() for line in capsys.readouterr().out.splitlines() if re.match(r"  [0-9a-f]{2} ", line)
    ]
    text = [mark for row in rows for mark in row[1:] if not mark.isdigit()]
    assert host.run("status", "--svg", "-") == 0
    drawn = list(squares(etree.fromstring(capsys.readouterr().out)))
    assert [mark for _, _, mark, _ in sorted(drawn)] == text
    assert [classes & {"inuse"} for _, said, _, classes in drawn] == [
        {"inuse"} if said.endswith("in use") else set() for _, said, _, _ in drawn
    ]
    assert sum(said == str(RESERVED) for _, said, _, _ in drawn) == 1
