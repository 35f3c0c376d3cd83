"""Any commands in any order leave a ledger that an independent auditor cannot fault, and `invariants` agrees."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from tests.auditor import AccountFile, Claim, Row, audit
from zentra.runtime.ledger import invariants
from zentra.runtime.ledger.book import AccountRef, Balance, Book, Objection, Posting, available
from zentra.runtime.ledger.money import MINOR_MAX

AT = datetime(2026, 4, 1, tzinfo=UTC)


def _account(number: int, name: str, currency: str, **changes: Any) -> AccountRef:
    base = AccountRef(number, "acme", name, "customer", currency, "credit", guarded=True)
    return structs.replace(base, **changes)


# One hot account of each kind is drawn far more often than chance would have it.
ACCOUNTS: Final = (
    _account(1, "@settlement/NGN", "NGN", type="settlement", guarded=False),
    _account(2, "@settlement/USD", "USD", type="settlement", guarded=False),
    _account(3, "hot", "NGN"),
    _account(4, "quiet", "NGN"),
    _account(5, "lent", "NGN", overdraft_limit=500),
    _account(6, "merchant", "NGN", type="merchant"),
    _account(7, "frozen", "NGN", status="frozen"),
    _account(8, "closed", "NGN", status="closed"),
    _account(9, "cash", "NGN", normal_side="debit"),
    _account(10, "dollars", "USD"),
    _account(11, "dollar-merchant", "USD", type="merchant"),
    _account(12, "liquidity", "NGN", type="liquidity", guarded=False),
)
BY_ID: Final = {ref.id: ref for ref in ACCOUNTS}
FILES: Final = [
    AccountFile(ref.id, ref.tenant, ref.currency, ref.normal_side, -ref.overdraft_limit if ref.guarded else None)
    for ref in ACCOUNTS
]
SETTLEMENTS: Final = {"NGN": ACCOUNTS[0], "USD": ACCOUNTS[1]}

ANY: Final = st.sampled_from([*ACCOUNTS, *[ACCOUNTS[2]] * 8, *[ACCOUNTS[5]] * 4])
SMALL: Final = st.integers(-1, 300)
MINOR: Final = st.one_of(SMALL, SMALL, SMALL, st.sampled_from([0, 1, 1000, MINOR_MAX, MINOR_MAX + 1]))
NEAR: Final = st.sampled_from([0, 0, 0, 1, -1, None])  # beside all that is there; None for any amount


class Intent:
    """What the ledger's caller remembers of an intent: what it holds, what it moved and what it gave back."""

    def __init__(self, name: str, source: AccountRef, destination: AccountRef, *, booked: bool) -> None:
        self.name, self.source, self.destination, self.booked = name, source, destination, booked
        self.held = self.posted = self.given_back = self.ordinal = 0

    @property
    def way_back(self) -> tuple[AccountRef, ...]:
        settlement = SETTLEMENTS[self.source.currency]
        return (self.destination, self.source) if self.booked else (self.destination, settlement, self.source)

    def absorb(self, done: tuple[Posting, ...]) -> None:
        self.ordinal += len(done)
        self.held += sum(posting.pending for posting in done)
        self.posted += sum(posting.posted for posting in done if posting.kind in ("post", "book"))
        self.given_back += max((posting.posted for posting in done if posting.kind == "reversal"), default=0)


