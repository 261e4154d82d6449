# SPDX-License-Identifier: Apache-2.0
"""A simulated host that uses some of its queues itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.usage import ZCRYPT_NODES, ZKEY_REPOSITORY
from apvfio.model.ids import format_hex
from apvfio.model.matrix import Apqn
from hosts import a_matrix

if TYPE_CHECKING:
    from memory_host import Machine

RULES = ("requests", "zkey", "zcrypt-nodes")
SAYS = {
    "requests": "with requests under way",
    "zkey": "which zkey's key 'volume1' needs",
    "zcrypt-nodes": "accessible through the zcrypt node 'pod1'",
}


class Overlay:
    """A kernel with some attributes on top; what is read is noted."""

    def __init__(self, machine: Machine, texts: dict[str, str]) -> None:
        self._kernel, self._texts = machine.kernel, texts
        self.seen: list[str] = []
        machine.sysfs.read, machine.sysfs.list = self.read, self.list

    def read(self, path: str) -> str:
        self.seen.append(path)
        return self._texts[path] if path in self._texts else self._kernel.read(path)

    def list(self, path: str) -> list[str]:
        self.seen.append(path)
        names = {
            p.removeprefix(f"{path}/").partition("/")[0] for p in self._texts if p.startswith(f"{path}/")
        }
        return sorted(names) if path == ZCRYPT_NODES and names else self._kernel.list(path)


def use(machine: Machine, rule: str, *names: str) -> None:
    """Let the host use those queues in the way that ``rule`` is about."""
    queues = [queue for queue in map(Apqn.parse, names) if queue]
    if rule == "zkey":
        apqns = ",".join(name.upper() for name in names)
        machine.files.texts[f"{ZKEY_REPOSITORY}/volume1.info"] = f"cipher=paes\napqns={apqns}\nvolumes=\n"
        # The key itself, which is no text at all.
        machine.files.texts[f"{ZKEY_REPOSITORY}/volume1.skey"] = "apqns=00.0002,01.0004,0a.001b\n"
        return
    if rule == "requests":
        texts = {f"bus/ap/devices/{queue}/requestq_count": "1\n" for queue in queues}
        texts |= {f"bus/ap/devices/card{queue.adapter:02x}/requestq_count": "1\n" for queue in queues}
    else:
        masks = a_matrix(",".join(str(q.adapter) for q in queues), ",".join(str(q.domain) for q in queues))
        texts = {
            f"{ZCRYPT_NODES}/pod1/apmask": format_hex(masks.adapters) + "\n",
            f"{ZCRYPT_NODES}/pod1/aqmask": format_hex(masks.domains) + "\n",
        }
    Overlay(machine, texts)
