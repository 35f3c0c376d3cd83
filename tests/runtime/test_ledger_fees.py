"""What is charged is written with its movement or not at all, in bounds, and the invariants hold it apart."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from zentra.runtime.ledger.book import AccountRef, Balance, Book, Charges, Leg, Objection, Posting
from zentra.runtime.ledger.invariants import Hold, audit, fees_kept_apart
from zentra.runtime.ledger.money import MINOR_MAX

AT = datetime(2026, 4, 1, tzinfo=UTC)
SOURCE = AccountRef(1, "acme", "source", "customer", "NGN", "credit", True)
TARGET = AccountRef(2, "acme", "target", "merchant", "NGN", "credit", True)
SETTLEMENT = AccountRef(3, "acme", "settlement-ngn", "settlement", "NGN", "credit", False)
FEE = AccountRef(4, "acme", "fee-ngn", "fee", "NGN", "credit", False)
MINT = AccountRef(5, "acme", "liquidity-ngn", "liquidity", "NGN", "credit", False)
REFS = (SOURCE, TARGET, SETTLEMENT, FEE, MINT)


def book(funds: int = 1_000) -> Book:
    return Book({SOURCE.id: Balance(credits_posted=funds), TARGET.id: Balance()})


def held(minor: int) -> Charges:
    return Charges((("fee_reserve", SOURCE, FEE, minor, 0),), minor)


CHANGED = Charges(objection=Objection("fee_changed"))
RESERVES: list[tuple[str, int, Charges, str]] = [
    ("to the last unit", 900, held(100), "done"),
    ("one unit short", 901, held(100), "insufficient_funds"),
    ("objected to, and funded", 900, CHANGED, "fee_changed"),
    ("objected to, not funded", 2000, CHANGED, "fee_changed"),
    ("amount before the fee", 0, CHANGED, "amount_zero"),
]


@pytest.mark.parametrize("rail", [True, False])
@pytest.mark.parametrize(("minor", "charges", "code"), [row[1:] for row in RESERVES], ids=[row[0] for row in RESERVES])
def test_funds_and_objections_of_a_charged_movement(minor: int, charges: Charges, code: str, rail: bool) -> None:
    made = book()
    done = (
        made.reserve(SOURCE, SETTLEMENT, TARGET, minor, AT, intent="i", ordinal=0, charges=charges)
        if rail
        else made.book(SOURCE, TARGET, minor, AT, currency="NGN", intent="i", ordinal=0, charges=charges)
    )
    if code == "done":
        assert isinstance(done, tuple)
        assert [posting.ordinal for posting in done] == [0, 1]
    else:
        assert isinstance(done, Objection)
        assert (done.code, made.balances, made.postings) == (code, book().balances, [])


def test_counters_are_bounded_by_all_legs_together() -> None:
    """Each leg alone would fit into 64 bits."""
    brimming = Book({SOURCE.id: Balance(credits_posted=MINOR_MAX, debits_posted=MINOR_MAX - 150), TARGET.id: Balance()})
    legs: tuple[Leg, ...] = (("fee", SOURCE, FEE, 0, 100), ("fee", TARGET, FEE, 0, 1))
    done = brimming.book(
        SOURCE, TARGET, 50 + 1, AT, currency="NGN", intent="i", ordinal=0, charges=Charges(legs, 0)
    )  # fmt: skip
    assert isinstance(done, Objection)
    assert (done.code, brimming.postings) == ("amount_overflow", [])


@pytest.mark.parametrize("rail", [True, False])
def test_two_legs_on_one_account_are_bounded_together(rail: bool) -> None:
    """The amount alone and its fee alone would fit into 64 bits."""
    deep = replace(SOURCE, overdraft_limit=MINOR_MAX)
    full = Balance(credits_posted=1_000, debits_posted=MINOR_MAX - 150, debits_pending=MINOR_MAX - 150)
    if rail:
        full.debits_posted = 0
        full.credits_posted = MINOR_MAX
        legs: tuple[Leg, ...] = (("fee_reserve", deep, FEE, 100, 0),)
        brimming = Book({deep.id: full, TARGET.id: Balance()})
        done = brimming.reserve(
            deep, SETTLEMENT, TARGET, 51, AT, intent="i", ordinal=0, charges=Charges(legs, 100)
        )  # fmt: skip
    else:
        full.debits_pending = 0
        legs = (("fee", deep, FEE, 0, 100),)
        brimming = Book({deep.id: full, TARGET.id: Balance()})
        done = brimming.book(
            deep, TARGET, 51, AT, currency="NGN", intent="i", ordinal=0, charges=Charges(legs, 100)
        )  # fmt: skip
    assert isinstance(done, Objection)
    assert (done.code, done.detail, brimming.postings) == ("amount_overflow", "source", [])


def test_a_payee_that_gets_its_fee_back_needs_the_less() -> None:
    path = (TARGET, SETTLEMENT, SOURCE)
    back: tuple[Leg, ...] = (("fee_refund", FEE, TARGET, 0, 30),)
    for funds, relief, code in ((70, 30, None), (69, 30, "insufficient_funds"), (70, 0, "insufficient_funds")):
        made = Book({SOURCE.id: Balance(), TARGET.id: Balance(credits_posted=funds)})
        done = made.reverse(path, 100, 100, 0, AT, intent="i", ordinal=3, fees=back, relief=relief)
        if code is None:
            assert not isinstance(done, Objection)
            assert [posting.kind for posting in done] == ["fee_refund", "reversal", "reversal"]
        else:
            assert isinstance(done, Objection)
            assert done.code == code


def lived(book_: Book) -> list[Posting]:
    """A charged transfer that succeeds and is given back."""
    made: list[Posting] = []
    for done in (
        book_.reserve(SOURCE, SETTLEMENT, TARGET, 500, AT, intent="i", ordinal=0, charges=held(20)),
        book_.post(SOURCE, SETTLEMENT, TARGET, 500, 500, AT, intent="i", ordinal=2,
                   fees=(("fee", SOURCE, FEE, -20, 20), ("fee", TARGET, FEE, 0, 5))),
        book_.reverse((TARGET, SETTLEMENT, SOURCE), 500, 500, 0, AT, intent="i", ordinal=6, relief=5,
                      fees=(("fee_refund", FEE, TARGET, 0, 5), ("fee_refund", FEE, SOURCE, 0, 20))),
    ):  # fmt: skip
        assert not isinstance(done, Objection), done
        made += done
    return made


def test_the_invariants_hold_over_a_charged_life() -> None:
    postings = lived(book())
    balances = {ref.id: Balance() for ref in REFS}
    for ref in REFS:
        for posting in postings:
            for side, name in ((posting.debit, "debits"), (posting.credit, "credits")):
                if side.id == ref.id:
                    for layer in ("pending", "posted"):
                        was = getattr(balances[ref.id], f"{name}_{layer}")
                        setattr(balances[ref.id], f"{name}_{layer}", was + getattr(posting, layer))
    lent = [AccountRef(1, "acme", "source", "customer", "NGN", "credit", True, overdraft_limit=1_000), *REFS[1:]]
    assert audit(lent, balances, postings, []) == []
    reserved = postings[:2]
    pending = {
        1: Balance(debits_pending=520), 3: Balance(credits_pending=500), 4: Balance(credits_pending=20),
    }  # fmt: skip
    assert audit(lent, pending, reserved, [Hold("i", SOURCE, 500), Hold("i", SOURCE, 20)]) == []
    assert [breach.letter for breach in audit(lent, pending, reserved, [Hold("i", SOURCE, 500)])] == ["D"]
    assert [breach.letter for breach in audit(lent, pending, [*reserved, reserved[1]], [])] != []


def test_a_fee_on_another_account_and_a_refund_of_nothing_are_breaches() -> None:
    def posting(kind: str, debit: AccountRef, credit: AccountRef, posted: int) -> Posting:
        return Posting("i", 0, "acme", kind, debit, credit, 0, posted, AT, b"")

    charged, back = posting("fee", SOURCE, FEE, 10), posting("fee_refund", FEE, SOURCE, 11)
    assert fees_kept_apart([charged, posting("fee_refund", FEE, SOURCE, 10)]) == []
    assert [breach.letter for breach in fees_kept_apart([charged, back])] == ["L"]
    assert [breach.letter for breach in fees_kept_apart([posting("fee", SOURCE, TARGET, 10)])] == ["A"]
    assert [breach.letter for breach in fees_kept_apart([charged, posting("fee_refund", TARGET, SOURCE, 1)])] == ["A"]
