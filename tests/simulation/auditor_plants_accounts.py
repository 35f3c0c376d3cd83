"""Faults to plant on a tape, each with the letter of the invariant that it breaks: books, changes, monitors."""

from __future__ import annotations

from typing import Any, cast

from msgspec import structs

from tests.simulation.auditor_plants import REFS, plant, replace_posting
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.monitors import Monitor

__all__: list[str] = []


def known_as(tape: Tape, name: str, **changes: Any) -> None:
    """Let an account have stood otherwise than the workers knew, from the beginning."""

    def change(auditor: Auditor) -> None:
        refs = cast(dict[int, AccountRef], auditor.accounts.known(tape.setting.version))
        ref = REFS["acme", name]
        refs[ref.id] = structs.replace(ref, **changes)

    tape.put_before(0, "then", change)


@plant("A")
def a_posting_into_another_book(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", credit=REFS["acme", "abroad"])


@plant("F")
def a_reserve_on_an_account_that_was_frozen(tape: Tape) -> None:
    known_as(tape, "customer", status="frozen")


@plant("F")
def a_payment_to_an_account_that_was_closed(tape: Tape) -> None:
    known_as(tape, "merchant", status="closed")


@plant("B")
def a_crossing_with_another_balance(tape: Tape) -> None:
    tape.rewrite("reviewed", "balance.crossed", {"balance": "1"})


@plant("B")
def a_crossing_that_nobody_tells_of(tape: Tape) -> None:
    known_as(tape, "customer", monitors=(Monitor("x" * 32, "available", "below", 49_900_000),))


@plant("B")
def a_crossing_that_is_told_as_something_else(tape: Tape) -> None:
    writes = tape.rewrite("reviewed", "balance.crossed", {"case": "c" * 32, "reason": "x"}, event="case.opened")
    at = next(place for place, row in enumerate(writes.transitions) if row.event == "balance.crossed")
    writes.transitions[at] = structs.replace(writes.transitions[at], event="case.opened")


@plant("B")
def a_crossing_of_a_monitor_that_was_taken_away(tape: Tape) -> None:
    known_as(tape, "merchant", monitors=())


@plant("T")
def money_in_suspense_without_a_case(tape: Tape) -> None:
    tape.add("then", lambda auditor: auditor.histories[tape.names["came"]].opened.clear())
