# SPDX-License-Identifier: Apache-2.0
"""The simulated AP bus: masks, overrides, drivers, scans and modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import RequestError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.matrix import Apqn
from apvfio.sim import ownership
from apvfio.sim.kernel import IBM_DOMAINS, SimKernel
from apvfio.sim.profile import PROFILES
from sim_kernels import BUS, VERSIONS, bound, driver, guest_matrix, make, refused, uuid, write

if TYPE_CHECKING:
    from collections.abc import Callable

OVERRIDE = f"{BUS}/devices/01.0001/driver_override"
GRID = IdSet([1, 2])


@pytest.fixture
def kernel() -> SimKernel:
    return SimKernel.new()


# Masks.


@pytest.mark.parametrize("version", VERSIONS)
def test_masks_decide_who_has_a_queue(version: str) -> None:
    kernel = SimKernel.new(version, adapters={0: "cca", 1: "cca"}, domains=GRID)
    kernel.write(f"{BUS}/apmask", "-1")
    assert bound(kernel, "vfio_ap") == ["01.0001", "01.0002"]
    kernel.write(f"{BUS}/aqmask", "-1")
    assert bound(kernel, "cex4queue") == ["00.0002"]
    kernel.write(f"{BUS}/apmask", "+1")
    assert bound(kernel, "vfio_ap") == ["00.0001", "01.0001"]
    kernel.write(f"{BUS}/aqmask", "0x" + "f" * 64)
    assert bound(kernel, "vfio_ap") == []


def test_a_refused_mask_changes_nothing(kernel: SimKernel) -> None:
    before = kernel.to_json()
    assert write(kernel, f"{BUS}/apmask", "-0,-1,nonsense") == "EINVAL"
    assert kernel.to_json() == before


def test_an_override_comes_before_the_text_in_the_order_of_checks(kernel: SimKernel) -> None:
    kernel.write(OVERRIDE, "vfio_ap")
    before = kernel.to_json()
    for text in ("-5", "nonsense", "+0-255"):
        assert write(kernel, f"{BUS}/apmask", text) == write(kernel, f"{BUS}/aqmask", text) == "EINVAL"
    assert kernel.to_json() == before


def test_an_unchanged_mask_moves_nothing_and_counts_for_nothing(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers/cex4queue/unbind", "00.0001")
    kernel.state.masks_in_use = True
    kernel.write(f"{BUS}/apmask", "+0-255")
    assert bound(kernel, "") == ["00.0001"]
    assert kernel.state.masks_in_use


def test_only_cleared_bits_are_never_refused(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/aqmask", "-1")
    make(kernel, 1, "0", "1")
    assert write(kernel, f"{BUS}/apmask", "-0") == "OK"
    assert write(kernel, f"{BUS}/apmask", "-1,+0") == "EBUSY"
    assert 1 in kernel.state.apmask


@pytest.mark.parametrize(
    ("cleared", "assigned", "name", "text", "before", "now"),
    [
        (("-0", ""), ("0", "1"), "apmask", "+0", "EBUSY", "EBUSY"),
        (("-0", "-1"), ("0", "1"), "apmask", "+0", "OK", "EBUSY"),
        (("-0", "-1"), ("0", "1 2"), "apmask", "+0", "EBUSY", "EBUSY"),
        (("", "-1"), ("0", "1"), "aqmask", "+1", "EBUSY", "EBUSY"),
        (("-0", "-1"), ("0", "1"), "aqmask", "+1", "OK", "EBUSY"),
        (("-0,-1", ""), ("0", "1"), "apmask", "+1", "OK", "OK"),
        (("", "-1,-2"), ("0", "1"), "aqmask", "+2", "OK", "OK"),
        (("-0", ""), ("0", ""), "apmask", "+0", "OK", "OK"),
        (("-0", ""), ("", "1"), "apmask", "+0", "OK", "OK"),
        (("-77", ""), ("77", "1"), "apmask", "+77", "EBUSY", "EBUSY"),
    ],
)
def test_what_a_mediated_device_holds_back(
    cleared: tuple[str, str], assigned: tuple[str, str], name: str, text: str, before: str, now: str
) -> None:
    for version, expected in (("6.1", before), ("6.12", before), ("7.2", now)):
        kernel = SimKernel.new(version)
        kernel.write(f"{BUS}/apmask", cleared[0])
        kernel.write(f"{BUS}/aqmask", cleared[1])
        make(kernel, 1, *assigned)
        masks = kernel.state.apmask, kernel.state.aqmask
        assert write(kernel, f"{BUS}/{name}", text) == expected, version
        assert ((kernel.state.apmask, kernel.state.aqmask) == masks) == (expected == "EBUSY")


@pytest.mark.parametrize(
    ("parameter", "mask"),
    [
        (None, ALL_IDS),
        ("0xff5f", IdSet([0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15])),
        ("+0-15", IdSet(range(16))),
        ("-5", NO_IDS),
        ("nonsense", NO_IDS),
        ("+1,x", NO_IDS),
        ("", NO_IDS),
    ],
)
def test_masks_of_boot_parameters(parameter: str | None, mask: IdSet) -> None:
    kernel = SimKernel.new(apmask=parameter, aqmask="+0-255")
    assert kernel.state.apmask == mask
    assert kernel.state.aqmask == ALL_IDS
    assert write(kernel, OVERRIDE, "cex4queue") == "OK"


def test_masks_in_use_are_known_from_writes_only() -> None:
    kernel = SimKernel.new(apmask="0xff5f", aqmask="0xffff")
    assert write(kernel, OVERRIDE, "vfio_ap", "\n") == "OK"
    assert write(kernel, f"{BUS}/apmask", "-3") == "OK"
    assert write(kernel, OVERRIDE, "vfio_ap") == "EINVAL"
    kernel.write(f"{BUS}/apmask", "+0-255")
    assert write(kernel, OVERRIDE, "vfio_ap") == "EINVAL"
    kernel.write(f"{BUS}/aqmask", "+0-255")
    assert write(kernel, OVERRIDE, "vfio_ap") == "OK"


# Whose is it: the three questions.


@pytest.mark.parametrize(
    ("masks_give", "override", "bound_to", "probes", "rebinds", "owns"),
    [
        (True, "", "cex4queue", "cex4queue", False, True),
        (True, "", "vfio_ap", "cex4queue", True, True),
        (True, "", "", "cex4queue", False, True),
        (False, "", "cex4queue", "vfio_ap", True, False),
        (False, "", "vfio_ap", "vfio_ap", False, False),
        (True, "vfio_ap", "vfio_ap", "vfio_ap", False, False),
        (True, "vfio_ap", "cex4queue", "vfio_ap", True, True),
        (True, "vfio_ap", "", "vfio_ap", False, True),
        (False, "cex4queue", "cex4queue", "cex4queue", False, True),
        (False, "cex4queue", "", "cex4queue", False, False),
        (True, "none", "vfio_ap", "", True, False),
        (True, "none", "", "", False, True),
    ],
)
def test_three_questions(
    kernel: SimKernel, masks_give: bool, override: str, bound_to: str, probes: str, rebinds: bool, owns: bool
) -> None:
    apqn, state = Apqn(1, 1), kernel.state
    state.apmask = ALL_IDS if masks_give else ALL_IDS - IdSet([1])
    state.queues[apqn].override, state.queues[apqn].driver = override, bound_to
    queue_drivers = [d for d in ownership.DRIVERS.values() if not d.for_cards]
    assert [d.name for d in queue_drivers if ownership.may_probe(state, apqn, d)] == (
        [probes] if probes else []
    )
    assert ownership.must_rebind(state, apqn) == rebinds
    assert ownership.host_owns(state, apqn) == owns


def test_masks_decide_about_queues_that_do_not_exist(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-200")
    assert ownership.host_owns(kernel.state, Apqn(199, 200))
    assert not ownership.host_owns(kernel.state, Apqn(200, 200))


# Overrides.


def test_an_override_moves_a_queue_when_it_is_probed(kernel: SimKernel) -> None:
    kernel.write(OVERRIDE, "vfio_ap")
    kernel.write(f"{BUS}/scans", "1")
    assert driver(kernel, "01.0001") == "cex4queue"
    kernel.write(f"{BUS}/drivers_probe", "01.0001")
    assert driver(kernel, "01.0001") == "cex4queue"
    kernel.write(f"{BUS}/devices/01.0001/driver/unbind", "01.0001")
    kernel.write(f"{BUS}/drivers_probe", "01.0001")
    assert bound(kernel, "vfio_ap") == ["01.0001"]


def test_overrides_are_counted_by_their_coming_and_going(kernel: SimKernel) -> None:
    for text, count in (("a", 1), ("b", 1), ("\n", 0), ("\n", 0), ("c", 1)):
        kernel.write(OVERRIDE, text)
        assert kernel.state.overrides == count
    kernel.write(f"{BUS}/devices/0a.0001/driver_override", "d")
    assert kernel.state.overrides == 2


def test_the_count_outlives_a_queue_that_vanished_with_its_override(kernel: SimKernel) -> None:
    kernel.write(OVERRIDE, "vfio_ap")
    kernel.unplug_adapter(1)
    kernel.plug_adapter(1, "cca")
    assert kernel.read(OVERRIDE) == "\n"
    assert write(kernel, f"{BUS}/apmask", "-3") == "EINVAL"
    assert write(kernel, OVERRIDE, "vfio_ap", "\n") == "OK"
    assert write(kernel, f"{BUS}/apmask", "-3") == "EINVAL"


def test_no_overrides_before_7_2() -> None:
    for version in ("6.1", "6.12"):
        kernel = SimKernel.new(version)
        assert write(kernel, OVERRIDE, "vfio_ap") == "ENOENT"
        kernel.write(f"{BUS}/apmask", "-3")
        assert not kernel.state.masks_in_use


# Drivers.


@pytest.mark.parametrize(
    ("path", "name", "answer"),
    [
        ("drivers/cex4queue/unbind", "01.0001", "OK"),
        ("drivers/cex4queue/unbind", "01.0001\n", "OK"),
        ("drivers/cex4queue/unbind", "01.0001\n\n", "ENODEV"),
        ("drivers/cex4queue/unbind", "1.1", "ENODEV"),
        ("drivers/cex4queue/unbind", "00.0001", "ENODEV"),
        ("drivers/cex4queue/unbind", "card01", "ENODEV"),
        ("drivers/cex4card/unbind", "card01", "OK"),
        ("drivers/cex4card/unbind", "card1", "ENODEV"),
        ("drivers/vfio_ap/unbind", "00.0001", "OK"),
        ("drivers/vfio_ap/bind", "00.0001", "EBUSY"),
        ("drivers/vfio_ap/bind", "01.0001", "EBUSY"),
        ("drivers/vfio_ap/bind", "card01", "ENODEV"),
        ("drivers/vfio_ap/bind", "09.0009", "ENODEV"),
        ("drivers/cex4card/bind", "01.0001", "ENODEV"),
        ("drivers_probe", "01.0001", "OK"),
        ("drivers_probe", "card01", "OK"),
        ("drivers_probe", "09.0009", "ENODEV"),
        ("drivers_probe", "\n", "ENODEV"),
    ],
)
def test_binding_by_hand(kernel: SimKernel, path: str, name: str, answer: str) -> None:
    kernel.write(f"{BUS}/apmask", "-0")
    before = kernel.to_json()
    assert write(kernel, f"{BUS}/{path}", name) == answer
    assert (kernel.to_json() == before) == (not path.endswith("unbind") or answer != "OK")


def test_binding_an_unbound_queue(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers/cex4queue/unbind", "01.0001")
    assert write(kernel, f"{BUS}/drivers/vfio_ap/bind", "01.0001") == "ENODEV"
    assert write(kernel, f"{BUS}/drivers/cex4queue/bind", "01.0001") == "OK"
    assert driver(kernel, "01.0001") == "cex4queue"


def test_a_probe_succeeds_even_if_no_driver_may_have_the_queue(kernel: SimKernel) -> None:
    kernel.write(OVERRIDE, "none")
    kernel.write(f"{BUS}/drivers/cex4queue/unbind", "01.0001")
    assert write(kernel, f"{BUS}/drivers_probe", "01.0001") == "OK"
    assert bound(kernel, "") == ["01.0001"]


def test_a_scan_or_a_mask_does_not_bind_an_unbound_queue(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers/cex4queue/unbind", "01.0001")
    kernel.write(f"{BUS}/scans", "1")
    kernel.write(f"{BUS}/apmask", "-3")
    assert bound(kernel, "") == ["01.0001"]


def test_a_queue_comes_home_online(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/devices/01.0001/online", "0")
    kernel.write(f"{BUS}/apmask", "-1")
    assert not kernel.exists(f"{BUS}/devices/01.0001/online")
    kernel.write(f"{BUS}/apmask", "+1")
    assert kernel.read(f"{BUS}/devices/01.0001/online") == "1\n"


@pytest.mark.parametrize(
    ("path", "text", "answer"),
    [
        ("01.0001/online", "1", "OK"),
        ("01.0002/online", "1", "EINVAL"),
        ("card01/online", "1", "OK"),
        ("0a.0001/online", "1", "ENODEV"),
        ("0a.0001/online", "0", "OK"),
        ("card0a/online", "1", "ENODEV"),
        ("card0a/config", "1", "OK"),
        ("card0a/config", "2", "EINVAL"),
        ("card0a/config", "x", "EINVAL"),
    ],
)
def test_switching(kernel: SimKernel, path: str, text: str, answer: str) -> None:
    # Card 1 is offline, but for its first queue; card 0a is deconfigured.
    kernel.configure(10, configured=False)
    kernel.write(f"{BUS}/devices/card01/online", "0")
    if path.startswith("01.0001"):
        kernel.write(f"{BUS}/devices/card01/online", "1")
    assert write(kernel, f"{BUS}/devices/{path}", text) == answer


def test_counts_of_requests(kernel: SimKernel) -> None:
    counts = [f"{BUS}/devices/{name}/request_count" for name in ("card01", "01.0001", "01.0002", "00.0001")]
    kernel.write(f"{BUS}/drivers/cex4queue/unbind", "01.0002")
    kernel.state.cards[1].requests = 5
    for domain in (1, 2):
        kernel.state.queues[Apqn(1, domain)].requests = 3
    assert [kernel.read(path) for path in counts] == ["5\n", "3\n", "-\n", "0\n"]
    kernel.write(counts[0], "any")
    kernel.write(f"{BUS}/drivers_probe", "01.0002")
    assert [kernel.read(path) for path in counts] == ["0\n", "0\n", "3\n", "0\n"]
    kernel.write(counts[2], "any")
    assert kernel.read(counts[2]) == "0\n"


def test_a_reset_waits_for_a_machine_that_can_do_it(kernel: SimKernel) -> None:
    reset = f"{BUS}/devices/01.0001/reset"
    kernel.write(f"{BUS}/devices/card01/config", "0")
    kernel.write(reset, "1")
    assert kernel.read(reset) == "Reset in progress.\n"
    kernel.write(f"{BUS}/devices/card01/config", "1")
    assert kernel.read(reset) == "Reset in progress.\n"
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(reset) == "No Reset Timer set.\n"


@pytest.mark.parametrize("freed", ["", "-3"])
def test_a_new_queue_of_a_deconfigured_adapter_waits_for_its_first_reset(
    kernel: SimKernel, freed: str
) -> None:
    reset = f"{BUS}/devices/03.0001/reset"
    kernel.write(f"{BUS}/apmask", freed)
    kernel.configure(3, configured=False)
    kernel.plug_adapter(3, "cca")
    assert kernel.read(reset) == "Reset in progress.\n"
    kernel.configure(3, configured=True)
    assert kernel.read(reset) == ("Reset in progress.\n" if freed else "No Reset Timer set.\n")


# Scans.


def test_masks_decide_about_what_is_plugged_in_later(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-3")
    kernel.write(f"{BUS}/aqmask", "-9")
    kernel.plug_adapter(3, "cca")
    kernel.set_domains(IBM_DOMAINS | IdSet([9]))
    freed = [f"03.{domain:04x}" for domain in (1, 2, 4, 9, 27)]
    assert bound(kernel, "vfio_ap") == ["00.0009", "01.0009", *freed, "0a.0009"]
    kernel.unplug_adapter(3)
    kernel.set_domains(IBM_DOMAINS)
    assert bound(kernel, "vfio_ap") == []
    assert len(kernel.state.queues) == 12


def test_another_mode_makes_another_card(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/devices/01.0001/online", "0")
    kernel.plug_adapter(1, "ep11")
    assert kernel.read(f"{BUS}/devices/card01/type") == "CEX8P\n"
    assert kernel.read(f"{BUS}/devices/01.0001/online") == "1\n"


def test_without_domains_there_are_no_cards(kernel: SimKernel) -> None:
    kernel.set_domains(NO_IDS)
    assert kernel.list(f"{BUS}/devices") == []
    assert kernel.read(f"{BUS}/bindings") == "0/0 (complete)\n"
    assert kernel.read(f"{BUS}/ap_adapter_mask").startswith("0xc02")


def test_no_adapters_at_all() -> None:
    kernel = SimKernel.new(adapters={})
    assert kernel.list(f"{BUS}/devices") == []
    assert kernel.read(f"{BUS}/ap_domain") == "-1\n"


def test_without_autoprobe_new_devices_stay_unbound(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers_autoprobe", "0")
    kernel.plug_adapter(2, "cca")
    assert len(bound(kernel, "")) == 4
    assert not kernel.exists(f"{BUS}/devices/card02/driver")
    kernel.unload("vfio_ap")
    kernel.write(f"{BUS}/apmask", "-2")
    kernel.load("vfio_ap")
    assert len(bound(kernel, "")) == 4
    kernel.write(f"{BUS}/drivers_autoprobe", "1")
    kernel.write(f"{BUS}/drivers_probe", "02.0001")
    assert bound(kernel, "vfio_ap") == ["02.0001"]


@pytest.mark.parametrize(
    ("apmask", "aqmask", "standby", "domain"),
    [
        (None, None, (), 1),
        (None, "0x1f", (), 4),
        ("0x0", None, (), -1),
        (None, None, (0, 1, 10), -1),
        (None, "0x8", (), -1),
    ],
)
def test_the_default_domain(
    apmask: str | None, aqmask: str | None, standby: tuple[int, ...], domain: int
) -> None:
    kernel = SimKernel.new(apmask=apmask, aqmask=aqmask)
    state = kernel.state
    state.domain, state.hardware.standby = -1, IdSet(standby)
    kernel.write(f"{BUS}/scans", "1")
    assert state.domain == domain


def test_the_default_domain_stays_when_masks_change(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/aqmask", "-1")
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(f"{BUS}/ap_domain") == "1\n"


def test_complete_bindings_are_counted_at_the_end_of_a_scan(kernel: SimKernel) -> None:
    count = f"{BUS}/bindings_complete_count"
    assert kernel.read(count) == "1\n"
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(count) == "1\n"
    kernel.write(f"{BUS}/apmask", "-0")
    assert kernel.read(count) == "1\n"
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(count) == "2\n"
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "00.0001")
    kernel.write(f"{BUS}/apmask", "-1")
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(count) == "2\n"
    assert kernel.read(f"{BUS}/bindings") == "11/12\n"
    kernel.write(f"{BUS}/drivers_probe", "00.0001")
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(count) == "3\n"
    assert kernel.read(f"{BUS}/scans") == "5\n"


# Modules.


def test_queues_freed_without_vfio_ap_are_nobody_s(kernel: SimKernel) -> None:
    kernel.unload("vfio_ap")
    kernel.write(f"{BUS}/apmask", "-0")
    assert len(bound(kernel, "")) == 4
    assert kernel.read(f"{BUS}/bindings") == "8/12\n"
    kernel.load("vfio_ap")
    assert len(bound(kernel, "vfio_ap")) == 4


def test_vfio_ap_takes_its_devices_along(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-0")
    directory = make(kernel, 1, "0", "1")
    kernel.unload("vfio_ap")
    assert not kernel.exists(directory)
    assert kernel.state.mdevs == {}
    assert len(bound(kernel, "")) == 4
    assert write(kernel, f"{BUS}/apmask", "+0") == "OK"


@pytest.mark.parametrize("module", ["ap", "zcrypt", "vfio", "mdev"])
def test_a_module_that_others_need_stays(kernel: SimKernel, module: str) -> None:
    assert refused(lambda: kernel.unload(module)) == "EAGAIN"
    assert kernel.exists(f"module/{module}")


def test_vfio_ap_stays_while_a_guest_has_a_device(kernel: SimKernel) -> None:
    make(kernel, 1)
    kernel.attach_guest(uuid(1), "vm")
    assert refused(lambda: kernel.unload("vfio_ap")) == "EAGAIN"
    kernel.detach_guest(uuid(1))
    kernel.unload("vfio_ap")


def test_unknown_modules(kernel: SimKernel) -> None:
    assert refused(lambda: kernel.load("nosuch")) == "ENOENT"
    assert refused(lambda: kernel.unload("nosuch")) == "ENOENT"


def test_the_bus_forgets_everything_with_its_module() -> None:
    kernel = SimKernel.new(vfio_ap=False, apmask="0xff")
    kernel.write(f"{BUS}/apmask", "-0")
    kernel.state.overrides = 3
    kernel.unload("zcrypt_cex4")
    kernel.unload("zcrypt")
    kernel.unload("ap")
    assert not kernel.exists(BUS)
    assert not kernel.exists("devices/ap")
    assert kernel.state.queues == {}
    kernel.plug_adapter(3, "cca")
    kernel.load("zcrypt_cex4")
    assert kernel.state.apmask == IdSet(range(8))
    assert kernel.read(f"{BUS}/scans") == "1\n"
    assert write(kernel, f"{BUS}/apmask", "+8") == "OK"
    assert len(bound(kernel, "cex4queue")) == 12


def test_a_card_without_the_host_s_drivers(kernel: SimKernel) -> None:
    kernel.unload("zcrypt_cex4")
    kernel.write(f"{BUS}/apmask", "-3")
    kernel.plug_adapter(3, "cca")
    kernel.unplug_adapter(1)
    assert len(bound(kernel, "vfio_ap")) == 4
    assert len(bound(kernel, "")) == 8
    assert "driver" not in kernel.list(f"{BUS}/devices/card03")


# Levers.


def test_hardware_changes_reach_devices_with_the_scan(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/devices/card01/config", "0")
    assert kernel.read(f"{BUS}/devices/01.0001/config") == "1\n"
    kernel.write(f"{BUS}/scans", "1")
    assert kernel.read(f"{BUS}/devices/01.0001/config") == "0\n"
    kernel.configure(1, configured=True)
    assert (
        kernel.read(f"{BUS}/devices/01.0001/config") == kernel.read(f"{BUS}/devices/card01/config") == "1\n"
    )


def test_an_adapter_comes_deconfigured(kernel: SimKernel) -> None:
    kernel.configure(3, configured=False)
    kernel.plug_adapter(3, "cca")
    assert kernel.read(f"{BUS}/devices/03.0001/online") == "0\n"
    assert kernel.read(f"{BUS}/devices/03.0001/reset") == "Reset in progress.\n"
    kernel.unplug_adapter(3)
    kernel.plug_adapter(3, "cca")
    assert kernel.read(f"{BUS}/devices/03.0001/online") == "1\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda k: k.plug_adapter(3, "xyz"), "adapter 0x03 has the mode 'xyz'"),
        (lambda k: k.plug_adapter(20, "cca"), "adapter 20 goes beyond the largest possible id, 15"),
        (lambda k: k.plug_adapter(-1, "cca"), "adapter -1 goes beyond"),
        (lambda k: k.configure(20, configured=False), "adapter 20 goes beyond"),
        (lambda k: k.set_domains(IdSet([28])), "domain 28 goes beyond the largest possible id, 27"),
        (lambda k: k.set_domains(IdSet([1]), IdSet([28])), "domain 28 goes beyond"),
        (
            lambda _: SimKernel.new("5.4"),
            r"kernel '5.4' cannot be simulated. Choose one of 6.1, 6.12, 7.2, 7.3, draft-migration",
        ),
        (lambda _: SimKernel.new(adapters={0: ""}), "adapter 0x00 has the mode ''"),
        (lambda _: SimKernel.new(max_adapter=300), "id 300 goes beyond the largest possible id, 255"),
    ],
)
def test_impossible_machines(change: Callable[[SimKernel], object], sentence: str) -> None:
    kernel = SimKernel.new(max_adapter=15, max_domain=27)
    before = kernel.to_json()
    with pytest.raises(RequestError, match=sentence):
        change(kernel)
    assert kernel.to_json() == before


def test_control_domains() -> None:
    kernel = SimKernel.new(control_domains=IdSet([0]))
    assert kernel.read(f"{BUS}/ap_control_domain_mask").startswith("0x80")
    kernel.set_domains(IdSet([1]))
    assert kernel.read(f"{BUS}/ap_control_domain_mask").startswith("0x40")
    kernel.set_domains(IdSet([1]), IdSet([2]))
    assert kernel.read(f"{BUS}/ap_control_domain_mask").startswith("0x20")


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_per_version(version: str) -> None:
    kernel = SimKernel.new(version)
    profile = PROFILES[version]
    answers = {
        ("poll_timeout", "0"): "OK" if profile.kstrto else "EINVAL",
        ("poll_timeout", " 5x"): "EINVAL" if profile.kstrto else "OK",
        ("poll_timeout", "120000000001"): "EINVAL",
        ("poll_thread", "y"): "OK" if profile.kstrto else "EINVAL",
        ("poll_thread", "e"): "OK" if profile.long_bools else "EINVAL",
        ("poll_thread", "7"): "EINVAL" if profile.kstrto else "OK",
    }
    for (name, text), answer in answers.items():
        assert write(kernel, f"{BUS}/{name}", text) == answer, (name, text)


def test_a_full_host() -> None:
    kernel = SimKernel.new(adapters=dict.fromkeys(range(16), "cca"), domains=IdSet(range(85)))
    kernel.write(f"{BUS}/apmask", "-0-15")
    assert kernel.read(f"{BUS}/bindings") == "1360/1360 (complete)\n"
    assert len(kernel.list(f"{BUS}/drivers/vfio_ap")) == 1360 + len(("bind", "module", "uevent", "unbind"))
    directory = make(kernel, 1, " ".join(map(str, range(16))))
    kernel.write(f"{directory}/assign_domain", "84")
    assert len(guest_matrix(kernel, directory)) == 16
    kernel.write(AP_MDEVS.remove(uuid(1)), "1")
    assert write(kernel, f"{BUS}/apmask", "+0-15") == "OK"
