# SPDX-License-Identifier: Apache-2.0
"""The simulated /sys as a file system: kinds, modes, links, one write one store."""

from __future__ import annotations

import pytest

from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from sim_kernels import BUS, VERSIONS, make, matrix, refused, uuid, write

PAGE = 4096
ONE = uuid(1)
OVERRIDE = f"{BUS}/devices/01.0001/driver_override"


@pytest.fixture
def kernel() -> SimKernel:
    made = SimKernel.new()
    make(made, 1)
    return made


@pytest.mark.parametrize(
    ("path", "kind", "mode"),
    [
        ("", "dir", 0o755),
        ("bus", "dir", 0o755),
        ("/bus//ap/", "dir", 0o755),
        ("bus/ap/apmask", "file", 0o644),
        ("bus/ap/bindings", "file", 0o444),
        ("bus/ap/drivers_probe", "file", 0o200),
        ("bus/ap/devices/card00", "link", 0o777),
        ("bus/ap/devices/card00/depth", "file", 0o444),
        ("bus/ap/devices/00.0001/driver", "link", 0o777),
        ("bus/ap/devices/00.0001/driver/unbind", "file", 0o200),
        (f"bus/mdev/devices/{ONE}/ap_config", "file", 0o644),
        (f"bus/mdev/devices/{ONE}/mdev_type/device_api", "file", 0o444),
        (f"{AP_MDEVS.devices}/{ONE}/matrix", "file", 0o444),
        ("class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough/create", "file", 0o200),
        ("bus/matrix/devices/matrix/features", "file", 0o444),
        ("module/vfio_ap/holders", "dir", 0o755),
        ("module/ap/holders/vfio_ap/initstate", "file", 0o444),
    ],
)
def test_kinds_and_modes(kernel: SimKernel, path: str, kind: str, mode: int) -> None:
    assert (kernel.kind(path), kernel.mode(path)) == (kind, mode)
    assert kernel.exists(path)


@pytest.mark.parametrize(
    "path",
    [
        *("bus/ap/nosuch", "bus/ap/apmask/x", "bus/ap/devices/card05", "bus/ap/devices/05.0001", "nosuch/x"),
        *("devices/ap/card00/01.0001", "devices/ap/card00/00.0009", "bus/ap/devices/nosuch"),
        *(
            "bus/ap/drivers/cex4card/00.0001",
            "bus/ap/drivers/vfio_ap/card00",
            "bus/ap/drivers/vfio_ap/05.0001",
        ),
    ],
)
def test_nothing_there(kernel: SimKernel, path: str) -> None:
    assert kernel.kind(path) is None
    assert not kernel.exists(path)


@pytest.mark.parametrize(
    ("operation", "path", "answer"),
    [
        ("read", "bus/ap/drivers_probe", "EACCES"),
        ("read", "bus/ap", "EISDIR"),
        ("read", "bus/ap/nosuch", "ENOENT"),
        ("read", "bus/ap/apmask/x", "ENOTDIR"),
        ("list", "bus/ap/apmask", "ENOTDIR"),
        ("list", "bus/ap/nosuch", "ENOENT"),
        ("readlink", "bus/ap/apmask", "EINVAL"),
        ("readlink", "bus/ap", "EINVAL"),
        ("readlink", "bus/ap/nosuch", "ENOENT"),
        ("read", "bus/ap/devices/card00/subsystem" + "/devices/card00/subsystem" * 20 + "/apmask", "ELOOP"),
    ],
)
def test_refusals_name_the_path(kernel: SimKernel, operation: str, path: str, answer: str) -> None:
    assert refused(lambda: getattr(kernel, operation)(path)) == answer
    with pytest.raises(OSError, match=path.replace("/", ".")[-20:]):
        getattr(kernel, operation)(path)


def test_nineteen_rounds_are_not_too_many(kernel: SimKernel) -> None:
    path = "bus/ap/devices/card00/subsystem" + "/devices/card00/subsystem" * 19
    assert kernel.read(f"{path}/apmask") == kernel.read("bus/ap/apmask")


