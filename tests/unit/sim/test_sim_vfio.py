# SPDX-License-Identifier: Apache-2.0
"""The simulated vfio_ap: mediated devices, their matrices, and guests."""

from __future__ import annotations

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.sim.kernel import IBM_DOMAINS, SimKernel
from apvfio.sim.state import Mdev
from sim_kernels import BUS, VERSIONS, guest_matrix, make, matrix, refused, uuid, write

ONE = uuid(1)


@pytest.fixture(params=VERSIONS)
def kernel(request: pytest.FixtureRequest) -> SimKernel:
    """IBM's host, of which adapters 0 and 10 are given away."""
    made = SimKernel.new(request.param)
    made.write(f"{BUS}/apmask", "-0,-10")
    return made


def seven_two() -> SimKernel:
    kernel = SimKernel.new()
    kernel.write(f"{BUS}/apmask", "-0,-10")
    return kernel


# Making and removing.


def test_making_a_device(kernel: SimKernel) -> None:
    assert write(kernel, AP_MDEVS.create, ONE.upper()) == "OK"
    assert kernel.list(AP_MDEVS.devices) == [ONE]
    assert write(kernel, AP_MDEVS.create, ONE) == "EEXIST"
    assert write(kernel, AP_MDEVS.create, "nonsense") == "EINVAL"
    assert kernel.read(f"{AP_MDEVS.directory}/available_instances") == "65535\n"


def test_the_lowest_free_group_is_taken(kernel: SimKernel) -> None:
    for n in (1, 2, 3):
        make(kernel, n)
    kernel.write(AP_MDEVS.remove(uuid(2)), "1")
    make(kernel, 4)
    assert [mdev.group for mdev in kernel.state.mdevs.values()] == [0, 2, 1]
    assert kernel.list("kernel/iommu_groups") == ["0", "1", "2"]
    assert (
        kernel.readlink(f"kernel/iommu_groups/1/devices/{uuid(4)}")
        == f"../../../../devices/vfio_ap/matrix/{uuid(4)}"
    )


def test_there_is_an_end_to_it(kernel: SimKernel) -> None:
    kernel.state.mdevs = {uuid(n): Mdev(n) for n in range(65535)}
    assert write(kernel, AP_MDEVS.create, uuid(65535)) == "OK"
    assert kernel.read(f"{AP_MDEVS.directory}/available_instances") == "0\n"
    assert write(kernel, AP_MDEVS.create, uuid(65536)) == "EUSERS"


@pytest.mark.parametrize(
    ("text", "answer", "stays"),
    [
        ("1", "OK", False),
        ("0x2\n", "OK", False),
        ("0", "OK", True),
        ("x", "EINVAL", True),
        ("-1", "EINVAL", True),
        ("18446744073709551616", "EINVAL", True),
    ],
)
def test_removing_a_device(kernel: SimKernel, text: str, answer: str, stays: bool) -> None:
    make(kernel, 1, "0", "1")
    assert write(kernel, AP_MDEVS.remove(ONE), text) == answer
    assert kernel.exists(AP_MDEVS.device(ONE)) == stays
    assert write(kernel, f"{BUS}/apmask", "+0") == ("EBUSY" if stays else "OK")


