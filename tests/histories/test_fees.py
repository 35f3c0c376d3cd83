"""A history with fees is clean where they come with their events, and every planted fault of theirs is named."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.histories.test_planted import story, summed
from tests.histories.world import World
from zentra.bench.histories.checking import check
from zentra.bench.histories.model import Account, Commit, Ending, Posting

FEE = 7


class Charging(World):
    """Charges everybody but the house, on top of the amount."""

    def __init__(self) -> None:
        self.charges = False
        super().__init__()
        self.accounts["fees"] = Account(account_id="fees", currency="NGN", type="fee", guarded=False)
        self.counters["fees"] = [0, 0, 0, 0]
        self.charges = True

    def _objection(self, command: dict[str, Any], minor: int) -> str:
        return super()._objection(command, minor + FEE if self.charges else minor)

    def _next(self, uuid: str) -> Any:
        step = super()._next(uuid)
        if step is None or not step[4] or not self.charges:
            return step
        source = step[4][0][1]
        fees = {
            "reserve": ("fee_reserve", source, "fees", FEE, 0), "post": ("fee", source, "fees", -FEE, FEE),
            "release": ("fee_release", source, "fees", -FEE, 0), "book": ("fee", source, "fees", 0, FEE),
        }  # fmt: skip
        return (*step[:4], [*step[4], fees[step[4][0][0]]])


def charged() -> Ending:
    return story(Charging()).world.ending()


def changed(change: Callable[[Posting], list[Posting]]) -> Ending:
    ending = charged()
    commits = [Commit(one.events, tuple(new for row in one.postings for new in change(row))) for one in ending.commits]
    return summed(replace(ending, commits=commits))


def test_fees_are_held_posted_and_released_beside_the_money() -> None:
    crowd = story(Charging())
    ending = crowd.world.ending()
    kinds = {row.kind for commit in ending.commits for row in commit.postings}
    assert {"fee_reserve", "fee", "fee_release"} <= kinds
    assert check(crowd.calls, ending) == []
    assert ending.balances["fees"][3] == FEE


# fmt: off
PLANTS: list[tuple[str, Callable[[Posting], list[Posting]], str]] = [
    ("a fee that nobody ended",     lambda row: [] if row.kind == "fee_release" else [row],                   "still held"),
    ("a fee that a merchant takes", lambda row: [replace(row, credit="shop")] if row.kind == "fee" else [row], "neither of which takes fees"),
    ("more ended than is held",     lambda row: [replace(row, pending=-8)] if row.kind == "fee_release" else [row], "not charged"),
    ("a refund of nothing",         lambda row: [replace(row, kind="fee_refund", debit="fees", credit=row.debit, pending=0, posted=1)]
                                    if row.kind == "fee_release" else [row],                                  "was not charged"),
    ("a fee before its money",      lambda row: [replace(row, ordinal=row.ordinal - 1)] if row.kind == "fee" else [row], "follows"),
    ("a fee of another event",      lambda row: [replace(row, kind="fee_release")] if row.kind == "fee" else [row], "no event tells of it"),
]
# fmt: on


@pytest.mark.parametrize(("change", "sentence"), [row[1:] for row in PLANTS], ids=[row[0] for row in PLANTS])
def test_a_planted_fault_is_named(change: Callable[[Posting], list[Posting]], sentence: str) -> None:
    assert any(sentence in str(one) for one in check([], changed(change)))
