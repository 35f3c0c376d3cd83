"""A copy of a finished intent has the rows that the runtime would have written for it, or is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from zentra.bench.measuring.copies import CannotCopy, Names, Template
from zentra.bench.measuring.footprint import bytes_each
from zentra.gateway.doors.intake import digest_of_intent
from zentra.runtime.evidence.chain import GENESIS, chain

MADE = datetime(2026, 3, 31, 12, 0, 0, 5, tzinfo=UTC)
INTENT, TRACE = "0" * 31 + "1", "a" * 32
COMMAND = b'{"currency":"NGN","intent_id":"past-1","minor":"70"}'
ACCOUNTS = {1: "customer", 2: "merchant"}


def rows(**changes: Any) -> dict[str, Any]:
    """Return the rows of one intent of two records, as a template takes them."""
    digest = digest_of_intent(COMMAND)
    booked = sha256(f"acme|{INTENT}|0|book|customer|merchant|NGN|0|70".encode()).digest()
    records = [
        b'{"at":"2026-03-31T12:00:00.000005Z","facts":{"digest":"%b","velocity":[{"counter":"account/customer",'
        b'"day":"2026-03-31"}]},"intent":"%b","trace":"%b"}' % (digest.hex().encode(), INTENT.encode(), TRACE.encode()),
    ]
    records.append(
        b'{"facts":{"chain":"%b","due":"2026-04-01T00:00:00Z","posting":"%b"},"intent":"%b","100%%":1}'
        % (chain(GENESIS, records[0]).hex().encode(), booked.hex().encode(), INTENT.encode())
    )
    hashes = [chain(GENESIS, records[0])]
    hashes.append(chain(hashes[0], records[1]))
    return {
        "intent": {
            "id": INTENT, "tenant": "acme", "intent_id": "past-1", "digest": digest, "command": COMMAND,
            "key": "past-1", "trace": TRACE, "created_at": MADE,
        },
        "idempotency": {
            "key": "past-1", "digest": digest, "subject": f"intent/{INTENT}", "status": 202,
            "answer": b'{"id":"%b"}' % INTENT.encode(), "first_seen": MADE,
        },
        "postings": [{
            "intent": INTENT, "ordinal": 0, "tenant": "acme", "kind": "book", "debit": 1, "credit": 2,
            "currency": "NGN", "pending": 0, "posted": 70, "at": MADE, "hash": booked,
        }],
        "transitions": [
            {"intent": INTENT, "sequence": n, "at": MADE, "record": record, "hash": link}
            for n, (record, link) in enumerate(zip(records, hashes, strict=True), 1)
        ],
        "leaf": b'{"chain":"%b","intent":"%b"}' % (hashes[1].hex().encode(), INTENT.encode()),
        "accounts": ACCOUNTS,
    } | changes  # fmt: skip


def test_a_copy_has_its_own_names_and_day_and_hashes_that_follow_from_them() -> None:
    template = Template(**rows())
    other = "f" * 32
    copied = template.copy(Names(other, "past-copy-9", "b" * 32, 31))
    intent = dict(zip(template.columns["intents"], copied.intent, strict=True))
    assert (intent["id"], intent["key"], intent["trace"]) == (other, "past-copy-9", "b" * 32)
    assert intent["created_at"] == MADE - timedelta(days=31)
    assert intent["command"] == b'{"currency":"NGN","intent_id":"past-copy-9","minor":"70"}'
    assert intent["digest"] == digest_of_intent(intent["command"])
    records = [dict(zip(template.columns["transitions"], row, strict=True)) for row in copied.transitions]
    first = chain(GENESIS, records[0]["record"])
    assert [row["hash"] for row in records] == [first, chain(first, records[1]["record"])]
    assert b'"at":"2026-02-28T12:00:00.000005Z"' in records[0]["record"]
    assert intent["digest"].hex().encode() in records[0]["record"]
    booked = sha256(f"acme|{other}|0|book|customer|merchant|NGN|0|70".encode()).digest()
    assert copied.postings[0][template.columns["postings"].index("hash")] == booked
    assert records[1]["record"] == (
        b'{"facts":{"chain":"%b","due":"2026-03-01T00:00:00Z","posting":"%b"},"intent":"%b","100%%":1}'
        % (first.hex().encode(), booked.hex().encode(), other.encode())
    )
    assert records[1]["hash"].hex().encode() in copied.leaf
    whole = repr((copied.intent, copied.idempotency, copied.postings, copied.transitions, copied.leaf))
    assert INTENT not in whole
    assert TRACE not in whole


def test_a_template_knows_what_its_copies_add_up_to() -> None:
    template = Template(**rows())
    assert (template.effects, template.minor, template.currency) == ([(1, 2, 0, 70)], 70, "NGN")
    assert template.velocity == [("account/customer", date(2026, 3, 31))]


@pytest.mark.parametrize("spoilt", ["digest", "posting", "chain"])
def test_rows_that_do_not_follow_from_their_content_are_no_template(spoilt: str) -> None:
    given = rows()
    if spoilt == "digest":
        given["intent"]["digest"] = given["idempotency"]["digest"] = bytes(32)
    elif spoilt == "posting":
        given["postings"][0]["hash"] = bytes(32)
    else:
        given["transitions"][1]["hash"] = bytes(32)
    with pytest.raises(CannotCopy, match="past-1"):
        Template(**given)


@pytest.mark.parametrize(("before", "after", "intents", "found"), [
    ({"a": 100},    {"a": 300, "b": 1000},  100,    {"b": 10.0, "a": 2.0}),
    ({"a": 100},    {"a": 110},             100,    {}),
    ({},            {"a": 100},             0,      {}),
])  # fmt: skip
def test_bytes_count_for_each_intent_where_there_is_one_at_least(
    before: dict[str, int], after: dict[str, int], intents: int, found: dict[str, float]
) -> None:
    assert bytes_each(before, after, intents) == found