@pytest.mark.parametrize(
    ("path", "text", "answer"),
    [
        ("bus/ap/bindings", "1", "EACCES"),
        ("bus/ap/bindings", "", "EACCES"),
        ("bus/ap/drivers", "1", "EISDIR"),
        ("bus/ap/nosuch", "1", "ENOENT"),
        ("bus/ap/apmask", "nonsense", "EINVAL"),
        ("bus/ap/apmask", "", "OK"),
        (f"bus/mdev/devices/{ONE}/remove", "", "OK"),
        ("kernel/iommu_groups/0/type", "identity", "EINVAL"),
        ("bus/mdev/drivers_probe", ONE, "OK"),
        ("bus/mdev/drivers_probe", uuid(2), "ENODEV"),
        ("bus/matrix/drivers_probe", "matrix\n", "OK"),
        ("bus/matrix/drivers_probe", "xirtam", "ENODEV"),
        ("devices/ap/card00/uevent", "change", "OK"),
        ("devices/ap/card00/uevent", "nonsense", "EINVAL"),
        ("bus/mdev/drivers_autoprobe", "anything", "OK"),
    ],
)
def test_writes_that_change_nothing(kernel: SimKernel, path: str, text: str, answer: str) -> None:
    before = kernel.to_json()
    assert write(kernel, path, text) == answer
    assert kernel.to_json() == before


def test_each_bus_has_its_own_autoprobe(kernel: SimKernel) -> None:
    kernel.write("bus/mdev/drivers_autoprobe", "0")
    kernel.write("bus/mdev/drivers_autoprobe", "0")
    values = {bus: kernel.read(f"bus/{bus}/drivers_autoprobe") for bus in ("ap", "matrix", "mdev")}
    assert values == {"ap": "1\n", "matrix": "1\n", "mdev": "0\n"}
    kernel.write("bus/mdev/drivers_autoprobe", "1")
    assert kernel.state.no_autoprobe == []


@pytest.mark.parametrize(
    ("length", "answer", "kept"),
    [(PAGE - 2, "OK", PAGE - 2), (PAGE - 1, "EINVAL", 0), (PAGE, "EINVAL", 0), (2 * PAGE, "EINVAL", 0)],
)
def test_a_long_override(kernel: SimKernel, length: int, answer: str, kept: int) -> None:
    assert write(kernel, OVERRIDE, "x" * length) == answer
    assert kernel.read(OVERRIDE) == "x" * kept + "\n"


def test_one_write_takes_a_page_at_most(kernel: SimKernel) -> None:
    kernel.write("bus/ap/apmask", "-0" + "," * (PAGE - 2) + "nonsense")
    assert 0 not in kernel.state.apmask


@pytest.mark.parametrize("text", ["größe", "\udcff\udc80", "🔑" * 1000])
def test_a_character_is_not_a_byte(kernel: SimKernel, text: str) -> None:
    kernel.write(OVERRIDE, text)
    assert kernel.read(OVERRIDE) == f"{text}\n"
    assert SimKernel.from_json(kernel.to_json()).read(OVERRIDE) == f"{text}\n"


def test_bytes_are_counted(kernel: SimKernel) -> None:
    assert write(kernel, OVERRIDE, "ö" * 2048) == "EINVAL"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("bus/ap/devices/00.0001", "../../../devices/ap/card00/00.0001"),
        ("devices/ap/card00/00.0001/subsystem", "../../../../bus/ap"),
        # A path through links shows the same.
        ("bus/ap/devices/00.0001/driver", "../../../../bus/ap/drivers/cex4queue"),
        (f"bus/mdev/devices/{ONE}/mdev_type", "../mdev_supported_types/vfio_ap-passthrough"),
        (f"{AP_MDEVS.devices}/{ONE}", f"../../../{ONE}"),
        (f"{AP_MDEVS.device(ONE)}/vfio-dev/vfio0/device", f"../../../{ONE}"),
    ],
)
def test_targets_of_links(kernel: SimKernel, path: str, target: str) -> None:
    assert kernel.readlink(path) == target


