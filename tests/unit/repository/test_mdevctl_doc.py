# SPDX-License-Identifier: Apache-2.0
"""docs/mdevctl.md names the places and sentences that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from apvfio.mdev.callouts import SCRIPTS
from apvfio.mdevctl.callout import AP_CHECK
from apvfio.model.errors import ConflictError
from apvfio.plan.ap_check import require_definable, require_startable
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, mdev

ROOT = Path(__file__).parents[3]
TEXT = " ".join((ROOT / "docs" / "mdevctl.md").read_text().split())


def test_the_places_are_those_of_the_scripts() -> None:
    callout = (ROOT / "hooks" / "mdevctl-callout").read_text()
    for directory in SCRIPTS:
        assert f"/{directory}/callouts/00-apvfio" in TEXT
        assert f"/{directory}/callouts/00-apvfio" in callout
    notifier = f"/{SCRIPTS[1]}/notifiers/50-apvfio"
    assert notifier in TEXT
    assert notifier in (ROOT / "hooks" / "mdevctl-notifier").read_text()
    # The script and the program must agree on where it ends.
    assert f"\nap_check={AP_CHECK}\n" in callout


def test_the_sentences_are_those_that_are_said() -> None:
    held = a_ledger(a_lease("0", "1-2", 2)._replace(guest="db1"))
    host = a_host(mdevs={mdev(2): a_matrix("0", "1-2")})
    with pytest.raises(ConflictError) as caught:
        require_startable(mdev(1), a_matrix("0", "1"), host, held)
    assert f"the mediated device {mdev(1)}: {caught.value}" in TEXT
    with pytest.raises(ConflictError, match=r"APQN 10\.4 is defined for autostart by"):
        require_definable(mdev(1), a_matrix("10", "4"), {mdev(3): a_matrix("10", "4")})
    assert "APQN 10.4 is defined for autostart by UUID" in TEXT
    require_startable(mdev(2), a_matrix("0", "1"), host, NO_LEASES)
