# SPDX-License-Identifier: Apache-2.0
"""What the doctor knows of a host when it judges: frozen facts, each of which can be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from apvfio.model.errors import ApvfioError
from apvfio.model.ids import ALL_IDS, NO_IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import TypeAlias

    from apvfio.cluster.configuration import Configuration
    from apvfio.cluster.guest_files import GuestFile
    from apvfio.install.checks import Finding
    from apvfio.install.file_changes import Found
    from apvfio.kernel.lszcrypt import ApDevice
    from apvfio.model.drain import Drain
    from apvfio.model.host import Host
    from apvfio.model.ids import IdSet
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.persistent_masks import StoredMasks
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan

T = TypeVar("T")


class Unseen(NamedTuple):
    """What could not be read, and why."""

    error: ApvfioError
    hidden: bool = False
    """Whether only the right to read it lacks: that says nothing about the host."""


Seen: TypeAlias = "T | Unseen"
"""Something that was read, or could not be."""


def known(seen: T | Unseen) -> T | None:
    """Return the fact, or None if it could not be read."""
    return None if isinstance(seen, Unseen) else seen


def attempt(read: Callable[[], T]) -> T | Unseen:
    """What ``read`` returns, or why it could not."""
    try:
        return read()
    except ApvfioError as error:
        return Unseen(error, hidden=isinstance(error.__cause__, PermissionError))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return Unseen(ApvfioError(f"{what}."), hidden=isinstance(error, PermissionError))


def otherwise(read: Callable[[], T], default: T) -> T:
    """What ``read`` returns, or the default where there is nothing to read."""
    found = attempt(read)
    return default if isinstance(found, Unseen) else found


BLACKLISTED = "blacklisted"
NO_MODULE = "no module"


class Partition(NamedTuple):
    """What the hardware gives this partition, whatever the masks say; empty if that is not known."""

    adapters: IdSet
    domains: IdSet
    control_domains: IdSet


class KernelFacts(NamedTuple):
    """The AP bus and its drivers."""

    machine: str
    """The machine's architecture; '' for a host that is not this machine."""
    host: Seen[Host]
    partition: Partition
    cards: tuple[ApDevice, ...]
    overrides: Mapping[Apqn, str]
    """Every queue's ``driver_override``, whatever the masks are."""
    has_host_driver: bool
    autoprobe: bool
    boot_masks: bool
    """Whether masks were set as boot parameters: the bits that they clear are clear on purpose."""
    module: str
    """What keeps vfio_ap from being loaded: `BLACKLISTED`, `NO_MODULE`, or '' as far as one can tell."""
    blocked_by: str
    """The file and the line that do so, if it is `BLACKLISTED`."""
    vfio_node: bool
    """Whether /dev/vfio/vfio is there; True for a host that is not this machine."""
    kvm: bool
    """The same of /dev/kvm."""
    attached: frozenset[str]
    """The mediated devices that a guest has attached, or a process has open."""
    bus: bool = True
    """Whether the AP bus exists, even if its attributes cannot be read."""
    guest_matrix: bool = True
    """Whether mediated devices have the file ``guest_matrix``; True also if nothing tells."""

    @property
    def mixed(self) -> bool:
        """Whether masks and overrides are both in use, so that the kernel refuses every change of a mask."""
        host = known(self.host)
        return bool(self.overrides) and host is not None and not host.apmask == ALL_IDS == host.aqmask

    @classmethod
    def unseen(cls, why: Unseen) -> KernelFacts:
        """Nothing is known."""
        nowhere = Partition(NO_IDS, NO_IDS, NO_IDS)
        return cls("", why, nowhere, (), {}, True, True, False, "", "", True, True, frozenset())


class S390Lock(NamedTuple):
    """Who holds the lock of s390-tools."""

    pid: int
    command: str
    """The command line of the process, '' if it has ended or began after the lock was taken."""
    age: float
    """Seconds since it was taken."""


