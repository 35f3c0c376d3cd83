"""Every call that the API has, as a value; both clients send these, those of `ledger_calls`, and nothing else.

- What the caller leaves out is left out of the request: the defaults are the server's.
- A list is a function from a cursor to the call of that page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from zentra.client.answers import Answer
from zentra.client.bulk import BulkResult, NewIntent, bulk_body, bulk_results, intent_body
from zentra.client.core import Call, body_call, get_call, json_of, new_key
from zentra.client.holds import Hold
from zentra.client.models import (
    Case,
    Command,
    CommandRecord,
    Condition,
    Delivery,
    Denial,
    ErrorPage,
    FeeSchedule,
    Intent,
    Page,
    Quote,
    Version,
)
from zentra.client.terms import Time, spelled

__all__ = [
    "COMMAND_SECONDS",
    "LOOK_PAUSE_SECONDS",
    "Filters",
    "PageCall",
    "Time",
    "cancel_intent",
    "capture_hold",
    "create_intent",
    "create_intents",
    "get_case",
    "get_command",
    "get_error",
    "get_evidence",
    "get_fee_schedule",
    "get_hold",
    "get_intent",
    "get_version",
    "list_cases",
    "list_deliveries",
    "list_denials",
    "list_fee_schedules",
    "list_holds",
    "list_intents",
    "look_seconds",
    "pages",
    "put_fee_schedule",
    "quote",
    "replay_delivery",
    "resolve_case",
    "reverse_intent",
    "stream_events",
    "stream_intent_events",
    "void_hold",
]

COMMAND_SECONDS: Final = 5.0  # how long the server holds whoever gives a command
LOOK_SECONDS_MAX: Final = 25  # proxies like to give up on answers after 30 s
LOOK_PAUSE_SECONDS: Final = 0.25  # where somebody in between drops the wish to wait, looks must not become a flood
STREAM_SILENT_SECONDS_MAX: Final = 45.0  # three heartbeats

T = TypeVar("T")
Filters: TypeAlias = Mapping[str, object]
PageCall: TypeAlias = Callable[[str | None], Call[Page[T]]]

_intent: Final = json_of(Intent)
_command: Final = json_of(Command)
_command_record: Final = json_of(CommandRecord)
_hold: Final = json_of(Hold)
_case: Final = json_of(Case)
_version: Final = json_of(Version)
_error_page: Final = json_of(ErrorPage)
_intents: Final = json_of(Page[Intent])
_holds: Final = json_of(Page[Hold])
_cases: Final = json_of(Page[Case])
_denials: Final = json_of(Page[Denial])
_deliveries: Final = json_of(Page[Delivery])
_quote: Final = json_of(Quote)
_fee_schedule: Final = json_of(FeeSchedule)
_fee_schedules: Final = json_of(Page[FeeSchedule])


def _bytes(answer: Answer) -> bytes:
    return answer.body


def pages(read: Callable[[Answer], Page[T]], *path: str, page_size: int | None, filters: Filters) -> PageCall[T]:
    """Return the calls of a list's pages. Raises ValueError for a time without its offset."""
    given = {name: _filter(value) for name, value in filters.items()}

    def call(cursor: str | None) -> Call[Page[T]]:
        return get_call(read, *path, query={**given, "limit": page_size, "cursor": cursor})

    return call


def _filter(value: object) -> object:
    """Return a filter as it is written in a query. Raises ValueError for a time without its offset."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return spelled(value) if isinstance(value, datetime) else value


# Intents.


def create_intent(
    *door: str,
    amount: int,
    currency: str,
    source: str,
    destination: str | None,
    kind: str,
    intent_id: str | None,
    scope: str | None,
    country: str | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    wait: int | None,
    conditions: Sequence[Condition] | None = None,
    effective_at: Time | None = None,
    fee_max: int | None = None,
    fee_quote: str | None = None,
    hold: Mapping[str, object] | None = None,
    counterparty: Mapping[str, str] | None = None,
) -> Call[Intent]:
    """Make an intent, at the general door or at one for its kind."""
    wanted = NewIntent(
        amount=amount, currency=currency, source=source, destination=destination, kind=kind, intent_id=intent_id,
        scope=scope, country=country, metadata=None if metadata is None else dict(metadata),
        conditions=conditions, effective_at=effective_at,
        fee_max=fee_max, fee_quote=fee_quote,
        hold=None if hold is None else dict(hold),
        idempotency_key=new_key() if idempotency_key is None else idempotency_key,
        counterparty=None if counterparty is None else dict(counterparty),
    )  # fmt: skip
    return body_call(_intent, *door, body=intent_body(wanted), idempotency_key=wanted.idempotency_key, wait=wait)


class _Bulk(msgspec.Struct):
    results: list[msgspec.Raw]


_bulk: Final = msgspec.json.Decoder(_Bulk).decode


def create_intents(wanted: Sequence[NewIntent]) -> Call[tuple[BulkResult, ...]]:
    """Make many intents in one request. Raises ValueError for too many, and where two have one key."""
    return Call(
        method="POST", path="/runtime/intents/bulk", headers={"content-type": "application/json"},
        read=lambda answer: bulk_results(wanted, _bulk(answer.body).results), body=bulk_body(wanted),
    )  # fmt: skip


def get_intent(id: str, wait: int | None) -> Call[Intent]:
    """Look at an intent."""
    return get_call(_intent, "runtime", "intents", id, wait=wait)


def list_intents(page_size: int | None, filters: Filters) -> PageCall[Intent]:
    """List intents."""
    return pages(_intents, "runtime", "intents", page_size=page_size, filters=filters)


def cancel_intent(id: str, reason: str | None, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Cancel before anything was sent to a rail."""
    return _order("runtime", "intents", id, "cancel", body={"reason": reason}, key=idempotency_key, wait=wait)


