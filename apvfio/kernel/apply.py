# SPDX-License-Identifier: Apache-2.0
"""Apply steps to the kernel and read each back: a write that succeeds proves little."""

from __future__ import annotations

from apvfio.kernel.errnos import HARMLESS, refused
from apvfio.kernel.snapshot import read_driver, read_host, read_mask
from apvfio.model.errors import ApvfioError
from apvfio.model.host import BUS, MASK_NAMES, UNBOUND
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.step import FREE, PROBE, RETURN, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.kernel.seam import Sysfs
    from apvfio.model.matrix import Apqn


def apply_steps(sysfs: Sysfs, steps: Iterable[Step]) -> None:
    """Take the steps one by one; the first failure is an error, and the steps before it stay done.

    A step whose result is there already is no failure, nor is a bit that cannot be set again yet.
    """
    for step in steps:
        try:
            sysfs.write(step.path, step.value)
            check(sysfs, step)
        except OSError as error:
            if (step.op, error.errno) in HARMLESS:
                continue
            raise refused(error, step.path, step.value) from None


def write(sysfs: Sysfs, path: str, value: str) -> None:
    """One write; whatever the kernel has against it is an error."""
    try:
        sysfs.write(path, value)
    except OSError as error:
        raise refused(error, path, value) from None


def scan(sysfs: Sysfs) -> None:
    """Start a scan of the AP bus. A scan that takes long continues by itself."""
    path = f"{BUS}/scans"
    try:
        sysfs.write(path, "1")
    except TimeoutError:
        return
    except OSError as error:
        raise refused(error, path, "1") from None


def check(sysfs: Sysfs, step: Step) -> None:
    """Read back what ``step`` wrote, and bind queues that a returned mask bit left without a driver."""
    if step.attribute in MASK_NAMES:
        now = read_mask(sysfs, step.attribute)
        if parse_mask_spec(step.value).apply(now) != now:
            raise _not_so(step, str(now))
        if step.op == RETURN:
            bind_queues(sysfs, _left_unbound(sysfs, step))
    elif step.op in (FREE, RETURN):
        override = sysfs.read(step.path).removesuffix("\n")
        if override != step.value.removesuffix("\n"):
            raise _not_so(step, repr(override))


def bind_queues(sysfs: Sysfs, queues: Iterable[Apqn]) -> None:
    """Find a driver for those of ``queues`` that have none: a mask write does not tell of them.

    One that has gone meanwhile keeps the others from nothing.
    """
    loose = (queue for queue in queues if read_driver(sysfs, queue) == UNBOUND)
    apply_steps(sysfs, (Step(PROBE, f"{BUS}/drivers_probe", str(queue)) for queue in loose))


def _left_unbound(sysfs: Sysfs, step: Step) -> Iterator[Apqn]:
    """The queues that ``step`` gave to the host and no driver has (bus:__ap_revise_reserved skips those)."""
    returned = parse_mask_spec(step.value).apply(NO_IDS)
    host = read_host(sysfs, overrides=False)
    for queue, driver in host.drivers.items():
        given = (queue.adapter if step.attribute == MASK_NAMES[0] else queue.domain) in returned
        if given and driver == UNBOUND and host.masks_give_host(queue):
            yield queue


def _not_so(step: Step, now: str) -> ApvfioError:
    return ApvfioError(
        f"/sys/{step.path} reads {now} after {step.value!r} was written.",
        remedy="Another program is changing it; see that it ends, then try again.",
    )
