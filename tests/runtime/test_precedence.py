"""The order of the ledger's objections: of any two that apply the earlier one is the answer, whichever side has which.

Each command has its faults in the documented order, each in every place where it can stand. Two faults are planted
together wherever they do not contradict one another: so each pair comes both ways round, and on one account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import combinations, pairwise, product
from typing import Any, Final

import pytest

from zentra.runtime.ledger import holds
from zentra.runtime.ledger.book import AccountRef, Balance, Book, Objection, Posting
from zentra.runtime.ledger.holds import Capture
from zentra.runtime.ledger.money import MINOR_MAX

AT: Final = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
HELD: Final = 1_000  # on every source, and what is held of it


def _ref(number: int, name: str, **changes: Any) -> AccountRef:
    fields = {"type": "customer", "currency": "NGN", "normal_side": "credit", "guarded": True}
    return AccountRef(number, "acme", name, **{**fields, **changes})


PAYER, SHOP = _ref(1, "payer"), _ref(2, "shop")
MIDDLE: Final = {"type": "settlement", "guarded": False}
SETTLEMENT = _ref(3, "settlement", **MIDDLE)
PLACES: Final = ("source", "settlement", "destination")


def _wrong(place: str, **changes: Any) -> AccountRef:
    number = 10 + 10 * PLACES.index(place) + len(changes)
    return _ref(number, f"wrong-{place}", **{**(MIDDLE if place == "settlement" else {}), **changes})


Fault = Mapping[str, Any]
"""What is put where: names of arguments, and values that make it wrong; of an account, what is changed of it."""
Faults = list[tuple[str, list[Fault]]]


def _at(*places: str, **changes: Any) -> list[Fault]:
    return [{place: changes} for place in places]


def _amounts() -> Faults:
    return [(f"amount_{name}", [{"minor": minor}]) for name, minor in
            (("zero", 0), ("negative", -1), ("overflow", MINOR_MAX + 1))]  # fmt: skip


def _accounts(*places: str) -> Faults:
    """Return what can be wrong with accounts that money begins to move between."""
    same: list[Fault] = [{"source": PAYER, "destination": PAYER}]
    if "settlement" in places:
        same += [
            {"settlement": SETTLEMENT, "destination": SETTLEMENT},
            {"source": SETTLEMENT, "settlement": SETTLEMENT},
        ]
    return [
        ("accounts_must_be_different", same),
        ("account_not_found", [{place: None} for place in places]),
        ("account_closed", _at(*places, status="closed")),
        ("account_frozen", _at(*places, status="frozen")),
        ("currency_mismatch", _at(*places, currency="USD")),
        ("book_mismatch", _at(*places, book="eu")),
        ("insufficient_funds", [{"minor": HELD + 1}]),
    ]


_SAME: Final[list[Fault]] = [
    {"source": PAYER, "destination": PAYER}, {"settlement": SETTLEMENT, "destination": SETTLEMENT},
]  # fmt: skip
# fmt: off
COMMANDS: Final[dict[str, Faults]] = {
    "reserve": [*_amounts(), *_accounts(*PLACES)],
    "book": [*_amounts(), *_accounts("source", "destination")],
    "post": [
        *_amounts(),
        ("hold_not_found", [{"held": 0}]),
        ("account_closed", _at("source", "destination", status="closed")),
        ("exceeds_hold", [{"minor": HELD + 1}]),
        ("insufficient_funds", _at("destination", normal_side="debit")),
    ],
    "capture": [
        ("destination_missing", [{"named": False}]),
        ("account_not_found", [{"destination": None}]),
        ("accounts_must_be_different", _SAME),
        ("account_closed", _at("source", "destination", status="closed")),
        ("currency_mismatch", _at("destination", currency="USD")),
        ("book_mismatch", _at("destination", book="eu")),
        ("destination_not_permitted", [{"permitted": False}]),
        ("exceeds_hold", [{"minor": HELD + 1}]),
        ("insufficient_funds", _at("destination", normal_side="debit")),
    ],
    "reverse": [
        *_amounts(),
        ("transaction_not_found", [{"posted": 0}]),
        ("already_reversed", [{"given_back": HELD}]),
        ("exceeds_original", [{"minor": HELD + 1}]),
        ("insufficient_funds", [{"spent": True}]),
    ],
    "reverse a hold": [
        ("transaction_not_found", [{"posted": 0}]),
        ("already_reversed", [{"given_back": HELD}]),
        ("exceeds_original", [{"minor": HELD + 1}]),
        ("insufficient_funds", [{"spent": True}]),
    ],
}
# fmt: on
SOUND: Final[Fault] = {
    "source": PAYER,
    "settlement": SETTLEMENT,
    "destination": SHOP,
    "minor": 5,
    "held": HELD,
    "named": True,
    "permitted": True,
    "posted": HELD,
    "given_back": 0,
    "spent": False,
}  # fmt: skip
NO_FAULT: Final[Fault] = {}


def answer(command: str, *faults: Fault) -> str:
    """Return what a command is answered with where all these faults are planted; a refused one leaves no trace."""
    planted = NO_FAULT
    for fault in faults:
        planted = _together(planted, fault)
    given = {**SOUND, **{name: _wrong(name, **one) if isinstance(one, dict) else one for name, one in planted.items()}}
    book = Book({given[place].id: Balance(credits_posted=HELD) for place in PLACES if given[place] is not None})
    for place in ("source", "destination"):
        if given[place] is not None and given[place].normal_side == "debit":
            book.balances[given[place].id] = Balance()
    if given["spent"]:
        book.balances[SHOP.id] = Balance()
    if command in ("post", "capture"):
        book.balances[given["source"].id].debits_pending = HELD
        book.balances[given["settlement"].id].credits_pending = HELD
    before = {key: repr(balance) for key, balance in book.balances.items()}
    done = _asked(book, command, given)
    if not isinstance(done, Objection):
        return "done"
    assert ({key: repr(one) for key, one in book.balances.items()}, book.postings) == (before, [])
    return done.code


def _asked(book: Book, command: str, given: Mapping[str, Any]) -> tuple[Posting, ...] | Objection:
    source, settlement, destination, minor = (given[name] for name in (*PLACES, "minor"))
    named: dict[str, Any] = {"intent": "i", "ordinal": 0}
    match command:
        case "reserve":
            return book.reserve(source, settlement, destination, minor, AT, **named)
        case "book":
            return book.book(source, destination, minor, AT, currency="NGN", **named)
        case "post":
            return book.post(source, settlement, destination, minor, given["held"], AT, **named)
        case "capture":
            return holds.capture(
                book, (source, settlement, destination), minor, given["held"], AT, last=False, named=given["named"],
                permitted=given["permitted"], **named,
            )  # fmt: skip
        case "reverse":
            path = (destination, settlement, source)
            return book.reverse(path, minor, given["posted"], min(given["given_back"], given["posted"]), AT, **named)
        case _:
            captures = (Capture(SHOP.account_id, given["posted"], min(given["given_back"], given["posted"])),)
            found = {SHOP.account_id: destination}
            return holds.reverse(
                book, source, settlement, found, captures if given["posted"] else (), minor, AT, **named
            )


def _together(one: Fault, other: Fault) -> Fault:
    """Return both faults in one; raises ValueError where they contradict one another."""
    both: dict[str, Any] = {**one}
    for name, value in other.items():
        known = both.get(name, {}) if isinstance(value, dict) else None
        clash = name in both if known is None else not isinstance(known, dict) or bool(known.keys() & value.keys())
        if clash:
            raise ValueError(name)
        both[name] = value if known is None else {**known, **value}
    return both


def _alone() -> Iterator[tuple[str, str, Fault]]:
    for command, faults in COMMANDS.items():
        for code, variants in faults:
            for fault in variants:
                yield command, code, fault


def _pairs() -> Iterator[tuple[str, str, str, Fault, Fault]]:
    for command, faults in COMMANDS.items():
        for (code, variants), (later, others) in combinations(faults, 2):
            for fault, other in product(variants, others):
                with suppress(ValueError):
                    _together(fault, other)
                    yield command, code, later, fault, other


PAIRS: Final = list(_pairs())
EXCLUSIVE: Final = {  # what cannot both be
    ("amount_zero", "amount_negative"), ("amount_negative", "amount_overflow"),
    ("accounts_must_be_different", "account_not_found"),  # where only two are named
    ("account_not_found", "accounts_must_be_different"),
}  # fmt: skip


def test_every_pair_of_neighbours_is_planted_unless_they_cannot_both_be() -> None:
    planted = {(command, code, later) for command, code, later, _, _ in PAIRS}
    for command, faults in COMMANDS.items():
        for (code, _), (later, _) in pairwise(faults):
            assert (command, code, later) in planted or (code, later) in EXCLUSIVE, command


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_fault_it_is_done(command: str) -> None:
    assert answer(command) == "done"


@pytest.mark.parametrize(("command", "code", "fault"), list(_alone()))
def test_each_fault_alone_has_its_code_wherever_it_stands(command: str, code: str, fault: Fault) -> None:
    assert answer(command, fault) == code


@pytest.mark.parametrize(("command", "code", "later", "fault", "other"), PAIRS)
def test_of_two_faults_the_earlier_one_is_the_answer(
    command: str, code: str, later: str, fault: Fault, other: Fault
) -> None:
    assert (answer(command, fault, other), answer(command, other, fault)) == (code, code), later