# Assigning.


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("assign_adapter", "16", "ENODEV"),
        ("assign_adapter", "18446744073709551616", "ERANGE"),
        ("assign_adapter", "x", "EINVAL"),
        ("assign_adapter", "0", "OK"),
        ("assign_adapter", "1", "EADDRNOTAVAIL"),
        ("assign_adapter", "10", "EADDRINUSE"),
        ("assign_domain", "28", "ENODEV"),
        ("assign_domain", "3", "OK"),
        ("assign_domain", "2", "OK"),
        ("assign_control_domain", "28", "ENODEV"),
        ("assign_control_domain", "27", "OK"),
        ("unassign_adapter", "16", "ENODEV"),
        ("unassign_adapter", "x", "EINVAL"),
        ("unassign_adapter", "5", "OK"),
        ("unassign_domain", "28", "ENODEV"),
        ("unassign_domain", "5", "OK"),
        ("unassign_control_domain", "28", "ENODEV"),
        ("unassign_control_domain", "5", "OK"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_answers(version: str, name: str, text: str, answer: str) -> None:
    kernel = SimKernel.new(version, max_adapter=15, max_domain=27)
    kernel.write(f"{BUS}/apmask", "-0,-10")
    make(kernel, 2, "10", "1")
    directory = make(kernel, 1, "0", "1")
    before = kernel.to_json()
    assert write(kernel, f"{directory}/{name}", text) == answer
    if answer != "OK":
        assert kernel.to_json() == before


def test_one_dimension_alone_is_checked_by_nobody(kernel: SimKernel) -> None:
    one = make(kernel, 1, "1 0")
    two = make(kernel, 2, "1 0")
    assert kernel.read(f"{one}/matrix") == "00.\n01.\n"
    assert write(kernel, f"{one}/assign_domain", "1") == "EADDRNOTAVAIL"
    kernel.write(f"{one}/unassign_adapter", "1")
    kernel.write(f"{one}/assign_domain", "1")
    assert write(kernel, f"{two}/unassign_adapter", "1") == "OK"
    assert write(kernel, f"{two}/assign_domain", "1") == "EADDRINUSE"
    three = make(kernel, 3, "", "1 27")
    assert kernel.read(f"{three}/matrix") == ".0001\n.001b\n"
    assert kernel.read(f"{three}/control_domains") == ""


def test_the_whole_matrix_is_checked_again(kernel: SimKernel) -> None:
    one = make(kernel, 1, "0", "1")
    kernel.state.apmask = ALL_IDS
    assert write(kernel, f"{one}/assign_domain", "9") == "EADDRNOTAVAIL"
    assert write(kernel, f"{one}/assign_domain", "1") == "OK"


def test_control_domains_are_free_for_all(kernel: SimKernel) -> None:
    for n in (1, 2):
        directory = make(kernel, n)
        kernel.write(f"{directory}/assign_control_domain", "1")
        kernel.write(f"{directory}/assign_control_domain", "200")
        assert kernel.read(f"{directory}/control_domains") == "0001\n00c8\n"
    mdev = kernel.state.mdevs[ONE]
    assert mdev.guest_matrix == Matrix(control_domains=IdSet([1]))
    kernel.set_domains(IBM_DOMAINS | IdSet([200]))
    assert mdev.guest_matrix == Matrix(control_domains=IdSet([1, 200]))
    kernel.set_domains(IBM_DOMAINS)
    assert mdev.guest_matrix == Matrix(control_domains=IdSet([1]))
    kernel.write(f"{AP_MDEVS.device(ONE)}/unassign_control_domain", "1")
    assert mdev.guest_matrix == Matrix()
    assert mdev.matrix == Matrix(control_domains=IdSet([200]))


@pytest.mark.parametrize("version", ["6.12", "7.2"])
def test_ap_config_is_all_or_nothing(version: str) -> None:
    kernel = SimKernel.new(version, max_adapter=15, max_domain=27)
    kernel.write(f"{BUS}/apmask", "-0,-10,-20")
    make(kernel, 2, "10", "1")
    directory = make(kernel, 1, "0", "1")
    before = kernel.to_json()
    refusals = {
        "nonsense": "EINVAL",
        Matrix(IdSet([0, 1]), IdSet([1])).as_ap_config(): "EADDRNOTAVAIL",
        Matrix(IdSet([0, 10]), IdSet([1])).as_ap_config(): "EADDRINUSE",
        # An id that is too large comes last.
        Matrix(IdSet([1, 20]), IdSet([1])).as_ap_config(): "EADDRNOTAVAIL",
        Matrix(IdSet([10, 20]), IdSet([1])).as_ap_config(): "EADDRINUSE",
        Matrix(IdSet([0, 20]), IdSet([1])).as_ap_config(): "ENODEV",
        Matrix(IdSet([0]), IdSet([1, 28])).as_ap_config(): "ENODEV",
        Matrix(IdSet([0]), IdSet([1]), IdSet([28])).as_ap_config(): "ENODEV",
    }
    for text, answer in refusals.items():
        assert write(kernel, f"{directory}/ap_config", text) == answer, text
        assert kernel.to_json() == before
    new = Matrix(IdSet([0]), IdSet([2, 4]), IdSet([4, 5]))
    assert write(kernel, f"{directory}/ap_config", new.as_ap_config()) == "OK"
    assert kernel.read(f"{directory}/ap_config") == f"{new.as_ap_config()}\n"
    assert kernel.state.mdevs[ONE].guest_matrix == new._replace(control_domains=IdSet([4]))


def test_no_ap_config_in_6_1() -> None:
    kernel = SimKernel.new("6.1")
    directory = make(kernel, 1)
    assert not kernel.exists(f"{directory}/ap_config")
    assert not kernel.exists(f"{AP_MDEVS.parent}/features")


# What a guest sees.


def test_an_adapter_is_whole_or_hidden(kernel: SimKernel) -> None:
    directory = make(kernel, 1, "0 10", "1 2")
    everything = ["00.0001", "00.0002", "0a.0001", "0a.0002"]
    assert guest_matrix(kernel, directory) == everything
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "0a.0001")
    assert guest_matrix(kernel, directory) == everything[:2]
    assert matrix(kernel, directory) == everything
    # Neither unassigning what is missing nor assigning what is there brings it back,
    kernel.write(f"{directory}/unassign_domain", "1")
    kernel.write(f"{directory}/assign_adapter", "10")
    assert guest_matrix(kernel, directory) == ["00.0002"]
    # but the next change does.
    kernel.write(f"{directory}/assign_domain", "4")
    assert guest_matrix(kernel, directory) == ["00.0002", "00.0004", "0a.0002", "0a.0004"]


