# SPDX-License-Identifier: Apache-2.0
"""A host and those on it that are not apvfio: administrators, mdevctl, the machine itself.

Each operation is a method ``do_...`` of words that are plain data.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.model.ledger import STARTING
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY
from hosts import mdev
from memory_host import Machine
from model import rivals
from model.shadow import Shadow
from model.views import HOST, VFIO

if TYPE_CHECKING:
    from collections.abc import Callable

ADAPTERS = {0: "cca", 1: "ep11", 3: "cca"}
DOMAINS = (1, 2, 4)
SPARE_ADAPTER, SPARE_DOMAIN = 5, 9
"""A card and a domain that come and go."""
POLICIES = (
    "",
    'mechanism = "overrides"\n',
    'mechanism = "masks"\nprefer = "adapters"\n',
    'prefer = "domains"\n',
    "over-provisioning = true\n",
    '[reserve]\nqueues = ["03.0002"]\n',
    '[reserve]\nadapters = "3"\n',
    '[reserve]\ndomains = "4"\n',
    "[keep]\ncca = 2\n",
)
FOREIGN = (8, 9)
"""Which devices are somebody else's."""


class Others:
    """The host, its twin without apvfio, and what others do to both."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        kernel = SimKernel.new(profile, adapters=ADAPTERS, domains=IdSet(DOMAINS))
        self.machine = Machine(kernel)
        self.shadow = Shadow(self.machine)
        self.foreign: dict[str, Matrix] = {}
        """Devices that others made, as they left them."""
        self.boots = 0
        self.count: Counter[str] = Counter()
        """Operations by kind, crashes and refusals."""
        self.meddled = False
        """Whether they act, or have acted, while apvfio was at work."""
        self._perhaps_own: set[str] = set()
        """Devices made while apvfio was at work: whose they are its ledger tells when it has done."""

    def do_policy(self, n: int) -> None:
        """An administrator edits the policy."""
        self.machine.files.texts[POLICY] = POLICIES[n]

    def do_chzdev(self, apmask: str, aqmask: str) -> None:
        """``chzdev -a``."""
        texts = {"apmask": apmask, "aqmask": aqmask}
        rivals.chzdev(self.shadow, {name: parse_mask_spec(text) for name, text in texts.items() if text})

    def do_echo(self, name: str, text: str) -> None:
        """A write to a mask from a shell."""
        with suppress(OSError):
            self.shadow.write(f"bus/ap/{name}", text)

    def do_override(self, queue: str, driver: str) -> None:
        """A queue moved by hand."""
        rivals.override(self.shadow, queue, driver)
        self._touch(queue)

    def do_unbind(self, queue: str, driver: str) -> None:
        """A queue taken from its driver by hand."""
        rivals.unbind(self.shadow, queue, driver)
        self._touch(queue)

    def do_online(self, queue: str, value: str) -> None:
        """``chzcrypt -e`` and ``-d``."""
        with suppress(OSError):
            self.shadow.write(f"bus/ap/devices/{queue}/online", value)
            if int(queue[:2], 16) in self.machine.kernel.state.hardware.standby:
                # What is deconfigured reads offline whatever it was set to.
                self.shadow.moved |= {apqn for apqn in [Apqn.parse(queue)] if apqn}

    def do_mdevctl(self, n: int, adapters: tuple[int, ...], domains: tuple[int, ...]) -> None:
        """``mdevctl start``."""
        uuid = mdev(n)
        there = uuid in self.machine.kernel.state.mdevs
        if rivals.mdevctl_start(self.shadow, uuid, Matrix(IdSet(adapters), IdSet(domains))) and not there:
            self._own(uuid)

    def do_assign(self, n: int, kind: str, number: int) -> None:
        """An id more for a device, or one less, by hand."""
        with suppress(OSError):
            self.shadow.write(f"{AP_MDEVS.device(mdev(n))}/{kind}", f"{number}")
            self._own(mdev(n))

    def do_remove(self, n: int) -> None:
        """``mdevctl stop`` of any device; the guest that has it goes on without."""
        uuid = mdev(n)
        rivals.mdevctl_stop(self.shadow, uuid)
        if uuid not in self.machine.kernel.state.mdevs:
            self.foreign.pop(uuid, None)

    # The machine.

    def do_plug(self, adapter: int, mode: str) -> None:
        """A card comes, or goes if ``mode`` is ''."""
        if mode:
            self.shadow.hardware(lambda kernel: kernel.plug_adapter(adapter, mode))
        else:
            self.shadow.hardware(lambda kernel: kernel.unplug_adapter(adapter))
        self._anew(lambda queue: queue.adapter == adapter)

    def do_domains(self, domains: tuple[int, ...]) -> None:
        """The machine gives the host other domains."""
        old = self.machine.kernel.state.hardware.domains
        self.shadow.hardware(lambda kernel: kernel.set_domains(IdSet(domains)))
        self._anew(lambda queue: queue.domain in domains and queue.domain not in old)

    def do_configure(self, adapter: int, on: bool) -> None:
        """``chzcrypt --config-off`` and ``--config-on``."""
        self.shadow.hardware(lambda kernel: kernel.configure(adapter, on))
        # What is deconfigured reads offline whatever it was set to.
        queues = self.machine.kernel.state.queues
        self.shadow.moved |= {queue for queue in queues if queue.adapter == adapter}

    def do_modprobe(self, load: bool) -> None:
        """``modprobe vfio_ap``, or ``modprobe -r``, which destroys all devices that nobody has open."""
        kernel = self.machine.kernel
        with suppress(OSError):
            if load:
                kernel.load(VFIO)
            else:
                kernel.unload(VFIO)
                self.foreign.clear()
            self.shadow.both(lambda twin: twin.load(VFIO) if load else twin.unload(VFIO))
        for queue, here in kernel.state.queues.items():
            twin = self.shadow.kernel.state.queues[queue]
            if here.driver != HOST or twin.driver != HOST:
                self.shadow.touched.add(queue)

    def do_reboot(self, apmask: str, stale: bool) -> None:
        """The host boots; ``stale``: /run has survived, as where it is no file system of its own."""
        hardware = self.machine.kernel.state.hardware
        kernel = SimKernel.new(
            self.profile, adapters=hardware.adapters, domains=hardware.domains, apmask=apmask or None
        )
        self.boots += 1
        old = self.machine
        self.machine = Machine(kernel)
        self.machine.boot_id = f"{self.boots:08x}-0000-4000-8000-000000000000"
        self.machine.files.texts.update(
            {path: text for path, text in old.files.texts.items() if stale or not path.startswith("run/")}
        )
        self.shadow = Shadow(self.machine)
        self.foreign.clear()

    def own_what_is_theirs(self) -> None:
        """Ask the ledger whose the devices are that were made while apvfio was at work."""
        for uuid in self._perhaps_own:
            self._own(uuid)
        self._perhaps_own.clear()

    def _own(self, uuid: str) -> None:
        """A device that somebody made or changed is his, unless apvfio made it or takes it for its own."""
        lease = self.machine.ledger.leases.get(uuid)
        came_first = lease is not None and lease.state == STARTING and self.meddled
        if lease is not None and lease.created and self.meddled:
            self._perhaps_own.add(uuid)
        if lease is None or not lease.created or came_first:
            there = self.machine.kernel.state.mdevs.get(uuid)
            if there:
                self.foreign[uuid] = there.matrix

    def _touch(self, name: str) -> None:
        queue = Apqn.parse(name)
        assert queue
        self.shadow.touched.add(queue)

    def _anew(self, which: Callable[[Apqn], bool]) -> None:
        """A queue that comes is not the one that went: it is online and has no override."""
        self.shadow.touched |= {queue for queue in self.machine.kernel.state.queues if which(queue)}
