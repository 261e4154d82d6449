# SPDX-License-Identifier: Apache-2.0
"""What real kernels answered on a machine with emulated AP hardware, asked of the simulated one.

``transcript-*.txt`` are excerpts of runs with the tools of a distribution, ``recording-*.txt`` and
``tree-*.txt`` come from ``record.sh`` and ``record_tree.py`` beside them. Blocks are a command after
``# `` and its output; what is written to ap_emul's parameters is done here with levers.
"""

from __future__ import annotations

import ast
import errno
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[2] / "data"
VERSIONS = ("6.12", "7.2")
BUS = "bus/ap"
MATRIX = "devices/vfio_ap/matrix"
EMULATOR = "/sys/module/ap_emul/parameters/"


class Shell:
    """The commands of the recordings, on a simulated kernel."""

    def __init__(self, kernel: SimKernel) -> None:
        self.kernel = kernel

    def run(self, line: str) -> str:
        """What ``line`` prints."""
        return "".join(self._run(command) for command in line.split("; "))

    def _run(self, command: str) -> str:
        words = shlex.split(command)
        if words[0] == "echo":
            return self._echo(command)
        return str(getattr(self, f"_{words[0]}")(*words[1:]))

    def _echo(self, command: str) -> str:
        match = re.fullmatch(r"echo ?(.*) > (\S+)", command, re.DOTALL)
        if not match:
            return "\n"
        if match[2].startswith(EMULATOR):
            return self._hardware(match[2].removeprefix(EMULATOR), match[1])
        return self._write(match[2], unquoted(match[1]))

    def _write(self, path: str, value: str) -> str:
        try:
            self.kernel.write(sysfs(path), value)
        except OSError as error:
            return f"-{errno.errorcode[error.errno or 0]}\n"
        return "OK\n"

    def _hardware(self, name: str, value: str = "") -> str:
        hardware = self.kernel.state.hardware
        if name == "adapters":
            adapters = {int(a, 16): mode for a, mode in (item.split("=") for item in value.split(","))}
            for adapter in hardware.adapters.keys() - adapters.keys():
                self.kernel.unplug_adapter(adapter)
            for adapter, mode in adapters.items():
                if hardware.adapters.get(adapter) != mode:
                    self.kernel.plug_adapter(adapter, mode)
        elif name == "domains":
            self.kernel.set_domains(IdSet(int(item, 16) for item in value.split(",")))
        else:
            assert name == "deconfigured"
            standby = {int(item, 16) for item in value.split(",") if item}
            for adapter in standby ^ set(hardware.standby):
                self.kernel.configure(adapter, adapter not in standby)
        return ""

    def _cat(self, *paths: str) -> str:
        return "".join(self.kernel.read(sysfs(path)) for path in paths)

    def _ls(self, path: str) -> str:
        return "".join(f"{name}\n" for name in self.kernel.list(sysfs(path)))

    def _readlink(self, path: str) -> str:
        return f"{self.kernel.readlink(sysfs(path))}\n"

    def _masks(self) -> str:
        return "".join(f"{name} {self.kernel.read(f'{BUS}/{name}')}" for name in ("apmask", "aqmask"))

    def _drivers(self) -> str:
        queues = [name for name in self.kernel.list(f"{BUS}/devices") if "." in name]
        return " ".join(f"{queue}:{self._driver(queue)}" for queue in queues) + " \n"

    def _driver(self, queue: str) -> str:
        link = f"{BUS}/devices/{queue}/driver"
        return self.kernel.readlink(link).rpartition("/")[2] if self.kernel.exists(link) else ""

    def _mdev(self, path: str) -> str:
        names = ("matrix", "guest_matrix", "control_domains", "ap_config")
        return "".join(f"{name}:\n{self.kernel.read(f'{sysfs(path)}/{name}')}" for name in names)

    def _queue(self, queue: str) -> str:
        names = ("request_count", "reset", "interrupt", "config", "online", "status")
        paths = {name: f"{BUS}/devices/{queue}/{name}" for name in names}
        return "".join(f"{n}: {self.kernel.read(p)}" for n, p in paths.items() if self.kernel.exists(p))

    def _mdevctl(self, verb: str, option: str, uuid: str, *rest: str) -> str:
        assert option == "-u"
        if verb == "start":
            assert rest == ("-p", "matrix", "-t", "vfio_ap-passthrough")
            self.kernel.write(f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create", uuid)
        else:
            assert verb == "stop"
            self.kernel.write(f"{MATRIX}/{uuid}/remove", "1")
        return ""

    def _modprobe(self, module: str) -> str:
        self.kernel.load(module)
        return ""

    def _rmmod(self, module: str) -> str:
        self.kernel.unload(module)
        return ""

    def _udevadm(self, verb: str) -> str:
        assert verb == "settle"
        return ""


def sysfs(path: str) -> str:
    """The path as the seam has it."""
    assert path.startswith("/sys/")
    return path.removeprefix("/sys/")


def unquoted(word: str) -> str:
    """What bash's printf %q made ``word`` of."""
    if word.startswith("$'"):
        return str(ast.literal_eval(word[1:]))
    words = shlex.split(word)
    return words[0] if words else ""


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Each command's line number, the command, and what it printed, without the empty line after it."""
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if line.startswith(("# ", "-- ", "==== "))] + [len(lines)]
    for start, end in zip(starts, starts[1:]):
        if lines[start].startswith("# "):
            output = lines[start + 1 : end]
            if end == len(lines) or lines[end].startswith("==== "):
                output.pop()
            assert output.pop() == ""
            yield start + 1, lines[start][2:], "".join(f"{line}\n" for line in output)


