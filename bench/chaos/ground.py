"""What the verdict is judged on: the books, the rails' records, the feed and the consumer, read once after the run.

Nothing is judged here. Everything is plain values, so that a test can plant what no run has shown."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from zentra.bench.chaos.bank import Readings
from zentra.bench.chaos.consumer import Arrived
from zentra.bench.chaos.load import Asked
from zentra.bench.chaos.rail import RailPayment
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing, head_flaw_in
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.rails.routing import NOT_NOW
from zentra.runtime.subjects import EVENTS, event_filter
from zentra.storage.audit import Audit
from zentra.storage.errors import translated
from zentra.storage.pool import Pool, transaction
from zentra.streams.connection import Connection
from zentra.streams.pull import Pull
from zentra.streams.topology import stream_state

__all__ = [
    "Command",
    "Delivered",
    "FeedRead",
    "Ground",
    "Intent",
    "Step",
    "logs_flaws",
    "read_commands",
    "read_deliveries",
    "read_feed",
    "read_intents",
    "read_routing",
]

READ_SECONDS_MAX: Final = 5.0
FEED_BATCH: Final = 500


class Step(Struct, frozen=True):
    """One transition. `known` says that actor, tenant, time and cause are all there."""

    sequence: int
    state: str
    event: str
    known: bool
    at: float


class Intent(Struct, kw_only=True):
    """One intent as the store has it. `postings` are (kind, pending, posted) in order."""

    id: str
    tenant: str
    intent_id: str
    key: str
    command: dict[str, Any]
    created_at: float
    steps: list[Step] = field(default_factory=list)
    postings: list[tuple[str, int, int]] = field(default_factory=list)
    cases: list[tuple[str, str]] = field(default_factory=list)
    review: str = ""
    sealed: int = 0

    @property
    def state(self) -> str:
        """Return where it stands: the lifecycle."""
        return self.steps[-1].state.partition("/")[0] if self.steps else ""


class Command(Struct, frozen=True):
    """A command on an intent, a review or a delivery; `accepted` is None where its owner has not decided."""

    id: str
    kind: str
    subject: str
    accepted: bool | None


class Delivered(Struct, frozen=True):
    """One webhook delivery as the store has it."""

    id: str
    intent: str
    event: str
    status: str


class FeedRead(Struct):
    """What the event stream holds: how often each (intent, sequence) is told; `whole` where it was read to its end."""

    told: Counter[tuple[str, int]] = field(default_factory=Counter)
    whole: bool = False


class Ground(Struct, kw_only=True):
    """Everything together. `read_back` is what GET said of requests without an answer: their intent_id, and found."""

    asked: list[Asked]
    intents: list[Intent]
    payments: list[RailPayment]
    commands: list[Command]
    deliveries: list[Delivered]
    arrived: dict[str, Arrived]
    feed: FeedRead
    audit: Audit
    readings: Readings = field(default_factory=Readings)
    operators: dict[str, int] = field(default_factory=dict)
    read_back: dict[str, bool] = field(default_factory=dict)
    plain_rails: frozenset[str] = frozenset()
    evidence_flaws: list[str] = field(default_factory=list)
    packets: int = 0
    exports: int = 0
    routing: dict[str, int] = field(default_factory=dict)
    history_calls: int = 0
    history_wrongs: list[str] = field(default_factory=list)
    unsettled_seconds: float | None = None
    given_up: str = ""


async def read_intents(pool: Pool) -> list[Intent]:
    """Return every intent that chaos asked for, with all around it, as of one moment; raises Unavailable."""
    async with transaction(pool, snapshot=True) as connection:
        known = {
            row["id"]: Intent(
                id=row["id"], tenant=row["tenant"], intent_id=row["intent_id"], key=row["key"],
                command=msgspec.json.decode(row["command"]), created_at=row["created_at"].timestamp(),
            )
            for row in await connection.fetch("select * from intents where starts_with(intent_id, 'chaos-')")
        }  # fmt: skip
        for row in await connection.fetch(
            "select intent, sequence, state, event, at, record from transitions order by intent, sequence"
        ):
            if row[0] in known:
                known[row[0]].steps.append(_step(*row[1:]))
        for row in await connection.fetch(
            "select intent, kind, pending, posted from postings order by intent, ordinal"
        ):
            if row[0] in known:
                known[row[0]].postings.append((row[1], row[2], row[3]))
        for row in await connection.fetch("select intent, kind, status from cases where intent is not null"):
            if row[0] in known:
                known[row[0]].cases.append((row[1], row[2]))
        for row in await connection.fetch("select id, status from reviews"):
            if row[0] in known:
                known[row[0]].review = row[1]
        for row in await connection.fetch("select intent, data from log_leaves"):
            if row[0] in known:
                known[row[0]].sealed += b'"kind":"packet"' in row[1]
    return list(known.values())


class _Record(Struct):
    actor: str
    tenant: str
    at: str
    cause: str


def _step(sequence: int, state: str, event: str, at: datetime, record: bytes) -> Step:
    said = msgspec.json.decode(record, type=_Record)
    known = bool(said.actor and said.tenant and said.cause and said.at == timestamp(at))
    return Step(sequence, state, event, known, at.timestamp())


async def read_deliveries(pool: Pool) -> list[Delivered]:
    """Return every webhook delivery; raises Unavailable."""
    with translated():
        rows = await pool.fetch(
            "select d.id, d.intent, d.event, coalesce(s.status, 'pending') from deliveries d"
            " left join delivery_states s on s.delivery = d.id"
        )
    return [Delivered(*row) for row in rows]


async def read_routing(pool: Pool) -> dict[str, int]:
    """Return how often a rail was left out of a decision, by the word for it, and how often another followed one that
    did not accept; raises Unavailable."""
    with translated():
        rows = await pool.fetch(
            "select rail.value, count(*) from transitions t, lateral"
            " json_each_text(convert_from(t.record, 'UTF8')::json -> 'facts' -> 'considered') rail"
            " where t.event in ('provider.routed', 'provider.failover', 'provider.awaited') group by rail.value"
        )
        failovers = await pool.fetchval("select count(*) from transitions where event = 'provider.failover'")
    return {**{word: count for word, count in rows if word in NOT_NOW}, "failover": failovers}


async def read_commands(pool: Pool) -> list[Command]:
    """Return every command and what became of it; raises Unavailable."""
    with translated():
        rows = await pool.fetch(
            "select c.id, c.kind, c.subject, o.accepted from commands c"
            " left join command_outcomes o on o.command = c.id"
        )
    return [Command(*row) for row in rows]


async def logs_flaws(pool: Pool, ring: KeyRing) -> list[str]:
    """Return what is wrong with the evidence logs: every leaf hash, every root and every signature is made anew."""
    flaws: list[str] = []
    async with transaction(pool, snapshot=True) as connection:
        heads = await connection.fetch("select * from log_heads order by tenant, size")
        frontiers: dict[str, Frontier] = {}
        for head in heads:
            tenant, size = head["tenant"], head["size"]
            frontier = frontiers.get(tenant, Frontier())
            rows = await connection.fetch(
                'select "index", data, hash from log_leaves where tenant = $1 and "index" >= $2 and "index" < $3'
                ' order by "index"',
                tenant, frontier.size, size,
            )  # fmt: skip
            flaws += [f"{tenant} leaf {row[0]} has another hash" for row in rows if leaf_hash(row[1]) != row[2]]
            frontiers[tenant] = frontier = frontier.append([leaf_hash(row[1]) for row in rows])[0]
            if frontier.size != size or frontier.root() != head["root"]:
                flaws.append(f"{tenant} head of {size} leaves has another root")
            signed = TreeHead(
                tenant=tenant, size=size, root=head["root"].hex(), at=timestamp(head["at"]), key_id=head["key_id"],
                signature=head["signature"].hex(),
            )  # fmt: skip
            flaw = head_flaw_in(ring, signed)
            if flaw is not None:
                flaws.append(f"{tenant} head of {size} leaves: {flaw[1]}")
        for tenant, frontier in frontiers.items():
            leaves = await connection.fetchval("select count(*) from log_leaves where tenant = $1", tenant)
            if leaves != frontier.size:
                flaws.append(f"{tenant} has {leaves} leaves, its last head covers {frontier.size}")
    return flaws


class _Told(Struct):
    intent: str
    sequence: int


async def read_feed(client: Connection) -> FeedRead:
    """Return what the event stream tells from its first message to its last; raises StreamError, and TimeoutError where
    the stream falls silent before its end."""
    read, seen, heard = FeedRead(), 0, asyncio.Event()
    decode = msgspec.json.Decoder(list[_Told]).decode

    def deliver(sequence: int, message: Any) -> None:
        nonlocal seen
        seen = sequence
        heard.set()
        read.told.update((one.intent, one.sequence) for one in decode(message.data))

    last = (await stream_state(client, EVENTS)).last
    pull = Pull(client, EVENTS, batch=FEED_BATCH, deliver=deliver, has_room=lambda: True, on_broken=heard.set)
    try:
        await pull.open([event_filter()], 1)
        while seen < last and pull.broken is None:
            heard.clear()
            async with asyncio.timeout(READ_SECONDS_MAX):
                await heard.wait()
    finally:
        await pull.close()
    read.whole = seen >= last
    return read
