"""A key meets what is known of it, and there are exactly four answers."""

from datetime import UTC, datetime

import pytest

from zentra.runtime.idempotency import KeyOutcome, StoredKey, decide, differing_fields, replay_of

STORED = StoredKey(b"same", 202, b"{}", "intent/0", "req_1", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("digest", "stored", "in_flight", "outcome"),
    [
        (b"same", None, False, KeyOutcome.NEW),
        (b"same", None, True, KeyOutcome.IN_FLIGHT),
        (b"same", STORED, False, KeyOutcome.REPLAY),
        (b"same", STORED, True, KeyOutcome.REPLAY),  # a lock may outlive the work it was taken for
        (b"other", STORED, False, KeyOutcome.REUSED),
        (b"other", STORED, True, KeyOutcome.REUSED),
    ],
)
def test_four_outcomes(digest: bytes, stored: StoredKey | None, in_flight: bool, outcome: KeyOutcome) -> None:
    assert decide(digest, stored, in_flight=in_flight) is outcome


def test_a_replay_is_the_first_answer_and_says_so() -> None:
    answer = replay_of(STORED)
    assert (answer.status, answer.body, answer.request_id) == (STORED.status, STORED.answer, STORED.request_id)
    assert answer.replayed


@pytest.mark.parametrize(
    ("stored", "given", "fields"),
    [
        (b"{}", b"{}", ()),
        (b'{"minor":"1"}', b'{"minor":"2"}', ("minor",)),
        (b'{"a":1,"b":null}', b'{"b":null,"c":1}', ("a", "c")),
        (b'{"b":null}', b"{}", ("b",)),
        (b'{"metadata":{"x":"1"}}', b'{"metadata":{"x":"2"}}', ("metadata",)),
    ],
)
def test_the_fields_that_differ_are_named(stored: bytes, given: bytes, fields: tuple[str, ...]) -> None:
    assert differing_fields(stored, given) == fields
