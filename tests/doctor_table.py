# SPDX-License-Identifier: Apache-2.0
"""Hosts and guests, what befell them, and what becomes of the start of one of the guests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.xml_reader import NAMESPACE
from apvfio.model.ids import IdSet
from apvfio.store.definitions import FOLDER
from guest_starts import REFUSED, STARTS, WITHOUT, Def
from hosts import mdev

POLICY = "etc/apvfio/apvfio.toml"
LEDGER = "run/apvfio/ledger.json"
RULE = "etc/udev/rules.d/41-ap.rules"
MATRIX = '<ap:matrix adapters="0" domains="1"/>'
WRAPPED = f'<ap:guest xmlns:ap="{NAMESPACE}">{MATRIX}</ap:guest>'
BARE_MATRIX = MATRIX.replace("<ap:matrix", f'<ap:matrix xmlns:ap="{NAMESPACE}"')
DB1 = Def("db1", "0", "1")
BARE = Def("db1")
NOTHING = Def("db1", device=None)
DB2 = Def("db2", "1", "1-2", device=2)
STANDBY = Def("db2", "0", "1", device=2)
CLONE = Def("db2", "0", "1", device=1)
HOSTDEV2 = f"""<hostdev mode='subsystem' type='mdev' model='vfio-ap'>
      <source><address uuid='{mdev(7)}'/></source></hostdev></devices>"""
if TYPE_CHECKING:
    Step = tuple[str | int | Def, ...]


class Row(NamedTuple):
    """One host."""

    title: str
    steps: tuple[Step, ...]
    """Methods of `guest_starts.Trial` with their arguments."""
    outcome: str = STARTS
    """What becomes of the guest that is asked about."""
    check: str = ""
    """The first problem, or the first warning if it starts; '' for neither."""
    guest: str = "db1"
    kernel: tuple[tuple[str, object], ...] = ()
    """Arguments of `SimKernel.new`."""
    whole: bool | None = None
    """Whether the doctor has a problem with the whole host, if starts of its guests do not tell."""


def has(*guests: Def) -> tuple[Step, ...]:
    """Guests are defined."""
    return tuple(("has", guest) for guest in guests)


def requested(attributes: str) -> Def:
    """A guest that asks by property."""
    return DB1._replace(old=MATRIX, new=f"<ap:any {attributes}/>")


OLD_KERNEL = (("profile", "6.1"),)
NARROW = (("apmask", "+1-255"),)
"""Boot parameters that keep adapter 0 for guests."""

TABLE = (
    # Nothing is wrong.
    Row("one guest", has(DB1)),
    Row("one guest, Linux 6.1", has(DB1), kernel=OLD_KERNEL),
    Row("one guest, Linux 6.12", has(DB1), kernel=(("profile", "6.12"),)),
    Row("a rectangle", has(Def("db1", "0,10", "1-2"))),
    Row("control domains", has(DB1._replace(control="1"))),
    Row("by property", has(requested('mode="ep11" adapters="1"'))),
    Row("no queues requested", has(NOTHING)),
    Row("another guest runs", (*has(DB1, DB2), ("begin", "db2"))),
    Row("it runs", (*has(DB1), ("begin", "db1"))),
    Row("it runs, by property", (*has(requested('mode="ep11" adapters="1"')), ("begin", "db1"))),
    Row("it ran", (*has(DB1), ("begin", "db1"), ("end", "db1"))),
    Row("the policy prefers domains", (*has(DB1), ("file", POLICY, 'prefer = "domains"\n'))),
    Row("overrides", (*has(DB1), ("does", "mechanism", "overrides"))),
    Row("it runs by overrides", (*has(DB1), ("does", "mechanism", "overrides"), ("begin", "db1"))),
    Row("masks as boot parameters", has(DB1), kernel=NARROW),
    Row("its queues are free", (*has(DB1), ("bus", "apmask", "-0")), check="masks"),
    Row("its definition in mdevctl", (*has(DB1), ("define_device", "db1"))),
    Row("mdevctl's definition alone", (*has(DB1), ("define_device", "db1"), ("has", BARE))),
    Row("its device made by hand", (*has(DB1), ("bus", "apmask", "-0"), ("made", 1, "0", "1"))),
    Row("a device made by hand, no annotation", (*has(BARE), ("bus", "apmask", "-0"), ("made", 1, "0", "1"))),
    Row(
        "part of it is absent, over-provisioning",
        (*has(Def("db1", "0,5", "1")), ("file", POLICY, "over-provisioning = true\n")),
    ),
    # Something is wrong that stops no start.
    Row("the host's driver is gone", (*has(DB1), ("unload", "zcrypt_cex4")), check="drivers"),
    Row("no autoprobe", (*has(DB1), ("bus", "drivers_autoprobe", "0")), check="drivers"),
    Row("a queue unbound", (*has(DB1), ("bus", "drivers/cex4queue/unbind", "00.0001")), check="drivers"),
    Row(
        "another queue unbound", (*has(DB1), ("bus", "drivers/cex4queue/unbind", "01.0002")), check="drivers"
    ),
    Row(
        "an override on another queue",
        (*has(DB1), ("bus", "devices/01.0002/driver_override", "vfio_ap")),
        check="overrides",
    ),
    Row(
        "an override on its queue",
        (*has(DB1), ("bus", "devices/00.0001/driver_override", "vfio_ap")),
        check="overrides",
    ),
    Row(
        "a misspelt override on another queue",
        (*has(DB1), ("bus", "devices/01.0002/driver_override", "vfio-ap")),
        check="overrides",
    ),
    Row(
        "both mechanisms, and its queues are free",
        (*has(DB1), ("bus", "devices/01.0002/driver_override", "vfio_ap")),
        check="mechanism",
        kernel=NARROW,
    ),
    Row(
        "the policy's mechanism is not in use",
        (*has(DB1), ("file", POLICY, 'mechanism = "overrides"\n'), ("bus", "apmask", "-244")),
        check="mechanism",
    ),
    Row(
        "the policy's mechanism is not to be had, Linux 6.1",
        (*has(DB1), ("file", POLICY, 'mechanism = "overrides"\n')),
        check="mechanism",
        kernel=OLD_KERNEL,
    ),
    Row(
        "the policy's mechanism is not in use while a guest runs",
        (*has(DB1), ("begin", "db1"), ("file", POLICY, 'mechanism = "overrides"\n')),
        check="mechanism",
    ),
    Row(
        "an adapter that is off",
        (*has(Def("db1", "10", "1")), ("bus", "devices/card0a/config", "0")),
        check="cards-asked",
    ),
    Row("another adapter is off", (*has(DB1), ("bus", "devices/card0a/config", "0")), check="cards"),
    Row("an adapter that is offline", (*has(DB1), ("bus", "devices/card00/online", "0")), check="cards"),
    Row(
        "other masks at the next boot",
        (*has(DB1), ("does", "masks", "--persistent", "aqmask=0-3,5-255")),
        check="stored-masks",
    ),
    Row(
        "stored masks that make no sense",
        (*has(DB1), ("file", RULE, 'ATTR{../../bus/ap/apmask}="junk"\n')),
        check="stored-masks",
    ),
    Row(
        "an unused device",
        (*has(DB1), ("bus", "apmask", "-0xa"), ("made", 9, "10", "1")),
        check="foreign-devices",
    ),
    Row(
        "a reserved queue is absent",
        (*has(DB1), ("file", POLICY, '[reserve]\nqueues = ["05.0001"]\n')),
        check="policy",
    ),
    Row("a standby that is off", (*has(DB1, STANDBY), ("begin", "db1"))),
    Row("a clone that is off", (*has(DB1, CLONE), ("begin", "db1")), check="same-device"),
    Row("two that are off", has(DB1, STANDBY), check="same-queues"),
    Row("two that are off, of one device", has(DB1, CLONE), check="same-device"),
    Row(
        "its earlier life died with the daemon",
        (*has(DB1), ("begin", "db1"), ("crash", "db1"), ("age",)),
        check="drift",
    ),
    Row(
        "another died with the daemon, long ago",
        (*has(DB1, STANDBY), ("begin", "db2"), ("crash", "db2"), ("age",)),
        check="drift",
    ),
    Row("it runs and gets others next", (*has(DB1), ("begin", "db1"), ("has", Def("db1", "1", "4")))),
    Row("it has run since before its device", (*has(NOTHING), ("runs", "db1"), ("has", DB1)), check="start"),
    # The request.
    Row(
        "no wrapper around the annotation",
        has(DB1._replace(old=WRAPPED, new=BARE_MATRIX)),
        REFUSED,
        "annotation",
    ),
    Row(
        "no wrapper around the annotation, and no device",
        has(DB1._replace(old=WRAPPED, new=BARE_MATRIX, device=None)),
        REFUSED,
        "annotation",
    ),
    Row(
        "the definition of a clone says something else",
        (*has(DB1, Def("db2", "0", "2", device=1)), ("define_device", "db1")),
        REFUSED,
        "definition",
        "db2",
    ),
    Row(
        "ids that make no sense",
        has(DB1._replace(old='adapters="0"', new='adapters="300"')),
        REFUSED,
        "annotation",
    ),
    Row("no adapters", has(DB1._replace(old='adapters="0" ', new="")), REFUSED, "annotation"),
    Row("a mode that is none", has(requested("mode='fast'")), REFUSED, "annotation"),
    Row("no device", has(DB1._replace(device=None)), REFUSED, "device"),
    Row("two devices", has(DB1._replace(old="</devices>", new=HOSTDEV2)), REFUSED, "device"),
    Row("a device and no annotation", has(BARE), REFUSED, "annotation"),
    Row(
        "the annotation is gone",
        (*has(DB1), ("begin", "db1"), ("end", "db1"), ("has", BARE)),
        REFUSED,
        "annotation",
    ),
    Row(
        "the annotation is gone while it runs",
        (*has(DB1), ("begin", "db1"), ("has", BARE)),
        REFUSED,
        "annotation",
    ),
    Row(
        "annotation and device are gone while it runs",
        (*has(DB1), ("begin", "db1"), ("has", NOTHING)),
        WITHOUT,
        "annotation",
    ),
    Row(
        "the definition says something else",
        (*has(DB1), ("define_device", "db1"), ("has", Def("db1", "0", "2"))),
        REFUSED,
        "definition",
    ),
    Row(
        "the definition is damaged", (*has(DB1), ("file", f"{FOLDER}/{mdev(1)}", "{")), REFUSED, "definition"
    ),
    Row(
        "the definition alone is damaged",
        (*has(BARE), ("file", f"{FOLDER}/{mdev(1)}", "{")),
        REFUSED,
        "definition",
    ),
    Row(
        "it runs and cannot start again",
        (*has(DB1), ("begin", "db1"), ("has", Def("db1", "5", "1"))),
        REFUSED,
        "absent",
    ),
    # The host lacks something.
    Row("no AP bus", (*has(DB1), ("unload", "vfio_ap", "zcrypt_cex4", "zcrypt", "ap")), REFUSED, "ap-bus"),
    Row("no vfio_ap", (*has(DB1), ("unload", "vfio_ap")), REFUSED, "vfio-ap"),
    Row("no queues", (*has(DB1), ("unplug", 0, 1, 10)), REFUSED, "adapters"),
    Row("no such adapter", has(Def("db1", "0,5", "1")), REFUSED, "absent"),
    Row("no such domain", has(Def("db1", "0", "1,9")), REFUSED, "absent"),
    Row(
        "an adapter that the bus has not found",
        (*has(Def("db1", "5", "1")), ("appears", 5, "cca")),
        REFUSED,
        "absent",
    ),
    Row(
        "a control domain only",
        has(Def("db1", "0", "1,7")),
        REFUSED,
        "absent",
        kernel=(("domains", IdSet([1, 2])), ("control_domains", IdSet([1, 2, 7]))),
    ),
    Row(
        "a control domain that the host does not control", has(DB1._replace(control="1,9")), REFUSED, "absent"
    ),
    Row(
        "a control domain that the host does not control, over-provisioning",
        (*has(DB1._replace(control="1,9")), ("file", POLICY, "over-provisioning = true\n")),
    ),
    Row(
        "its default domain is lost",
        (*has(Def("db1", "0,1,10", "1")), ("file", POLICY, 'prefer = "domains"\n')),
    ),
    Row(
        "none of it is there, over-provisioning",
        (*has(Def("db1", "5", "1")), ("file", POLICY, "over-provisioning = true\n")),
        WITHOUT,
        "absent",
    ),
    Row(
        "over-provisioning by overrides",
        (
            *has(Def("db1", "0,5", "1")),
            ("file", POLICY, "over-provisioning = true\n"),
            ("does", "mechanism", "overrides"),
        ),
        REFUSED,
        "absent",
    ),
    Row("nothing has that property", has(requested('mode="ep11" adapters="2"')), REFUSED, "criteria"),
    Row(
        "what has that property is off",
        (*has(requested('mode="ep11" adapters="1"')), ("bus", "devices/card0a/config", "0")),
        REFUSED,
        "criteria",
    ),
    Row(
        "both mechanisms",
        (*has(Def("db1", "1", "1")), ("bus", "devices/10.0002/driver_override", "vfio_ap")),
        REFUSED,
        "mechanism",
        kernel=(("apmask", "+1-255"), ("adapters", {0: "accel", 1: "cca", 16: "ep11"})),
    ),
    # Its queues are the host's.
    Row("reserved", (*has(DB1), ("file", POLICY, '[reserve]\nadapters = "0"\n')), REFUSED, "refused"),
    Row(
        "reserved beside it",
        (*has(DB1), ("file", POLICY, '[reserve]\nqueues = ["00.0004", "01.0001"]\n')),
        REFUSED,
        "refused",
    ),
    Row("kept", (*has(DB1), ("file", POLICY, "[keep]\naccel = 4\n")), REFUSED, "refused"),
    Row(
        "needed by zkey",
        (*has(DB1), ("file", "etc/zkey/repository/disk.info", "apqns = 00.0001\n")),
        REFUSED,
        "refused",
    ),
    Row(
        "it runs, and its queues were reserved meanwhile",
        (*has(DB1), ("begin", "db1"), ("file", POLICY, '[reserve]\nadapters = "0"\n')),
        REFUSED,
        "refused",
    ),
    Row("a policy that makes no sense", (*has(DB1), ("file", POLICY, "[reserve\n")), REFUSED, "policy"),
    Row(
        "a misspelt override on its queue",
        (*has(DB1), ("bus", "devices/00.0001/driver_override", "vfio-ap")),
        REFUSED,
        "held",
    ),
    # Somebody else has them.
    Row(
        "a running guest has its queues", (*has(DB1, STANDBY), ("begin", "db2")), REFUSED, "held", whole=False
    ),
    Row(
        "a running guest has some",
        (*has(Def("db1", "0", "1-2"), STANDBY), ("begin", "db2")),
        REFUSED,
        "held",
        whole=False,
    ),
    Row(
        "it is a clone of a running guest",
        (*has(DB1, CLONE), ("begin", "db1")),
        REFUSED,
        "held",
        "db2",
        whole=False,
    ),
    Row(
        "a clone by hand of a running guest",
        (*has(DB1, Def("db2", device=1)), ("begin", "db1")),
        REFUSED,
        "held",
        "db2",
    ),
    Row(
        "both start with the host",
        has(DB1._replace(autostart=True), STANDBY._replace(autostart=True)),
        STARTS,
        "same-queues",
        whole=True,
    ),
    Row(
        "another died with the daemon, just now",
        (*has(DB1, STANDBY), ("begin", "db2"), ("crash", "db2")),
        REFUSED,
        "held",
    ),
    Row(
        "it runs and next wants those of a running guest",
        (*has(DB1, DB2), ("begin", "db1"), ("begin", "db2"), ("has", Def("db1", "1", "1"))),
        REFUSED,
        "held",
        whole=False,
    ),
    Row(
        "a guest that libvirt knows no more",
        (*has(DB1, STANDBY), ("begin", "db2"), ("forgotten", "db2")),
        REFUSED,
        "held",
    ),
    Row(
        "a device has its queues",
        (*has(DB1), ("bus", "apmask", "-0"), ("made", 9, "0", "1")),
        REFUSED,
        "held",
    ),
    Row(
        "a device of a guest that is off has its queues",
        (*has(DB1, Def("db2", device=9)), ("bus", "apmask", "-0"), ("made", 9, "0", "1")),
        REFUSED,
        "held",
    ),
    Row(
        "a device in use has its queues",
        (*has(DB1), ("bus", "apmask", "-0"), ("made", 9, "0", "1"), ("opens", 9)),
        REFUSED,
        "held",
    ),
    Row(
        "its device is there with others",
        (*has(DB1), ("bus", "apmask", "-0"), ("made", 1, "0", "2")),
        REFUSED,
        "held",
    ),
    Row(
        "its device is in use by another",
        (*has(DB1), ("bus", "apmask", "-0"), ("made", 1, "0", "1"), ("opens", 1)),
        REFUSED,
        "held",
    ),
    Row(
        "its device, without annotation, is in use by another",
        (*has(BARE), ("bus", "apmask", "-0"), ("made", 1, "0", "1"), ("opens", 1)),
        REFUSED,
        "held",
    ),
    Row("its device made by hand is empty", (*has(BARE), ("made", 1, "", "")), WITHOUT, "device"),
    Row(
        "its device made by hand has adapters only",
        (*has(BARE), ("bus", "apmask", "-0"), ("made", 1, "0", "")),
        WITHOUT,
        "device",
    ),
    Row(
        "libvirt takes it for off, and its QEMU goes on",
        (*has(DB1), ("begin", "db1"), ("presumed_off", "db1")),
        REFUSED,
        "held",
    ),
    Row(
        "libvirt takes it for off, its QEMU goes on, and it wants others",
        (*has(DB1), ("begin", "db1"), ("presumed_off", "db1"), ("has", Def("db1", "1", "4"))),
        REFUSED,
        "held",
    ),
    Row(
        "libvirt takes it for off, its QEMU goes on, and it has another device",
        (*has(DB1), ("begin", "db1"), ("presumed_off", "db1"), ("has", Def("db1", "1", "4", device=3))),
        REFUSED,
        "held",
    ),
    Row(
        "its device is lost, and nobody has said so, and it is off",
        (*has(DB1), ("begin", "db1"), ("removed", 1), ("crash", "db1")),
        check="drift",
    ),
    # What was its, and is gone.
    Row(
        "its device is removed while it runs", (*has(DB1), ("begin", "db1"), ("removed", 1)), WITHOUT, "start"
    ),
    Row(
        "its device is removed while it runs, and it is redefined without annotation and device",
        (*has(DB1), ("begin", "db1"), ("removed", 1), ("does", "reconcile"), ("has", NOTHING)),
        WITHOUT,
        "annotation",
    ),
    Row(
        "its queue is taken from vfio_ap while it runs",
        (*has(Def("db1", "0", "1-2")), ("begin", "db1"), ("bus", "drivers/vfio_ap/unbind", "00.0002")),
        WITHOUT,
        "start",
    ),
    # apvfio's own.
    Row("the ledger is damaged", (*has(DB1), ("file", LEDGER, "{")), REFUSED, "ledger"),
    Row(
        "the ledger is a newer apvfio's", (*has(DB1), ("file", LEDGER, '{"version": 99}')), REFUSED, "ledger"
    ),
    Row(
        "a Secure Execution guest requests an adapter in CCA mode",
        has(Def("db1", "1", "1", old="</domain>", new="<launchSecurity type='s390-pv'/></domain>")),
        REFUSED,
        "secure-execution",
    ),
    Row(
        "a Secure Execution guest requests an accelerator",
        has(Def("db1", "0", "1", old="</domain>", new="<launchSecurity type='s390-pv'/></domain>")),
    ),
)
