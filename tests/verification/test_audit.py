"""What the audit of an installation finds where more came back than went, or an account stands below its floor."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.verification.databases import asked, spoil
from zentra.runtime.verification.forced import OwedByForce
from zentra.storage.audit import audit_installation
from zentra.storage.pool import open_pool

FORCE: Final = "forced_reversal"
POOR: Final = 5  # acme's: it was given 40 and spent them, and force took the 40 back
OF_A_JOURNAL: Final = "(select intent from postings where tenant = 'acme' and effective_at is not null limit 1)"
OF_A_TRANSFER: Final = "(select intent from postings where tenant = 'acme' and kind = 'post' order by 1 limit 1)"
OF_NOTHING: Final = (
    "(select intent from transitions where tenant = 'acme' and state = 'FAILED'"
    " and intent not in (select intent from postings) limit 1)"
)
FORCED: Final = "(select intent from postings where tenant = 'acme' and kind = 'forced_reversal')"


def found(url: str, letter: str) -> list[tuple[str, str]]:
    """Return where and why the audit objects under one letter."""

    async def run() -> list[tuple[str, str]]:
        async with await open_pool(url, name="test", connections_max=1) as pool:
            audit = await audit_installation(pool)
        return [(one.where, one.detail) for one in audit.breaches if one.letter == letter]

    return asyncio.run(run())


def back(intent: str, *, of: str, minor: str = "posted", ordinal: int = 30, kind: str = "reversal") -> str:
    """Return what adds a way back of one posting, as large as it was or as `minor` says."""
    return (
        f"insert into postings select {intent}, {ordinal}, tenant, '{kind}', credit, debit, currency, 0, {minor}, at,"
        f" hash from postings where intent = {of} and posted > 0 order by ordinal limit 1"
    )


def test_a_sound_ledger_has_nothing_of_either(ledger: str) -> None:
    assert (found(ledger, "L"), found(ledger, "C")) == ([], [])
    left = "select credits_posted - debits_posted from balances where account = 5"
    assert asked(ledger, left) < 0, "force took it below its floor, by as much as it may"


# fmt: off
GIVEN_BACK: list[tuple[str, list[str]]] = [
    ("the whole of a transfer once more",  [back(OF_A_TRANSFER, of=OF_A_TRANSFER, ordinal=n) for n in (30, 31)]),
    ("a leg of a journal twice",           [back(OF_A_JOURNAL, of=OF_A_JOURNAL, ordinal=n) for n in (30, 31)]),
    ("a leg of a journal by too much",     [back(OF_A_JOURNAL, of=OF_A_JOURNAL, minor="posted + 1")]),
    ("what force gave back, by request",   [back(FORCED, of=FORCED)]),
    ("what force gave back, by force",     [back(FORCED, of=FORCED, kind=FORCE)]),
    ("of an intent that posted nothing",   [back(OF_NOTHING, of=OF_A_TRANSFER)]),
]
# fmt: on


@pytest.mark.parametrize("statements", [row[1] for row in GIVEN_BACK], ids=[row[0] for row in GIVEN_BACK])
def test_more_given_back_than_was_posted_is_found(copy: str, statements: list[str]) -> None:
    spoil(copy, *statements)
    assert {detail for _, detail in found(copy, "L")} == {"more given back than was posted"}


def test_a_part_that_is_given_back_is_no_breach(copy: str) -> None:
    spoil(copy, back(OF_A_JOURNAL, of=OF_A_JOURNAL, minor="posted - 1"))
    assert found(copy, "L") == []


def moved(minor: int, days: int, *, out: bool = True, kind: str = "book") -> list[str]:
    """Return what moves money of the account, with its counters, so many days after all else."""
    sides, counter = (f"{POOR}, 1", "debits_posted") if out else (f"1, {POOR}", "credits_posted")
    return [
        f"insert into postings select gen_random_uuid(), 0, 'acme', '{kind}', {sides}, 'NGN', 0, {minor},"
        f" max(at) + interval '{days} days', '' from postings",
        f"update balances set {counter} = {counter} + {minor} where account = {POOR}",
    ]


# fmt: off
BELOW: list[tuple[str, list[str], bool]] = [
    ("one more is gone",                      moved(1, 1), True),
    ("a counter is off",                      moved(1, 1)[1:], True),
    ("it has recovered",                      moved(900, 1, out=False), False),
    ("it has recovered, and falls once more", [*moved(900, 1, out=False), *moved(880, 2)], True),
    ("a part is paid, and taken again",       [*moved(20, 1, out=False), *moved(20, 2)], True),
    ("a part is paid",                        moved(20, 1, out=False), False),
    ("force takes more",                      moved(7, 1, kind=FORCE), False),
    ("force, after it has recovered",         [*moved(40, 1, out=False), *moved(50, 2, kind=FORCE)], False),
]
# fmt: on


@pytest.mark.parametrize(("statements", "breach"), [row[1:] for row in BELOW], ids=[row[0] for row in BELOW])
def test_below_its_floor_is_only_who_owes_it_to_force(copy: str, statements: list[str], breach: bool) -> None:
    spoil(copy, *statements)
    assert [where for where, _ in found(copy, "C")] == ["acme poor"] * breach


def test_an_account_that_nothing_was_forced_from_stands_at_its_floor(copy: str) -> None:
    spoil(copy, "update balances set debits_posted = credits_posted + 1 where account = 2")
    assert [where for where, _ in found(copy, "C")] == ["acme merchant"]


# fmt: off
FOLDS: list[tuple[int, list[tuple[int, bool]], int]] = [
    # limit, changes and whether they are forced, what is owed in the end
    (0,      [(10, False), (-10, False)],                            0),
    (0,      [(10, False), (-40, True)],                             30),
    (0,      [(-40, True), (15, False)],                             25),
    (0,      [(-40, True), (15, False), (-15, False)],               25),
    (0,      [(-40, True), (50, False), (-60, False)],               0),
    (0,      [(-40, True), (-5, True)],                              45),
    (100,    [(-40, True)],                                          0),
    (100,    [(-90, False), (-40, True)],                            30),
    (100,    [(-90, False), (-40, True), (-5, False)],               30),
]
# fmt: on


@pytest.mark.parametrize(("limit", "changes", "owed"), FOLDS)
def test_what_force_leaves_owing_is_paid_back_by_what_comes_in(
    limit: int, changes: list[tuple[int, bool]], owed: int
) -> None:
    fold = OwedByForce(limit)
    for change, forced in changes:
        fold.take(change, forced=forced)
    assert fold.owed == owed
