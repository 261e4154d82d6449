# SPDX-License-Identifier: Apache-2.0
"""What libvirt-guests does at shutdown, as its script and its configuration say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.doctor.collect.libvirt_guests import look_at_guest_shutdown
from apvfio.doctor.facts import GuestShutdown

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = """ON_SHUTDOWN="shutdown"
test -f "$sysconfdir"/default/libvirt-guests && . "$sysconfdir"/default/libvirt-guests
        ON_SHUTDOWN="shutdown"
"""
UPSTREAM = """ON_SHUTDOWN=suspend
test -f "$sysconfdir"/sysconfig/libvirt-guests && . "$sysconfdir"/sysconfig/libvirt-guests
        ON_SHUTDOWN="shutdown"
"""
IN_DEFAULT, IN_SYSCONFIG = "/etc/default/libvirt-guests", "/etc/sysconfig/libvirt-guests"


@pytest.mark.parametrize(
    ("script", "configuration", "expected"),
    [
        (DEBIAN, None, ("shutdown", IN_DEFAULT)),
        (DEBIAN, "#ON_SHUTDOWN=suspend\n", ("shutdown", IN_DEFAULT)),
        (DEBIAN, "ON_SHUTDOWN=suspend\n", ("suspend", IN_DEFAULT)),
        (DEBIAN, "ON_SHUTDOWN='suspend'\nON_SHUTDOWN=shutdown\n", ("shutdown", IN_DEFAULT)),
        (UPSTREAM, None, ("suspend", IN_SYSCONFIG)),
        (UPSTREAM, "export ON_SHUTDOWN=shutdown\n", ("shutdown", IN_SYSCONFIG)),
    ],
)
def test_the_last_value_counts(
    tmp_path: Path, script: str, configuration: str | None, expected: tuple[str, str]
) -> None:
    (tmp_path / "usr/libexec").mkdir(parents=True)
    (tmp_path / "usr/libexec/libvirt-guests.sh").write_text(script)
    if configuration is not None:
        path = tmp_path / expected[1][1:]
        path.parent.mkdir(parents=True)
        path.write_text(configuration)
    assert look_at_guest_shutdown(str(tmp_path)) == GuestShutdown(*expected)


def test_not_installed(tmp_path: Path) -> None:
    assert look_at_guest_shutdown(str(tmp_path)) is None
