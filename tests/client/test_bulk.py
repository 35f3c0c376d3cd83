"""Many intents in one request: each has its key from birth and an answer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest

from tests.client import servers
from tests.client.servers import ACCEPTED, Script
from zentra.client import api as client
from zentra.client.api import NewIntent

Run = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """One of the two clients."""
    servers.no_pauses(monkeypatch)
    chosen: Run = getattr(servers, request.param)
    return chosen


def intent(amount: int = 1, **changes: Any) -> NewIntent:
    return NewIntent(amount=amount, currency="NGN", source="a", destination="b", **changes)


MADE = {"status": 202, "replayed": True, "body": ACCEPTED}
REFUSED = {"code": "idempotency_key_reused", "title": "t", "status": 422, "retryable": False, "request_id": "r.1"}
WAIT = {"code": "idempotency_in_flight", "status": 409, "retryable": True, "retry_after_seconds": 1}


def test_each_has_its_answer(run: Run) -> None:
    wanted = [intent(), intent(2, idempotency_key="k"), intent(3)]
    script = Script(httpx2.ReadError, (200, {"results": [MADE, REFUSED, WAIT]}, {}))
    first, second, third = run(script, lambda api: api.runtime.intents.create_many(wanted))
    assert (first.replayed, first.unwrap().intent_id, first.error) == (True, "order-1", None)
    assert type(second.error) is client.IdempotencyMismatchError
    assert (second.error.status, second.error.idempotency_key, second.error.request_id) == (422, "k", "r.1")
    assert (third.request, third.error.retryable, third.error.retry_after_seconds) == (wanted[2], True, 1.0)
    with pytest.raises(client.IdempotencyMismatchError):
        second.unwrap()
    sent = [msgspec.json.decode(request.content) for request in script.requests]
    assert sent[0] == sent[1]
    assert [one["idempotency_key"] for one in sent[0]] == [one.idempotency_key for one in wanted]
    assert "x-idempotency-key" not in script.requests[0].headers


def test_keys_are_chosen_when_an_intent_is_thought_of() -> None:
    assert intent().idempotency_key != intent().idempotency_key
    with pytest.raises(ValueError, match="idempotency key"):
        intent(idempotency_key="a b")


@pytest.mark.parametrize("wanted", [[intent(idempotency_key="k")] * 2, [intent() for _ in range(1001)]])
def test_a_request_that_cannot_be_meant_is_not_sent(run: Run, wanted: list[NewIntent]) -> None:
    script = Script((200, {"results": []}, {}))
    with pytest.raises(ValueError, match="intents"):
        run(script, lambda api: api.runtime.intents.create_many(wanted))
    assert script.requests == []


def test_fewer_answers_than_intents_are_no_answer(run: Run) -> None:
    error = run(
        Script((200, {"results": [MADE]}, {})), lambda api: api.runtime.intents.create_many([intent(), intent()])
    )
    assert type(error) is client.APIResponseError
