"""Many intents in one request, over HTTP or NATS: what is asked, and what became of each.

- An intent of many has its idempotency key in its body; two of one request never have the same.
- What is refused is refused alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from zentra.client.core import check_key, new_key, problem_error
from zentra.client.errors import APIStatusError
from zentra.client.models import Condition, Intent
from zentra.client.terms import Time, conditions_body, spelled

__all__ = ["INTENTS_MAX", "BulkResult", "NewIntent", "bulk_body", "bulk_results", "intent_body"]

INTENTS_MAX: Final = 1_000  # in one request


class NewIntent(Struct, frozen=True, kw_only=True):
    """An intent to be made, one of many in a request. It has its idempotency key from birth: sending it again, alone or
    among others, never makes a second one. `fee_max` and `fee_quote`, the digest of one, are what may be charged: where
    it is more or another fee, the intent fails as `fee_changed`. Raises ValueError for a malformed key."""

    amount: int
    currency: str
    source: str
    destination: str | None = None
    kind: str = "transfer"
    intent_id: str | None = None
    scope: str | None = None
    country: str | None = None
    metadata: dict[str, str] | None = None
    conditions: Sequence[Condition] | None = None
    effective_at: Time | None = None  # of a book_transfer
    fee_max: int | None = None
    fee_quote: str | None = None
    hold: dict[str, Any] | None = None
    idempotency_key: str = field(default_factory=new_key)
    counterparty: dict[str, str] | None = None

    def __post_init__(self) -> None:
        check_key(self.idempotency_key)


class BulkResult(Struct, frozen=True, kw_only=True):
    """What became of one intent of many: the intent, or the error that it alone has."""

    request: NewIntent
    intent: Intent | None = None
    error: APIStatusError | None = None
    replayed: bool = False

    def unwrap(self) -> Intent:
        """Return the intent. Raises the error where there is one."""
        if self.intent is None:
            raise self.error or APIStatusError("no intent and no error")
        return self.intent


def intent_body(wanted: NewIntent) -> dict[str, Any]:
    """Return the body that asks for an intent, without its key.

    The amount goes as digits, so that no reader of JSON on the way can round it."""
    fee = {"max": None if wanted.fee_max is None else str(wanted.fee_max), "quote_digest": wanted.fee_quote}
    return {
        "kind": wanted.kind, "amount": str(wanted.amount), "currency": wanted.currency, "source": wanted.source,
        "destination": wanted.destination, "intent_id": wanted.intent_id, "scope": wanted.scope,
        "country": wanted.country, "metadata": None if wanted.metadata is None else dict(wanted.metadata),
        "conditions": conditions_body(wanted.conditions), "effective_at": spelled(wanted.effective_at),
        "fee": {name: value for name, value in fee.items() if value is not None} or None,
        "hold": wanted.hold,
        "counterparty": wanted.counterparty,
    }  # fmt: skip


def bulk_body(wanted: Sequence[NewIntent]) -> bytes:
    """Return the body that asks for many. Raises ValueError for too many, and where two have one key."""
    if len(wanted) > INTENTS_MAX:
        raise ValueError(f"{len(wanted)} intents; a request holds at most {INTENTS_MAX}")
    if len({one.idempotency_key for one in wanted}) != len(wanted):
        raise ValueError("two intents of one request have the same idempotency key")
    bodies = [{**intent_body(one), "idempotency_key": one.idempotency_key} for one in wanted]
    return msgspec.json.encode([{name: value for name, value in body.items() if value is not None} for body in bodies])


class _One(msgspec.Struct):
    replayed: bool = False
    body: Intent | None = None


_one: Final = msgspec.json.Decoder(_One, strict=False).decode


def bulk_results(wanted: Sequence[NewIntent], answers: Sequence[msgspec.Raw]) -> tuple[BulkResult, ...]:
    """Return what became of each. Raises msgspec.ValidationError where there is not an answer for each."""
    if len(answers) != len(wanted):
        raise msgspec.ValidationError(f"{len(answers)} answers to {len(wanted)} intents")
    return tuple(_result(request, bytes(answer)) for request, answer in zip(wanted, answers, strict=True))


def _result(request: NewIntent, answer: bytes) -> BulkResult:
    read = _one(answer)
    if read.body is None:
        return BulkResult(request=request, error=problem_error(answer, request.idempotency_key))
    return BulkResult(request=request, intent=read.body, replayed=read.replayed)
