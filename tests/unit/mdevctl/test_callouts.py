# SPDX-License-Identifier: Apache-2.0
"""mdevctl's callouts and notifiers: the protocol, the two shell scripts, and what they run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.mdev.callouts import Call, CallError, attributes, parse_call
from apvfio.mdev.definitions import AUTO, Definition, parse
from apvfio.mdevctl import callout, notifier
from apvfio.mdevctl.persistent_device import definition_of
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.persistent_masks import RULE, StoredMasks, format_rule
from apvfio.store.definitions import matrix_of
from apvfio.store.ledger_file import LEDGER
from apvfio.store.locks import OWN_LOCK, own_lock
from apvfio.store.policy_file import POLICY
from apvfio.store.processes import parent
from apvfio.store.system import RealSystem
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

HOOKS = Path(__file__).parents[3] / "hooks"
AP = "vfio_ap-passthrough"
ROW = a_matrix("0", "1-2")


def words(event: str, action: str, kind: str = AP, n: int = 1, state: str = "none") -> list[str]:
    """The arguments as mdevctl gives them."""
    return ["-t", kind, "-e", event, "-a", action, "-s", state, "-u", mdev(n), "-p", "matrix"]


def device(matrix: Matrix, start: str = "manual") -> bytes:
    return definition_of(matrix)._replace(start=start).text().encode()


class TestProtocol:
    """What both sides say."""

    def test_a_call_in_any_order(self) -> None:
        expected = Call(AP, "pre", "start", "none", mdev(1), "matrix")
        assert parse_call(words("pre", "start")) == expected
        given = words("pre", "start")
        assert parse_call([*given[6:], *given[:6]]) == expected
        shouted = [word.upper() if word == mdev(1) else word for word in words("pre", "start", n=1)]
        assert parse_call(shouted) == expected

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ([], "each of -t -e -a -s -u -p once"),
            (words("pre", "start")[:-1], "each of"),
            (words("pre", "start")[:-2], "each of"),
            ([*words("pre", "start"), "-t", "x"], "each of"),
            ([*words("pre", "start")[2:], "-x", "y"], "'-x' is not an option"),
            ([*words("pre", "start")[:-4], "-u", "1", "-p", "matrix"], "'1' is not a UUID"),
        ],
    )
    def test_what_is_no_call(self, given: list[str], says: str) -> None:
        with pytest.raises(CallError, match=re.escape(says)):
            parse_call(given)

    @given(st.lists(st.sampled_from(["-t", "-e", "-a", "-s", "-u", "-p", mdev(1), "", "x"]), max_size=14))
    @example(words("pre", "start"))
    def test_any_words_are_a_call_or_an_error(self, given: list[str]) -> None:
        whole = sorted(given[::2]) == sorted(["-t", "-e", "-a", "-s", "-u", "-p"]) and len(given) == 12
        if whole and given[given[::2].index("-u") * 2 + 1] == mdev(1):
            assert parse_call(given).uuid == mdev(1)
            return
        with pytest.raises(CallError) as caught:
            parse_call(given)
        assert "\n" not in str(caught.value)

    def test_the_answers_are_json(self) -> None:
        assert json.loads(attributes([("a", "1"), ("a", "2")])) == [{"a": "1"}, {"a": "2"}]
        assert attributes([]) == "[]"


def attrs(*pairs: tuple[str, str]) -> bytes:
    """A definition with those attributes."""
    return Definition(AP, "manual", pairs).text().encode()


A0, D1, D2 = ("assign_adapter", "0"), ("assign_domain", "1"), ("assign_domain", "0x2")
C3 = ("assign_control_domain", "3")
ALLOWED = [
    device(a_matrix("0", "1-2")),
    device(a_matrix("0,7", "1,4")),
    device(a_matrix("7", "9")),
    attrs(A0, ("assign_adapter", "7\n"), D1),
    attrs(A0, D1, ("unassign_domain", "1"), D2),
    attrs(A0, D1, D2, ("unassign_domain", "+2\n")),
    attrs(A0, D1, ("assign_control_domain", "01"), ("unassign_control_domain", "0x1")),
    attrs(D1, A0, ("assign_control_domain", "200")),
    attrs(A0, D1, ("note", "x")),
    attrs(("ap_config", "0x81,0x4,0x0\n")),
    attrs(A0, D1, ("unassign_adapter", "0")),
]
"""Definitions whose queues are free: ap-check alone lets them start."""
WRITTEN = [
    ([A0, D1, D2], a_matrix("0", "1-2")),
    ([D2, ("assign_domain", "033"), A0, ("assign_adapter", "0x0A\n")], a_matrix("0,10", "2,27")),
    ([("assign_adapter", "+1"), D1, ("unassign_adapter", "7"), A0], a_matrix("0-1", "1")),
    ([A0, D1, D2, ("unassign_domain", "1\n")], a_matrix("0", "2")),
    ([A0, D1, ("unassign_adapter", "0x0"), ("assign_adapter", "1")], a_matrix("1", "1")),
    ([A0, D1, ("assign_control_domain", "4"), C3, ("unassign_control_domain", "3")],
     Matrix(IdSet([0]), IdSet([1]), IdSet([4]))),
    ([A0, ("ap_config", "0x4,4,\n")], a_matrix("1", "1")),
    ([("ap_config", "0x80\n0x4\n0x\n0xff"), D2], a_matrix("0", "1-2")),
    ([("ap_config", a_matrix("0,10", "27").as_ap_config())], a_matrix("0,10", "27")),
]  # fmt: skip
"""Attributes in the order in which mdevctl writes them, and what the device holds then."""


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(autouse=True)
def no_ap_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "AP_CHECK", "/nonexistent/ap-check")


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().err


def call(machine: Machine, event: str, action: str, text: bytes = b"", kind: str = AP, n: int = 1) -> int:
    return callout.main(words(event, action, kind, n), machine, text)


def notify(machine: Machine, action: str, n: int = 1, state: str = "success") -> int:
    return notifier.main(words("notify", action, n=n, state=state), machine)


def make(machine: Machine, matrix: Matrix, n: int = 1) -> None:
    machine.kernel.write(AP_MDEVS.create, mdev(n))
    machine.kernel.write(f"{AP_MDEVS.device(mdev(n))}/ap_config", matrix.as_ap_config())


def remove(machine: Machine, n: int = 1) -> None:
    machine.kernel.write(AP_MDEVS.remove(mdev(n)), "1")


class TestStart:
    """From the callout before a start to the notifier after the stop."""

    def test_queues_are_freed_and_come_home(self, machine: Machine, said: Callable[[], str]) -> None:
        before = machine.host
        assert call(machine, "pre", "start", device(ROW)) == 0
        assert said() == (
            f"apvfio: the mediated device {mdev(1)}: the host loses 2 collateral queues: 00.0004, 00.001b\n"
        )
        assert machine.ledger.claims[mdev(1)].process == parent()
        make(machine, ROW)
        assert call(machine, "post", "start", device(ROW)) == 0
        assert notify(machine, "start") == 0
        assert not machine.ledger.claims
        assert machine.ledger.pending
        assert call(machine, "pre", "stop", device(ROW)) == 0
        remove(machine)
        assert call(machine, "post", "stop", device(ROW)) == 0
        assert notify(machine, "stop") == 0
        assert machine.host == before
        assert said() == ""

    def test_a_start_that_fails_gives_all_back(self, machine: Machine, said: Callable[[], str]) -> None:
        before = machine.host
        call(machine, "pre", "start", device(ROW))
        said()
        assert notify(machine, "start", state="failure") == 0
        assert machine.host == before
        assert not machine.ledger.pending
        assert said() == ""

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (b"", "mdevctl's output about it cannot be used: it is not JSON."),
            (b"\xff{", "it is not JSON"),
            (b'{"start": "manual"}', "it has no mdev_type"),
            (device(ROW).replace(b'"0x0"', b'"9-1"'), "the definition's assign_adapter is '9-1'"),
            (attrs(("ap_config", "0xzz,0x0,0x0")), "the definition's ap_config is '0xzz,0x0,0x0', where"),
            (attrs(("ap_config", "0x80")), "the definition's ap_config is '0x80', where"),
            (device(a_matrix("7", "2")), "this host has no adapter 7"),
            (device(a_matrix("1", "27")), "01.001b is reserved for the host"),
            (device(a_matrix("10", "1")), f"APQN 10.1 already in use by {mdev(9)} (guest g9)"),
            (device(Matrix(IdSet([1]), IdSet(), IdSet([1]))), "At least one usage domain must be specified"),
        ],
    )
    def test_what_cannot_be_is_one_sentence_and_nothing_has_changed(
        self, machine: Machine, said: Callable[[], str], text: bytes, says: str
    ) -> None:
        machine.files.texts[POLICY] = '[reserve]\nqueues = ["01.001b"]\n'
        start_guest(machine, a_request("10", "1", 9))
        before = machine.snapshot()
        assert call(machine, "pre", "start", text) == 1
        line = said()
        assert line.startswith(f"apvfio: the mediated device {mdev(1)}: ")
        assert says in line
        assert line.count("\n") == 1
        notify(machine, "start", state="failure")
        assert machine.snapshot() == before

    @pytest.mark.parametrize("definition", ALLOWED)
    def test_what_ap_check_allows_is_allowed(
        self, machine: Machine, said: Callable[[], str], definition: bytes
    ) -> None:
        """Adapter 0 and the absent 7 are left free by the masks, and the policy reserves a queue of them."""
        machine.files.texts[POLICY] = '[reserve]\nqueues = ["00.0004"]\n'
        machine.kernel.write("bus/ap/apmask", "-0,-7")
        before = machine.snapshot()
        assert call(machine, "pre", "start", definition) == 0
        assert said() == ""
        assert machine.kernel.to_json() == before[0]
        refused = call(machine, "pre", "start", definition, n=2)
        assert refused == bool(machine.ledger.claims)
        notify(machine, "start", state="failure")
        assert (machine.kernel.to_json(), machine.ledger.claims) == (before[0], {})

    def test_an_absent_adapter_left_free_beside_one_that_the_host_has(
        self, machine: Machine, said: Callable[[], str]
    ) -> None:
        assert call(machine, "pre", "start", device(a_matrix("0,7", "1"))) == 1
        assert "this host has no adapter 7" in said()
        machine.kernel.write("bus/ap/apmask", "-7")
        assert call(machine, "pre", "start", device(a_matrix("0,7", "1"))) == 0
        assert not machine.host.masks_give_host(Apqn(0, 1))
        machine.kernel.write(AP_MDEVS.create, mdev(1))
        machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/ap_config", a_matrix("0,7", "1").as_ap_config())

    @pytest.mark.parametrize(("attributes_", "matrix"), WRITTEN)
    def test_a_definition_means_what_the_kernel_makes_of_it(
        self, machine: Machine, attributes_: list[tuple[str, str]], matrix: Matrix
    ) -> None:
        machine.kernel.write("bus/ap/apmask", "-0-255")
        machine.kernel.write(AP_MDEVS.create, mdev(1))
        for name, value in attributes_:
            machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/{name}", value)
        assert machine.host.mdevs[mdev(1)] == matrix
        assert matrix_of(parse(attrs(*attributes_).decode())) == matrix

    def test_devices_of_other_types_are_not_ours(self, machine: Machine) -> None:
        for event, action in (("pre", "start"), ("get", "attributes")):
            assert call(machine, event, action, device(ROW), kind="i915-GVTg_V5_4") == 2
        assert machine.sysfs.written == []

    def test_bad_words_and_faults_of_our_own_are_sentences(
        self, machine: Machine, said: Callable[[], str]
    ) -> None:
        assert callout.main(["-t"], machine, b"") == 1
        assert notifier.main(["-t"], machine) == 0
        assert said().count("\n") == 2
        machine.sysfs.exists = None  # type: ignore[assignment]
        assert call(machine, "pre", "start", device(ROW)) == 1
        assert notify(machine, "stop") == 0
        text = said()
        assert text.count("unexpected TypeError") == 2
        assert "Traceback" not in text

    def test_a_damaged_ledger_stops_the_start_only(self, machine: Machine, said: Callable[[], str]) -> None:
        machine.files.texts[LEDGER] = "{"
        assert call(machine, "pre", "start", device(ROW)) == 1
        assert call(machine, "pre", "define", device(ROW)) == 0
        assert notify(machine, "start", state="failure") == 0
        assert said().count("is damaged") == 2
        assert machine.files.texts == {LEDGER: "{"}


class TestGuests:
    """Guests whose devices mdevctl has its way with."""

    def test_a_device_stopped_under_its_guest(self, machine: Machine, said: Callable[[], str]) -> None:
        before = machine.host
        start_guest(machine, a_request("0", "1-2"))
        remove(machine)
        sentence = (
            f"apvfio: guest g1: its mediated device {mdev(1)} was removed, and the guest has lost "
            "00.0001, 00.0002. Shut the guest down and start it to get the queues back.\n"
        )
        assert call(machine, "post", "stop") == 0
        assert said() == sentence
        assert notify(machine, "stop") == 0
        assert said() == sentence
        assert machine.host == before
        assert not machine.ledger.leases
        assert notify(machine, "stop") == 0
        assert said() == ""

    def test_a_device_changed_under_its_guest(self, machine: Machine, said: Callable[[], str]) -> None:
        start_guest(machine, a_request("0", "1-2"))
        machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/ap_config", a_matrix("0", "1").as_ap_config())
        assert notify(machine, "modify") == 0
        assert (
            f"guest g1: its mediated device {mdev(1)} holds adapters 0, domains 1 "
            "instead of adapters 0, domains 1-2. Undo the change"
        ) in said()
        assert machine.ledger.leases

    @pytest.mark.parametrize("action", ["define", "modify"])
    def test_a_definition_that_says_something_else(
        self, machine: Machine, said: Callable[[], str], action: str
    ) -> None:
        start_guest(machine, a_request("0", "1-2"))
        machine.files.texts[AP_MDEVS.definition(mdev(1))] = device(a_matrix("1", "4")).decode()
        machine.sysfs.written.clear()
        assert notify(machine, action) == 0
        assert f"mdevctl's definition of its device {mdev(1)} has adapters 1, domains 4" in said()
        machine.files.texts[AP_MDEVS.definition(mdev(1))] = "{"
        assert notify(machine, action) == 0
        assert "cannot be used" in said()
        machine.files.texts[AP_MDEVS.definition(mdev(1))] = device(ROW).decode()
        assert notify(machine, action) == 0
        assert said() == ""
        assert machine.sysfs.written == []

    def test_a_return_that_a_foreign_device_delayed_is_done(self, machine: Machine) -> None:
        before = machine.host
        start_guest(machine, a_request("0", "1-2"))
        make(machine, a_matrix("0", "4"), 5)
        release_guest(machine, guest(1))
        assert machine.ledger.pending
        notify(machine, "define", 5)
        assert machine.ledger.pending
        remove(machine, 5)
        notify(machine, "stop", 5)
        assert machine.host == before


class TestWithoutApCheck:
    """What ap-check answers and compares where there is one."""

    def test_attributes(self, machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
        machine.kernel.write("bus/ap/apmask", "-10")
        make(machine, Matrix(IdSet([10]), IdSet([27, 2]), IdSet([3])))
        assert call(machine, "get", "attributes") == 0
        assert json.loads(capfd.readouterr().out) == [
            {"assign_adapter": "10"},
            {"assign_domain": "2"},
            {"assign_domain": "27"},
            {"assign_control_domain": "3"},
        ]
        assert call(machine, "get", "attributes", n=2) == 0
        assert capfd.readouterr().out == ""

    @pytest.mark.parametrize("action", ["define", "modify"])
    def test_definitions_that_start_by_themselves_are_compared(
        self, machine: Machine, said: Callable[[], str], action: str
    ) -> None:
        machine.files.texts[AP_MDEVS.definition(mdev(5))] = device(a_matrix("0", "2,4"), AUTO).decode()
        assert call(machine, "pre", action, device(ROW)) == 0
        assert said() == ""
        assert call(machine, "pre", action, device(ROW, AUTO)) == 1
        assert f"APQN 0.2 is defined for autostart by {mdev(5)}." in said()
        assert call(machine, "pre", action, device(a_matrix("1", "2"), AUTO), n=5) == 0
        assert said() == ""

    def test_stored_masks_are_no_obstacle_and_told_of(
        self, machine: Machine, said: Callable[[], str]
    ) -> None:
        machine.files.texts[RULE] = format_rule(StoredMasks(ALL_IDS - IdSet([10]), None))
        assert call(machine, "pre", "define", device(ROW, AUTO)) == 0
        assert said() == (
            "apvfio: APQN 0.1 (and 1 more) is not defined for vfio_ap-passthrough use by the persistent ap "
            "bus mask settings: the start of the device will free it.\n"
        )
        assert call(machine, "pre", "define", device(a_matrix("10", "1"), AUTO)) == 0
        assert said() == ""


AP_CHECK = """\
#!/bin/sh
printf '%s|' "$$" "$PPID" "$@"
cat
"""
AS_CALLOUT = """\
import sys
from memory_host import Machine
from apvfio.mdevctl import callout
from apvfio.store.policy_file import POLICY
callout.AP_CHECK = sys.argv[1]
machine = Machine()
machine.files.texts[POLICY] = sys.argv[2]
code = callout.main(sys.argv[3:], machine)
print("refused", len(machine.sysfs.written))
sys.exit(code)
"""


class TestWithApCheck:
    """The callout ends in ap-check: here a script that says how it was called."""

    @pytest.fixture
    def ap_check(self, tmp_path: Path) -> Path:
        script = tmp_path / "ap-check"
        script.write_text(AP_CHECK)
        script.chmod(0o755)
        return script

    def run(self, ap_check: Path, argv: list[str], text: bytes, policy: str = "") -> tuple[int, str, str]:
        with subprocess.Popen(
            [sys.executable, "-c", AS_CALLOUT, ap_check, policy, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            out, err = process.communicate(text, 60)
        started = f"{process.pid}|{os.getpid()}|"
        return process.returncode, out.decode().replace(started, "same process|"), err.decode()

    @pytest.mark.parametrize(("event", "action"), [("pre", "start"), ("post", "stop"), ("pre", "define")])
    def test_it_becomes_ap_check_with_the_same_words_and_text(
        self, ap_check: Path, event: str, action: str
    ) -> None:
        # Longer than a pipe holds.
        text = device(ROW) + b" " * 200_000
        code, out, _ = self.run(ap_check, words(event, action), text)
        assert code == 0
        assert out == "".join(f"{word}|" for word in ("same process", *words(event, action))) + text.decode()

    def test_a_refusal_never_reaches_it(self, ap_check: Path) -> None:
        code, out, err = self.run(ap_check, words("pre", "start"), device(a_matrix("7", "1")))
        assert (code, out) == (1, "refused 0\n")
        assert "this host has no adapter 7" in err

    def test_on_a_host_of_overrides_it_is_told_why_ap_check_will_refuse(self, ap_check: Path) -> None:
        policy = 'mechanism = "overrides"\n'
        code, out, err = self.run(ap_check, words("pre", "start"), device(ROW), policy)
        assert (code, out.partition("|")[0]) == (0, "same process")
        assert "ap-check knows masks only and will refuse, so nothing was freed" in err
        assert "apvfio mechanism masks" in err

    def test_after_the_action_ap_check_has_its_turn_whatever_happens(self, ap_check: Path) -> None:
        code, out, err = self.run(ap_check, words("post", "stop"), b"", "nonsense")
        assert (code, out.partition("|")[0]) == (0, "same process")
        assert err.count("\n") <= 1


BIG = b"x" * 300_000
QUESTIONS = [("get", "attributes"), ("pre", "define"), ("pre", "modify")]
OTHERS = [("pre", "stop"), ("pre", "undefine"), ("live", "modify"), ("notify", "start"), ("new", "event")]


class TestScripts:
    """The two scripts, with an interpreter that only says how it was called."""

    def script(self, tmp_path: Path, name: str, *, ap_check: bool = False) -> Path:
        for program in ("python3", "ap-check"):
            (tmp_path / program).write_text(f'#!/bin/sh\nprintf "%s|" {program} "$@"\ncat\nexit 7\n')
            (tmp_path / program).chmod(0o755)
        text = (HOOKS / name).read_text()
        replaced = {
            "python": tmp_path / "python3",
            "ledger": tmp_path / "ledger.json",
            "ap_check": tmp_path / ("ap-check" if ap_check else "none"),
        }
        for variable, value in replaced.items():
            text = re.sub(f"^{variable}=.*$", f"{variable}={value}", text, flags=re.MULTILINE)
        script = tmp_path / {"mdevctl-callout": "00-apvfio", "mdevctl-notifier": "50-apvfio"}[name]
        script.write_text(text)
        script.chmod(0o755)
        return script

    def run(self, script: Path, argv: list[str], text: bytes = b"{}") -> tuple[int, str]:
        with tempfile.TemporaryFile() as out:
            with subprocess.Popen([script, *argv], stdin=subprocess.PIPE, stdout=out) as process:
                assert process.stdin
                # As mdevctl 1.2 writes, which passes over a callout that closes its end too soon.
                process.stdin.write(text)
                process.stdin.close()
                code = process.wait(60)
            out.seek(0)
            return code, out.read().decode()

    def to(self, program: str, argv: list[str], text: str) -> tuple[int, str]:
        first = [program, "-I", "-m", "apvfio.mdevctl.callout"] if program == "python3" else [program]
        return 7, "".join(f"{word}|" for word in (*first, *argv)) + text

    @pytest.mark.parametrize("ap_check", [False, True])
    @pytest.mark.parametrize("event", ["pre", "post", "get", "notify", "live", "unheard-of"])
    def test_other_types_are_told_so_at_once(self, tmp_path: Path, event: str, ap_check: bool) -> None:
        script = self.script(tmp_path, "mdevctl-callout", ap_check=ap_check)
        (tmp_path / "ledger.json").write_text(mdev(1))
        assert self.run(script, words(event, "start", "nvidia-11"), BIG) == (2, "")

    @pytest.mark.parametrize("ap_check", [False, True])
    def test_a_start_needs_the_interpreter(self, tmp_path: Path, ap_check: bool) -> None:
        script = self.script(tmp_path, "mdevctl-callout", ap_check=ap_check)
        argv = words("pre", "start")
        assert self.run(script, argv, BIG) == self.to("python3", argv, BIG.decode())

    @pytest.mark.parametrize(("event", "action"), QUESTIONS)
    def test_what_ap_check_can_answer_it_does(self, tmp_path: Path, event: str, action: str) -> None:
        argv = words(event, action)
        script = self.script(tmp_path, "mdevctl-callout", ap_check=True)
        assert self.run(script, argv) == self.to("ap-check", argv, "{}")
        script = self.script(tmp_path, "mdevctl-callout")
        assert self.run(script, argv) == self.to("python3", argv, "{}")

    @pytest.mark.parametrize(("event", "action"), OTHERS)
    def test_the_rest_is_ap_checks_or_nobodys(self, tmp_path: Path, event: str, action: str) -> None:
        argv = words(event, action)
        script = self.script(tmp_path, "mdevctl-callout", ap_check=True)
        assert self.run(script, argv) == self.to("ap-check", argv, "{}")
        script = self.script(tmp_path, "mdevctl-callout")
        assert self.run(script, argv, BIG) == (0, "")

    def test_what_it_can_needs_no_interpreter(self, tmp_path: Path) -> None:
        argv = words("get", "capabilities")
        script = self.script(tmp_path, "mdevctl-callout", ap_check=True)
        assert self.run(script, argv) == self.to("ap-check", argv, "{}")
        code, out = self.run(self.script(tmp_path, "mdevctl-callout"), argv, BIG)
        assert code == 0
        assert json.loads(out)["supports"] == {
            "version": 2,
            "events": ["pre", "post", "get"],
            "actions": ["start", "stop", "define", "undefine", "modify", "attributes", "capabilities"],
        }

    def test_after_an_action_on_a_guests_device_there_may_be_news(self, tmp_path: Path) -> None:
        script = self.script(tmp_path, "mdevctl-callout", ap_check=True)
        argv = words("post", "stop")
        assert self.run(script, argv) == self.to("ap-check", argv, "{}")
        (tmp_path / "ledger.json").write_text(f'{{"mdev": "{mdev(2)}"}}')
        assert self.run(script, argv) == self.to("ap-check", argv, "{}")
        (tmp_path / "ledger.json").write_text(f'{{"mdev": "{mdev(1)}"}}')
        assert self.run(script, argv) == self.to("python3", argv, "{}")

    def test_the_notifier_looks_at_ap_devices_where_there_is_a_ledger(self, tmp_path: Path) -> None:
        script = self.script(tmp_path, "mdevctl-notifier")
        argv = words("notify", "stop")
        assert self.run(script, argv, b"") == (0, "")
        (tmp_path / "ledger.json").write_text("{}")
        for action in ("start", "stop", "modify", "define", "undefine"):
            argv = words("notify", action)
            called = ("python3", "-I", "-m", "apvfio.mdevctl.notifier", *argv)
            assert self.run(script, argv, b"") == (7, "".join(f"{word}|" for word in called))
        for others in (
            words("notify", "stop", "nvidia-11"),
            words("notify", "new"),
            words("pre", "stop"),
            [],
        ):
            assert self.run(script, others, b"") == (0, "")


@pytest.mark.parametrize(("who", "waits"), [(callout, True), (notifier, False)])
def test_the_age_of_mdevctl_counts_at_its_end_alone(
    who: ModuleType, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mdevctl starts many devices after each other: its hundredth waits for the lock like its first."""
    monkeypatch.setattr("apvfio.store.processes.age", lambda _: 1e6)
    monkeypatch.setattr("apvfio.store.system.RealSystem", partial(RealSystem, str(tmp_path)))
    system = who.this_machine()
    holder, let_go = ExitStack(), threading.Event()
    holder.enter_context(own_lock(str(tmp_path / OWN_LOCK)))

    def hold() -> None:
        let_go.wait(0.3)
        holder.close()

    threading.Thread(target=hold).start()
    if waits:
        with system.lock():
            return
    with pytest.raises(ApvfioError, match="held by"):
        system.lock().__enter__()
    let_go.set()
