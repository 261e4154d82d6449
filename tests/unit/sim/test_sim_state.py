# SPDX-License-Identifier: Apache-2.0
"""A simulated kernel as JSON, and JSON that is none."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from apvfio.model.errors import RequestError
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.sim.kernel import SimKernel
from sim_kernels import BUS, VERSIONS, make, uuid


def travelled(version: str) -> SimKernel:
    """A kernel hardly anything of which is as at the start."""
    kernel = SimKernel.new(version, apmask="0xff", control_domains=NO_IDS, max_adapter=20)
    kernel.plug_adapter(3, "cca")
    kernel.configure(3, configured=False)
    kernel.write(f"{BUS}/aqmask", "-4")
    directory = make(kernel, 1, "10", "1 2")
    kernel.write(f"{directory}/assign_control_domain", "9")
    kernel.attach_guest(uuid(1), "vm")
    make(kernel, 2)
    kernel.write("bus/mdev/drivers/vfio_ap_mdev/unbind", uuid(2))
    kernel.write(f"{BUS}/drivers/vfio_ap/unbind", "0a.0002")
    kernel.write(f"{BUS}/devices/00.0004/reset", "1")
    kernel.write(f"{BUS}/devices/card01/online", "0")
    kernel.write(f"{BUS}/config_time", "5")
    kernel.write("bus/mdev/drivers_autoprobe", "0")
    return kernel


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back(version: str) -> None:
    kernel = travelled(version)
    again = SimKernel.from_json(json.loads(json.dumps(kernel.to_json())))
    assert again.state == kernel.state
    assert again.to_json() == kernel.to_json()
    assert list(again.state.queues) == list(kernel.state.queues)
    # It goes on in the same way.
    for each in (kernel, again):
        each.write(f"{BUS}/apmask", "-1")
        each.unplug_adapter(0)
    assert again.state == kernel.state


def test_what_is_as_usual_is_not_written() -> None:
    document = SimKernel.new().to_json()
    assert document["queues"]["00.0001"] == {"driver": "cex4queue", "initiated": True, "interrupts": True}
    assert "apmask" not in document
    assert "override" not in json.dumps(document)
    assert document["hardware"]["domains"] == "1-2,4,27"
    assert document["cards"]["0a"] == {"mode": "ep11", "driver": "cex4card"}


def test_two_kernels_share_nothing() -> None:
    kernel = SimKernel.new()
    other = SimKernel.from_json(kernel.to_json())
    other.write(f"{BUS}/apmask", "-0")
    assert kernel.state.apmask == IdSet(range(256))
    assert SimKernel.new().to_json() == kernel.to_json()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ((), [], r"in kernel '\[\]' is not of type dict"),
        ((), None, "in kernel 'None' is not of type dict"),
        (("profile",), "2.4", "kernel '2.4' cannot be simulated"),
        (("profile",), 7, "in kernel.profile '7' is not of type str"),
        (("nosuch",), 1, "in kernel 'nosuch' is not known"),
        (("scans",), True, "in kernel.scans 'True' is not of type int"),
        (("scans",), "1", "in kernel.scans '1' is not of type int"),
        (("apmask",), "0-x", "in kernel.apmask '0-x' is not a list of ids"),
        (("apmask",), 5, "in kernel.apmask '5' is not of type str"),
        (("boot_apmask",), 5, "in kernel.boot_apmask '5' is not of type str"),
        (("modules",), "ap", "in kernel.modules 'ap' is not of type list"),
        (("modules",), ["nosuch"], "in kernel.modules 'nosuch' is not a valid module"),
        (("modules",), [1], "in kernel.modules '1' is not of type str"),
        (("hardware", "adapters", "0a"), "xyz", "adapter 0x0a has the mode 'xyz'"),
        (("hardware", "adapters", "a"), "cca", "in kernel.hardware.adapters 'a' is not an adapter"),
        (("hardware", "adapters", "100"), "cca", "in kernel.hardware.adapters '100' is not an adapter"),
        (("hardware", "adapters", "zz"), "cca", "in kernel.hardware.adapters 'zz' is not an adapter"),
        (("hardware", "max_domain"), 5, "domain 27 goes beyond the largest possible id, 5"),
        (("cards", "00", "mode"), "xyz", "in kernel.cards 'xyz' is not a valid mode of an adapter"),
        (
            ("cards", "00", "driver"),
            "cex4queue",
            "in kernel.cards 'cex4queue' is not a valid driver of a card",
        ),
        (("cards", "00"), {}, "in kernel.cards.00 'mode' is missing"),
        (("queues", "09.0001"), {}, "in kernel.queues 09.0001 has no card"),
        (("queues", "9.1"), {}, "in kernel.queues '9.1' is not a queue"),
        (
            ("queues", "00.0001", "driver"),
            "e1000",
            "in kernel.queues 'e1000' is not a valid driver of a queue",
        ),
        (("queues", "00.0001"), "cex4queue", "in kernel.queues.00.0001 'cex4queue' is not of type dict"),
        (("mdevs", "x"), {"group": 0}, "in kernel.mdevs 'x' is not a valid uuid"),
        (("mdevs", uuid(10).upper()), {"group": 0}, "is not a valid uuid"),
        (("mdevs", uuid(1)), {}, "'group' is missing"),
        (("mdevs", uuid(1)), {"group": 0, "matrix": {"x": ""}}, "something is not part of a matrix"),
        (("mdevs", uuid(1)), {"group": 0, "matrix": {"domains": 1}}, "matrix.domains '1' is not of type str"),
        (("mdevs", uuid(1)), {"group": 0, "vm": None}, "vm 'None' is not of type str"),
    ],
)
def test_what_is_no_kernel(path: tuple[str, ...], value: object, sentence: str) -> None:
    document: Any = copy.deepcopy(SimKernel.new().to_json())
    if path:
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    else:
        document = value
    with pytest.raises(RequestError, match=sentence):
        SimKernel.from_json(document)


def test_a_kernel_without_hardware_is_none() -> None:
    with pytest.raises(RequestError, match="in kernel 'hardware' is missing"):
        SimKernel.from_json({"profile": "7.2"})
    with pytest.raises(RequestError, match="in kernel 'profile' is missing"):
        SimKernel.from_json({})