class StoreFacts(NamedTuple):
    """apvfio's own files: its directory, policy and ledger."""

    directory: ApvfioError | None
    """Why /run/apvfio cannot be used."""
    policy: Seen[Policy]
    ledger: Seen[Ledger]
    stored: Seen[StoredMasks]
    lock_holder: str
    """The process that has held apvfio's own lock for some time, '' for none."""
    s390_lock: Seen[S390Lock | None]
    """None if nobody holds it."""
    differences: tuple[str, ...]
    """How the host differs from the ledger, guests that run no more among it, in sentences."""
    replaced: bool = False
    """Whether something that is no directory has the name of /run/apvfio."""
    of_guest: Mapping[str, tuple[str, ...]] = {}
    """Those of the differences that are about the device of one guest, by the guest's uuid."""
    drains: tuple[Drain, ...] = ()
    """The drains that have not been restored."""

    @classmethod
    def unseen(cls, why: Unseen) -> StoreFacts:
        """Nothing is known."""
        return cls(None, why, why, why, "", None, ())


class HookFacts(NamedTuple):
    """The hook's file."""

    state: str
    """``missing``, ``link``, ``irregular``, ``foreign``, ``left over`` from the package apvfio, which was
    removed, ``not executable``, ``changed`` or ``same``."""
    packaged: bool = False
    """Whether the package apvfio brings it to this host, or has brought it."""
    label: str = ""
    """Its SELinux type, '' where there is none."""


class DaemonFacts(NamedTuple):
    """libvirt's daemon, if it runs."""

    name: str
    pid: int
    looked: float
    """When it last looked for hooks: its start, or its last reload as systemd knows; seconds since 1970."""


SEEN = "seen"
UNSEEN = "unseen"
UNSURE = "unsure"
"""The hook was there and may not have been executable."""


class OtherHook(NamedTuple):
    """Somebody else's script that libvirt runs for each guest."""

    path: str
    fault: str
    """Why it cannot be run, as a clause; '' if it can."""
    link: bool = False
    """Whether it is a symbolic link, so that a change of its mode would change another file."""


class UnitFacts(NamedTuple):
    """One of our units."""

    name: str
    loaded: bool
    enabled: bool
    """True for one that others start."""
    failed: bool
    active: bool
    """Whether it watches; True for one that need not."""


SUSPEND = "suspend"


class GuestShutdown(NamedTuple):
    """What libvirt-guests does with running guests when the host shuts down."""

    action: str
    """`SUSPEND`, or ``shutdown``."""
    configuration: str
    """The file that its script sources."""


class MachineFacts(NamedTuple):
    """What is known only of this machine itself."""

    findings: tuple[Finding, ...]
    found: Seen[tuple[Found, ...]]
    hook: HookFacts
    other_hooks: tuple[OtherHook, ...]
    daemon: DaemonFacts | None
    hook_seen: str
    """Whether the daemon found a hook when it last looked: `SEEN`, `UNSEEN`, or `UNSURE`."""
    enforcing: bool
    units: tuple[UnitFacts, ...] | None
    """None where systemd does not run."""
    deferred_for: float
    """For how many seconds something has been waiting for the unit; 0 for nothing."""
    ap_check: str
    """Where s390-tools' callout is, '' if it is not installed."""
    guest_shutdown: GuestShutdown | None = None
    """None if nothing is done: libvirt-guests is not installed or not enabled."""
    reinstall: str = ""
    """The command that puts the files of the package apvfio back; '' if it is not a package, or not known."""


class DomainFacts(NamedTuple):
    """A guest as libvirt or a file has it."""

    name: str
    xml: bytes
    """What its next start will use: its definition, or what a managed save holds."""
    active: bool = False
    autostart: bool = False
    live: bytes = b""
    """What it runs with, b'' if it does not run."""
    listed: bool = True
    """Whether libvirt has said so; whether a guest in a file runs, only the host can tell."""
    definition: bytes = b""
    """Its definition if its next start restores a managed save instead."""