def test_a_domain_without_a_queue_costs_a_guest_the_adapter(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "0a.0004")
    directory = make(kernel, 1, "0 10", "1")
    kernel.write(f"{directory}/assign_domain", "4")
    assert guest_matrix(kernel, directory) == ["00.0001", "00.0004"]
    kernel.write(f"{directory}/unassign_domain", "4")
    assert guest_matrix(kernel, directory) == ["00.0001"]


def test_what_is_assigned_in_advance_is_plugged_in_later(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-3")
    directory = make(kernel, 1, "0 3", "1 9")
    assert guest_matrix(kernel, directory) == ["00.0001"]
    kernel.plug_adapter(3, "cca")
    assert guest_matrix(kernel, directory) == ["00.0001", "03.0001"]
    kernel.set_domains(IBM_DOMAINS | IdSet([9]))
    assert guest_matrix(kernel, directory) == matrix(kernel, directory)
    kernel.set_domains(IdSet([9]))
    assert guest_matrix(kernel, directory) == ["00.0009", "03.0009"]
    kernel.unplug_adapter(0)
    assert guest_matrix(kernel, directory) == ["03.0009"]


def test_a_freed_queue_finds_its_device(kernel: SimKernel) -> None:
    kernel.unload("vfio_ap")
    kernel.write(f"{BUS}/drivers_autoprobe", "0")
    kernel.load("vfio_ap")
    directory = make(kernel, 1, "0", "1")
    assert guest_matrix(kernel, directory) == [".0001"]
    kernel.write(f"{BUS}/drivers_probe", "00.0001")
    assert guest_matrix(kernel, directory) == ["00.0001"]


@pytest.mark.parametrize(("version", "hidden"), [("6.1", True), ("6.12", False), ("7.2", False)])
def test_a_failed_reset_hides_an_adapter_in_6_1(version: str, hidden: bool) -> None:
    kernel = SimKernel.new(version)
    kernel.write(f"{BUS}/apmask", "-0,-10")
    directory = make(kernel, 1, "0 10", "1 2")
    kernel.configure(10, configured=False)
    assert len(guest_matrix(kernel, directory)) == 4
    kernel.write(f"{directory}/unassign_domain", "2")
    kernel.write(f"{directory}/assign_domain", "2")
    assert ("0a.0001" in guest_matrix(kernel, directory)) == (not hidden)
    kernel.configure(10, configured=True)
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "0a.0002")
    kernel.write(f"{BUS}/drivers_probe", "0a.0002")
    assert len(guest_matrix(kernel, directory)) == 4


