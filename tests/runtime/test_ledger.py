"""The ledger's commands: a table that ends in the expected code, and the order in which objections stand."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from tests.auditor import AccountFile, Claim, Row, audit
from zentra.runtime.ledger.book import AccountRef, Balance, Book, Objection, Posting, available, posting_hash
from zentra.runtime.ledger.money import MINOR_MAX

AT = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)


def _ref(number: int, account_id: str, **changes: object) -> AccountRef:
    fields: dict[str, object] = {
        "id": number,
        "tenant": "acme",
        "account_id": account_id,
        "type": "customer",
        "currency": "NGN",
        "normal_side": "credit",
        "guarded": True,
    }
    return AccountRef(**{**fields, **changes})  # type: ignore[arg-type]  # a table of fields, checked by use


SETTLEMENT = _ref(1, "@settlement/NGN", type="settlement", guarded=False)
FUNDED = _ref(2, "funded")  # 1000 to its credit
EMPTY = _ref(3, "empty")
CLOSED = _ref(4, "closed", status="closed")  # 1000 too: it is refused for being closed
FROZEN = _ref(5, "frozen", status="frozen")
DOLLARS = _ref(6, "dollars", currency="USD")  # 1000 cents
LENT = _ref(7, "lent", overdraft_limit=500)  # nothing to its credit, but may go to -500
CASH = _ref(8, "cash", normal_side="debit")  # 1000 to its debit, so a credit takes from it
FULL = _ref(9, "full")  # MINOR_MAX credited and debited: its counters are at their end
CLOSED_DOLLARS = _ref(10, "closed-dollars", currency="USD", status="closed")
FROZEN_DOLLARS = _ref(11, "frozen-dollars", currency="USD", status="frozen")
MERCHANT = _ref(12, "merchant", type="merchant")
SETTLEMENT_USD = _ref(13, "@settlement/USD", type="settlement", guarded=False, currency="USD")
BRIMMING = _ref(14, "brimming")  # MINOR_MAX to its credit
ABROAD = _ref(16, "abroad", book="eu")  # nothing on it
ABROAD_CLOSED = _ref(17, "abroad-closed", book="eu", status="closed")
ABROAD_DOLLARS = _ref(18, "abroad-dollars", book="eu", currency="USD")
SETTLEMENT_ABROAD = _ref(19, "@settlement/NGN/eu", type="settlement", guarded=False, book="eu")
SETTLEMENT_CLOSED = _ref(15, "@settlement/closed", type="settlement", guarded=False, status="closed")


def _book() -> Book:
    return Book(
        {
            FUNDED.id: Balance(credits_posted=1000),
            EMPTY.id: Balance(),
            CLOSED.id: Balance(credits_posted=1000),
            FROZEN.id: Balance(credits_posted=1000),
            DOLLARS.id: Balance(credits_posted=1000),
            LENT.id: Balance(),
            CASH.id: Balance(debits_posted=1000),
            FULL.id: Balance(debits_posted=MINOR_MAX, credits_posted=MINOR_MAX),
            CLOSED_DOLLARS.id: Balance(),
            FROZEN_DOLLARS.id: Balance(),
            MERCHANT.id: Balance(),
            BRIMMING.id: Balance(credits_posted=MINOR_MAX),
            ABROAD.id: Balance(),
            ABROAD_CLOSED.id: Balance(),
            ABROAD_DOLLARS.id: Balance(),
        }
    )


def _code(done: tuple[Posting, ...] | Objection) -> str:
    return done.code if isinstance(done, Objection) else "done"


def _untouched(book: Book) -> bool:
    return book.balances == _book().balances and not book.changes and not book.postings


# fmt: off
RESERVES: list[tuple[AccountRef | None, AccountRef | None, AccountRef | None, int, str]] = [
    # source,     settlement,        destination,    minor,       code
    (FUNDED,      SETTLEMENT,        MERCHANT,       1,           "done"),
    (FUNDED,      SETTLEMENT,        MERCHANT,       1000,        "done"),                # to the last unit
    (FUNDED,      SETTLEMENT,        MERCHANT,       1001,        "insufficient_funds"),  # and not one more
    (FUNDED,      SETTLEMENT,        MERCHANT,       0,           "amount_zero"),
    (FUNDED,      SETTLEMENT,        MERCHANT,       -1,          "amount_negative"),
    (FUNDED,      SETTLEMENT,        MERCHANT,       MINOR_MAX,   "insufficient_funds"),
    (FUNDED,      SETTLEMENT,        MERCHANT,       2**63,       "amount_overflow"),
    (BRIMMING,    SETTLEMENT,        MERCHANT,       MINOR_MAX,   "done"),
    (EMPTY,       SETTLEMENT,        MERCHANT,       1,           "insufficient_funds"),
    (LENT,        SETTLEMENT,        MERCHANT,       500,         "done"),
    (LENT,        SETTLEMENT,        MERCHANT,       501,         "insufficient_funds"),
    (SETTLEMENT,  SETTLEMENT,        MERCHANT,       1,           "accounts_must_be_different"),
    (FUNDED,      SETTLEMENT,        SETTLEMENT,     1,           "accounts_must_be_different"),
    (FUNDED,      SETTLEMENT,        FUNDED,         1,           "accounts_must_be_different"),
    (None,        SETTLEMENT,        MERCHANT,       1,           "account_not_found"),
    (FUNDED,      None,              MERCHANT,       1,           "account_not_found"),
    (FUNDED,      SETTLEMENT,        None,           1,           "account_not_found"),
    (None,        None,              None,           1,           "account_not_found"),
    (CLOSED,      SETTLEMENT,        MERCHANT,       1,           "account_closed"),
    (FUNDED,      SETTLEMENT,        CLOSED,         1,           "account_closed"),
    (FUNDED,      SETTLEMENT_CLOSED, MERCHANT,       1,           "account_closed"),
    (FROZEN,      SETTLEMENT,        MERCHANT,       1,           "account_frozen"),
    (FUNDED,      SETTLEMENT,        FROZEN,         1,           "account_frozen"),
    (FUNDED,      SETTLEMENT,        DOLLARS,        1,           "currency_mismatch"),
    (DOLLARS,     SETTLEMENT,        DOLLARS,        1,           "accounts_must_be_different"),
    (FUNDED,      SETTLEMENT_USD,    MERCHANT,       1,           "currency_mismatch"),   # the intent is in dollars
    (DOLLARS,     SETTLEMENT_USD,    MERCHANT,       1,           "currency_mismatch"),
    (FUNDED,      SETTLEMENT,        ABROAD,         1,           "book_mismatch"),
    (FUNDED,      SETTLEMENT_ABROAD, MERCHANT,       1,           "book_mismatch"),
    (ABROAD,      SETTLEMENT,        ABROAD_DOLLARS, 1,           "currency_mismatch"),
    # Two objections apply; the one that stands first is the answer.
    (FUNDED,      SETTLEMENT,        ABROAD_CLOSED,  1,           "account_closed"),
    (FUNDED,      SETTLEMENT,        ABROAD_DOLLARS, 1,           "currency_mismatch"),
    (EMPTY,       SETTLEMENT,        ABROAD,         1,           "book_mismatch"),
    (FUNDED,      SETTLEMENT,        FUNDED,         0,           "amount_zero"),
    (FUNDED,      SETTLEMENT,        FUNDED,         -1,          "amount_negative"),
    (FUNDED,      SETTLEMENT,        FUNDED,         2**63,       "amount_overflow"),
    (FUNDED,      None,              FUNDED,         1,           "accounts_must_be_different"),
    (CLOSED,      SETTLEMENT,        None,           1,           "account_not_found"),
    (CLOSED,      None,              MERCHANT,       1,           "account_not_found"),
    (FROZEN,      SETTLEMENT,        CLOSED,         1,           "account_closed"),
    (CLOSED,      SETTLEMENT,        FROZEN,         1,           "account_closed"),
    (FROZEN,      SETTLEMENT,        DOLLARS,        1,           "account_frozen"),
    (FUNDED,      SETTLEMENT,        CLOSED_DOLLARS, 1,           "account_closed"),
    (FUNDED,      SETTLEMENT,        FROZEN_DOLLARS, 1,           "account_frozen"),
    (EMPTY,       SETTLEMENT,        DOLLARS,        1,           "currency_mismatch"),
    (EMPTY,       None,              MERCHANT,       1,           "account_not_found"),
    (FROZEN,      SETTLEMENT,        MERCHANT,       1001,        "account_frozen"),
]

BOOKS: list[tuple[AccountRef | None, AccountRef | None, int, str, str]] = [
    # source,     destination,    minor,     currency, code
    (FUNDED,      MERCHANT,       1000,      "NGN",    "done"),
    (FUNDED,      MERCHANT,       1001,      "NGN",    "insufficient_funds"),
    (FUNDED,      MERCHANT,       0,         "NGN",    "amount_zero"),
    (FUNDED,      MERCHANT,       -1,        "NGN",    "amount_negative"),
    (FUNDED,      MERCHANT,       2**63,     "NGN",    "amount_overflow"),
    (BRIMMING,    MERCHANT,       MINOR_MAX, "NGN",    "done"),
    (FUNDED,      FULL,           1,         "NGN",    "amount_overflow"),     # its credit counter would pass 64 bits
    (SETTLEMENT,  FULL,           1,         "NGN",    "amount_overflow"),
    (FUNDED,      FUNDED,         1,         "NGN",    "accounts_must_be_different"),
    (None,        MERCHANT,       1,         "NGN",    "account_not_found"),
    (FUNDED,      None,           1,         "NGN",    "account_not_found"),
    (CLOSED,      MERCHANT,       1,         "NGN",    "account_closed"),
    (FUNDED,      FROZEN,         1,         "NGN",    "account_frozen"),
    (FUNDED,      DOLLARS,        1,         "NGN",    "currency_mismatch"),
    (FUNDED,      DOLLARS,        1,         "USD",    "currency_mismatch"),
    (FUNDED,      MERCHANT,       1,         "USD",    "currency_mismatch"),   # both agree, but not with the intent
    (FUNDED,      ABROAD,         1,         "NGN",    "book_mismatch"),
    (FUNDED,      ABROAD,         1,         "USD",    "currency_mismatch"),
    (SETTLEMENT,  ABROAD,         1,         "NGN",    "book_mismatch"),
    (EMPTY,       ABROAD,         1,         "NGN",    "book_mismatch"),
    (SETTLEMENT,  FUNDED,         2**62,     "NGN",    "done"),                # no floor, no question
    (LENT,        MERCHANT,       500,       "NGN",    "done"),
    (LENT,        MERCHANT,       501,       "NGN",    "insufficient_funds"),
    (CASH,        MERCHANT,       5000,      "NGN",    "done"),                # a debit adds to a debit-normal account
    (FUNDED,      CASH,           1000,      "NGN",    "done"),
    (BRIMMING,    CASH,           1001,      "NGN",    "insufficient_funds"),  # and a credit takes from it
    # Two objections apply.
    (FUNDED,      FUNDED,         0,         "NGN",    "amount_zero"),
    (FUNDED,      FUNDED,         2**63,     "NGN",    "amount_overflow"),
    (CLOSED,      CLOSED,         1,         "NGN",    "accounts_must_be_different"),
    (CLOSED,      None,           1,         "NGN",    "account_not_found"),
    (FROZEN,      CLOSED,         1,         "NGN",    "account_closed"),
    (FROZEN,      DOLLARS,        1,         "NGN",    "account_frozen"),
    (EMPTY,       DOLLARS,        1,         "NGN",    "currency_mismatch"),
]

POSTS: list[tuple[AccountRef, AccountRef, int, int, str]] = [
    # source, destination, minor,     held, code
    (FUNDED,  MERCHANT,    1000,      1000, "done"),
    (FUNDED,  MERCHANT,    1,         1000, "done"),                # a partial capture
    (FUNDED,  MERCHANT,    1001,      1000, "exceeds_hold"),
    (FUNDED,  MERCHANT,    0,         1000, "amount_zero"),
    (FUNDED,  MERCHANT,    -1,        1000, "amount_negative"),
    (FUNDED,  MERCHANT,    2**63,     1000, "amount_overflow"),
    (FUNDED,  MERCHANT,    1,         0,    "hold_not_found"),
    (CLOSED,  MERCHANT,    1,         1000, "account_closed"),
    (FUNDED,  CLOSED,      1,         1000, "account_closed"),
    (FROZEN,  MERCHANT,    1,         1000, "done"),                # what was promised before the freeze is kept
    (FUNDED,  FROZEN,      1,         1000, "done"),
    (FUNDED,  CASH,        1000,      1000, "done"),
    (FUNDED,  FULL,        1,         1000, "amount_overflow"),
    # Two objections apply.
    (CLOSED,  MERCHANT,    1,         0,    "hold_not_found"),
    (CLOSED,  MERCHANT,    1001,      1000, "account_closed"),
    (FUNDED,  MERCHANT,    0,         0,    "amount_zero"),
]

REVERSES: list[tuple[tuple[AccountRef, ...], int, int, int, str]] = [
    # path (destination first),         minor, posted, given back, code
    ((FUNDED, SETTLEMENT, EMPTY),       1000,  1000,   0,          "done"),
    ((FUNDED, EMPTY),                   1000,  1000,   0,          "done"),                  # a book transfer
    ((FUNDED, SETTLEMENT, EMPTY),       400,   1000,   600,        "done"),
    ((FUNDED, SETTLEMENT, EMPTY),       401,   1000,   600,        "exceeds_original"),
    ((FUNDED, SETTLEMENT, EMPTY),       1,     1000,   1000,       "already_reversed"),
    ((FUNDED, SETTLEMENT, EMPTY),       1,     0,      0,          "transaction_not_found"),
    ((FUNDED, SETTLEMENT, EMPTY),       0,     1000,   0,          "amount_zero"),
    ((FUNDED, SETTLEMENT, EMPTY),       -1,    1000,   0,          "amount_negative"),       # or money would flow on
    ((FUNDED, SETTLEMENT, EMPTY),       2**63, 1000,   0,          "amount_overflow"),
    ((EMPTY, SETTLEMENT, FUNDED),       1,     1000,   0,          "insufficient_funds"),
    ((LENT, SETTLEMENT, FUNDED),        500,   1000,   0,          "done"),
    ((LENT, SETTLEMENT, FUNDED),        501,   1000,   0,          "insufficient_funds"),
    ((FROZEN, SETTLEMENT, CLOSED),      1000,  1000,   0,          "done"),                  # the way back stays open
    ((BRIMMING, SETTLEMENT, CASH),      1001,  2000,   0,          "insufficient_funds"),
    # Two objections apply.
    ((EMPTY, SETTLEMENT, FUNDED),       1001,  1000,   0,          "exceeds_original"),
    ((EMPTY, SETTLEMENT, FUNDED),       1001,  1000,   1000,       "already_reversed"),
]
# fmt: on


@pytest.mark.parametrize(("source", "settlement", "destination", "minor", "code"), RESERVES)
def test_reserve_answers_with_the_first_objection(
    source: AccountRef | None, settlement: AccountRef | None, destination: AccountRef | None, minor: int, code: str
) -> None:
    book = _book()
    done = book.reserve(source, settlement, destination, minor, AT, intent="i", ordinal=0)
    assert _code(done) == code
    assert _untouched(book) == (code != "done")


@pytest.mark.parametrize(("source", "destination", "minor", "currency", "code"), BOOKS)
def test_book_answers_with_the_first_objection(
    source: AccountRef | None, destination: AccountRef | None, minor: int, currency: str, code: str
) -> None:
    book = _book()
    done = book.book(source, destination, minor, AT, currency=currency, intent="i", ordinal=0)
    assert _code(done) == code
    assert _untouched(book) == (code != "done")


@pytest.mark.parametrize(("source", "destination", "minor", "held", "code"), POSTS)
def test_post_answers_with_the_first_objection(
    source: AccountRef, destination: AccountRef, minor: int, held: int, code: str
) -> None:
    book = _book()
    book.balances[source.id].debits_pending = held
    before = {key: Balance(b.debits_pending, b.credits_pending, b.debits_posted, b.credits_posted)
              for key, b in book.balances.items()}  # fmt: skip
    done = book.post(source, SETTLEMENT, destination, minor, held, AT, intent="i", ordinal=1)
    assert _code(done) == code
    assert (book.balances == before) == (code != "done")
    assert bool(book.postings) == bool(book.changes) == (code == "done")


@pytest.mark.parametrize(("path", "minor", "posted", "given_back", "code"), REVERSES)
def test_reverse_answers_with_the_first_objection(
    path: tuple[AccountRef, ...], minor: int, posted: int, given_back: int, code: str
) -> None:
    book = _book()
    done = book.reverse(path, minor, posted, given_back, AT, intent="i", ordinal=3)
    assert _code(done) == code
    assert _untouched(book) == (code != "done")


def test_a_hold_that_does_not_exist_cannot_be_released() -> None:
    book = _book()
    assert _code(book.release(FUNDED, SETTLEMENT, 0, AT, intent="i", ordinal=1)) == "hold_not_found"
    assert _untouched(book)


def test_a_closed_account_still_lets_a_hold_go() -> None:
    book = _book()
    book.balances[CLOSED.id].debits_pending = 300
    assert _code(book.release(CLOSED, SETTLEMENT, 300, AT, intent="i", ordinal=1)) == "done"
    assert available(CLOSED, book.balances[CLOSED.id]) == 1000


def test_a_credit_that_a_debit_normal_account_cannot_bear_is_refused_when_it_is_posted() -> None:
    book = _book()
    book.balances[BRIMMING.id].debits_pending = 1001
    assert _code(book.post(BRIMMING, SETTLEMENT, CASH, 1001, 1001, AT, intent="i", ordinal=1)) == "insufficient_funds"


@pytest.mark.parametrize(
    ("source", "settlement"),
    [
        (FUNDED, SETTLEMENT_USD),
        (FUNDED, _ref(99, "@settlement/NGN", tenant="globex", guarded=False)),
        (FUNDED, FUNDED),
        (FUNDED, SETTLEMENT),  # holds nothing
    ],
)
def test_what_no_rule_could_allow_raises_and_writes_nothing(source: AccountRef, settlement: AccountRef) -> None:
    book = _book()
    with pytest.raises(ValueError, match=r"no posting can join|does not hold"):
        book.release(source, settlement, 5, AT, intent="i", ordinal=1)
    assert _untouched(book)


def test_money_on_its_way_in_cannot_be_spent() -> None:
    book = _book()
    book.balances[EMPTY.id].credits_pending = 700
    assert available(EMPTY, book.balances[EMPTY.id]) == 0
    assert _code(book.book(EMPTY, MERCHANT, 1, AT, currency="NGN", intent="i", ordinal=0)) == "insufficient_funds"


def test_two_commands_of_one_tick_see_each_other_and_a_refused_one_harms_nobody() -> None:
    book = _book()
    codes = [
        _code(book.reserve(FUNDED, SETTLEMENT, MERCHANT, minor, AT, intent=f"i{minor}", ordinal=0))
        for minor in (600, 500, 400, 1)
    ]
    assert codes == ["done", "insufficient_funds", "done", "insufficient_funds"]
    assert book.balances[FUNDED.id].debits_pending == 1000
    assert [posting.intent for posting in book.postings] == ["i600", "i400"]


class Step(NamedTuple):
    """One line of the life of a transfer: who stands where after it."""

    pending_out: int
    posted_out: int
    settlement_posted: int
    merchant: int


def test_a_transfer_moves_as_the_book_says_and_back() -> None:
    book = Book({FUNDED.id: Balance(credits_posted=125_000), MERCHANT.id: Balance()})
    seen = []

    def note() -> None:
        funded, settlement = book.balances[FUNDED.id], book.changes[SETTLEMENT.id]
        seen.append(
            Step(
                funded.debits_pending,
                funded.debits_posted - funded.credits_posted,
                settlement.credits_posted - settlement.debits_posted,
                available(MERCHANT, book.balances[MERCHANT.id]),
            )
        )

    book.reserve(FUNDED, SETTLEMENT, MERCHANT, 125_000, AT, intent="i", ordinal=0)
    note()
    book.post(FUNDED, SETTLEMENT, MERCHANT, 125_000, 125_000, AT, intent="i", ordinal=1)
    note()
    book.reverse((MERCHANT, SETTLEMENT, FUNDED), 25_000, 125_000, 0, AT, intent="i", ordinal=3)
    note()
    book.reverse((MERCHANT, SETTLEMENT, FUNDED), 100_000, 125_000, 25_000, AT, intent="i", ordinal=5)
    note()
    assert seen == [
        Step(125_000, -125_000, 0, 0),
        Step(0, 0, 0, 125_000),
        Step(0, -25_000, 0, 100_000),
        Step(0, -125_000, 0, 0),
    ]
    assert [(posting.ordinal, posting.kind) for posting in book.postings] == [
        (0, "reserve"), (1, "post"), (2, "settle"), (3, "reversal"), (4, "reversal"), (5, "reversal"), (6, "reversal"),
    ]  # fmt: skip


def test_an_entry_says_what_its_posting_says_and_its_hash_covers_it() -> None:
    book = _book()
    done = book.reserve(FUNDED, SETTLEMENT, MERCHANT, 7, AT, intent="i", ordinal=0)
    assert not isinstance(done, Objection)
    entry = done[0].entry()
    assert (entry.debit, entry.credit, entry.pending, entry.posted) == ("funded", "@settlement/NGN", "7", "0")
    assert bytes.fromhex(entry.hash) == done[0].hash
    base = ("acme", "i", 0, "reserve", FUNDED, SETTLEMENT, 7, 0)
    changed = [
        ("globex", "i", 0, "reserve", FUNDED, SETTLEMENT, 7, 0),
        ("acme", "j", 0, "reserve", FUNDED, SETTLEMENT, 7, 0),
        ("acme", "i", 1, "reserve", FUNDED, SETTLEMENT, 7, 0),
        ("acme", "i", 0, "release", FUNDED, SETTLEMENT, 7, 0),
        ("acme", "i", 0, "reserve", EMPTY, SETTLEMENT, 7, 0),
        ("acme", "i", 0, "reserve", FUNDED, MERCHANT, 7, 0),
        ("acme", "i", 0, "reserve", FUNDED, SETTLEMENT, 8, 0),
        ("acme", "i", 0, "reserve", FUNDED, SETTLEMENT, 7, 1),
        ("acme", "i", 0, "reserve", DOLLARS, SETTLEMENT, 7, 0),
    ]
    assert posting_hash(*base) == done[0].hash
    assert len({posting_hash(*fields) for fields in [base, *changed]}) == len(changed) + 1


FILES = [AccountFile(1, "acme", "NGN", "credit", None), AccountFile(2, "acme", "NGN", "credit", 0)]
FAITHFUL = [
    Row("i", "acme", "NGN", 1, 2, 0, 100),
    Row("j", "acme", "NGN", 2, 1, 60, 0),
    Row("j", "acme", "NGN", 2, 1, -60, 60),
]
CLAIMS = {1: Claim(0, 0, 100, 60), 2: Claim(0, 0, 60, 100)}


# fmt: off
COMPLAINTS: list[tuple[list[Row], dict[int, Claim], dict[tuple[str, int], int], str]] = [
    (FAITHFUL,                                           CLAIMS,                              {},            ""),
    ([*FAITHFUL, Row("k", "acme", "NGN", 2, 2, 0, 1)],   CLAIMS,                              {},            "AB"),
    ([*FAITHFUL, Row("k", "acme", "USD", 1, 2, 0, 1)],   CLAIMS,                              {},            "AB"),
    (FAITHFUL[:2],                                       CLAIMS,                              {},            "BD"),
    (FAITHFUL,                                           {**CLAIMS, 2: Claim(0, 0, 59, 100)}, {},            "AB"),
    ([*FAITHFUL, Row("j", "acme", "NGN", 2, 1, -60, 0)], CLAIMS,                              {},            "BE"),
    ([*FAITHFUL, Row("k", "acme", "NGN", 2, 1, 0, 41)],  CLAIMS,                              {},            "BC"),
    (FAITHFUL,                                           CLAIMS,                              {("j", 2): 1}, "D"),
]
# fmt: on


@pytest.mark.parametrize(("rows", "claims", "holds", "letters"), COMPLAINTS)
def test_the_auditor_sees_what_is_wrong(
    rows: list[Row], claims: dict[int, Claim], holds: dict[tuple[str, int], int], letters: str
) -> None:
    assert "".join(sorted({complaint[0] for complaint in audit(FILES, rows, claims, holds)})) == letters