def reverse_intent(
    id: str,
    amount: int | Literal["full"],
    reason: str,
    force: bool | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Command]:
    """Give back all that is left, or a part."""
    body = {"amount": str(amount), "reason": reason, "force": force}
    return _order("runtime", "intents", id, "reversals", body=body, key=idempotency_key, wait=wait)


def get_evidence(
    id: str, format: str | None = None, addenda: int | None = None, checkpoint: int | None = None
) -> Call[bytes]:
    """Fetch the sealed packet, as the bytes that a verifier takes."""
    query = {"format": format, "addenda": addenda, "checkpoint": checkpoint}
    return get_call(_bytes, "runtime", "intents", id, "evidence", query=query)


def get_command(id: str) -> Call[CommandRecord]:
    """Look at a command."""
    return get_call(_command_record, "runtime", "commands", id)


def stream_intent_events(id: str, last_id: str | None) -> Call[bytes]:
    """Hear what happened to an intent, and what will."""
    return _stream("runtime", "intents", id, "events", last_id=last_id)


def stream_events(last_id: str | None) -> Call[bytes]:
    """Hear what happens to all intents."""
    return _stream("runtime", "events", last_id=last_id)


def look_seconds(left: float) -> int:
    """Return how long the next look may wait when `left` seconds are left."""
    return max(0, min(math.ceil(left), LOOK_SECONDS_MAX))


def _order(*path: str, body: Mapping[str, object], key: str | None, wait: int | None) -> Call[Command]:
    return body_call(_command, *path, body=body, idempotency_key=key, wait=wait, held_seconds=COMMAND_SECONDS)


def _stream(*path: str, last_id: str | None) -> Call[bytes]:
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    call = get_call(_bytes, *path, headers=headers)
    return msgspec.structs.replace(call, held_seconds=STREAM_SILENT_SECONDS_MAX)


# Holds.


def get_hold(id: str) -> Call[Hold]:
    """Look at a hold."""
    return get_call(_hold, "holds", id)


def list_holds(page_size: int | None, filters: Filters) -> PageCall[Hold]:
    """List holds."""
    return pages(_holds, "holds", page_size=page_size, filters=filters)


def capture_hold(
    id: str, amount: int | Literal["full"], destination: str | None, final: bool, reason: str | None,
    idempotency_key: str | None, wait: int | None,
) -> Call[Command]:  # fmt: skip
    """Take a part of what is held, or all of it."""
    body = {"amount": str(amount), "destination": destination, "final": final or None, "reason": reason}
    return _order("holds", id, "captures", body=body, key=idempotency_key, wait=wait)


def void_hold(id: str, reason: str, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Give back what is held still."""
    return _order("holds", id, "void", body={"reason": reason}, key=idempotency_key, wait=wait)


# Fees.


def quote(
    *, amount: int, currency: str, source: str, destination: str, kind: str, country: str | None
) -> Call[Quote]:  # fmt: skip
    """Ask what an intent would be charged."""
    body = {
        "amount": str(amount), "currency": currency, "source": source, "destination": destination, "kind": kind,
        "country": country,
    }  # fmt: skip
    return body_call(_quote, "quotes", body=body, idempotency_key=None)


def list_fee_schedules(page_size: int | None) -> PageCall[FeeSchedule]:
    """List versions of the fees, the newest first."""
    return pages(_fee_schedules, "fee-schedules", page_size=page_size, filters={})


def get_fee_schedule(version: int) -> Call[FeeSchedule]:
    """Look at one version of the fees."""
    return get_call(_fee_schedule, "fee-schedules", str(version))


def put_fee_schedule(rules: Sequence[Mapping[str, object]], idempotency_key: str | None) -> Call[FeeSchedule]:
    """Put fees in force."""
    body = {"rules": [dict(rule) for rule in rules]}
    return body_call(_fee_schedule, "fee-schedules", body=body, idempotency_key=idempotency_key)


# What people decide.


def list_cases(page_size: int | None, filters: Filters) -> PageCall[Case]:
    """List cases."""
    return pages(_cases, "cases", page_size=page_size, filters=filters)


def get_case(id: str) -> Call[Case]:
    """Look at a case."""
    return get_call(_case, "cases", id)


def resolve_case(
    id: str, resolution: str, reason: str, idempotency_key: str | None, wait: int | None
) -> Call[Command]:  # fmt: skip
    """End a case with a fact."""
    body = {"resolution": resolution, "reason": reason}
    return _order("cases", id, "resolve", body=body, key=idempotency_key, wait=wait)


def list_denials(page_size: int | None, filters: Filters) -> PageCall[Denial]:
    """List what was refused."""
    return pages(_denials, "denials", page_size=page_size, filters=filters)


# Webhooks.


def list_deliveries(page_size: int | None, filters: Filters) -> PageCall[Delivery]:
    """List deliveries."""
    return pages(_deliveries, "webhooks", "deliveries", page_size=page_size, filters=filters)


def replay_delivery(id: str, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Send a delivery again."""
    return _order("webhooks", "deliveries", id, "replay", body={}, key=idempotency_key, wait=wait)


# The API itself.


def get_version() -> Call[Version]:
    """Ask which version runs."""
    return get_call(_version, "version")


def get_error(code: str) -> Call[ErrorPage]:
    """Ask what a code means."""
    return get_call(_error_page, "problems", code)
