# SPDX-License-Identifier: Apache-2.0
"""Every command that the doctor can print, read from its source: a new one has to be weighed here first."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
SOURCES = [*sorted((CHECKOUT / "apvfio/doctor/checks").glob("*.py")), CHECKOUT / "apvfio/install/checks.py"]
MAKERS = ("apvfio", "about", "end_of_drain", "virsh", "edit", "echo")
"""The methods of `Words`."""
VERBS = re.compile(
    r"(apvfio|chmod|chown|crm|crm_\w+|echo|journalctl|kill|mdevctl|mkdir|modprobe|mv|pcs|ps|restorecon|rm|sed|setsebool|sh|sha256sum"
    r"|sleep|ssh|sysctl|systemctl|systemd-\w+|test|touch|udevadm|virsh) (?!is )"
)

PROGRAMS = {
    # Loading and starting what is not there changes nothing that is.
    "modprobe ap", "modprobe kvm", "modprobe vfio", "modprobe vfio_ap", "modprobe zcrypt_cex4",
    "modprobe --ignore-install vfio_ap", "systemctl start <>", "systemctl start apvfio-reconcile.service",
    "systemctl enable --now <>", "systemctl restart <>", "systemctl daemon-reload",
    # libvirt's daemon goes on with all guests.
    "systemctl reload <>", "kill -HUP <>",
    # They look, or wait.
    "journalctl -b -u <> --no-pager", "journalctl -b -u apvfio-reconcile.service --no-pager", "ps -fp <>",
    "sleep <>", "sha256sum <>/*.xml", "crm_mon -1", "ssh -o BatchMode=yes <> apvfio --version",
    # What is published starts nothing that is not configured to start, and moves nothing.
    "pcs resource create queues <> clone interleave=true", "crm configure primitive queues <>",
    "pcs resource clone {0} interleave=true", "crm configure clone {0}-clone {0} meta interleave=true",
    # A start that was refused is tried again.
    "crm_resource --resource <> <>",
    # One file of libvirt's hooks, or the directory of apvfio's own state, and neither if it is a link.
    "chmod 0755 <>", "chmod a-x <>", "chmod go-w <>", "chown root <>", "chmod 0700 <>", "restorecon -v <>",
    # Nothing is deleted: it gets a name that nothing reads.
    "mv -T --backup=numbered <> <>", "mv -T --backup=numbered <> <>.damaged",
    "mv -T --backup=numbered <> <>.not-a-lock", "mv -T --backup=numbered <> <>.not-ours",
    # A device that no guest has or may want, and the host's setting for what was asked about.
    "mdevctl stop -u <>", "mkdir -p <>", "setsebool -P virt_hooks_unconfined on", "apvfio install",
    "apvfio install --python <>", "echo <> | <>",
    # The last value that a file of the shell gives counts.
    "echo ON_SHUTDOWN=shutdown >> <>",
}  # fmt: skip
WORDS = {
    ("apvfio", "queues"), ("apvfio", "masks"), ("apvfio", "mechanism"), ("apvfio", "reconcile"),
    ("apvfio", "cluster"), ("apvfio", "guest"),
    ("about", "plan"), ("about", "define --replace"), ("about", "guest set"),
    # Of the guest that was asked about, and never of another.
    ("virsh", "edit"), ("virsh", "shutdown"), ("virsh", "list"), ("virsh", "attach-device"),
    ("end_of_drain", ""), ("edit", ""), ("echo", "1"), ("echo", ""),
}  # fmt: skip


def shape(node: ast.expr) -> str:
    """A text with a gap for each value in it; '' if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(shape(part) if isinstance(part, ast.Constant) else "<>" for part in node.values)
    return ""


def test_every_program_that_is_called_is_known() -> None:
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    inside = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = {shape(node) for node in nodes if isinstance(node, ast.expr) and node not in inside}
    commands = {
        text for text in texts if VERBS.match(text) and " " in text and not text.endswith((".", ";", ": "))
    }
    assert commands == PROGRAMS


def test_every_command_that_is_made_is_known() -> None:
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    made = {
        (call.func.attr, shape(call.args[0]))
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "words"
        and call.func.attr in MAKERS
    }
    assert made == WORDS
