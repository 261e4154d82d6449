# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel can migrate a guest: this host is in memory, the destination a program on a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from apvfio.domain.request import request_of
from apvfio.domain.xml_editor import minimal_xml
from apvfio.engine.master_keys import forget_keys
from apvfio.engine.start import start_guest
from apvfio.libvirt import hook
from apvfio.migration import by_kernel, source
from apvfio.migration.budget import Budget
from apvfio.migration.hosts import OtherHost, Prospect
from apvfio.migration.source import Traveller
from apvfio.model.errors import ApvfioError, ConflictError, Exit, HostError, PolicyError, RequestError
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import DRAFT_MIGRATION, LINUX_7_2, LINUX_7_3
from apvfio.store.ledger_file import LEDGER, load
from apvfio.store.policy_file import POLICY
from domain_xml import HOSTDEV, MDEV, UUID, domain
from hosts import IBM_DOMAINS, a_matrix, a_request
from memory_host import IBM_ADAPTERS, Machine
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apvfio.model.ledger import Lease

DEVICE = MDEV.lower()
QUEUES = a_matrix("10", "1-2")._replace(control_domains=IdSet([4]))
GUEST = domain('<ap:any mode="ep11" adapters="1" domains="2" control-domains="4"/>')
TRAVELLER = Traveller("db1", UUID, minimal_xml(GUEST), QUEUES, DEVICE)
OURS, OTHERS = "11" * 32, "22" * 32


def kernel(profile: str = DRAFT_MIGRATION) -> SimKernel:
    """IBM's host whose EP11 queues have keys."""
    made = SimKernel.new(profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS)
    give_keys(made, OURS)
    return made


def give_keys(made: SimKernel, key: str) -> None:
    for queue in QUEUES.queues():
        made.state.queues[queue].mkvps = f"WK CUR: valid 0x{key}\nWK NEW: empty -"


class Hosts(NamedTuple):
    """This host, on which the guest runs, and the destination."""

    here: Machine
    there: SimulatedHost

    @property
    def other(self) -> OtherHost:
        """apvfio at the destination."""
        return OtherHost([sys.executable, "-m", "apvfio", "--sim", self.there.path], Budget(60))

    def preview(
        self, traveller: Traveller = TRAVELLER, *, attached: bool = True
    ) -> tuple[Prospect, list[str]]:
        """What the destination would do for the guest, and the warnings."""
        return by_kernel.preview_queues(self.here, traveller, self.other, attached=attached)

    def kernel_there(self) -> dict[str, object]:
        """The destination's kernel, to be compared."""
        with self.there.opened() as system:
            return system.kernel.to_json()

    def lease_there(self) -> Lease:
        """What the destination holds for the guest."""
        with self.there.opened() as system:
            return load(system.files, system.boot_id).leases[DEVICE]


