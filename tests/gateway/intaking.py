"""A door for intents on a real store, without a gateway around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from tests.services import PARTITIONS
from zentra.gateway.doors.admission import Admission
from zentra.gateway.doors.intake import Intake, IntakeItem
from zentra.gateway.doors.pressure import Pressure, PressureLimits
from zentra.runtime.idempotency import IdempotencyCache
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.storage.intake.clock import DatabaseClock
from zentra.storage.pool import Pool
from zentra.storage.reads.backlog import Backlog

__all__ = ["Publisher", "item", "open_intake"]

_numbers = count()


class Publisher:
    """Takes everything, or nothing where it is told to fail."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.failing = False

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        if self.failing:
            return [StreamError("disconnected", retryable=True)] * len(messages)
        self.messages += messages
        return [None] * len(messages)


async def _nothing_waits() -> Backlog:
    return Backlog(0, 0, 0.0)


async def open_intake(
    pool: Pool,
    cache: IdempotencyCache,
    publisher: Publisher,
    *,
    waiting_max: int = 10_000,
    backlog_max: int = 20_000,
    admission: Admission | None = None,
) -> Intake:
    clock = DatabaseClock()
    await clock.read(pool)
    pressure = Pressure(_nothing_waits, PressureLimits(backlog_max, 30.0))
    return Intake(
        pool,
        cache,
        publisher,
        clock,
        pressure,
        admission or Admission(),
        partitions=PARTITIONS,
        waiting_max=waiting_max,
    )


def item(key: str, *, minor: int = 5, tenant: str = "acme", intent_id: str | None = None) -> IntakeItem:
    command = IntentCommand(
        kind=IntentKind.PAYMENT, minor=str(minor), currency="NGN", source="c-1", destination="m-1", intent_id=intent_id
    )
    return IntakeItem(
        tenant=tenant, principal="ada", role="developer", command=command, key=key, request_id=f"req_{next(_numbers)}",
        trace="t" * 32,
    )  # fmt: skip