def test_every_link_leads_somewhere(kernel: SimKernel) -> None:
    kernel.write("bus/ap/drivers/cex4queue/unbind", "00.0001")
    seen = 0
    rest = [""]
    while rest:
        path = rest.pop()
        if kernel.kind(path) == "link":
            seen += 1
            kernel.list(path)
        elif kernel.kind(path) == "dir":
            rest += [f"{path}/{name}".lstrip("/") for name in kernel.list(path)]
    assert seen > 60


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_a_version(version: str) -> None:
    kernel, profile = SimKernel.new(version), PROFILES[version]
    directory = make(kernel, 1)
    queue = f"{BUS}/devices/0a.0001"
    expected = {
        f"{BUS}/features": profile.features,
        f"{BUS}/bindings_complete_count": profile.complete_count,
        f"{queue}/ap_functions": profile.features,
        f"{queue}/driver_override": profile.overrides,
        f"{directory}/ap_config": profile.ap_config,
        f"{AP_MDEVS.parent}/features": profile.ap_config,
    }
    assert {path: kernel.exists(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("queue", "mine"),
    [
        ("00.0001", {"load", "online"}),
        ("01.0001", {"load", "mkvps", "online"}),
        ("0a.0001", {"load", "mkvps", "online", "op_modes"}),
    ],
)
def test_files_come_and_go_with_the_driver(kernel: SimKernel, queue: str, mine: set[str]) -> None:
    path = f"{BUS}/devices/{queue}"
    with_host = set(kernel.list(path))
    kernel.write(f"{BUS}/aqmask", "-1")
    with_vfio_ap = set(kernel.list(path))
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", queue)
    unbound = set(kernel.list(path))
    assert with_host - unbound == mine | {"driver"}
    assert with_vfio_ap - unbound == {"status", "driver"}
    assert "DRIVER" not in kernel.read(f"{path}/uevent")


def test_branches_come_and_go_with_their_modules(kernel: SimKernel) -> None:
    branches = ("bus/ap", "bus/matrix", "bus/mdev", "class/mdev_bus/matrix", "devices/vfio_ap")

    def there() -> list[str]:
        return [path for path in branches if kernel.exists(path)]

    assert there() == list(branches)
    kernel.unload("vfio_ap")
    assert there() == ["bus/ap", "bus/mdev"]
    assert kernel.list("bus/mdev/drivers") == kernel.list("class/mdev_bus") == []
    assert kernel.list("module") == ["ap", "mdev", "vfio", "zcrypt", "zcrypt_cex4"]
    assert SimKernel.new(vfio_ap=False).list("bus") == ["ap"]


def test_a_write_that_removes_its_own_directory(kernel: SimKernel) -> None:
    kernel.write(f"bus/mdev/devices/{ONE}/remove", "1")
    assert kernel.list("bus/mdev/devices") == []


def test_a_control_domain_is_no_queue(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "-0")
    kernel.write(f"{AP_MDEVS.device(ONE)}/assign_control_domain", "0x1b")
    assert kernel.read(f"{AP_MDEVS.device(ONE)}/control_domains") == "001b\n"
    assert matrix(kernel, AP_MDEVS.device(ONE)) == []


def test_masks_of_the_hardware() -> None:
    kernel = SimKernel.new(adapters={0: "cca"}, domains=IdSet([1]), max_adapter=63, max_domain=84)
    shown = {name: kernel.read(f"{BUS}/ap_{name}") for name in ("max_adapter_id", "max_domain_id")}
    assert shown == {"max_adapter_id": "63\n", "max_domain_id": "84\n"}
    assert kernel.read(f"{BUS}/ap_usage_domain_mask") == f"0x4{'0' * 63}\n"
