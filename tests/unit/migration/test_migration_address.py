# SPDX-License-Identifier: Apache-2.0
"""Where a guest goes, as a user writes it: words for ssh, never a shell's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.migration.address import parse_address
from apvfio.model.errors import UsageError

SSH = [
    *("ssh", "-T", "-e", "none", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("qemu+ssh://root@z15.example.com/system", ["-l", "root", "--", "z15.example.com"]),
        ("qemu+ssh://z15/system", ["--", "z15"]),
        ("qemu+libssh2://root@z15:2222/system", ["-p", "2222", "-l", "root", "--", "z15"]),
        ("qemu+ssh://root@[fe80::1%25eth0]/system", ["-l", "root", "--", "fe80::1%25eth0"]),
        (
            "qemu+ssh://z15/system?keyfile=/root/.ssh/id&no_tty=1&netcat=/usr/bin/nc",
            ["-i", "/root/.ssh/id", "-o", "BatchMode=yes", "--", "z15"],
        ),
    ],
)
def test_ssh_as_libvirt_would(uri: str, words: list[str]) -> None:
    assert parse_address(uri) == (uri, [*SSH, *words, "apvfio"])


def test_a_command_of_ones_own_is_words() -> None:
    uri = "qemu+unix:///system?socket=/run/second/libvirt-sock"
    assert parse_address(uri, "ssh 'my host' apvfio; reboot").command == [
        "ssh",
        "my host",
        "apvfio;",
        "reboot",
    ]
    assert parse_address("qemu+ssh://z15/system", "/opt/apvfio").command == ["/opt/apvfio"]


@pytest.mark.parametrize(
    ("uri", "at", "says"),
    [
        ("", None, "not the system's libvirt daemon"),
        ("z15", None, "not the system's libvirt daemon"),
        ("xen+ssh://z15/system", None, "not the system's libvirt daemon"),
        ("qemu+ssh://z15/session", None, "not the system's libvirt daemon"),
        ("qemu+ssh://z15/system/../x", None, "not the system's libvirt daemon"),
        ("qemu+tcp://z15/system", None, "does not say how to run apvfio there"),
        ("qemu:///system", None, "does not say how to run apvfio there"),
        ("qemu+ssh:///system", None, "that ssh does not accept"),
        ("qemu+ssh://-oProxyCommand=reboot/system", None, "that ssh does not accept"),
        ("qemu+ssh://-l@z15/system", None, "that ssh does not accept"),
        ("qemu+ssh://a;reboot/system", None, "that ssh does not accept"),
        ("qemu+ssh://$(reboot)@z15/system", None, "that ssh does not accept"),
        ("qemu+ssh://z15:70000/system", None, "is not a URI"),
        ("qemu+ssh://[z15/system", None, "is not a URI"),
        ("qemu+ssh://z 15/system", None, "is not a URI"),
        ("qemu+ssh://z15\n/system", None, "is not a URI"),
        ("qemu+ssh://" + "z" * 1000 + "/system", None, "is not a URI"),
        ("qemu+ssh://z15/system?command=/tmp/ssh", None, "selects another ssh program"),
        ("qemu:///system", "", "is not a command"),
        ("qemu:///system", "  ", "is not a command"),
        ("qemu:///system", "'' apvfio", "is not a command"),
        ("qemu:///system", "apvfio 'x", "No closing quotation"),
        ("qemu:///system", "apv\0fio", "is not a command"),
    ],
)
def test_what_is_refused(uri: str, at: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_address(uri, at)
    assert caught.value.remedy
    assert str(caught.value).isprintable()


@given(st.text(max_size=60), st.sampled_from(["{}", "qemu+ssh://{}/system", "qemu+ssh://root@z15/system?{}"]))
def test_no_text_becomes_an_option_of_ssh(text: str, form: str) -> None:
    uri = form.format(text)
    try:
        words = parse_address(uri).command
    except UsageError:
        return
    end = words.index("--")
    host = words[end + 1]
    assert words[end + 2 :] == ["apvfio"]
    assert not host.startswith("-")
    assert not set(host) & set(" ;&|$`<>()'\"\\\n")
    options = words[4:end]
    assert all(name in ("-i", "-o", "-p", "-l") for name in options[::2])
