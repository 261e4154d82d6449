# SPDX-License-Identifier: Apache-2.0
"""The simulated host's ordinary files: POSIX' rules, and the two faces of the tree."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError, RequestError
from apvfio.sim.files import Directory, File, FileTree, Link, SimFiles

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert caught.value.errno == number


@pytest.fixture
def tree() -> FileTree:
    made = FileTree()
    made.add(
        {
            "etc/a": "A",
            "etc/script": {"mode": "0755", "text": "#!/bin/sh\n"},
            "etc/empty/": "",
            "etc/private/": {"mode": "0700"},
            "etc/link": {"link": "a"},
            "run/lock/held": "1\n",
        }
    )
    return made


def test_json_says_no_more_than_it_must(tree: FileTree) -> None:
    files = tree.to_json()
    assert files == {
        "etc/a": "A",
        "etc/empty/": "",
        "etc/link": {"link": "a"},
        "etc/private/": {"mode": "0700"},
        "etc/script": {"mode": "0755", "text": "#!/bin/sh\n"},
        "run/lock/held": "1\n",
    }
    assert FileTree.from_json(files).to_json() == files
    assert FileTree.from_json({}).to_json() == {"etc/": "", "run/": ""}


def test_bytes_that_are_no_text_come_back(tree: FileTree) -> None:
    tree.file("etc/a").write(b"\xff\x00\xc3", 0)
    again = FileTree.from_json(tree.to_json())
    assert bytes(again.file("etc/a").data) == b"\xff\x00\xc3"


def test_what_libfuse_hides_is_not_kept(tree: FileTree) -> None:
    tree.rename("etc/a", "etc/.fuse_hidden0001")
    assert not any("hidden" in path for path in tree.to_json())


@pytest.mark.parametrize(
    "files",
    [
        {"": "x"},
        {"/etc/a": "x"},
        {"etc//a": "x"},
        {"etc/../a": "x"},
        {"sys/bus": "x"},
        {"proc/x/": ""},
        {"etc/a\0": "x"},
        {"etc/a": 5},
        {"etc/a": {"text": "no mode"}},
        {"etc/a": {"mode": "rwx", "text": ""}},
        {"etc/a": {"mode": "0644", "text": 5}},
        {"etc/a": "x", "etc/a/b": "y"},
        {"etc/a/": "not empty"},
        {"etc/a/": {"mode": 7}},
    ],
)
def test_other_json_is_refused(files: object) -> None:
    with pytest.raises(RequestError, match="its file"):
        FileTree.from_json(files)


def test_links_are_counted(tree: FileTree) -> None:
    tree.link("run/lock/held", "run/lock/second")
    held = tree.file("run/lock/second")
    assert held.links == 2
    with fails(errno.EEXIST):
        tree.link("etc/a", "run/lock/held")
    tree.unlink("run/lock/held")
    assert held.links == 1
    with fails(errno.EPERM):
        tree.link("etc/empty", "etc/other")


def test_names_go_and_come(tree: FileTree) -> None:
    tree.rename("etc/a", "etc/b")
    with fails(errno.ENOENT):
        tree.lookup("etc/a")
    tree.rename("etc/b", "etc/b")
    tree.rename("etc/b", "etc/script")
    assert tree.file("etc/script").data == b"A"
    with fails(errno.EISDIR):
        tree.rename("etc/script", "etc/empty")
    with fails(errno.ENOTDIR):
        tree.rename("etc/empty", "etc/script")
    tree.rename("etc/private", "etc/empty")
    assert tree.directory("etc/empty").mode == 0o700
    with fails(errno.ENOTEMPTY):
        tree.rename("etc/empty", "run/lock")
    with fails(errno.EBUSY):
        tree.rename("etc", "run")


def test_directories_go_when_they_are_empty(tree: FileTree) -> None:
    tree.rmdir("etc/empty")
    for path, number in (("run/lock", errno.ENOTEMPTY), ("etc", errno.EBUSY), ("etc/a", errno.ENOTDIR)):
        with fails(number):
            tree.rmdir(path)
    with fails(errno.EISDIR):
        tree.unlink("run/lock")
    tree.unlink("etc/link")
    with fails(errno.ENOENT):
        tree.unlink("etc/link")


def test_what_is_not_what_it_was_taken_for(tree: FileTree) -> None:
    for path, number in (("etc/a/b", errno.ENOTDIR), ("etc/no", errno.ENOENT)):
        with fails(number):
            tree.lookup(path)
    for path, number in (("etc", errno.EISDIR), ("etc/link", errno.EINVAL)):
        with fails(number):
            tree.file(path)
    with fails(errno.EEXIST):
        tree.add_node("etc/a", Directory())
    assert isinstance(tree.lookup("etc/link"), Link)


def test_a_file_has_holes_and_limits() -> None:
    file = File()
    assert file.write(b"end", 3) == 3
    assert file.data == b"\0\0\0end"
    file.truncate(1)
    file.truncate(2)
    assert file.data == b"\0\0"
    for offset in (16 << 20,):
        with fails(errno.EFBIG):
            file.write(b"x", offset)
        with fails(errno.EFBIG):
            file.truncate(offset + 1)


def test_as_apvfios_files(tree: FileTree) -> None:
    files = SimFiles(tree)
    assert files.read("etc/a") == "A"
    assert files.read("etc/none") is None
    assert files.read("etc/a/b") is None
    files.write("run/new/x", "1", 0o644)
    files.write("run/new/x", "2")
    assert (files.read("run/new/x"), tree.file("run/new/x").mode) == ("2", 0o600)
    assert tree.directory("run/new").mode == 0o700
    assert files.list("etc") == ["a", "empty", "link", "private", "script"]
    assert files.list("none") == files.list("etc/a") == []
    files.remove("run/new/x")
    files.remove("run/new/x")
    assert files.read("run/new/x") is None


def test_what_apvfio_must_not_follow_or_replace(tree: FileTree) -> None:
    files = SimFiles(tree)
    with pytest.raises(HostError, match="/etc/link cannot be used: it is not a regular file"):
        files.read("etc/link")
    with pytest.raises(HostError, match="it is a directory"):
        files.write("etc/empty", "x")
    with pytest.raises(HostError, match="Not a directory"):
        files.write("etc/a/b", "x")
    with pytest.raises(HostError, match="Is a directory"):
        files.remove("etc/empty")
