"""The rails of `zentra chaos`: what they write down outlives them, and a mood changes only what is said."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from zentra.bench.chaos.moods import RailMood, forged, told
from zentra.bench.chaos.rail import JournalBook, read_journal
from zentra.gateway.sandbox.scenarios import Notice, Order, RailProfile, ReplyKind

# The rail's own record.


def order(reference: str, scenario: str | None = None) -> Order:
    return Order(reference, "500", "NGN", "merchant-1", "http://127.0.0.1:1/", scenario)


@pytest.mark.parametrize(("idempotent", "paid"), [(True, 1), (False, 2)])
def test_a_killed_rail_remembers_what_it_took(tmp_path: Path, idempotent: bool, paid: int) -> None:
    journal = tmp_path / "journal"
    profile = RailProfile("secret", idempotent=idempotent)
    with closing(JournalBook("r", profile, journal)) as book:
        assert book.submit(order("a"), 1.0).kind is ReplyKind.TAKEN
    with closing(JournalBook("r", profile, journal)) as again:
        assert list(again.untold) == ["a"]
        assert again.submit(order("a"), 2.0).kind is ReplyKind.REPEATED
    (payment,) = read_journal("r", journal, idempotent=idempotent)
    assert (payment.submits, payment.paid, payment.at) == (2, paid, 1.0)
    assert sum(one.paid(99.0) for one in again) == paid


def test_a_killed_rail_calls_back_only_for_what_it_has_not_told(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with closing(JournalBook("r", RailProfile("secret"), journal)) as book:
        told, untold = (book.submit(order(name), 1.0).payment for name in ("told", "untold"))
        assert told is not None
        assert untold is not None
        book.finish(told)
    with closing(JournalBook("r", RailProfile("secret"), journal)) as again:
        assert list(again.untold) == ["untold"]


def test_a_torn_line_is_no_payment_and_harms_no_later_one(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with closing(JournalBook("r", RailProfile("secret"), journal)) as book:
        book.submit(order("a", "decline"), 1.0)
    with journal.open("ab") as file:
        file.write(b'{"type":"submitted","at":2.0,"or')
    with closing(JournalBook("r", RailProfile("secret"), journal)) as again:
        again.submit(order("b"), 3.0)
    read = read_journal("r", journal, idempotent=True)
    assert [(payment.reference, payment.paid) for payment in read] == [("a", 0), ("b", 1)]


# The moods of a bank.

SOON = Notice(0.02, "evt-1", "ref", "succeeded", "500")
DECLINED = SOON._replace(status="declined")
MOODS: list[tuple[RailMood, Notice, list[tuple[str, str]]]] = [
    (RailMood.WELL, SOON, [("evt-1", "succeeded")]),
    (RailMood.LOSES, SOON, []),
    (RailMood.DOUBLES, SOON, [("evt-1", "succeeded"), ("evt-1", "succeeded"), ("evt-1-again", "succeeded")]),
    (RailMood.DISORDERS, SOON, [("evt-1", "succeeded"), ("evt-1-begun", "pending")]),
    (RailMood.HURRIES, SOON, [("evt-1", "succeeded")]),
    (RailMood.FORGES, SOON, [("forged-evt-1", "declined"), ("evt-1", "succeeded")]),
    (RailMood.CONTRADICTS, SOON, [("evt-1-failed", "declined"), ("evt-1", "succeeded")]),
    (RailMood.CONTRADICTS, DECLINED, [("evt-1", "declined")]),
]


@pytest.mark.parametrize(("mood", "notice", "calls"), MOODS)
def test_a_mood_decides_what_is_called_back(mood: RailMood, notice: Notice, calls: list[tuple[str, str]]) -> None:
    notices = told(mood, (notice,))
    assert [(one.event_id, one.status) for one in notices] == calls
    assert {one.delay for one in notices} <= {0.0 if mood is RailMood.HURRIES else notice.delay}


def test_a_forged_callback_keeps_everything_but_its_signature() -> None:
    headers = {"content-type": "application/json; v=1", "x-gtbank-signature": "ab09"}
    assert forged(headers) == {**headers, "x-gtbank-signature": "ab10"}


def test_a_mood_stays_with_the_payment_that_met_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with closing(JournalBook("r", RailProfile("secret"), journal)) as book:
        book.mood = RailMood.DOUBLES
        assert book.submit(order("a"), 1.0).kind is ReplyKind.TAKEN
        book.mood = RailMood.REFUSES
        assert book.submit(order("b"), 2.0).kind is ReplyKind.UNAVAILABLE
    with closing(JournalBook("r", RailProfile("secret"), journal)) as again:
        (payment,) = again
        assert len(again.notices(payment)) == 3
    (read,) = read_journal("r", journal, idempotent=True)
    assert (read.reference, read.mood, read.currency) == ("a", RailMood.DOUBLES, "NGN")
