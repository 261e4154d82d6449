# SPDX-License-Identifier: Apache-2.0
"""The picture of a matrix, and tables, held against what they shall look like to the letter."""

from __future__ import annotations

import pytest

from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.owners import FREE, GUEST, HOST, MDEV, UNBOUND, Owner, owners
from apvfio.model.policy import Policy
from apvfio.model.text import count_queues, mask_bits, some_queues
from apvfio.view.columns import Column, bare_table, table
from apvfio.view.matrix_text import Look, matrix
from apvfio.view.picture import picture
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, mdev

ASCII = Look(utf8=False)


def nothing_reserved(_: Apqn) -> bool:
    return False


def drawn(found: dict[Apqn, Owner], look: Look = ASCII, policy: Policy | None = None) -> list[str]:
    return list(matrix(picture(found, policy.reserves if policy else nothing_reserved), look))


def ibms_host_with_all_owners() -> dict[Apqn, Owner]:
    host = a_host(
        apmask=ALL_IDS - IdSet([0, 10]),
        aqmask=ALL_IDS - IdSet([1]),
        mdevs={mdev(1): a_matrix("0,10", "1-2"), mdev(2): a_matrix("1", "1")},
    )
    del host.drivers[Apqn(10, 27)]
    host.drivers[Apqn(0, 4)] = ""
    return owners(host, a_ledger(a_lease("0,10", "1-2")))


def test_every_owner_has_its_mark() -> None:
    assert drawn(ibms_host_with_all_owners(), policy=Policy(frozenset([Apqn(1, 27)]))) == [
        "adapter  0001 0002 0004 001b",
        "                        27",
        "  00      a    a    ?    o",
        "  01      1    .    .    #",
        "  0a  10  a    a    o",
        "",
        "  a  guest g1                                   4 queues",
        "  1  mdev 00000002-0000-4000-8000-000000000000  1 queue",
        "  o  free                                       2 queues",
        "  .  host                                       2 queues",
        "  #  host, reserved by policy                   1 queue",
        "  ?  unbound                                    1 queue",
    ]


def test_a_terminal_that_can_gets_other_marks_at_the_same_places() -> None:
    plain = drawn(ibms_host_with_all_owners())
    assert drawn(ibms_host_with_all_owners(), Look()) == [
        line.replace(".", "·") if line.startswith(("  0", "  .")) else line
        for line in [
            line.replace(" o ", " ○ ").replace(" o", " ○")
            if line[:5] in ("  00 ", "  0a ", "  o  ")
            else line
            for line in plain
        ]
    ]


def test_color_adds_nothing_but_color() -> None:
    import re

    colored = drawn(ibms_host_with_all_owners(), Look(color=True))
    assert "\x1b[36ma\x1b[0m" in colored[2]
    assert "\x1b[31m?\x1b[0m" in colored[2]
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in colored] == drawn(
        ibms_host_with_all_owners(), Look(color=False)
    )


def test_a_reserved_queue_that_the_host_has_not_is_told_of() -> None:
    lines = drawn(ibms_host_with_all_owners(), policy=Policy(adapters=IdSet([10])))
    assert lines[4] == "  0a  10  a    a    o"
    assert lines[-1] == "  !  reserved by policy, but not with the host: 0a.0001, 0a.0002, 0a.0004"


def test_in_a_narrow_terminal_domains_are_read_downwards() -> None:
    assert drawn(ibms_host_with_all_owners(), ASCII._replace(width=28))[:7] == [
        "         0000",
        "         0000",
        "         0001",
        "adapter  124b",
        "  00     aa?o",
        "  01     1...",
        "  0a  10 aao",
    ]


def test_the_wide_form_is_used_as_soon_as_it_fits() -> None:
    assert drawn(ibms_host_with_all_owners(), ASCII._replace(width=29))[0] == "adapter  0001 0002 0004 001b"


