# SPDX-License-Identifier: Apache-2.0
"""apvfio masks, where the host needs itself what would be taken: [keep] and [busy] of the policy."""

from __future__ import annotations

import pytest

from apvfio.engine.edit_masks import change_masks, plan_masks
from apvfio.model.errors import PolicyError
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.plan.mask_edit import MaskEdit
from apvfio.store.policy_file import POLICY
from host_usage import RULES, SAYS, use
from mask_changes import change, mask_edit
from memory_host import Machine

NEEDED = "01.0004"
BY_ROW, BY_COLUMN = ("-1", None), (None, "-4")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def refusal(machine: Machine, edit: MaskEdit) -> str:
    before = machine.kernel.to_json(), dict(machine.files.texts)
    with pytest.raises(PolicyError) as caught:
        change_masks(machine, edit, lambda _: None)
    assert (machine.kernel.to_json(), machine.files.texts) == before
    assert [str(queue) for queue in caught.value.queues] == [NEEDED]
    return str(caught.value)


@pytest.mark.parametrize("edits", [BY_ROW, BY_COLUMN])
@pytest.mark.parametrize("rule", RULES)
def test_what_the_host_uses_is_not_taken(
    machine: Machine, rule: str, edits: tuple[str | None, str | None]
) -> None:
    machine.files.texts[POLICY] = f'[busy]\n{rule} = "refuse"\n'
    use(machine, rule, NEEDED)
    assert refusal(machine, mask_edit(*edits)) == (
        f"the host would lose {NEEDED}, {SAYS[rule]}. Change other bits, or change /etc/apvfio/apvfio.toml."
    )
    change(machine, "-0,-10", "-1")
    assert machine.host.apmask == ALL_IDS - IdSet([0, 10])


@pytest.mark.parametrize("rule", RULES)
def test_or_that_is_warned_of(machine: Machine, rule: str) -> None:
    use(machine, rule, NEEDED)
    machine.files.texts[POLICY] = f'[busy]\n{rule} = "warn"\n'
    assert plan_masks(machine, mask_edit(*BY_ROW)).warnings == (f"the host loses {NEEDED}, {SAYS[rule]}",)
    machine.files.texts[POLICY] = f'[busy]\n{rule} = "ignore"\n'
    assert plan_masks(machine, mask_edit(*BY_ROW)).warnings == ()


def test_the_keys_of_volumes_need_no_policy(machine: Machine) -> None:
    use(machine, "zkey", NEEDED)
    assert SAYS["zkey"] in refusal(machine, mask_edit(*BY_ROW))


def test_what_the_host_does_not_have_it_cannot_lose(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-1")
    use(machine, "zkey", NEEDED)
    change(machine, None, "-4")
    assert machine.host.aqmask == ALL_IDS - IdSet([4])


def test_the_host_of_the_next_boot_needs_its_keys(machine: Machine) -> None:
    use(machine, "zkey", NEEDED)
    stored = mask_edit(*BY_COLUMN, active=False, persistent=True)
    assert refusal(machine, stored).startswith(
        f"the host of the next boot would lose {NEEDED}, {SAYS['zkey']}."
    )
    machine.files.texts[POLICY] = '[busy]\nzkey = "warn"\n'
    assert plan_masks(machine, stored).warnings[-1] == (
        f"the host of the next boot loses {NEEDED}, {SAYS['zkey']}"
    )


@pytest.mark.parametrize("rule", ["requests", "zcrypt-nodes"])
def test_what_ends_with_the_boot_has_no_say_in_it(machine: Machine, rule: str) -> None:
    use(machine, rule, NEEDED)
    machine.files.texts[POLICY] = f'[busy]\n{rule} = "refuse"\n[keep]\ncca = 4\n'
    change(machine, *BY_COLUMN, active=False, persistent=True)


def test_queues_of_a_mode_stay(machine: Machine) -> None:
    machine.files.texts[POLICY] = "[keep]\ncca = 4\n"
    with pytest.raises(
        PolicyError, match=r"the host would lose 01\.0004, leaving the host 3 queues of mode cca"
    ):
        change(machine, None, "-4")
    change(machine, "-0,-10", None)
