# SPDX-License-Identifier: Apache-2.0
"""apvfio at the destination, as a program that answers well, badly, or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from apvfio.migration.budget import Budget
from apvfio.migration.hosts import OtherHost
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError
from apvfio.model.matrix import Apqn
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from domain_xml import MDEV, UUID, domain
from hosts import IBM_DOMAINS
from lab.namespace import environment
from memory_host import IBM_ADAPTERS

RIVAL = domain(uuid="11111111-2222-4333-8444-555555555555").replace(
    MDEV.encode(), b"0a0b0c0d-2222-4111-8111-111111111111"
)


@pytest.fixture
def there(tmp_path: Path) -> OtherHost:
    """The real program on a simulated host."""
    file = str(tmp_path / "host.json")
    create_sim(file, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    path = f"PYTHONPATH={environment()['PYTHONPATH']}"
    return OtherHost(["env", path, sys.executable, "-m", "apvfio", "--sim", file], Budget(None))


def answering(tmp_path: Path, text: str | bytes, code: int = 0) -> OtherHost:
    """A program that answers anything."""
    answer = tmp_path / "answer"
    answer.write_bytes(text if isinstance(text, bytes) else text.encode())
    return OtherHost(["sh", "-c", f"cat >/dev/null; cat {answer}; exit {code}"], Budget(None))


def test_the_real_program(there: OtherHost) -> None:
    prospect = there.preview(domain())
    assert prospect.plan["queues"] == [str(queue) for queue in prospect.equipment]
    assert prospect.equipment[Apqn(10, 1)].mode == "ep11"
    assert there.expect(domain()).mdev == MDEV.lower()
    assert there.expect(domain()).mdev == MDEV.lower()
    with pytest.raises(ConflictError, match=r"the destination refuses: .* are held by guest db1\.") as caught:
        there.preview(RIVAL)
    assert caught.value.remedy
    there.give_up(domain())
    assert there.expect(RIVAL).mdev == "0a0b0c0d-2222-4111-8111-111111111111"


@pytest.mark.parametrize(
    "text",
    [
        *("", "no JSON", "[]", "1", "null", "{", "[" * 100000, b"\xff\xfe"),
        # Python 3.9.2 still reads such numbers.
        *(['{"a": ' + "9" * 5000 + "}"] if hasattr(sys, "get_int_max_str_digits") else []),
    ],
)
@pytest.mark.parametrize("code", [0, 1, 127])
def test_what_is_no_answer(tmp_path: Path, text: str | bytes, code: int) -> None:
    host = answering(tmp_path, text, code)
    for call in (host.preview, host.expect, host.give_up):
        with pytest.raises(HostError, match=r"apvfio at the destination \(sh\) does not answer: ") as caught:
            call(domain())
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"plan": 1, "equipment": {}},
        {"plan": {}, "equipment": {"x": 1}},
        {"mdev": 1},
        {"mdev": "../../x"},
        {"mdev": UUID + "'/><evil"},
    ],
)
def test_an_answer_to_another_question(tmp_path: Path, document: object) -> None:
    host = answering(tmp_path, json.dumps(document))
    for call in (host.preview, host.expect):
        with pytest.raises(HostError, match="is not understood"):
            call(domain())


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (
            {
                "error": {
                    "kind": "policy",
                    "message": "no\x1b[2J",
                    "queues": ["0a.0001", "x", 1],
                    "remedy": "go",
                }
            },
            PolicyError,
        ),
        ({"error": {"kind": ["x"], "message": None, "queues": "0a.0001"}}, ApvfioError),
        ({}, ApvfioError),
    ],
)
def test_a_refusal_is_of_its_kind(tmp_path: Path, document: object, kind: type[ApvfioError]) -> None:
    with pytest.raises(ApvfioError, match="the destination refuses: ") as caught:
        answering(tmp_path, json.dumps(document), 4).expect(domain())
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()
    assert all(isinstance(queue, Apqn) for queue in caught.value.queues)


def test_a_program_that_is_not_there() -> None:
    for words in (["/nowhere/apvfio"], ["apv\0fio"]):
        with pytest.raises(HostError, match="does not answer"):
            OtherHost(words, Budget(None)).expect(domain())


def test_the_guest_is_told_on_standard_input_alone(tmp_path: Path) -> None:
    told = tmp_path / "told"
    host = OtherHost(
        ["sh", "-c", f'cat >{told}; printf "%s " "$@" >{told}.words; exit 1', "sh"], Budget(None)
    )
    with pytest.raises(HostError):
        host.give_up(domain())
    assert told.read_bytes() == domain()
    assert Path(f"{told}.words").read_text() == "incoming --give-up --json "
