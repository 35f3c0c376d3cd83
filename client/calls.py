"""Every call that the API has, as a value; both clients send these and nothing else.

- What the caller leaves out is left out of the request: the defaults are the server's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

from zentra.client.core import Answer, Call, body_call, get_call, json_of
from zentra.client.models import Account, Command, EntryPage, Intent

__all__ = [
    "LOOK_PAUSE_SECONDS",
    "cancel_intent",
    "create_account",
    "create_intent",
    "get_account",
    "get_entries",
    "get_evidence",
    "get_intent",
    "look_seconds",
    "reverse_intent",
]

COMMAND_SECONDS: Final = 5.0  # how long the server holds whoever gives a command
LOOK_SECONDS_MAX: Final = 25  # proxies like to give up on answers after 30 s
LOOK_PAUSE_SECONDS: Final = 0.25  # where somebody in between drops the wish to wait, looks must not become a flood

_intent: Final = json_of(Intent)
_command: Final = json_of(Command)
_account: Final = json_of(Account)
_page: Final = json_of(EntryPage)


def create_intent(
    *,
    amount: int,
    currency: str,
    source: str,
    destination: str,
    kind: str,
    intent_id: str | None,
    scope: str | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Intent]:
    """Make an intent. The amount goes as digits, so that no reader of JSON on the way can round it."""
    body = {
        "kind": kind, "amount": str(amount), "currency": currency, "source": source, "destination": destination,
        "intent_id": intent_id, "scope": scope, "metadata": None if metadata is None else dict(metadata),
    }  # fmt: skip
    return body_call(_intent, "runtime", "intents", body=body, idempotency_key=idempotency_key, wait=wait)


def get_intent(id: str, wait: int | None) -> Call[Intent]:
    """Look at an intent."""
    return get_call(_intent, "runtime", "intents", id, wait=wait)


def cancel_intent(id: str, reason: str | None, idempotency_key: str | None) -> Call[Command]:
    """Cancel before anything was sent to a rail."""
    return body_call(
        _command, "runtime", "intents", id, "cancel", body={"reason": reason}, idempotency_key=idempotency_key,
        held_seconds=COMMAND_SECONDS,
    )  # fmt: skip


def reverse_intent(
    id: str, amount: int | Literal["full"], reason: str, idempotency_key: str | None
) -> Call[Command]:  # fmt: skip
    """Give back all that is left, or a part."""
    return body_call(
        _command, "runtime", "intents", id, "reversals", body={"amount": str(amount), "reason": reason},
        idempotency_key=idempotency_key, held_seconds=COMMAND_SECONDS,
    )  # fmt: skip


def get_evidence(id: str) -> Call[bytes]:
    """Fetch the sealed packet, as the bytes that a verifier takes."""
    return get_call(_bytes, "runtime", "intents", id, "evidence")


def create_account(
    *, account_id: str, owner: str, type: str, currency: str, idempotency_key: str | None
) -> Call[Account]:  # fmt: skip
    """Open an account."""
    body = {"account_id": account_id, "owner": owner, "type": type, "currency": currency}
    return body_call(_account, "accounts", body=body, idempotency_key=idempotency_key)


def get_account(id: str) -> Call[Account]:
    """Look at an account."""
    return get_call(_account, "accounts", id)


def get_entries(id: str, cursor: str | None, page_size: int | None) -> Call[EntryPage]:
    """Fetch a page of an account's entries."""
    return get_call(_page, "accounts", id, "entries", query={"cursor": cursor, "limit": page_size})


def look_seconds(left: float) -> int:
    """Return how long the next look may wait when `left` seconds are left."""
    return max(0, min(math.ceil(left), LOOK_SECONDS_MAX))


def _bytes(answer: Answer) -> bytes:
    return answer.body