class XmlFacts(NamedTuple):
    """Facts in a guest's XML other than its annotation."""

    uuid: str = ""
    annotated: bool = False
    line: int = 0
    """The line of the annotation, or of the fault in it."""
    device: str = ""
    """The uuid of its vfio-ap device as it is written, '' if it has none."""
    kind: str = ""
    """``kvm`` or ``qemu``."""
    arch: str = ""
    machine: str = ""
    disabled: tuple[str, ...] = ()
    """The features of the CPU for AP that it disables."""


BROKEN_DEFINITION = "broken definition"
"""What `GuestIds.wrong` says of a definition of mdevctl's that cannot be understood."""


class GuestFacts(NamedTuple):
    """A guest, what it requests, and what its start would do."""

    domain: DomainFacts
    outline: XmlFacts
    request: Request | ApvfioError | None
    outdated: bool = False
    """Whether its next start restores a managed save that requests something else than its definition."""
    wrong: str = ""
    """Which check the error in ``request`` belongs to."""
    plan: Plan | ApvfioError | None = None
    """Its next start, as if it did not run now; None if there is nothing to plan with."""
    alone: Plan | ApvfioError | None = None
    """The same if all other guests had stopped; None where that makes no difference."""
    less: Matrix | None = None
    """The part of a request for absent queues with which it could start."""
    outlives: bool = False
    """Whether its QEMU process runs, though libvirt says that it is off."""
    attached: str = ""
    """The uuid of the vfio-ap device that it runs with, '' if there is none or it does not run."""
    unseen: tuple[Apqn, ...] = ()
    """Queues of its lease that are on the host and do not reach it, though it runs."""
    known: Matrix | None = None
    """The last queues of a guest without a request, from ledger and audit log."""


class NodeAnswer(NamedTuple):
    """What another node answers by ssh."""

    problem: str = ""
    """Why apvfio there cannot be run, as a clause; '' if it can."""
    clock: float = 0.0
    """How many seconds its clock is ahead of this host's, as far as the answer's delay lets one tell."""


class ClusterFacts(NamedTuple):
    """The Pacemaker cluster of which the host is a node."""

    node: str
    """This host's name there, '' if that is not known."""
    configuration: Seen[Configuration]
    files: tuple[GuestFile, ...] = ()
    """The files that the guests' resources name, as they are on this host."""
    answers: Mapping[str, NodeAnswer] | None = None
    """By node; None if only root can ask."""
    manager: str = ""
    """``pcs`` or ``crm``, whichever is installed; '' for neither."""


class Facts(NamedTuple):
    """All of it."""

    kernel: KernelFacts
    store: StoreFacts
    machine: MachineFacts | None
    """None where the host is not this machine."""
    guests: Seen[tuple[GuestFacts, ...]]
    defined: Mapping[str, bool]
    """The devices that mdevctl has definitions of, and whether it starts them at boot."""
    session: bool
    """Whether libvirt's session daemon is asked."""
    rights: bool
    """Whether one looks as root."""
    mdevctl: bool
    """Whether mdevctl is installed on the host; False if that cannot be determined."""
    named: str = ""
    """The guest that was asked about, '' if all are."""
    cluster: ClusterFacts | None = None
    """None where the host is no node of a cluster with such guests."""

    @property
    def host(self) -> Host | None:
        """The host, None if it cannot be read."""
        return known(self.kernel.host)

    @property
    def ledger(self) -> Ledger | None:
        """The ledger, None if it cannot be read."""
        return known(self.store.ledger)

    @property
    def leases(self) -> list[Lease]:
        """The leases that are not about to end; none if the ledger cannot be read."""
        return self.ledger.active_leases() if self.ledger else []

    @property
    def known_guests(self) -> tuple[GuestFacts, ...]:
        """All guests; none if libvirt does not answer."""
        return known(self.guests) or ()

    @property
    def judged(self) -> list[GuestFacts]:
        """The guests that are asked about."""
        return [guest for guest in self.known_guests if self.named in ("", guest.domain.name)]
