#!/usr/bin/python3 -ES
# SPDX-License-Identifier: Apache-2.0
"""Does what the host asks, on eight lanes (virtio ports) at once.

A request is a line of JSON: {"marker": HEX, "run": [WORD...]} or {"marker": HEX, "arrive": {...}}. The answer
is the marker's bytes, so that the host can tell it from the rest of an answer that nobody read, then frames:
a letter and a length (>cI), and so many bytes; o: output, e: error output, x: the exit status, the last.
A host that hangs up, or asks anew, ends what is running on that lane.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import threading
import time
from typing import Any

PORTS = "/dev/virtio-ports"
SHARE = "/share"
RNDRESEEDCRNG = 0x5207
PATIENCE = 3
"""Seconds after which a host that is not there will not come."""


class HungUpError(Exception):
    """The host does not listen any more."""


class Lane:
    """One port: non-blocking, because a write blocks for good when the host hangs up meanwhile."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        # Edges: a port without host is ready to be read, namely for its end, all the time.
        self.edges = select.epoll()
        self.edges.register(self.fd, select.EPOLLIN | select.EPOLLET)

    def read(self) -> bytes:
        """What is there; b"" if nothing is or nobody is."""
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""

    def request(self) -> dict[str, Any]:
        """Wait for a line of JSON: a whole one, not the rest of one."""
        buffer = b""
        while True:
            data = self.read()
            if not data:
                self.edges.poll()
                continue
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    asked: dict[str, Any] = json.loads(line)
                    return asked

    def has_request(self) -> bool:
        """Whether the host has something to say."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def hung_up(self) -> bool:
        """Whether nobody listens, and not only because what the host says overtook that he is there."""
        poll = select.poll()
        poll.register(self.fd, 0)
        patience = time.monotonic() + PATIENCE
        while poll.poll(0):
            if time.monotonic() > patience:
                return True
            time.sleep(0.02)
        return False

    def write(self, data: bytes) -> None:
        """Write all of it; HungUpError."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        view = memoryview(data)
        while view:
            poll.poll()
            if self.hung_up():
                raise HungUpError
            try:
                view = view[os.write(self.fd, view[:32768]) :]
            except BlockingIOError:
                continue

    def frame(self, letter: bytes, data: bytes = b"") -> None:
        self.write(struct.pack(">cI", letter, len(data)) + data)


def arrive(time_: float = 0.0, seed: str = "", share: bool = False) -> None:
    """This may be a saved machine: give it its host's time, randomness of its own, the shared directory."""
    time.clock_settime(time.CLOCK_REALTIME, time_)
    with open("/dev/urandom", "wb", buffering=0) as random:
        random.write(bytes.fromhex(seed))
        fcntl.ioctl(random, RNDRESEEDCRNG)
    if share:
        options = "trans=virtio,version=9p2000.L,msize=262144,cache=none"
        subprocess.run(["mount", "-t", "9p", "-o", options, "share", SHARE], check=True)


class Job:
    """A command, its session, and where its output goes."""

    def __init__(self, lane: Lane, words: list[str]) -> None:
        self.lane = lane
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=SHARE if os.path.ismount(SHARE) else "/root",
        )
        assert self.process.stdout
        assert self.process.stderr
        self.pipes = {self.process.stdout: b"o", self.process.stderr: b"e"}
        self.streams = {pipe.fileno(): letter for pipe, letter in self.pipes.items()}
        for fd in self.streams:
            os.set_blocking(fd, False)

    def follow(self) -> int:
        """Pass output on until the command has ended: its daemons may keep the pipes open."""
        pidfd = os.pidfd_open(self.process.pid)
        poll = select.poll()
        for fd in (pidfd, self.lane.fd, *self.streams):
            poll.register(fd, select.POLLIN)
        try:
            while True:
                events = dict(poll.poll())
                if self.lane.fd in events and (self.lane.hung_up() or self.lane.has_request()):
                    raise HungUpError
                for fd in events.keys() & self.streams.keys():
                    if not self.pass_on(fd):
                        poll.unregister(fd)
                if pidfd in events:
                    break
        finally:
            os.close(pidfd)
        for fd in self.streams:
            while self.pass_on(fd):
                pass
        status = self.process.wait()
        return status if status >= 0 else 128 - status

    def pass_on(self, fd: int) -> bool:
        """Whether there was something."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if data:
            self.lane.frame(self.streams[fd], data)
        return bool(data)

    def end(self) -> None:
        """Kill what is left of it if it has not come to its end."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pipe in self.pipes:
            pipe.close()


def run(lane: Lane, words: list[str]) -> int:
    try:
        job = Job(lane, words)
    except OSError as error:
        lane.frame(b"e", f"{words[0]}: {error.strerror}\n".encode())
        return 127
    try:
        return job.follow()
    finally:
        job.end()


def serve(lane: Lane) -> None:
    while True:
        request = lane.request()
        try:
            lane.write(bytes.fromhex(request["marker"]))
            if "arrive" in request:
                arrive(**request["arrive"])
                status = 0
            else:
                status = run(lane, request["run"])
            lane.frame(b"x", struct.pack(">I", status))
        except HungUpError:
            continue


def main() -> None:
    lanes = [Lane(os.path.join(PORTS, name)) for name in sorted(os.listdir(PORTS))]
    threads = [threading.Thread(target=serve, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
