# SPDX-License-Identifier: Apache-2.0
"""mdevctl's notifier: reconcile the host after each action on an AP device.

hooks/mdevctl-notifier calls this only for actions that may concern the ledger. mdevctl drops what its
notifiers print, so messages go to the system log as well.
"""

from __future__ import annotations

import sys
import syslog
from typing import TYPE_CHECKING

from apvfio.mdev.callouts import MODIFY, START, STOP, CallError, parse_call
from apvfio.model.errors import ApvfioError, unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import System
    from apvfio.mdev.callouts import Call

_MOVES = (START, STOP, MODIFY)
"""The actions that can change who has which queue; a definition alone changes nothing."""


def main(argv: list[str], system: System | None = None) -> int:
    """Serve one call. Always 0: mdevctl has done its work, and nothing of it can be taken back."""
    try:
        for sentence in _serve(parse_call(argv), system or this_machine()):
            _say(sentence)
    except (ApvfioError, CallError) as error:
        _say(str(error))
    except Exception as error:  # nobody may find a traceback in mdevctl's output
        _say(str(unexpected(error)))
    return 0


def _serve(call: Call, system: System) -> Iterator[str]:
    from apvfio.engine.claim import end_claim  # noqa: PLC0415
    from apvfio.engine.reconcile import reconcile_host  # noqa: PLC0415
    from apvfio.engine.state import look  # noqa: PLC0415
    from apvfio.mdevctl.guest_messages import news  # noqa: PLC0415
    from apvfio.store.processes import parent  # noqa: PLC0415

    host, ledger, _ = look(system)
    yield from news(call, host, ledger, system.files)
    if call.action not in _MOVES:
        return
    mdevctl = parent()
    if mdevctl and call.uuid in ledger.claims:
        end_claim(system, call.uuid, mdevctl)
    reconcile_host(system, hurry=True)


def this_machine() -> System:
    """Return this machine, with the time that mdevctl has left."""
    from apvfio.store.processes import age, parent  # noqa: PLC0415
    from apvfio.store.system import RealSystem  # noqa: PLC0415

    # Callout and notifier belong to one call of mdevctl, and share the limit of one of them.
    mdevctl = parent()
    return RealSystem(waited=age(mdevctl) if mdevctl else 0)


def _say(sentence: str) -> None:
    print(f"apvfio: {sentence}", file=sys.stderr)
    syslog.openlog("apvfio", 0, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