def two_hosts(directory: Path, here: SimKernel, there: SimKernel) -> Hosts:
    machine = Machine(here)
    assert hook.main(["db1", "prepare", "begin", "-"], machine, GUEST) == Exit.OK
    machine.kernel.attach_guest(DEVICE, "db1")
    return Hosts(machine, SimulatedHost(directory, there))


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Two hosts that have all that the kernel needs."""
    return two_hosts(tmp_path, kernel(), kernel())


def test_it_can(hosts: Hosts) -> None:
    """The keys here are those that were remembered as the guest started."""
    before = hosts.kernel_there()
    prospect, warnings = hosts.preview()
    assert set(prospect.equipment) == set(QUEUES.queues())
    assert any("have the same master keys as here (remembered here since" in text for text in warnings)
    assert (hosts.kernel_there(), hosts.there.read(LEDGER)) == (before, None)


@pytest.mark.parametrize(
    ("here", "there", "who"),
    [(LINUX_7_3, DRAFT_MIGRATION, "this host"), (DRAFT_MIGRATION, LINUX_7_2, "the destination")],
)
def test_both_kernels_need_it(tmp_path: Path, here: str, there: str, who: str) -> None:
    found = two_hosts(tmp_path, kernel(here), kernel(there))
    with pytest.raises(HostError, match=rf"{who} has no migratable in /sys/devices/vfio_ap/matrix/features"):
        found.preview()


def other_keys(made: SimKernel) -> None:
    give_keys(made, OTHERS)


def older_card(made: SimKernel) -> None:
    made.state.cards[10].hwtype -= 1


def other_mode(made: SimKernel) -> None:
    made.plug_adapter(10, "cca")


def less_control(made: SimKernel) -> None:
    made.set_domains(IBM_DOMAINS, IdSet([1, 2]))


def fewer_domains(made: SimKernel) -> None:
    made.set_domains(IdSet([1, 4]), IdSet([1, 2, 4]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_keys, r"0a.0001, 0a.0002 at the destination have other master keys than here \(remembered"),
        (older_card, "0a.0001, 0a.0002 at the destination are of an older generation than here"),
        (other_mode, "0a.0001 is cca at the destination, but the guest's queues here are ep11"),
        (less_control, "the destination refuses: this host has no control domain 4"),
        (fewer_domains, "the destination refuses: .*domain 2"),
    ],
)
def test_what_the_destination_has_differs(
    tmp_path: Path, change: Callable[[SimKernel], None], says: str
) -> None:
    """It is refused beforehand: nothing has changed at the destination."""
    there = kernel()
    change(there)
    hosts = two_hosts(tmp_path, kernel(), there)
    before = hosts.kernel_there()
    with pytest.raises(HostError, match=says):
        hosts.preview()
    assert (hosts.kernel_there(), hosts.there.read(LEDGER)) == (before, None)


def test_queues_that_it_may_have_later(tmp_path: Path) -> None:
    """A destination that promises absent queues cannot take a guest that has them now."""
    there = kernel()
    fewer_domains(there)
    hosts = two_hosts(tmp_path, kernel(), there)
    hosts.there.write(POLICY, "over-provisioning = true\n")
    with pytest.raises(HostError, match=r"the destination does not have 0a\.0002\.") as caught:
        hosts.preview()
    assert caught.value.queues == ((10, 2),)
    with hosts.there.opened() as system:
        less_control(system.kernel)
    with pytest.raises(HostError, match="the destination does not control domains 4"):
        hosts.preview()


def test_queues_that_it_has_not_here(tmp_path: Path) -> None:
    """They do not travel, so that the destination need not have them."""
    here, there = kernel(), kernel()
    fewer_domains(there)
    hosts = two_hosts(tmp_path, here, there)
    fewer_domains(here)
    hosts.there.write(POLICY, "over-provisioning = true\n")
    _, warnings = hosts.preview()
    assert not any("0a.0002" in text for text in warnings if "key" in text)


def test_a_queue_is_in_use_there(hosts: Hosts) -> None:
    with hosts.there.opened() as system:
        start_guest(system, a_request("10", "1", 2))
    with pytest.raises(ConflictError, match=r"the destination refuses: .*held by guest g2"):
        hosts.preview()


def test_a_queue_is_reserved_there(hosts: Hosts) -> None:
    hosts.there.write(POLICY, '[reserve]\nqueues = ["0a.0002"]\n')
    with pytest.raises(PolicyError, match=r"the destination refuses: .*0a\.0002 is reserved"):
        hosts.preview()


def test_keys_that_nobody_remembers(hosts: Hosts) -> None:
    """They may differ: that is a warning, as without the kernel."""
    forget_keys(hosts.here, lambda _: True)
    _, warnings = hosts.preview()
    assert any(text.startswith("it cannot be read whether 0a.0001, 0a.0002") for text in warnings)


def test_its_device_is_out(hosts: Hosts) -> None:
    with pytest.raises(ConflictError, match="its device is unplugged already"):
        hosts.preview(attached=False)


def test_who_is_not_migrated_at_all(hosts: Hosts) -> None:
    plain = f"<domain><name>a</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
    with pytest.raises(RequestError, match="it has no annotation"):
        hosts.preview(TRAVELLER._replace(letter=minimal_xml(plain)))
    secure = GUEST.replace(b"<devices>", b"<launchSecurity type='s390-pv'/><devices>")
    with pytest.raises(RequestError, match="QEMU cannot migrate one"):
        hosts.preview(TRAVELLER._replace(letter=minimal_xml(secure)))


def test_the_letter_names_the_queues(hosts: Hosts) -> None:
    """By id: what the guest requests by criteria could be met by others."""
    request = request_of(hosts.here.files, by_kernel.letter(TRAVELLER))
    assert request
    assert (request.matrix, request.criteria, request.mdev) == (QUEUES, None, DEVICE)
    assert request.guest_uuid == UUID


def test_unplugged_it_may_have_others(hosts: Hosts) -> None:
    """Where the very same queues are not to be had, the way of today is open."""
    with hosts.there.opened() as system:
        system.kernel.plug_adapter(5, "ep11")
        start_guest(system, a_request("10", "1", 2))
    prospect, _ = source.preview(hosts.here, TRAVELLER, hosts.other, other_keys=True)
    assert not set(prospect.equipment) & set(a_matrix("10", "1").queues())


def test_the_program_holds_still_until_it_is_let_go(hosts: Hosts) -> None:
    other = hosts.other
    held = other.hold(by_kernel.letter(TRAVELLER))
    assert other.let_go(held)  # nobody came
    lease = hosts.lease_there()
    assert (lease.matrix, lease.expected, lease.kernel_move) == (QUEUES, True, None)


def test_the_program_refuses(tmp_path: Path) -> None:
    hosts = two_hosts(tmp_path, kernel(), kernel(LINUX_7_2))
    with pytest.raises(ApvfioError, match="the destination refuses: its kernel has no migratable"):
        hosts.other.hold(by_kernel.letter(TRAVELLER))
