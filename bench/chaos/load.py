"""The load of a chaos run: a seeded, bounded stream of intents over both doors, and the client's own record of it.

- What is asked for is drawn from the seed by number; when it is asked follows a fixed rate that waits for nobody.
- Some requests are repeats, over either door: most with the same content, some with changed content, the latter only
  of requests whose acceptance the client has seen, so that a second acceptance is always wrong.
- The record holds every request with its answer or the lack of one. It is the client's truth, and the verdict compares
  the books with it."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from zentra.bench.chaos.doors import Answer, Creates, Unanswered

__all__ = ["CURRENCY", "TIGHT", "Asked", "Load", "draw_intent", "outcome_of"]

CURRENCY: Final = "NGN"
TIGHT: Final = "tight-1"
"""An account that never has much: many are refused what they ask of it at the same time."""

TENANTS: Final = (("acme", 3), ("globex", 1))
REPEATS: Final = 0.05  # of all requests, with the same content
CHANGED: Final = 0.01  # of all requests, with the key of another one and another amount
RECENT_MAX: Final = 200  # how far back a repeat reaches: about the time that a fault lasts
UNANSWERED_MAX: Final = 1_000  # beyond it a slot of the schedule is left empty and counted
REVIEWED_MINOR: Final = 10_000_000  # what the seeded policy refers to a person

# A table is read down its columns.
# fmt: off
SHAPES: Final = (
    # weight kind             source        destination   minor up to
    (34,     "transfer",      "customer-1", "merchant-1", 1_000),
    (20,     "transfer",      "customer-2", "payout-1",   1_000),
    (20,     "payment",       "customer-1", "merchant-1", 1_000),
    ( 6,     "book_transfer", "customer-1", "customer-2", 1_000),
    ( 6,     "book_transfer", "customer-2", "customer-1", 1_000),
    ( 6,     "book_transfer", "customer-1", TIGHT,          300),
    ( 8,     "transfer",      TIGHT,        "merchant-1",   600),
)
SCENARIOS: Final = (
    (840, "success"),      (40, "decline"),             (40, "duplicate_callback"),   (20, "out_of_order"),
    ( 20, "reject"),       (10, "late_success"),        (10, "timeout_then_success"), ( 5, "contradictory_amount"),
    (  5, "contradictory_status"), (5, "unknown_reference"), (3, "silent"),           ( 2, "never_answers"),
)
# fmt: on
REVIEWED: Final = 0.005  # of all requests that go to a rail


class Asked(Struct, kw_only=True):
    """One request and what the client heard. `original` is the number of the request that a repeat repeats."""

    number: int
    tenant: str
    door: str
    key: str
    intent_id: str
    body: dict[str, Any]
    at: float
    original: int | None = None
    changed: bool = False
    outcome: str = "unanswered"
    answer: bytes = b""
    answered_at: float = 0.0


def outcome_of(answer: Answer) -> str:
    """Return the word for an answer: accepted, replayed, in_flight, reused, shed, or status and code of what else."""
    match answer.status, answer.code:
        case 202, _:
            return "replayed" if answer.replayed else "accepted"
        case 409, "idempotency_in_flight":
            return "in_flight"
        case 422, "idempotency_key_reused":
            return "reused"
        case ((503 | 429), _):
            return "shed"
    return f"{answer.status} {answer.code}".strip()


def draw_intent(draw: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    """Return the tenant and the body of one intent, with `name` for its intent_id."""
    (tenant,) = draw.choices([one for one, _ in TENANTS], [weight for _, weight in TENANTS])
    ((_, kind, source, destination, minor_max),) = draw.choices(SHAPES, [shape[0] for shape in SHAPES])
    body: dict[str, Any] = {
        "intent_id": name,
        "kind": kind,
        "amount": draw.randint(1, minor_max),
        "currency": CURRENCY,
        "source": source,
        "destination": destination,
    }
    if kind != "book_transfer":
        (scenario,) = draw.choices([one for _, one in SCENARIOS], [weight for weight, _ in SCENARIOS])
        body["metadata"] = {"sandbox_scenario": scenario}
        if source != TIGHT and draw.random() < REVIEWED:
            body["amount"] = REVIEWED_MINOR
    return tenant, body


class Load:
    """The load: `run` asks until it is told to stop; `asked` is the record, in the order of asking."""

    def __init__(self, seed: int, rate: float, doors: Mapping[str, Creates]) -> None:
        self.asked: list[Asked] = []
        self.left_out = 0
        self._draw = random.Random(f"load/{seed}")  # noqa: S311  # a load, not a secret
        self._seed, self._rate, self._doors = seed, rate, doors
        self._recent: deque[Asked] = deque(maxlen=RECENT_MAX)
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for nothing more."""
        self._stopping.set()

    async def run(self) -> None:
        """Ask at the fixed rate until stopped, and return when everything asked is answered or given up."""
        begun = asyncio.get_running_loop().time()
        slot = 0
        while not self._stopping.is_set():
            pause = begun + slot / self._rate - asyncio.get_running_loop().time()
            slot += 1
            if pause > 0:
                await asyncio.sleep(pause)
            if len(self._waiting) >= UNANSWERED_MAX:
                self.left_out += 1
                continue
            asked = self._next()
            self.asked.append(asked)
            task = asyncio.create_task(self.send(asked))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        if self._waiting:
            await asyncio.wait(self._waiting)

    async def send(self, asked: Asked) -> None:
        """Ask once, and note what is heard."""
        try:
            answer = await self._doors[asked.door].create(asked.tenant, asked.key, asked.body)
        except Unanswered:
            asked.outcome = "unanswered"
        else:
            asked.outcome, asked.answer = outcome_of(answer), answer.body
        asked.answered_at = time.time()

    def again(self, first: Asked, *, door: str = "http") -> Asked:
        """Return the same request once more, written down as a repeat."""
        asked = Asked(
            number=len(self.asked), tenant=first.tenant, door=door, key=first.key, intent_id=first.intent_id,
            body=first.body, at=time.time(), original=first.number,
        )  # fmt: skip
        self.asked.append(asked)
        return asked

    def _next(self) -> Asked:
        number, at = len(self.asked), time.time()
        door = self._draw.choice(sorted(self._doors))
        chance = self._draw.random()
        if chance < REPEATS + CHANGED and self._recent:
            first = self._draw.choice(self._recent)
            changed = chance >= REPEATS and first.outcome in ("accepted", "replayed")
            body = first.body | {"amount": int(first.body["amount"]) + 1} if changed else first.body
            return Asked(
                number=number, tenant=first.tenant, door=door, key=first.key, intent_id=first.intent_id, body=body,
                at=at, original=first.number, changed=changed,
            )  # fmt: skip
        name = f"chaos-{self._seed}-{number}"
        tenant, body = draw_intent(self._draw, name)
        made = Asked(number=number, tenant=tenant, door=door, key=f"key-{name}", intent_id=name, body=body, at=at)
        self._recent.append(made)
        return made
