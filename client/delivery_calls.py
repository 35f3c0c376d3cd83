"""The calls about deliveries one by one, and about many at once; those of lists and of one replay are in `calls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zentra.client.answers import Answer
from zentra.client.calls import COMMAND_SECONDS, Filters, PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.delivery_models import AttemptDetail, RecoveryState, WebhookHealth
from zentra.client.models import Command, Delivery, Page
from zentra.client.terms import Time, spelled

__all__ = [
    "get_delivery",
    "get_recovery",
    "list_delivery_attempts",
    "list_recoveries",
    "recover_deliveries",
    "webhook_body",
    "webhook_health",
]

_command: Final = json_of(Command)
_delivery: Final = json_of(Delivery)
_attempts: Final = json_of(Page[AttemptDetail])
_recoveries: Final = json_of(Page[RecoveryState])
_recovery: Final = json_of(RecoveryState)
_health: Final = json_of(WebhookHealth)


def _bytes(answer: Answer) -> bytes:
    return answer.body


def get_delivery(id: str) -> Call[Delivery]:
    """Look at a delivery."""
    return get_call(_delivery, "webhooks", "deliveries", id)


def list_delivery_attempts(id: str, page_size: int | None) -> PageCall[AttemptDetail]:
    """List the attempts of a delivery."""
    return pages(_attempts, "webhooks", "deliveries", id, "attempts", page_size=page_size, filters={})


def recover_deliveries(
    endpoint: str, since: Time, before: Time | None, which: str | None, events: Sequence[str] | None,
    dry_run: bool | None, idempotency_key: str | None, wait: int | None,
) -> Call[Command]:  # fmt: skip
    """Send an endpoint what it has not had, or count it."""
    body = {
        "since": spelled(since), "before": None if before is None else spelled(before), "which": which,
        "events": None if events is None else list(events), "dry_run": dry_run,
    }  # fmt: skip
    return body_call(
        _command, "webhooks", "endpoints", endpoint, "recover", body=body, idempotency_key=idempotency_key, wait=wait,
        held_seconds=COMMAND_SECONDS,
    )  # fmt: skip


def list_recoveries(page_size: int | None, filters: Filters) -> PageCall[RecoveryState]:
    """List recoveries."""
    return pages(_recoveries, "webhooks", "recoveries", page_size=page_size, filters=filters)


def get_recovery(id: str) -> Call[RecoveryState]:
    """Look at a recovery."""
    return get_call(_recovery, "webhooks", "recoveries", id)


def webhook_health() -> Call[WebhookHealth]:
    """Ask how the endpoints do."""
    return get_call(_health, "webhooks", "health")


def webhook_body(intent: str, sequence: int | str) -> Call[bytes]:
    """Ask for an event as endpoints get it."""
    return get_call(_bytes, "runtime", "intents", intent, "webhooks", str(sequence))