def replay(shell: Shell, name: str) -> None:
    """Every block of the file ``name`` must come out as it is there."""
    count = 0
    for number, command, expected in blocks((DATA / name).read_text()):
        assert shell.run(command) == expected, f"{name}:{number}: {command}"
        count += 1
    assert count > 50


@pytest.mark.parametrize("version", VERSIONS)
def test_the_transcript_of_a_machine(version: str) -> None:
    kernel = SimKernel.new(version)
    # What chzdev did in the section before.
    kernel.write("bus/ap/apmask", "-0x0,-0xa")
    kernel.write("bus/ap/aqmask", "-0x0001,-0x0002,-0x0004")
    replay(Shell(kernel), f"transcript-{version}.txt")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_recording_of_a_machine(version: str) -> None:
    replay(Shell(SimKernel.new(version)), f"recording-{version}.txt")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tree_of_a_machine(version: str) -> None:
    kernel = SimKernel.new(version, domains=IdSet([1, 2]))
    uuid = "11111111-1111-4111-8111-111111111111"
    kernel.write("bus/ap/apmask", "-0")
    kernel.write(f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create", uuid)
    for name, value in (("assign_adapter", "0"), ("assign_domain", "1"), ("assign_control_domain", "2")):
        kernel.write(f"{MATRIX}/{uuid}/{name}", value)
    recorded = (DATA / f"tree-{version}.txt").read_text().splitlines()
    tops = [path for path in map(path_of, recorded) if path.rpartition("/")[0] not in map(path_of, recorded)]
    assert [line for top in tops for line in walk(kernel, top)] == recorded


def path_of(line: str) -> str:
    """The path that a line of a recorded tree is about."""
    return line.split(" ", maxsplit=1)[0].removesuffix("/")


def walk(kernel: SimKernel, path: str) -> Iterator[str]:
    """What record_tree.py prints of ``path`` and what is below it."""
    tree = kernel
    if tree.kind(path) == "link":
        yield f"{path} -> {tree.readlink(path)}"
    elif tree.kind(path) == "file":
        mode = tree.mode(path)
        text = json.dumps(tree.read(path)) if mode & 0o444 else ""
        yield f"{path} {mode:o} {text}".rstrip()
    else:
        yield f"{path}/ {tree.mode(path):o}"
        for name in tree.list(path):
            yield from walk(kernel, f"{path}/{name}")
