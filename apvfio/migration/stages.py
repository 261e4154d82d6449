# SPDX-License-Identifier: Apache-2.0
"""The steps of a migration, and of undoing it, according to where the guest is. Pure.

No state is stored. Where the guest runs, whether it has its device, and which queues are held for it show how
far a migration has come. A later command can therefore complete or undo it.

The guest keeps its queues here until it runs at the destination, and has its queues there before it leaves.
So no step can fail because another guest took the queues.
"""

from __future__ import annotations

from apvfio.migration.places import ABSENT, HALTED, RUNS, UNKNOWN, GuestPlaces
from apvfio.model.errors import ApvfioError, ConflictError, HostError, RequestError

EXPECT = "expect"
EXPECT_SAME = "expect-same"
UNPLUG = "unplug"
MOVE = "move"
MOVE_BY_KERNEL = "move-by-kernel"
PLUG = "plug"
END_HERE = "end-here"
END_THERE = "end-there"
RETURN = "return"
EXPECT_BACK = "expect-back"
MOVE_BACK = "move-back"
RESUME = "resume"
PLUG_BACK = "plug-back"
GIVE_UP = "give-up"

WORDS = {
    EXPECT: "destination: free its queues, create its mediated device",
    EXPECT_SAME: "destination: free the same queues, create its mediated device; both hosts refuse "
    "changes of masks and overrides",
    UNPLUG: "here: unplug its device; its queues stay its own",
    MOVE: "migrate it, running, with its definition",
    MOVE_BY_KERNEL: "migrate it, running, with its device and its definition",
    PLUG: "destination: plug its device in",
    END_HERE: "here: end the halted QEMU process that a migration left",
    END_THERE: "destination: end the halted QEMU process that a migration left",
    RETURN: "here: return its queues, and leave no definition",
    EXPECT_BACK: "here: free its queues, create its mediated device",
    MOVE_BACK: "migrate it back",
    RESUME: "here: let its processors run again",
    PLUG_BACK: "here: plug its device in",
    GIVE_UP: "destination: return the queues that were freed for it",
}
"""Each step in words."""


def stages_ahead(seen: GuestPlaces, *, by_kernel: bool = False) -> list[str]:
    """Return the steps until the guest has its queues at the destination, none if it has them.

    With ``by_kernel``, the kernel migrates the device of a guest that has it here. ConflictError if the guest
    is on both hosts, RequestError if it runs nowhere or has no queues, HostError if one of the hosts does not
    answer.
    """
    here, there = seen.here, seen.there
    _require_answers(seen)
    if there.runs:
        _require_one_place(seen)
        plug = [] if there.device else [EXPECT, PLUG]
        end = [END_HERE] if here.state == HALTED else []
        rest = [RETURN] if plug or end or seen.lease_here or seen.defined_here else []
        return [*plug, *end, *rest]
    if here.state == HALTED or (here.state == ABSENT and there.state == HALTED):
        raise undecided(seen)
    _require_one_place(seen)
    _require_lease(seen)
    end = [END_THERE] if there.state == HALTED else []
    if by_kernel and here.device:
        return [*end, EXPECT_SAME, MOVE_BY_KERNEL, RETURN]
    return [*end, EXPECT, *([UNPLUG] if here.device else []), MOVE, PLUG, RETURN]


def stages_back(seen: GuestPlaces, *, asked: bool = True) -> list[str]:
    """Return the steps until the guest has its queues here, and none are held at the destination.

    If the guest runs here, the destination need not answer. ``asked`` says that the administrator wants the
    guest here: then a guest that a migration has halted here, and that runs nowhere else, is resumed here.
    The errors are those of `stages_ahead`; ConflictError also if the guest has arrived with its queues.
    """
    here, there = seen.here, seen.there
    end = [END_THERE] if there.state == HALTED else []
    if here.device and not seen.lease_here:
        raise _made_by_hand()
    plug = [] if here.device else [PLUG_BACK] if seen.lease_here else [EXPECT_BACK, PLUG_BACK]
    if here.runs:
        _require_one_place(seen)
        return [*plug, *end, GIVE_UP]
    _require_answers(seen)
    if there.runs:
        if there.device:
            raise ConflictError(
                "it runs at the destination and has its queues there.", remedy="Migrate it from there."
            )
        return [*([END_HERE] if here.state == HALTED else []), EXPECT_BACK, MOVE_BACK, PLUG_BACK, GIVE_UP]
    if here.state == HALTED:
        if not asked:
            raise undecided(seen)
        return [*end, RESUME, *plug, GIVE_UP]
    if there.state == HALTED:
        raise undecided(seen)
    return [GIVE_UP]


def undecided(seen: GuestPlaces) -> ApvfioError:
    """Return the error for a guest that is halted wherever it is."""
    if seen.here.state == HALTED:
        return ConflictError(
            "a migration that did not end has halted it.",
            remedy="If it did not run at the destination, 'apvfio migrate --back' resumes it here.",
        )
    return ConflictError(
        "a migration that did not end has halted it at the destination.",
        remedy="Look there with 'virsh domstate --reason'; it may still be arriving.",
    )


def _require_answers(seen: GuestPlaces) -> None:
    for presence in (seen.here, seen.there):
        if presence.state == UNKNOWN:
            sentence, remedy = presence.why, "Check that libvirt runs on both hosts, then try again."
            raise HostError(sentence, remedy=remedy)


def _require_lease(seen: GuestPlaces) -> None:
    if not seen.lease_here:
        if seen.here.device:
            raise _made_by_hand()
        raise RequestError("it has no AP queues.", remedy="Migrate it with 'virsh migrate'.")


def _made_by_hand() -> ConflictError:
    """Refuse a foreign device: a command that continues or undoes a migration could not find it again."""
    return ConflictError(
        "its mediated device was not created by apvfio.",
        remedy="Unplug that device, then migrate the guest with 'virsh migrate'.",
    )


def _require_one_place(seen: GuestPlaces) -> None:
    if seen.here.state == seen.there.state == RUNS:
        raise ConflictError(
            "it runs here and at the destination.",
            remedy="Find out which of them has the newer data, and end the other with 'virsh destroy'; "
            "a lock manager (virtlockd, sanlock) or fencing prevents this.",
        )
    if seen.here.state == seen.there.state == ABSENT:
        raise runs_nowhere()


def runs_nowhere() -> RequestError:
    """The error for a guest that runs neither here nor at the destination."""
    remedy = "Only a running guest has queues; 'virsh migrate --offline' moves the definition of another."
    return RequestError("it is not running.", remedy=remedy)
