# SPDX-License-Identifier: Apache-2.0
"""Verify by reading back that a mediated device gives its guest all assigned queues."""

from __future__ import annotations

from apvfio.kernel.snapshot import read_driver, read_guest_queues, read_matrix
from apvfio.model.errors import ApvfioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn


def verify_device(sysfs: Sysfs, lease: Lease, there: list[Apqn]) -> None:
    """ApvfioError unless the guest will get all queues that are ``there``, an assign does not tell."""
    held = read_matrix(sysfs, lease.mdev)
    if held != lease.matrix:
        raise ApvfioError(
            f"the mediated device {lease.mdev} holds {held} where {lease.matrix} was assigned.",
            remedy="Another program is changing it; see that it ends, then try again.",
        )
    seen = read_guest_queues(sysfs, lease.mdev, lease.matrix)
    missing = [queue for queue in there if seen is not None and queue not in seen]
    if missing:
        drivers = {read_driver(sysfs, queue) or "no driver" for queue in missing}
        raise ApvfioError(
            f"{', '.join(map(str, missing[:8]))} would not reach the guest (bound to {', '.join(drivers)}).",
            queues=missing,
            remedy="See 'apvfio queues' for their state.",
        )


def readable(error: ApvfioError | OSError) -> ApvfioError:
    """Return ``error`` as one for users: an OSError came from reading back."""
    if isinstance(error, ApvfioError):
        return error
    return ApvfioError(
        f"the change could not be read back: {error}.",
        remedy="An adapter may have disappeared: see 'apvfio queues', then try again.",
    )
