# SPDX-License-Identifier: Apache-2.0
"""Hosts to be drawn, for hypothesis and for an eye."""

from __future__ import annotations

from hypothesis import strategies as st

from apvfio.model.matrix import Apqn
from apvfio.model.owners import FREE, GUEST, HOST, MDEV, UNBOUND, Owner
from apvfio.model.queue_states import STATES, QueueStates
from apvfio.view.picture import Picture, picture
from apvfio.view.status_report import Report
from hosts import mdev

HOSTILE = [
    "<script>&\"'",
    "\x1b[2J\n",
    "a  6 queues",
    "\u202eevil",
    "漢字",
    "e\u0301",
    "\ud800",
    "x" * 200,
    " ",
    "",
]

ids = st.integers(0, 255)
names = st.sampled_from(HOSTILE) | st.text(max_size=12)
owners = st.one_of(
    st.sampled_from([HOST, FREE, UNBOUND]),
    st.builds(lambda name, n: Owner(GUEST, name, mdev(n)), names, st.integers(0, 99)),
    st.builds(lambda n: Owner(MDEV, mdev(n), mdev(n)), st.integers(100, 199)),
)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """A host of any shape, with holes in it, and owners of any name."""
    adapters = draw(st.lists(ids, min_size=1, max_size=6, unique=True))
    domains = draw(st.lists(ids, min_size=1, max_size=40, unique=True))
    some = draw(st.lists(owners, min_size=1, max_size=70))
    queues = [Apqn(adapter, domain) for adapter in adapters for domain in domains]
    seed = draw(st.randoms(use_true_random=False))
    found = {queue: seed.choice(some) for queue in queues if seed.random() < 0.9} or {queues[0]: some[0]}
    states = {queue: seed.choice(STATES) for queue in found if seed.random() < 0.2}
    reserved = frozenset(queue for queue in found if seed.random() < 0.2)
    types = {adapter: draw(st.sampled_from(["CEX8P", *HOSTILE])) for adapter in adapters[::2]}
    return picture(found, reserved.__contains__, QueueStates(types, states))


def a_report(drawn: Picture, *, drift: tuple[str, ...] = ()) -> Report:
    """A report with that picture."""
    facts = (("mechanism", "masks"), ("kernel", "vfio_ap loaded"), ("apmask", "0-255"), ("aqmask", "empty"))
    return Report(facts, drawn, ("no guest holds queues",), "nothing", drift)
