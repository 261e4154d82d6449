# SPDX-License-Identifier: Apache-2.0
"""Read a host: the snapshot `apvfio.model.host.Host`, or one attribute of the bus, a queue or a device."""

from __future__ import annotations

from apvfio.kernel.errnos import is_gone, unreadable
from apvfio.model.errors import HostError, RequestError
from apvfio.model.host import (
    AP_MDEVS,
    BUS,
    CONTROL_DOMAINS,
    MASK_NAMES,
    UNBOUND,
    VFIO_DRIVER,
    Abilities,
    Host,
)
from apvfio.model.ids import ALL_IDS, MAX_ID, NO_IDS, IdSet, parse_hex
from apvfio.model.matrix import Apqn, Matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs

NO_QCI = "not supported"
"""What the bus says instead of its configuration without PQAP(QCI) (bus:ap_control_domain_mask_show)."""
_NO_DOMAIN = "-1"
_DIGITS = 3
_WHOLE_MATRIX_FITS = 500
"""``matrix`` stops at 4095 bytes (7.2) or overruns a page (before): read it for fewer queues only."""


def read_host(sysfs: Sysfs, *, overrides: bool = True) -> Host:
    """Take the snapshot; HostError if this machine has no AP bus or it says nonsense.

    Overrides cost a read for each queue: without ``overrides`` there are none in it, whatever the host has.
    """
    if not sysfs.exists(f"{BUS}/apmask"):
        raise HostError(
            "this host has no AP bus (/sys/bus/ap/apmask does not exist).",
            remedy="Load it with 'modprobe ap', or work on a simulated host with --sim FILE.",
        )
    try:
        return _read_host(sysfs, overrides=overrides)
    except OSError as error:
        raise unreadable(error) from error


def _read_host(sysfs: Sysfs, *, overrides: bool) -> Host:
    apmask, aqmask = (read_mask(sysfs, name) for name in MASK_NAMES)
    drivers = _read_drivers(sysfs)
    first = next(iter(drivers), None)
    override = first is not None and sysfs.exists(f"{BUS}/devices/{first}/driver_override")
    vfio_ap = sysfs.exists(AP_MDEVS.parent) and sysfs.exists(f"{BUS}/drivers/{VFIO_DRIVER}")
    masks_full = apmask == ALL_IDS == aqmask
    return Host(
        apmask=apmask,
        aqmask=aqmask,
        drivers=drivers,
        overrides=_read_overrides(sysfs, drivers) if overrides and override and masks_full else {},
        mdevs=_read_mdevs(sysfs) if vfio_ap else {},
        abilities=Abilities(
            override=override,
            ap_config=vfio_ap and "ap_config" in read_or(sysfs, f"{AP_MDEVS.parent}/features", ""),
            strict_return=sysfs.exists(f"{BUS}/bindings_complete_count"),
        ),
        vfio_ap=vfio_ap,
        max_adapter=_read_number(sysfs, "ap_max_adapter_id"),
        max_domain=_read_number(sysfs, "ap_max_domain_id"),
        control_domains=_read_control_domains(sysfs),
    )


def read_mask(sysfs: Sysfs, name: str) -> IdSet:
    """The mask in the bus' attribute ``name``, as ``apmask``, as it is now."""
    path = f"{BUS}/{name}"
    try:
        return parse_hex(sysfs.read(path), f"/sys/{path}")
    except RequestError as error:
        raise _nonsense(error.sentence) from None


def read_default_domain(sysfs: Sysfs) -> int:
    """The domain that the host's requests go to unless they name one; -1 if there is none.

    It does not follow the masks (bus:ap_domain_store, ap_select_domain).
    """
    text = read_or(sysfs, f"{BUS}/ap_domain", _NO_DOMAIN).strip()
    return -1 if text == _NO_DOMAIN else _number(text, "ap_domain")


def read_driver(sysfs: Sysfs, queue: Apqn) -> str:
    """The driver ``queue`` is bound to, '' if none; trustworthy once the write that moved it is over."""
    try:
        return sysfs.readlink(f"{BUS}/devices/{queue}/driver").rpartition("/")[2]
    except OSError:
        return UNBOUND


def read_matrix(sysfs: Sysfs, uuid: str) -> Matrix:
    """What is assigned to the mdev ``uuid``; OSError if it goes away meanwhile, HostError for nonsense."""
    directory = AP_MDEVS.device(uuid)
    try:
        if sysfs.exists(f"{directory}/ap_config"):
            return Matrix.from_ap_config(sysfs.read(f"{directory}/ap_config"))
        control = IdSet(int(line, 16) for line in sysfs.read(f"{directory}/control_domains").split())
        return Matrix(*_parse_matrix(sysfs.read(f"{directory}/matrix")), control)
    except (RequestError, ValueError) as error:
        why = error.clause if isinstance(error, RequestError) else error
        raise _nonsense(f"/sys/{directory} has no valid matrix: {why}.") from None


