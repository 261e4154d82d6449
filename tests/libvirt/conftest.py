# SPDX-License-Identifier: Apache-2.0
"""The lab for tests: a private libvirtd on a simulated host, or the reason why there can be none."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import DRAFT_MIGRATION
from lab.hook import hook_script
from lab.lab import Lab
from migration_env import Pair
from where_possible import where_possible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab_env import MakeLab
    from migration_env import Standing

HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.libvirt)


@contextmanager
def made_lab(hook: str | None, kernel: SimKernel | None = None) -> Iterator[Lab]:
    """A lab; where there can be none the test is skipped, but in CI it fails."""
    with where_possible(Lab(hook, kernel=kernel)) as lab:
        yield lab


@pytest.fixture(scope="session")
def make_lab() -> MakeLab:
    """Makes labs with hooks of one's own."""
    return made_lab


@pytest.fixture(scope="module")
def two_labs(make_lab: MakeLab) -> Iterator[Pair]:
    """Two hosts between which guests can be migrated."""
    with make_lab(hook_script()) as here, make_lab(hook_script()) as there:
        pair = Pair(here, there)
        yield pair
        pair.end()


@pytest.fixture(scope="module")
def two_draft_labs() -> Iterator[Pair]:
    """The same with the kernel's draft of live migration on both hosts."""
    kernels = (SimKernel.new(DRAFT_MIGRATION) for _ in range(2))
    with (
        made_lab(hook_script(), next(kernels)) as here,
        made_lab(hook_script(), next(kernels)) as there,
    ):
        pair = Pair(here, there)
        yield pair
        pair.end()


@pytest.fixture
def started(pair: Pair) -> Standing:
    """The guest runs here, with its queues."""
    pair.start()
    found = pair.standing()
    assert (found.runs_here, found.device_here, found.runs_there) == (True, True, False)
    return found


RECORDING_HOOK = """\
#!/bin/sh
# Records what it is called with; makes and removes the devices of guests named ap-UUID.
cat >>/run/hook.xml
echo "$*" >>/run/hook.log
uuid=${1#ap-}
[ "$uuid" != "$1" ] || exit 0
matrix=/sys/devices/vfio_ap/matrix
case $2 in
prepare)
    set -e
    echo -0xa >/sys/bus/ap/apmask
    echo "$uuid" >$matrix/mdev_supported_types/vfio_ap-passthrough/create
    echo 10 >$matrix/"$uuid"/assign_adapter
    echo 1 >$matrix/"$uuid"/assign_domain
    ;;
release)
    echo 1 >/sys/bus/mdev/devices/"$uuid"/remove
    echo +0xa >/sys/bus/ap/apmask
    ;;
esac
"""


@pytest.fixture(scope="module")
def recorder() -> Iterator[Lab]:
    """A lab whose hook records its calls."""
    with made_lab(RECORDING_HOOK) as lab:
        yield lab
