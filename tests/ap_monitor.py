#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""QEMU for the lab's guests into which a vfio-ap device can be plugged: an emulator of the lab's.

QEMU without KVM on IBM Z has no AP bus. This stands between libvirt and QEMU's monitor and answers, as a
QEMU that has one would, what is about a vfio-ap device; all else, migration included, is QEMU's own.
A device is not let go of while `STUBBORN` is there, and none is taken while `FULL` is. If the directory
`WATCHED` is there, QEMU has a second monitor in it, named by its process id.

It migrates a guest with its device, as a QEMU would that knows the draft of vfio_ap's live migration, except
that nothing of the device travels; while `BLOCKED` is there it names a reason why not, as today's QEMU does.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
from contextlib import suppress

QEMU = "/usr/bin/qemu-system-s390x"
STUBBORN = "/var/lib/libvirt/stubborn"
FULL = "/var/lib/libvirt/full"
WATCHED = "/var/lib/libvirt/watched"
BLOCKED = "/var/lib/libvirt/blocked"
REASON = "VFIO migration is not supported in kernel"


def main(argv: list[str]) -> None:
    """Run QEMU in this process, its monitor behind another one."""
    words, devices = _without_ap(argv)
    at = next((i for i, word in enumerate(words) if word.startswith("socket,id=charmonitor,fd=")), None)
    if at is None:  # libvirt asks QEMU what it can do
        os.execv(QEMU, [QEMU, *words])
    number = re.search(r"fd=(\d+)", words[at])
    assert number
    ours, qemus = socket.socketpair()
    if not os.fork():
        qemus.close()
        os.setsid()
        _stand_between(socket.socket(fileno=int(number[1])), ours, devices)
        os._exit(0)
    ours.close()
    os.set_inheritable(qemus.fileno(), True)
    words[at] = f"socket,id=charmonitor,fd={qemus.fileno()}"
    if os.path.isdir(WATCHED):
        words += ["-qmp", f"unix:{WATCHED}/{os.getpid()},server=on,wait=off"]
    os.execv(QEMU, [QEMU, *words])


def _without_ap(argv: list[str]) -> tuple[list[str], set[str]]:
    """The words without vfio-ap devices, and those devices' names."""
    words, devices = [], set()
    rest = iter(argv)
    for word in rest:
        device = next(rest, "") if word == "-device" else ""
        if '"driver":"vfio-ap"' in device:
            devices.add(json.loads(device)["id"])
        else:
            words += [word, device] if device else [word]
    return words, devices


def _stand_between(listening: socket.socket, qemu: socket.socket, devices: set[str]) -> None:
    held = b""  # what QEMU says while no daemon listens
    while b"\n" not in held:
        said = qemu.recv(65536)
        if not said:
            return
        held += said
    greeting, _, held = held.partition(b"\n")
    again = False
    while True:
        ready = select.select([listening, qemu], [], [])[0]
        if qemu in ready:
            said = qemu.recv(65536)
            if not said:
                return
            held += said
        if listening in ready:
            libvirt = listening.accept()[0]
            # A QEMU whose monitor is connected again begins as it did at first.
            if not _serve(libvirt, qemu, devices, greeting + b"\n" + held, again=again):
                return
            held, again = b"", True


def _serve(
    libvirt: socket.socket, qemu: socket.socket, devices: set[str], said: bytes, *, again: bool
) -> bool:
    """Serve one connection of libvirt's, which gets ``said`` first; return False if QEMU has ended."""
    asked = b""
    asks: dict[str, str] = {}
    with suppress(ConnectionError):
        while True:
            *lines, said = said.split(b"\n")
            for line in lines:
                libvirt.sendall(_with_ours(line, asks, devices) + b"\n")
            ready = select.select([libvirt, qemu], [], [])[0]
            if qemu in ready:
                more = qemu.recv(65536)
                if not more:
                    return False
                said += more
            if libvirt in ready:
                more, fds, _, _ = socket.recv_fds(libvirt, 65536, 16)
                if not more:
                    return True
                *lines, asked = (asked + more).split(b"\n")
                for line in lines:
                    answer = _answer(line, devices, asks, again=again)
                    if answer:
                        libvirt.sendall(answer)
                    else:
                        socket.send_fds(qemu, [line + b"\n"], fds)
                        for fd in fds:
                            os.close(fd)
                        fds = []
    return True


def _with_ours(line: bytes, asks: dict[str, str], devices: set[str]) -> bytes:
    """An answer of QEMU's, with what is ours to tell in it if ``asks`` has its question.

    That are our devices in a list of all, for which libvirt asks when it is started again, and what keeps a
    guest with a device from being migrated.
    """
    if not asks or b'"return"' not in line:
        return line
    answer = json.loads(line)
    question = asks.pop(answer.get("id"), "")
    if question == "qom-list":
        answer["return"] += [{"name": name, "type": "child<vfio-ap>"} for name in sorted(devices)]
    elif question == "query-migrate" and devices and os.path.exists(BLOCKED):
        answer["return"].setdefault("blocked-reasons", []).append(REASON)
    else:
        return line
    return json.dumps(answer).encode() + b"\r"


def _answer(line: bytes, devices: set[str], asks: dict[str, str], *, again: bool) -> bytes:
    """What to tell libvirt; nothing if QEMU shall."""
    asked = json.loads(line or b"{}")
    command, about = asked.get("execute"), asked.get("arguments") or {}
    name: str = about.get("id", "")
    if command == "qmp_capabilities" and again:
        return _line({"return": {}, "id": asked["id"]})
    if command == "qom-list" and about.get("path") == "/machine/peripheral":
        asks[asked["id"]] = command
    if command == "query-migrate":
        asks[asked["id"]] = command
    if command == "device_add" and about.get("driver") == "vfio-ap":
        if os.path.exists(FULL):
            return _line(
                {"id": asked["id"], "error": {"class": "GenericError", "desc": "Bus 'ap-bus' is full"}}
            )
        devices.add(name)
        return _line({"return": {}, "id": asked["id"]})
    if command == "device_del" and name in devices:
        said = _line({"return": {}, "id": asked["id"]})
        if os.path.exists(STUBBORN):
            return said
        devices.discard(name)
        event = {"device": name, "path": f"/machine/peripheral/{name}"}
        when = {"seconds": 0, "microseconds": 0}
        return said + _line({"timestamp": when, "event": "DEVICE_DELETED", "data": event})
    return b""


def _line(what: object) -> bytes:
    return json.dumps(what).encode() + b"\r\n"


if __name__ == "__main__":
    main(sys.argv[1:])
