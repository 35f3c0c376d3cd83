"""Monitors trip where a condition comes to hold, and nowhere else; figures are on the account's own side."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from zentra.runtime.ledger.book import AccountRef, Balance, Book, Objection, available
from zentra.runtime.ledger.monitors import CONDITIONS, FIGURES, Crossing, Monitor, crossings, figure

AT = datetime(2026, 4, 1, tzinfo=UTC)


def ref(number: int = 1, *monitors: Monitor, side: str = "credit", guarded: bool = True) -> AccountRef:
    return AccountRef(
        number, "acme", f"account-{number}", "customer", "NGN", side, guarded, overdraft_limit=1000, monitors=monitors
    )


# fmt: off
TRIPS = [  # when, limit, before, after, whether it trips
    ("below",    10, 10,  9, True),
    ("below",    10,  9,  8, False),   # it is so already
    ("below",    10, 11, 10, False),
    ("below",    10,  9, 11, False),
    ("at_most",  10, 11, 10, True),
    ("at_most",  10, 10,  9, False),
    ("at_least", 10,  9, 10, True),
    ("at_least", 10, 10, 11, False),
    ("at_least", 10, 10,  9, False),
    ("above",    10, 10, 11, True),
    ("above",    10, 11, 12, False),
    ("below",     0,  0, -1, True),
    ("above",    -5, -6, -4, True),
]
# fmt: on


@pytest.mark.parametrize(("when", "limit", "before", "after", "trips"), TRIPS)
@pytest.mark.parametrize("side", ["credit", "debit"])
def test_a_monitor_trips_once_per_crossing(
    when: str, limit: int, before: int, after: int, trips: bool, side: str
) -> None:
    def posted(minor: int) -> Balance:
        plus, minus = (f"{side}s_posted", "debits_posted" if side == "credit" else "credits_posted")
        return Balance(**{plus: max(minor, 0), minus: max(-minor, 0)})

    monitor = Monitor("m", "posted", when, limit)
    found = crossings(ref(1, monitor, side=side), posted(before), posted(after))
    assert found == ([Crossing("account-1", "NGN", monitor, after)] if trips else [])


def test_there_is_no_condition_without_a_row_here() -> None:
    assert {row[0] for row in TRIPS} == set(CONDITIONS)


@pytest.mark.parametrize("side", ["credit", "debit"])
def test_the_figures_of_an_account(side: str) -> None:
    balance = Balance(debits_pending=1, credits_pending=20, debits_posted=300, credits_posted=4000)
    sign = 1 if side == "credit" else -1
    shown = {name: figure(name, side, balance) for name in FIGURES}
    assert (shown["posted"], shown["pending"]) == (sign * 3700, sign * 19)
    assert shown["available"] == available(ref(side=side), balance)


def book(*refs: AccountRef) -> Book:
    return Book({one.id: Balance(credits_posted=100) for one in refs if one.guarded})


def test_a_command_of_the_ledger_is_looked_at_as_a_whole() -> None:
    """A post takes from the source and ends its hold: what is available stays, and nothing in between is told."""
    low = Monitor("low", "available", "below", 60)
    source, target = ref(1, low), ref(2, Monitor("rich", "posted", "at_least", 140))
    settlement = ref(3, Monitor("never", "posted", "above", 0), guarded=False)
    it = book(source, target)
    assert not isinstance(it.reserve(source, settlement, target, 40, AT, intent="a" * 32, ordinal=0), Objection)
    assert it.crossed == []
    assert not isinstance(it.reserve(source, settlement, target, 5, AT, intent="b" * 32, ordinal=0), Objection)
    assert [(one.monitor.id, one.figure) for one in it.crossed] == [("low", 55)]
    it.crossed.clear()
    assert not isinstance(it.post(source, settlement, target, 40, 40, AT, intent="a" * 32, ordinal=1), Objection)
    assert [(one.monitor.id, one.figure) for one in it.crossed] == [("rich", 140)]
    assert it.exact == {1, 2}


def test_a_refused_command_trips_nothing() -> None:
    source, target = ref(1, Monitor("low", "available", "below", 100)), ref(2)
    it = book(source, target)
    assert isinstance(it.book(source, target, 1101, AT, currency="NGN", intent="a" * 32, ordinal=0), Objection)
    assert (it.crossed, it.exact) == ([], set())


def test_a_decision_that_trips_a_monitor_stands_on_the_very_balance() -> None:
    """Whoever has more would not have crossed, or not now."""
    source, target = ref(1, Monitor("low", "available", "below", 100)), ref(2)
    it = book(source, target)
    believed = {1: Balance(credits_posted=100), 2: Balance(credits_posted=100)}
    assert not isinstance(it.book(source, target, 1, AT, currency="NGN", intent="a" * 32, ordinal=0), Objection)
    assert it.stands(believed, dict(believed))
    assert it.stands(believed, {**believed, 2: Balance(credits_posted=101)})
    assert not it.stands(believed, {**believed, 1: Balance(credits_posted=101)})