def test_a_queue_of_a_deconfigured_adapter_keeps_its_interrupts() -> None:
    kernel = seven_two()
    kernel.configure(1, configured=False)
    kernel.write(f"{BUS}/apmask", "-1")
    kernel.configure(1, configured=True)
    interrupt = f"{BUS}/devices/01.0001/interrupt"
    assert kernel.read(interrupt) == "Interrupts enabled.\n"
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "01.0001")
    assert kernel.read(interrupt) == "Interrupts disabled.\n"


# Many queues.


def big(version: str, domains: int) -> tuple[SimKernel, str]:
    """A host with 8 adapters, all of whose queues are in one device."""
    kernel = SimKernel.new(version, adapters=dict.fromkeys(range(8), "cca"), domains=IdSet(range(domains)))
    kernel.write(f"{BUS}/apmask", "-0-7")
    directory = make(kernel, 1)
    kernel.state.mdevs[ONE].matrix = Matrix(IdSet(range(8)), IdSet(range(domains)))
    return kernel, directory


def test_matrix_ends_with_the_page_in_7_2() -> None:
    kernel, directory = big("7.2", 85)
    text = kernel.read(f"{directory}/matrix")
    assert len(text) == 4095
    assert text.endswith("\n06.0000\n06.0001")
    assert len(kernel.read(f"{directory}/ap_config")) == 201


@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_matrix_runs_over_the_page_before_7_2(version: str) -> None:
    kernel, directory = big(version, 64)
    assert refused(lambda: kernel.read(f"{directory}/matrix")) == "EIO"
    kernel, directory = big(version, 63)
    assert len(matrix(kernel, directory)) == 504


# Guests.


def test_a_guest_uses_what_it_sees(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "0a.0004")
    directory = make(kernel, 1, "0 10", "1 4")
    kernel.attach_guest(ONE, "vm")
    statuses = {"00.0001": "in use", "00.0002": "unassigned", "0a.0001": "assigned", "00.001b": "unassigned"}
    for queue, status in statuses.items():
        assert kernel.read(f"{BUS}/devices/{queue}/status") == f"{status}\n"
    kernel.write(f"{directory}/unassign_domain", "1")
    assert kernel.read(f"{BUS}/devices/00.0001/status") == "unassigned\n"
    kernel.detach_guest(ONE)
    assert kernel.read(f"{BUS}/devices/00.0004/status") == "assigned\n"


def test_who_may_open_a_device(kernel: SimKernel) -> None:
    for n in (1, 2, 3):
        make(kernel, n)
    kernel.attach_guest(uuid(1), "vm")
    assert refused(lambda: kernel.attach_guest(uuid(1), "vm")) == "EBUSY"
    assert refused(lambda: kernel.attach_guest(uuid(1), "other")) == "EBUSY"
    assert refused(lambda: kernel.attach_guest(uuid(2), "vm")) == "EPERM"
    assert refused(lambda: kernel.attach_guest(uuid(9), "other")) == "ENODEV"
    kernel.attach_guest(uuid(2), "other")
    kernel.write("bus/mdev/drivers/vfio_ap_mdev/unbind", uuid(3))
    assert refused(lambda: kernel.attach_guest(uuid(3), "third")) == "ENODEV"
    kernel.detach_guest(uuid(1))
    assert refused(lambda: kernel.detach_guest(uuid(1))) == "ENODEV"
    assert refused(lambda: kernel.detach_guest(uuid(9))) == "ENODEV"
    kernel.attach_guest(uuid(1), "vm")


