# SPDX-License-Identifier: Apache-2.0
"""Guests of a real libvirtd in the page: annotated, planned, started, cleared; and hostile names."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from apvfio.libvirt.guests import PREFIX
from apvfio.model.errors import printable
from cockpit_env import in_lab
from hosts import a_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cockpit_env import Page
    from lab.lab import Lab
    from lab_env import LabEnv

    OpenPage = Callable[..., Page]

HOSTILE = "<img src=x onerror=hacked=1> & \"'$(reboot)"
OPTION = "--live"
DISGUISED = "db1\u202e\u200btxt.\u2066\u00a0\u0085\U000e0041"
"""Characters that turn what follows around, that have no width, and controls."""


@pytest.fixture
def env(lab_env: LabEnv) -> Iterator[LabEnv]:
    yield lab_env
    lab_env.clean()


def annotation(env: LabEnv, name: str) -> str:
    return env.virsh("dumpxml", "--inactive", "--", name).stdout


def test_a_guest_is_given_queues_and_starts(env: LabEnv, open_page: OpenPage) -> None:
    env.define("db1", None, None)
    page = open_page(command=in_lab(env.lab))
    page.until("#guests", "No guest requests queues.")
    page.plan("Set a request…", guest="db1", adapters="0,0xa", domains="1-2")
    page.until("dialog", "4 queues: 00.0001, 00.0002, 0a.0001, 0a.0002")
    page.until("dialog", "Collateral queues")
    page.until("dialog", "<ap:matrix")
    assert f"<{PREFIX}:matrix" not in annotation(env, "db1")
    page.finish("Set")
    page.until("#guests", "adapters 0,10, domains 1-2")
    page.until("#guests", "possible")
    assert f"<{PREFIX}:matrix" in annotation(env, "db1")

    env.virsh("start", "db1")
    page.until("#legend", "guest db1")
    page.until("#leases", "db1")
    page.until("#guests", "running")
    assert page.marks()["0a.0002"] == "a"
    env.virsh("destroy", "db1")
    page.until("#leases", "No guest holds queues.")

    page.until("#guests", "shut off")
    page.click("Clear db1")
    page.until("dialog", "Its definition")
    page.finish("Clear")
    page.until("#guests", "No guest requests queues.")
    assert f"<{PREFIX}:matrix" not in annotation(env, "db1")


def test_a_refusal_names_guest_and_queues(env: LabEnv, open_page: OpenPage) -> None:
    env.define("db1", a_matrix("0", "1"), "0a0b0c0d-1111-4111-8111-111111111111")
    env.define("db2", None, None)
    env.virsh("start", "db1")
    page = open_page(command=in_lab(env.lab))
    page.until("#guests", "running")
    page.plan("Set a request…", guest="db2", adapters="0", domains="1")
    page.until("dialog [role=alert]", "guest db2")
    page.until("dialog [role=alert]", "db1")
    page.plan_anew(domains="")
    page.until("dialog [role=alert]", "--domains")
    page.plan_anew(guest="nobody", domains="1")
    page.until("dialog [role=alert]", "libvirt knows no guest nobody.")
    page.click("Cancel", "dialog")
    assert f"<{PREFIX}:matrix" not in annotation(env, "db2")


def test_adapters_of_several_kinds(env: LabEnv, open_page: OpenPage) -> None:
    env.define("db1", None, None)
    page = open_page(command=in_lab(env.lab))
    page.until("#guests", "No guest requests queues.")
    kinds = "mode=cca,adapters=1; mode=ep11,adapters=1"
    page.plan("Set a request…", guest="db1", how="any", any="domains=2", cards=kinds, control="usage")
    page.until("dialog", "4 queues: 01.0001, 01.0002, 0a.0001, 0a.0002")
    page.until("dialog", "<ap:cards")
    page.finish("Set")
    page.until("#guests", "any domains=2; mode=cca,adapters=1; mode=ep11,adapters=1, control domains usage")
    assert annotation(env, "db1").count(f"<{PREFIX}:cards") == 2

    # The dialog has what the guest requests, and keeps what is not changed.
    page.plan("Change db1", any="domains=1")
    page.until("dialog", "2 queues: 01.0001, 0a.0001")
    page.finish("Set")
    page.until("#guests", "any domains=1; mode=cca,adapters=1; mode=ep11,adapters=1, control domains usage")


@pytest.fixture
def frozen(env: LabEnv) -> Iterator[LabEnv]:
    """The lab with a guest, and a daemon that does not answer."""
    env.define("db1", a_matrix("0", "1"), "0a0b0c0d-4444-4111-8111-111111111111")
    env.lab.libvirtd.freeze()
    yield env
    env.lab.libvirtd.thaw()


@pytest.mark.usefixtures("hurried")
def test_a_daemon_that_is_frozen_is_asked_by_one_command_at_a_time(
    frozen: LabEnv, open_page: OpenPage
) -> None:
    page = open_page(command=in_lab(frozen.lab))
    page.until("#guests", "No answer since ")
    page.until("#guests [role=alert]", "Check that libvirt's daemon and this host respond.")
    most, until = 0, time.monotonic() + 6
    while time.monotonic() < until:
        found = set(commands(frozen.lab, b"apvfio\0guest\0list"))
        if len(found) > 1:
            # One that has been ended may take a moment to be gone.
            time.sleep(0.5)
            found &= set(commands(frozen.lab, b"apvfio\0guest\0list"))
        most = max(most, len(found))
        assert "No guest requests queues." not in page.text("#guests")
        time.sleep(0.02)
    assert most == 1
    page.plan("Set a request…", guest="db1", adapters="0", domains="2")
    page.until("dialog [role=alert]", "apvfio guest set gave no answer within 30 seconds.")
    frozen.lab.libvirtd.thaw()
    page.plan_anew()
    page.until("dialog .plan", "1 queue: 00.0002")
    page.finish("Cancel")
    page.until("#guests tbody th", "db1")
    page.gone("#guests .alert")


def commands(lab: Lab, words: bytes) -> list[int]:
    """The processes of Python in the lab that have these words."""
    inside = os.readlink(f"/proc/{lab.path('/').split('/')[2]}/ns/pid")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            cmdline = file.read()
            if words in cmdline and cmdline.startswith(os.fsencode(sys.executable)):
                found += [int(pid)] if os.readlink(f"/proc/{pid}/ns/pid") == inside else []
    return found


def test_what_cannot_be_printed_is_shown_as_apvfio_prints_it(env: LabEnv, open_page: OpenPage) -> None:
    shown = printable(DISGUISED)
    assert shown == "db1??txt.????"
    env.define(DISGUISED, a_matrix("0", "1"), "0a0b0c0d-3333-4111-8111-111111111111")
    page = open_page(command=in_lab(env.lab))
    page.until("#guests tbody th", shown)
    page.click(f"Plan {shown}")
    page.until("dialog h2", f"Starting {shown}")
    page.until("dialog", "1 queue: 00.0001")
    page.finish("Close")
    env.virsh("start", "--", DISGUISED)
    page.until("#leases tbody th", shown)
    page.until("#legend", f"guest {shown}")
    page.until("#guests", "running")
    page.click(f"Release {shown}")
    page.until("dialog h2", shown)
    page.click("Cancel", "dialog")
    page.plan(f"Clear {shown}", when="config")
    page.until("dialog .plan", "Its definition")
    hidden = r"return document.documentElement.outerHTML.match(/[\p{Cf}\p{Zl}\p{Zp}\u0080-\u009f]/gu)"
    assert page.js(hidden) is None
    page.finish("Clear")
    assert f"<{PREFIX}:matrix" not in annotation(env, DISGUISED)


@pytest.mark.parametrize("name", [HOSTILE, OPTION])
def test_a_hostile_name_is_text_and_no_option(env: LabEnv, open_page: OpenPage, name: str) -> None:
    env.define(name, a_matrix("0", "1"), "0a0b0c0d-2222-4111-8111-111111111111")
    page = open_page(command=in_lab(env.lab))
    page.until("#guests tbody th", name)
    page.click(f"Plan {name}")
    page.until("dialog h2", name)
    page.until("dialog", "1 queue: 00.0001")
    page.finish("Close")
    env.virsh("start", "--", name)
    page.until("#legend", f"guest {name}")
    page.until("#leases tbody th", name)
    page.until("#guests", "running")
    page.click(f"Release {name}")
    page.until("dialog h2", name)
    page.click("Cancel", "dialog")
    page.plan(f"Clear {name}", when="config")
    page.finish("Clear")
    assert page.js("return [document.images.length, window.hacked ?? null]") == [0, None]
    assert f"<{PREFIX}:matrix" not in annotation(env, name)
