"""Transactions of many postings over a book: the order of objections, two at a time, and the sum of what they leave."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.ledger.book import AccountRef, Balance, Book, Objection, available, posting_hash
from zentra.runtime.ledger.journal import Bound, Dated, Move, give_back, transact, unmet
from zentra.runtime.ledger.money import MINOR_MAX

AT = datetime(2026, 4, 1, 12, tzinfo=UTC)


def ref(number: int, name: str, **changes: Any) -> AccountRef:
    fields: dict[str, Any] = {"type": "customer", "currency": "NGN", "normal_side": "credit", "guarded": True}
    return AccountRef(number, "acme", name, **(fields | changes))


RICH, POOR, SHOP = ref(1, "rich"), ref(2, "poor"), ref(3, "shop")
CLOSED, FROZEN = ref(4, "closed", status="closed"), ref(5, "frozen", status="frozen")
DOLLARS, POOL = ref(6, "dollars", currency="USD"), ref(7, "pool", type="liquidity", guarded=False)
FULL = ref(8, "full")
CASH = ref(9, "cash", normal_side="debit")


def book() -> Book:
    found = {one.id: Balance() for one in (RICH, POOR, SHOP, CLOSED, FROZEN, DOLLARS, CASH)}
    found[RICH.id].credits_posted = 1_000
    found[FULL.id] = Balance(debits_posted=MINOR_MAX, credits_posted=MINOR_MAX)
    return Book(found)


def leg(source: AccountRef | None, destination: AccountRef | None, minor: int, currency: str = "NGN") -> Move:
    return Move("book", (source, destination), 0, minor, currency)


# One fault each, in the documented order: of any two the earlier one is the answer.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("amount_zero", {"move": leg(RICH, SHOP, 0)}),
    ("accounts_must_be_different", {"move": leg(SHOP, SHOP, 1)}),
    ("account_not_found", {"move": leg(RICH, None, 1)}),
    ("account_closed", {"move": leg(RICH, CLOSED, 1)}),
    ("account_frozen", {"move": leg(FROZEN, SHOP, 1)}),
    ("currency_mismatch", {"move": leg(RICH, DOLLARS, 1)}),
    ("effective_at_in_future", {"dated": Dated(AT + timedelta(hours=1), AT)}),
    ("period_closed", {"dated": Dated(AT - timedelta(hours=1), AT, AT)}),
    ("balance_condition_unreadable", {"bound": Bound(POOL, "posted", 0, None)}),
    ("insufficient_funds", {"move": leg(POOR, SHOP, 1)}),
    ("balance_condition_failed", {"bound": Bound(SHOP, "posted", 10**6, None)}),
    ("amount_overflow", {"move": leg(POOL, FULL, 1)}),
]


def run(*faults: dict[str, Any]) -> str:
    """Return the answer to a sound transaction with these faults in it; one that is refused leaves no trace."""
    made = book()
    before = copy.deepcopy(made.balances)
    moves = [leg(RICH, SHOP, 5), *(fault["move"] for fault in faults if "move" in fault)]
    bounds = [fault["bound"] for fault in faults if "bound" in fault]
    dated = next((fault["dated"] for fault in faults if "dated" in fault), None)
    done = transact(made, moves, AT, intent="i", ordinal=0, bounds=bounds, dated=dated)
    if isinstance(done, Objection):
        assert (made.balances, made.changes, made.postings) == (before, {}, [])
        return done.code
    return "done"


def test_a_transaction_without_a_fault_is_booked() -> None:
    assert run() == "done"


@pytest.mark.parametrize(("code", "fault"), FAULTS, ids=[code for code, _ in FAULTS])
def test_each_fault_has_its_code(code: str, fault: dict[str, Any]) -> None:
    assert run(fault) == code


PAIRS = [pair for pair in combinations(FAULTS, 2) if not ("dated" in pair[0][1] and "dated" in pair[1][1])]


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "the later one first"])
@pytest.mark.parametrize("pair", PAIRS, ids=[f"{one[0]}+{other[0]}" for one, other in PAIRS])
def test_of_two_faults_the_earlier_one_is_the_answer(pair: Any, turned: bool) -> None:
    (code, one), (_, other) = pair
    assert run(*((other, one) if turned else (one, other))) == code


@pytest.mark.parametrize(("minor", "code"), [(-1, "amount_negative"), (2**63, "amount_overflow"), (0, "amount_zero")])
def test_an_amount_is_looked_at_before_all_else(minor: int, code: str) -> None:
    done = transact(book(), [leg(None, None, 1), leg(SHOP, SHOP, minor)], AT, intent="i", ordinal=0)
    assert isinstance(done, Objection)
    assert done.code == code


# fmt: off
SUMS: list[tuple[list[Move], str]] = [
    ([leg(RICH, SHOP, 600), leg(RICH, POOR, 400)],                             "done"),
    ([leg(RICH, SHOP, 600), leg(RICH, POOR, 401)],                             "insufficient_funds"),
    ([leg(POOR, SHOP, 9), leg(RICH, POOR, 9)],                                 "done"),
    ([leg(POOR, SHOP, 9), leg(RICH, POOR, 8)],                                 "insufficient_funds"),
    ([leg(POOR, SHOP, 9), leg(SHOP, POOR, 9)],                                 "done"),   # nothing is left less
    ([leg(POOL, CASH, 5)],                                                     "insufficient_funds"),  # a credit takes
    ([leg(POOL, CASH, 5), leg(CASH, POOL, 5)],                                 "done"),
    ([leg(POOL, RICH, MINOR_MAX - 1_000), leg(POOL, RICH, 1)],                 "amount_overflow"),  # only together
]
# fmt: on


@pytest.mark.parametrize(("moves", "code"), SUMS)
def test_funds_and_counters_are_judged_by_all_postings_together(moves: list[Move], code: str) -> None:
    for order in (moves, moves[::-1]):
        done = transact(book(), order, AT, intent="i", ordinal=0)
        assert (done.code if isinstance(done, Objection) else "done") == code


@given(
    st.lists(
        st.tuples(
            st.sampled_from([RICH, POOR, SHOP, POOL]), st.sampled_from([RICH, POOR, SHOP, POOL]), st.integers(1, 700)
        ),
        min_size=1, max_size=8,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_legs_changes_nothing_and_a_reversal_takes_it_all_back(
    legs: list[tuple[AccountRef, AccountRef, int]], random: Any
) -> None:
    moves = [leg(*one) for one in legs if one[0] is not one[1]]
    if not moves:
        return
    made, other = book(), book()
    shuffled = moves[:]
    random.shuffle(shuffled)
    done = transact(made, moves, AT, intent="i", ordinal=0)
    turned = transact(other, shuffled, AT, intent="i", ordinal=0)
    assert isinstance(done, Objection) == isinstance(turned, Objection)
    assert made.balances == other.balances
    if isinstance(done, Objection):
        return
    assert all(available(one, made.balances[one.id]) >= 0 for one in (RICH, POOR, SHOP))
    back = [Move("reversal", (m.named[1], m.named[0]), 0, m.posted, "NGN") for m in reversed(moves)]
    given_back = give_back(made, back, 10, 10, 0, AT, intent="i", ordinal=len(moves))
    assert not isinstance(given_back, Objection)
    for one in (RICH, POOR, SHOP):
        assert available(one, made.balances[one.id]) == available(one, book().balances[one.id])


# fmt: off
REVERSES: list[tuple[int, int, int, str]] = [
    # minor, posted, given back, code
    (100,    100,    0,          "done"),
    (0,      100,    0,          "amount_zero"),
    (-1,     100,    0,          "amount_negative"),
    (2**63,  100,    0,          "amount_overflow"),
    (100,    0,      0,          "transaction_not_found"),
    (100,    100,    100,        "already_reversed"),
    (101,    100,    0,          "exceeds_original"),
    (99,     100,    0,          "reversal_indivisible"),
    (0,      0,      0,          "amount_zero"),
    (101,    100,    100,        "already_reversed"),
]
# fmt: on


@pytest.mark.parametrize(("minor", "posted", "given_back", "code"), REVERSES)
@pytest.mark.parametrize("short", [False, True])
def test_giving_back_answers_with_the_first_objection(
    minor: int, posted: int, given_back: int, code: str, short: bool
) -> None:
    payee = POOR if short else RICH
    moves = [Move("reversal", (payee, POOL), 0, 70, "NGN"), Move("reversal", (RICH, SHOP), 0, 30, "NGN")]
    done = give_back(book(), moves, minor, posted, given_back, AT, intent="i", ordinal=2)
    due = "insufficient_funds" if short and code == "done" else code
    assert (done.code if isinstance(done, Objection) else "done") == due


def test_what_is_forced_takes_a_payee_below_its_limit_and_not_beyond_64_bits() -> None:
    made = book()
    moves = [Move("forced_reversal", (POOR, POOL), 0, 70, "NGN"), Move("forced_reversal", (SHOP, RICH), 0, 30, "NGN")]
    assert not isinstance(give_back(made, moves, 100, 100, 0, AT, intent="i", ordinal=0, forced=True), Objection)
    assert (available(POOR, made.balances[POOR.id]), available(SHOP, made.balances[SHOP.id])) == (-70, -30)
    assert made.weighed == {}
    moves = [Move("forced_reversal", (FULL, POOL), 0, 1, "NGN"), Move("forced_reversal", (POOL, FULL), 0, 1, "NGN")]
    done = give_back(made, moves, 1, 1, 0, AT, intent="i", ordinal=0, forced=True)
    assert isinstance(done, Objection)
    assert done.code == "amount_overflow"


def test_a_decision_on_a_condition_stands_on_exactly_what_was_believed() -> None:
    made = book()
    believed = copy.deepcopy(made.balances)
    done = transact(made, [leg(RICH, POOR, 5)], AT, intent="i", ordinal=0, bounds=[Bound(SHOP, "posted", None, 10)])
    assert not isinstance(done, Objection)
    assert made.exact == {SHOP.id}
    assert made.stands(believed, copy.deepcopy(believed))
    for changed, stands in ((SHOP, False), (RICH, True), (POOR, True)):
        actual = copy.deepcopy(believed)
        actual[changed.id].credits_posted += 1
        assert made.stands(believed, actual) is stands, changed


def test_a_condition_on_what_is_never_read_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        unmet(book(), [Bound(POOL, "posted", 0, None)], {})


def test_the_hash_of_a_dated_posting_is_of_its_own_version() -> None:
    base = ("acme", "i", 0, "book", RICH, SHOP, 0, 5)
    dates = [None, AT, AT + timedelta(microseconds=1)]
    assert len({posting_hash(*base, date) for date in dates}) == 3
    named_two = ("2", *base[1:])  # no tenant can be called so, and if one were its hashes would differ
    assert posting_hash(*named_two) not in {posting_hash(*base, date) for date in dates}
    assert posting_hash(*base) == posting_hash(*base, None)