def test_the_end_of_a_guest_resets_its_queues(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-3")
    directory = make(kernel, 1, "3", "1")
    kernel.plug_adapter(3, "cca")  # a scan that makes a queue leaves its interrupts on
    interrupts = [f"{BUS}/devices/03.000{domain}/interrupt" for domain in (1, 2)]
    kernel.attach_guest(ONE, "vm")
    assert [kernel.read(path) for path in interrupts] == ["Interrupts enabled.\n"] * 2
    kernel.detach_guest(ONE)
    assert [kernel.read(path) for path in interrupts] == ["Interrupts disabled.\n", "Interrupts enabled.\n"]
    assert guest_matrix(kernel, directory) == ["03.0001"]


@pytest.mark.parametrize(
    ("reset", "disabled"),
    [
        (("unassign_adapter", "3"), {"03.0001", "03.0002"}),
        (("unassign_domain", "2"), {"03.0002", "04.0002"}),
        (("unassign_adapter", "5"), set()),
        (("remove", "1"), {"03.0001", "03.0002", "04.0001", "04.0002"}),
        (("assign_domain", "9"), set()),
    ],
)
def test_which_queues_are_reset(reset: tuple[str, str], disabled: set[str]) -> None:
    kernel = seven_two()
    kernel.write(f"{BUS}/apmask", "-3,-4,-5")
    for adapter in (3, 4):
        kernel.plug_adapter(adapter, "cca")
    directory = make(kernel, 1, "3 4 5", "1 2")
    kernel.write(f"{directory}/{reset[0]}", reset[1])
    queues = [name for name in kernel.list(f"{BUS}/drivers/vfio_ap") if name.startswith(("03.", "04."))]
    assert {q for q in queues if "disabled" in kernel.read(f"{BUS}/devices/{q}/interrupt")} == disabled


def test_queues_of_an_adapter_that_is_filtered_out_are_reset() -> None:
    kernel = seven_two()
    kernel.write(f"{BUS}/apmask", "-3")
    kernel.plug_adapter(3, "cca")
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "03.0004")
    directory = make(kernel, 1, "3", "1 2")
    kernel.write(f"{directory}/assign_domain", "4")
    assert guest_matrix(kernel, directory) == [".0001", ".0002", ".0004"]
    assert kernel.read(f"{BUS}/devices/03.0001/interrupt") == "Interrupts disabled.\n"
    assert kernel.read(f"{BUS}/devices/03.001b/interrupt") == "Interrupts enabled.\n"


def test_unbinding_costs_a_guest_the_adapter_and_resets_it() -> None:
    kernel = seven_two()
    kernel.write(f"{BUS}/apmask", "-3")
    kernel.plug_adapter(3, "cca")
    directory = make(kernel, 1, "0 3", "1 2")
    kernel.attach_guest(ONE, "vm")
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "03.0001")
    assert guest_matrix(kernel, directory) == ["00.0001", "00.0002"]
    assert kernel.read(f"{BUS}/devices/03.0002/interrupt") == "Interrupts disabled.\n"
    assert kernel.read(f"{BUS}/devices/03.0002/status") == "assigned\n"
    assert write(kernel, f"{directory}/assign_domain", "4") == "OK"


@pytest.mark.parametrize(("version", "answer"), [("6.1", "EBUSY"), ("6.12", "OK"), ("7.2", "OK")])
def test_removing_a_device_that_a_guest_has(version: str, answer: str) -> None:
    kernel = SimKernel.new(version)
    kernel.write(f"{BUS}/apmask", "-0")
    make(kernel, 1, "0", "1")
    kernel.attach_guest(ONE, "vm")
    before = kernel.to_json()
    assert write(kernel, AP_MDEVS.remove(ONE), "1") == answer
    assert (kernel.to_json() == before) == (answer == "EBUSY")
    if answer == "OK":
        assert not kernel.exists(AP_MDEVS.device(ONE))
        assert kernel.read(f"{BUS}/devices/00.0001/status") == "unassigned\n"
        make(kernel, 2)
        kernel.attach_guest(uuid(2), "vm")


def test_a_device_without_its_driver(kernel: SimKernel) -> None:
    directory = make(kernel, 1, "0", "1")
    assert write(kernel, "bus/mdev/drivers/vfio_ap_mdev/unbind", f"{ONE}\n") == "OK"
    assert kernel.list(directory) == ["mdev_type", "remove", "subsystem", "uevent"]
    assert kernel.list("kernel/iommu_groups") == []
    assert write(kernel, "bus/mdev/drivers/vfio_ap_mdev/unbind", ONE) == "ENODEV"
    assert write(kernel, "bus/mdev/drivers/vfio_ap_mdev/bind", ONE) == "ENODEV"
    assert write(kernel, f"{BUS}/apmask", "+0") == "OK"
    assert make(kernel, 2)
    assert kernel.state.mdevs[uuid(2)].group == 0
    assert write(kernel, AP_MDEVS.remove(ONE), "1") == "OK"