class LedgerMachine(RuleBasedStateMachine):
    """Random commands against one book; after each the auditor has its say."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book({ref.id: Balance() for ref in ACCOUNTS if ref.guarded})
        self.intents: list[Intent] = []
        # Where money comes from at the start: accounts without a floor owe it.
        for number, (name, amount) in enumerate([(3, 1000), (4, 300), (8, 200), (7, 200)]):
            self.pay_in(BY_ID[name], amount, f"opening{number}")

    def pay_in(self, ref: AccountRef, minor: int, name: str) -> None:
        open_ref = structs.replace(ref, status="open")  # it was open when the money came
        done = self.book.book(BY_ID[12], open_ref, minor, AT, currency="NGN", intent=name, ordinal=0)
        assert not isinstance(done, Objection)

    def run(self, intent: Intent, command: Callable[[], tuple[Posting, ...] | Objection]) -> None:
        """Run one command of an intent; whatever refuses it must leave no trace (F)."""
        balances, changes = copy.deepcopy(self.book.balances), copy.deepcopy(self.book.changes)
        count = len(self.book.postings)
        done = command()
        if isinstance(done, Objection):
            assert invariants.refusal_changed_nothing(intent.name, balances, self.book.balances) == []
            assert (self.book.balances, self.book.changes) == (balances, changes)
            assert len(self.book.postings) == count
        else:
            assert done == tuple(self.book.postings[count:])
            assert done
            intent.absorb(done)

    @rule(source=ANY, destination=ANY, minor=MINOR)
    def reserve(self, source: AccountRef, destination: AccountRef, minor: int) -> None:
        intent = Intent(f"i{len(self.intents)}", source, destination, booked=False)
        settlement = SETTLEMENTS[source.currency]
        self.intents.append(intent)
        self.run(
            intent,
            lambda: self.book.reserve(source, settlement, destination, minor, AT, intent=intent.name, ordinal=0),
        )

    @rule(source=ANY, destination=ANY, minor=MINOR, currency=st.sampled_from(["NGN", "NGN", "NGN", "USD"]))
    def transfer(self, source: AccountRef, destination: AccountRef, minor: int, currency: str) -> None:
        intent = Intent(f"i{len(self.intents)}", source, destination, booked=True)
        self.intents.append(intent)
        self.run(
            intent,
            lambda: self.book.book(
                source, destination, minor, AT, currency=currency, intent=intent.name, ordinal=0
            ),
        )  # fmt: skip

    @rule(pick=st.randoms(use_true_random=False), beside=NEAR, minor=MINOR)
    def post(self, pick: Any, beside: int | None, minor: int) -> None:
        intent = self.some_intent(pick)
        if intent is not None and not intent.booked:
            amount = minor if beside is None else intent.held + beside
            settlement = SETTLEMENTS[intent.source.currency]
            self.run(
                intent,
                lambda: self.book.post(
                    intent.source, settlement, intent.destination, amount, intent.held, AT,
                    intent=intent.name, ordinal=intent.ordinal,
                ),
            )  # fmt: skip

    @rule(pick=st.randoms(use_true_random=False))
    def release(self, pick: Any) -> None:
        intent = self.some_intent(pick)
        if intent is not None and not intent.booked:
            settlement = SETTLEMENTS[intent.source.currency]
            self.run(
                intent,
                lambda: self.book.release(
                    intent.source, settlement, intent.held, AT, intent=intent.name, ordinal=intent.ordinal
                ),
            )

    @rule(pick=st.randoms(use_true_random=False), beside=NEAR, minor=MINOR)
    def reverse(self, pick: Any, beside: int | None, minor: int) -> None:
        intent = self.some_intent(pick)
        if intent is not None:
            amount = minor if beside is None else intent.posted - intent.given_back + beside
            self.run(
                intent,
                lambda: self.book.reverse(
                    intent.way_back, amount, intent.posted, intent.given_back, AT,
                    intent=intent.name, ordinal=intent.ordinal,
                ),
            )  # fmt: skip

    def some_intent(self, pick: Any) -> Intent | None:
        """Prefer an intent that holds or has moved something, so that most commands have something to do."""
        live = [intent for intent in self.intents if intent.held or intent.posted > intent.given_back]
        pool = live if live and pick.random() < 0.8 else self.intents
        return pick.choice(pool) if pool else None

    @invariant()
    def the_auditor_has_no_complaint(self) -> None:
        claims = {key: Claim(*structs.astuple(balance)) for key, balance in self.claimed().items()}
        rows = [
            Row(
                p.intent,
                p.tenant,
                p.debit.currency,
                p.debit.id,
                p.credit.id,
                p.pending,
                p.posted,
                forced=p.kind == "forced_reversal",
            )
            for p in self.book.postings
        ]
        holds = {(intent.name, intent.source.id): intent.held for intent in self.intents if intent.held}
        assert audit(FILES, rows, claims, holds) == []

    @invariant()
    def the_invariants_hold(self) -> None:
        holds = [invariants.Hold(intent.name, intent.source, intent.held) for intent in self.intents if intent.held]
        assert invariants.audit(ACCOUNTS, self.claimed(), self.book.postings, holds) == []

    @invariant()
    def what_is_written_is_what_the_counters_show(self) -> None:
        for ref in ACCOUNTS:
            if ref.guarded:
                assert self.book.balances[ref.id] == self.book.changes.get(ref.id, Balance())
            else:
                assert ref.id not in self.book.balances

    @invariant()
    def nothing_is_given_back_twice(self) -> None:
        for intent in self.intents:
            assert 0 <= intent.given_back <= intent.posted
            assert intent.held >= 0

    @invariant()
    def nothing_sticks_to_a_settlement_account(self) -> None:
        passed: dict[str, int] = {}
        for p in self.book.postings:
            if p.kind in ("post", "settle"):
                passed[p.intent] = passed.get(p.intent, 0) + (p.posted if p.kind == "post" else -p.posted)
        assert not any(passed.values())

    def claimed(self) -> dict[int, Balance]:
        """Return what the ledger would store: it began with nothing, so the changes are the balances."""
        return dict(self.book.changes)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_a_hot_account_is_drained_in_order_and_never_below_its_floor(amounts: list[int]) -> None:
    book, left = Book({3: Balance(credits_posted=1000), 6: Balance()}), 1000
    for number, minor in enumerate(amounts):
        done = book.reserve(BY_ID[3], BY_ID[1], BY_ID[6], minor, AT, intent=f"i{number}", ordinal=0)
        assert isinstance(done, Objection) == (minor > left)
        left -= 0 if isinstance(done, Objection) else minor
        assert available(BY_ID[3], book.balances[3]) == left


def _posting(number: int, debit: int, credit: int, pending: int, posted: int) -> Posting:
    refs = BY_ID[debit], BY_ID[credit]
    return Posting(f"i{number}", 0, "acme", "test", *refs, pending, posted, AT, b"")


PAID = [_posting(0, 12, 3, 0, 100), _posting(1, 3, 1, 60, 0)]
SOUND = {12: Balance(debits_posted=100), 3: Balance(debits_pending=60, credits_posted=100), 1: Balance(0, 60)}
HELD = [invariants.Hold("i1", BY_ID[3], 60)]

BOTH_SIDES_OFF = {**SOUND, 12: Balance(debits_posted=101), 3: Balance(debits_pending=60, credits_posted=101)}
OVERDRAWN = {**SOUND, 12: Balance(0, 0, 100, 41), 3: Balance(60, 0, 41, 100)}

# fmt: off
FAULTS: list[tuple[str, dict[int, Balance], list[Posting], list[invariants.Hold], str]] = [
    ("nothing",            SOUND,                      PAID,                               HELD,           ""),
    ("a lost counter",     {**SOUND, 12: Balance()},   PAID,                               HELD,           "AB"),
    ("both sides off",     BOTH_SIDES_OFF,             PAID,                               HELD,           "B"),
    ("below the floor",    OVERDRAWN,                  PAID,                               HELD,           "BC"),
    ("a forgotten hold",   SOUND,                      PAID,                               [],             "D"),
    ("a hold too many",    SOUND,                      PAID,                               [*HELD, *HELD], "D"),
    ("a lost posting",     SOUND,                      PAID[1:],                           HELD,           "B"),
    ("too much released",  SOUND,                      [*PAID, _posting(1, 3, 1, -61, 0)], HELD,           "BE"),
    ("a second hold",      SOUND,                      [*PAID, _posting(1, 3, 1, 1, 0)],   HELD,           "BE"),
    ("two currencies",     SOUND,                      [*PAID, _posting(2, 3, 10, 0, 1)],  HELD,           "AB"),
    ("one account",        SOUND,                      [*PAID, _posting(2, 3, 3, 0, 1)],   HELD,           "AB"),
    ("an empty posting",   SOUND,                      [*PAID, _posting(2, 3, 1, 0, 0)],   HELD,           "A"),
]
# fmt: on


@pytest.mark.parametrize(("name", "balances", "postings", "holds", "letters"), FAULTS)
def test_each_invariant_sees_its_own_breach(
    name: str, balances: dict[int, Balance], postings: list[Posting], holds: list[invariants.Hold], letters: str
) -> None:
    breaches = invariants.audit(ACCOUNTS, balances, postings, holds)
    assert "".join(sorted({breach.letter for breach in breaches})) == letters, name


def test_a_refusal_that_changed_something_is_a_breach() -> None:
    before, after = {3: Balance()}, {3: Balance(debits_pending=1)}
    assert invariants.refusal_changed_nothing("i", before, before) == []
    assert [breach.letter for breach in invariants.refusal_changed_nothing("i", before, after)] == ["F"]


def test_balances_are_the_fold_at_any_past_point() -> None:
    for length in range(len(PAID) + 1):
        assert invariants.balance_is_fold(BY_ID, invariants.fold(PAID[:length]), PAID[:length]) == []
