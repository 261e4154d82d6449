# SPDX-License-Identifier: Apache-2.0
"""Our mask grammar held against the real chzdev's: the manual's tables, and whatever else can be typed.

``APVFIO_EXAMPLES`` sets how many generated specifications are tried.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apvfio.model.errors import RequestError
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, format_hex, parse_hex
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.persistent_masks import RULE
from apvfio.sim.kernel import SimKernel
from apvfio.store.masks_file import load
from mask_tables import BEFORE, CHANGES, DIFFERENCES, ERRORS, EXITS
from real_tools import tool_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_tools import ToolHost, Tools

EXAMPLES = int(os.environ.get("APVFIO_EXAMPLES", "150"))
APMASK = "bus/ap/apmask"
_NUMBER = r"[ \t\n\v\f\r]*(?:0[xX][0-9a-fA-F]+|[0-9]+)"
MEANT = {
    "second sign": re.compile(r"(^|,)(\s+|[-+]\s*|[^,]*-\s*)[-+]", re.ASCII),
    "binary": re.compile(r"0[bB][01]"),
    "backwards": re.compile(rf"(^|,)[-+]?{_NUMBER}-{_NUMBER}(,|$)"),
    "long": re.compile(r".{4097}", re.DOTALL),
}
"""By its name in the manual, what a specification looks like that chzdev accepts and we refuse."""


@pytest.fixture(scope="module")
def host(tools: Tools) -> Iterator[ToolHost]:
    """A host with few queues: setting its masks takes no time."""
    with tool_host(tools, SimKernel.new(adapters={0: "accel"}, domains=IdSet([1]))) as made:
        yield made


def chzdev(host: ToolHost, base: IdSet, text: str) -> IdSet | None:
    """The mask that chzdev makes of ``base``, None if it refuses."""
    host.system.sysfs.write(APMASK, format_hex(base))
    done = host.run("chzdev", "--type", "ap", "--active", f"apmask={text}", code=None)
    after = parse_hex(host.system.sysfs.read(APMASK))
    assert done.returncode in (0, 6), done.stderr
    assert done.returncode == 0 or after == base
    return None if done.returncode else after


def ours(base: IdSet, text: str) -> IdSet | None:
    try:
        return parse_mask_spec(text).apply(base)
    except RequestError:
        return None


@pytest.mark.parametrize(("text", "after"), CHANGES.items())
def test_what_the_manual_says_of_a_specification(host: ToolHost, text: str, after: IdSet) -> None:
    assert chzdev(host, BEFORE, text) == after


@pytest.mark.parametrize("text", ERRORS)
def test_what_the_manual_calls_an_error(host: ToolHost, text: str) -> None:
    assert chzdev(host, BEFORE, text) is None


@pytest.mark.parametrize(("difference", "text", "after"), DIFFERENCES)
def test_the_differences_in_the_manual(host: ToolHost, difference: str, text: str, after: IdSet) -> None:
    assert chzdev(host, BEFORE, text) == after
    assert ours(BEFORE, text) is None
    assert [name for name, looks in MEANT.items() if looks.search(text)] == [difference]


def test_what_is_long_is_read_by_chzdev(host: ToolHost) -> None:
    for text in ("0" * 4095 + "7", "7," * 2048):
        assert ours(BEFORE, text) == chzdev(host, BEFORE, text) == IdSet([7])
        assert chzdev(host, BEFORE, f"7,{text}") == IdSet([7])
        assert ours(BEFORE, f"7,{text}") is None


def test_nothing_is_accepted_by_chzdev_where_there_is_nothing(host: ToolHost) -> None:
    assert chzdev(host, NO_IDS, "") == NO_IDS
    assert chzdev(host, BEFORE, "") is None
    assert ours(NO_IDS, "") is None


@pytest.mark.parametrize(("words", "theirs", "_"), EXITS)
def test_the_exit_codes_in_the_manual(host: ToolHost, words: list[str], theirs: int, _: int) -> None:
    host.run("rm", "-f", f"/{RULE}")
    host.run("chzdev", "--type", "ap", "--persistent", "apmask=-7")
    assert host.run("chzdev", "--type", "ap", *words, code=None).returncode == theirs


def test_a_mask_removed_and_changed_is_changed_with_chzdev(host: ToolHost) -> None:
    host.run("rm", "-f", f"/{RULE}")
    host.run("chzdev", "--type", "ap", "--persistent", "apmask=1-7")
    host.run("chzdev", "--type", "ap", "--persistent", "--remove", "apmask", "apmask=-5")
    assert load(host.system.files).apmask == IdSet([1, 2, 3, 4, 6, 7])


def _joined(parts: tuple[str, ...]) -> str:
    return "".join(parts)


values = st.one_of(
    st.integers(0, 12), st.sampled_from([31, 63, 254, 255, 256, 300, 2**32, 2**64 - 10, 2**64 + 5])
)
numbers = st.one_of(
    st.builds(str, values),
    st.builds(hex, values),
    st.builds("0x{:04X}".format, values),
    st.builds("0{:o}".format, values),
    st.builds("0{}".format, values),
    st.builds(bin, values),
    st.just("1" + "0" * 5000),
    st.just("0" * 5000 + "7"),
)
rarely = st.sampled_from([""] * 12 + [" ", "\t", "\n", "\v", "\f", "\r", "\u00a0"])
signs = st.sampled_from([""] * 8 + ["+", "-"])
ends = st.one_of(st.just(""), st.tuples(rarely, st.just("-"), signs, rarely, numbers).map(_joined))
items = st.tuples(rarely, signs, rarely, numbers, ends, rarely).map(_joined)
well_formed = st.tuples(rarely, numbers, ends).map(_joined)
specifications = st.one_of(
    st.lists(well_formed, min_size=1, max_size=4).map(",".join),
    st.lists(st.tuples(st.sampled_from("+-"), well_formed).map(_joined), min_size=1, max_size=4).map(
        ",".join
    ),
    st.lists(items, min_size=1, max_size=3).map(",".join),
    st.text("0123456789abxXBoO+-, \t_.", min_size=1, max_size=9),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9),
)
bases = st.sampled_from([ALL_IDS, NO_IDS, BEFORE, IdSet(range(0, 256, 3))])


@given(base=bases, text=specifications)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_everything_else_is_the_same_or_meant(host: ToolHost, base: IdSet, text: str) -> None:
    theirs, mine = chzdev(host, base, text), ours(base, text)
    if mine is None and theirs is not None:
        assert any(looks.search(text) for looks in MEANT.values())
    else:
        assert mine == theirs
