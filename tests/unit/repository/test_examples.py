# SPDX-License-Identifier: Apache-2.0
"""The examples are what they say."""

from __future__ import annotations

import re
from pathlib import Path

from apvfio.domain.request import parse_domain
from apvfio.model.ids import NO_IDS
from apvfio.model.matrix import Apqn
from apvfio.model.policy import Policy
from apvfio.store.policy_file import parse_policy, sections
from hosts import NO_LEASES, a_host, a_matrix

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_guest_asks_for_what_its_comment_says() -> None:
    request = parse_domain((EXAMPLES / "guest.xml").read_bytes())
    assert request is not None
    assert request.guest == "db1"
    assert request.matrix[:2] == a_matrix("0,10", "1,2,4")[:2]
    from apvfio.plan.start_plan import make_plan

    assert make_plan(request, a_host(), NO_LEASES, Policy()).freed_by == "adapters"


def test_the_policy_shows_the_defaults_and_reserves_nothing_until_its_lines_are_uncommented() -> None:
    text = (EXAMPLES / "apvfio.toml").read_text()
    assert parse_policy(text) == Policy()
    policy = parse_policy(re.sub(r"^#(?! |$)", "", text, flags=re.MULTILINE))
    assert policy.reserves(Apqn(1, 27))
    assert policy.reserves(Apqn(12, 0))
    assert policy.reserves(Apqn(0, 84))
    # All else that is shown is what holds without the file, and everything is shown.
    assert policy._replace(queues=frozenset(), adapters=NO_IDS, domains=NO_IDS) == Policy()
    shown = set(re.findall(r"^#([a-z0-9-]+) = ", text, flags=re.MULTILINE))
    assert shown == {key for keys in sections().values() for key in keys}