def read_guest_queues(sysfs: Sysfs, uuid: str, matrix: Matrix) -> set[Apqn] | None:
    """The queues a guest with mdev ``uuid`` would see, or None where the kernel cannot print so many."""
    if len(matrix.adapters) * len(matrix.domains) > _WHOLE_MATRIX_FITS:
        return None
    lines = sysfs.read(f"{AP_MDEVS.device(uuid)}/guest_matrix").split()
    return {queue for queue in map(Apqn.parse, lines) if queue}


def read_or(sysfs: Sysfs, path: str, default: str) -> str:
    """The text of an attribute, or ``default`` where it cannot be read."""
    try:
        return sysfs.read(path)
    except OSError:
        return default


def in_use(sysfs: Sysfs, queue: Apqn) -> bool:
    """Whether a guest has ``queue`` attached at this moment (vops:status_show)."""
    return read_or(sysfs, f"{BUS}/devices/{queue}/status", "").strip() == "in use"


def is_online(sysfs: Sysfs, queue: Apqn) -> bool:
    """Whether the host works with ``queue``: its administrator may have set it offline (zq:online_show)."""
    return read_or(sysfs, f"{BUS}/devices/{queue}/online", "1").strip() != "0"


def shown_mkvps(sysfs: Sysfs, queue: Apqn) -> str:
    """What ``queue`` shows of its master keys, '' if it has no such file; its card is asked."""
    return read_or(sysfs, f"{BUS}/devices/{queue}/mkvps", "")


def is_set_offline(sysfs: Sysfs, queue: Apqn) -> bool:
    """Whether the administrator has set ``queue`` offline: one that is deconfigured reads so, too."""
    # Nearly all queues are online, so that one read for each is enough.
    if is_online(sysfs, queue):
        return False
    working = [read_or(sysfs, f"{BUS}/devices/{queue}/{name}", "") for name in ("config", "chkstop")]
    return [text.strip() for text in working] == ["1", "0"]


def is_configured(sysfs: Sysfs, adapter: int) -> bool:
    """Whether ``adapter`` is at work and not in standby (card:config_show)."""
    return read_or(sysfs, f"devices/ap/card{adapter:02x}/config", "1").strip() != "0"


def _read_drivers(sysfs: Sysfs) -> dict[Apqn, str]:
    # A listing for each driver, not a link for each queue: a full host has 1,360 of them.
    drivers = {queue: UNBOUND for queue in map(Apqn.parse, sysfs.list(f"{BUS}/devices")) if queue}
    for driver in sysfs.list(f"{BUS}/drivers"):
        for name in sysfs.list(f"{BUS}/drivers/{driver}"):
            queue = Apqn.parse(name)
            if queue in drivers:
                drivers[queue] = driver
    return drivers


def _read_overrides(sysfs: Sysfs, queues: dict[Apqn, str]) -> dict[Apqn, str]:
    found = {}
    for queue in queues:
        # Only the newline is not part of the name: the kernel stores blanks as they are.
        override = read_or(sysfs, f"{BUS}/devices/{queue}/driver_override", "").removesuffix("\n")
        if override and override != "(null)":
            found[queue] = override
    return found


def _read_mdevs(sysfs: Sysfs) -> dict[str, Matrix]:
    mdevs = {}
    for uuid in sysfs.list(AP_MDEVS.devices):
        try:
            mdevs[uuid] = read_matrix(sysfs, uuid)
        except OSError as error:
            if not is_gone(error):
                raise
    return mdevs


def _parse_matrix(text: str) -> tuple[IdSet, IdSet]:
    adapters, domains = NO_IDS, NO_IDS
    for line in text.split():
        adapter, _, domain = line.partition(".")
        adapters |= IdSet([int(adapter, 16)] if adapter else [])
        domains |= IdSet([int(domain, 16)] if domain else [])
    return adapters, domains


def _read_control_domains(sysfs: Sysfs) -> IdSet | None:
    text = read_or(sysfs, f"{BUS}/{CONTROL_DOMAINS}", "")
    if text.strip() == NO_QCI:
        return NO_IDS  # and vfio_ap lets no guest control any (vops:vfio_ap_mdev_filter_cdoms)
    return read_mask(sysfs, CONTROL_DOMAINS) if text else None


def _read_number(sysfs: Sysfs, name: str) -> int:
    return _number(read_or(sysfs, f"{BUS}/{name}", str(MAX_ID)).strip(), name)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= MAX_ID):
        raise _nonsense(f"/sys/{BUS}/{name} reads {text[:80]!r} where an id belongs.")
    return int(text)


def _nonsense(sentence: str) -> HostError:
    return HostError(sentence, remedy="Unexpected content; check that --root names a valid sysfs tree.")