def test_a_full_host_comes_in_blocks_of_columns() -> None:
    host = a_host(IdSet(range(16)), IdSet(range(85)), mdevs={mdev(3): a_matrix("3", "80-84")}, apmask=ALL_IDS)
    for domain in range(80, 85):
        host.drivers[Apqn(3, domain)] = "vfio_ap"
    lines = drawn(owners(host, NO_LEASES))
    assert max(map(len, lines)) == 80
    assert lines[2:5] == [
        "         00000000 00000000 11111111 11111111 22222222 22222222 33333333 33333333",
        "adapter  01234567 89abcdef 01234567 89abcdef 01234567 89abcdef 01234567 89abcdef",
        "  00     ........ ........ ........ ........ ........ ........ ........ ........",
    ]
    assert lines[20:26] == [
        "",
        "         00000000 00000000 00000",
        "         00000000 00000000 00000",
        "         44444444 44444444 55555",
        "adapter  01234567 89abcdef 01234",
        "  00     ........ ........ .....",
    ]
    assert lines[28] == "  03     ........ ........ 11111"
    assert sum(line[9:].count(".") for line in lines if line[2:4].strip()) == 16 * 85 - 5
    assert lines[-1] == "  .  host                                       1355 queues"


@pytest.mark.parametrize("width", [10, 16, 17, 18, 40])
def test_however_narrow_all_queues_are_drawn(width: int) -> None:
    found = dict.fromkeys(Matrix(IdSet(range(3)), IdSet(range(20))).queues(), HOST)
    lines = drawn(found, ASCII._replace(width=width))
    assert sum(line.count(".") for line in lines if line.startswith("  0")) == 60
    assert max(map(len, lines[:-1])) <= width


def test_guests_names_are_cleaned_and_cut() -> None:
    found = {Apqn(0, 0): Owner(GUEST, "\x1b[31mred\n" + "x" * 100, mdev(1))}
    legend = drawn(found)[-1]
    assert legend.startswith("  a  guest ?[31mred?xxx")
    assert len(legend) < 70


def test_guests_of_one_name_have_two_marks() -> None:
    found = {Apqn(0, 0): Owner(GUEST, "twin", mdev(1)), Apqn(0, 1): Owner(GUEST, "twin", mdev(2))}
    assert drawn(found)[1] == "  00      a    b"


def test_when_letters_run_out_marks_have_several_and_stand_apart() -> None:
    found = {Apqn(0, i): Owner(MDEV, mdev(i), mdev(i)) for i in range(12)}
    found |= {Apqn(1, i): Owner(GUEST, f"g{i:02}", mdev(100 + i)) for i in range(60)}
    lines = drawn(found, ASCII._replace(width=100))
    assert lines[4] == "  00     11 12 13 14 15 16 17 18  19 21 22 23"
    assert lines[5].startswith("  01     aa ab ac ad ae af ag ah  ai aj")
    legend = [line.split()[0] for line in lines if line.endswith(" 1 queue")]
    assert len(legend) == len(set(legend)) == 72


def test_no_queues() -> None:
    assert drawn({}) == ["no queues"]


def test_the_same_picture_whatever_the_order() -> None:
    found = ibms_host_with_all_owners() | {Apqn(2, 1): FREE, Apqn(2, 2): UNBOUND}
    assert drawn(dict(reversed(found.items()))) == drawn(found)


def test_a_table_as_lszcrypt_has_it() -> None:
    columns = [Column("CARD.DOM", 8), Column("TYPE", 5), Column("REQUESTS", 8, right=True)]
    assert list(table(columns, [["00", "CEX8A", "0"], ["00.0001", "-", "1234567890"]])) == [
        "CARD.DOM TYPE  REQUESTS",
        "-----------------------",
        "00       CEX8A        0",
        "00.0001  -     1234567890",
    ]
    assert list(table(columns, [["00", "CEX8A", "0"]], heading=False)) == ["00       CEX8A        0"]


def test_a_table_as_lszdev_has_it() -> None:
    assert list(bare_table(["A", "BB"], [["long", "-"], ["c", "x"]])) == ["A     BB", "long  -", "c     x"]


def test_queues_in_a_sentence() -> None:
    queues = list(Matrix(IdSet([10]), IdSet(range(1, 12))).queues())
    assert some_queues(queues[:2]) == "0a.0001, 0a.0002"
    assert some_queues(queues).endswith("0a.0008 and 3 more")
    assert some_queues(queues, 10).endswith("0a.000a and 1 more")
    assert [count_queues(n) for n in (0, 1, 2)] == ["0 queues", "1 queue", "2 queues"]


def test_mask_bits_in_a_sentence() -> None:
    assert mask_bits("apmask", IdSet([0, 10])) == "apmask 0,10 (00, 0a)"
    assert mask_bits("aqmask", IdSet([27])) == "aqmask 27 (001b)"
    assert mask_bits("aqmask", ALL_IDS).endswith("0006, 0007, ...)")
