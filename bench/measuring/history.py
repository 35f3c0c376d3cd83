"""History: a stand's database filled with finished intents, as if the installation had been at work for a month.

- Some intents go through the runtime as any would; the rest are copies of their rows, written by COPY, so that a
  million takes minutes. Intents, idempotency answers, records with their chains, postings, balances, velocity
  counters, leaves, tiles and signed heads are there; every invariant holds over them, and the log goes on behind them.
- Left out is what a month does not leave: frames of the outbox, which are trimmed after minutes, and timers that have
  fired. The feed of the past days is left out too; no intent of today reads it.
- The copies lie before today, in the order of their ids, a day of the month after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from zentra.bench.measuring.copies import Copied, Names, Template
from zentra.runtime.evidence.heads import load_private_key, sign_head
from zentra.runtime.evidence.merkle import Frontier, Tile, leaf_hash
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import translated
from zentra.storage.pool import Connection, Pool, open_pool, transaction

__all__ = ["History", "fill"]

DAYS: Final = 30
ROWS_AT_ONCE: Final = 1_000  # intents per transaction
SETTLE_SECONDS_MAX: Final = 3_600.0  # of vacuum and checkpoint, which have no limit of their own

_INTENTS: Final = "select * from intents where tenant = $1 and starts_with(key, $2) order by id"
_OF_KEY: Final = "select * from idempotency where tenant = $1 and starts_with(key, $2)"
_POSTINGS: Final = "select * from postings where intent = any($1::uuid[]) order by intent, ordinal"
_TRANSITIONS: Final = "select * from transitions where intent = any($1::uuid[]) order by intent, sequence"
_LEAVES: Final = "select intent, data from log_leaves where intent = any($1::uuid[])"
_ACCOUNTS: Final = "select id, account_id from accounts where tenant = $1"
_HEAD: Final = "select size, frontier from log_heads where tenant = $1 order by size desc limit 1"
_BALANCES: Final = """
update balances b set debits_pending = debits_pending + n.dp, debits_posted = debits_posted + n.dq,
    credits_pending = credits_pending + n.cp, credits_posted = credits_posted + n.cq
from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) as n (account, dp, dq, cp, cq)
where b.account = n.account and b.stripe = (select min(s.stripe) from balances s where s.account = n.account)
"""
_VELOCITY: Final = """
insert into velocity (tenant, counter, day, currency, count, minor)
select $1, n.counter, n.day, $2, n.count, n.minor
from unnest($3::text[], $4::date[], $5::bigint[], $6::bigint[]) as n (counter, day, count, minor)
on conflict (tenant, counter, day, currency) do update
    set count = velocity.count + excluded.count, minor = velocity.minor + excluded.minor
"""
_BYTES: Final = "select pg_database_size(current_database())"
_TABLES: Final = (
    "intents",
    "idempotency",
    "postings",
    "transitions",
    "log_leaves",
    "log_tiles",
    "balances",
    "velocity",
)


class History(Struct, frozen=True):
    """What was filled in: how many intents, in how many seconds, and what the database grew by, in MiB."""

    intents: int
    seconds: float
    mib: float


async def fill(
    url: str, tenant: str, prefix: str, intents: int, evidence_key: bytes, progress: Callable[[str, int, int], None]
) -> History:
    """Add copies of the finished intents whose keys begin with `prefix`, and return what was done.

    Nothing may write to the log of the tenant meanwhile, and whoever has its head in memory has to forget it. `url` is
    the owner's. Raises CannotCopy, ValueError where there is nothing to copy, and Unavailable."""
    begun = time.monotonic()
    pool = await open_pool(
        url, name="zentra bench history", connections_max=2, transaction_seconds_max=SETTLE_SECONDS_MAX
    )
    try:
        with translated():
            before = await pool.fetchval(_BYTES)
            templates = await _templates(pool, tenant, prefix)
        filling = _Filling(templates, tenant, load_private_key(evidence_key))
        await filling.run(pool, intents, progress)
        progress("settling the tables", 0, 1)
        with translated():
            async with pool.acquire() as connection:
                await connection.execute(f"vacuum (analyze) {', '.join(_TABLES)}")
                await connection.execute("checkpoint")
            mib = (await pool.fetchval(_BYTES) - before) / 2**20
    finally:
        await pool.close()
    return History(intents, round(time.monotonic() - begun, 1), round(mib, 1))


async def _templates(pool: Pool, tenant: str, prefix: str) -> list[Template]:
    """Return the finished intents of a prefix, in the order of their ids."""
    intents = await pool.fetch(_INTENTS, tenant, prefix)
    if not intents:
        raise ValueError(f"no intent of {tenant} begins with {prefix}")
    names = [row["id"] for row in intents]
    keys = {row["key"]: dict(row) for row in await pool.fetch(_OF_KEY, tenant, prefix)}
    postings, transitions = [_by_intent(await pool.fetch(query, names)) for query in (_POSTINGS, _TRANSITIONS)]
    leaves = {row["intent"]: row["data"] for row in await pool.fetch(_LEAVES, names)}
    accounts = {row["id"]: row["account_id"] for row in await pool.fetch(_ACCOUNTS, tenant)}
    return [
        Template(dict(row), keys[row["key"]], postings[row["id"]], transitions[row["id"]], leaves[row["id"]], accounts)
        for row in intents
    ]


def _by_intent(rows: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["intent"], []).append(dict(row))
    return found


class _Filling:
    """One history on its way into the database."""

    def __init__(self, templates: Sequence[Template], tenant: str, key: Ed25519PrivateKey) -> None:
        self._templates, self._tenant, self._key = templates, tenant, key
        self._used: Counter[int] = Counter()  # copies by template
        self._frontier = Frontier()

    async def run(self, pool: Pool, intents: int, progress: Callable[[str, int, int], None]) -> None:
        """Write that many copies, and what they add up to."""
        with translated():
            head = await pool.fetchrow(_HEAD, self._tenant)
        if head is not None:
            self._frontier = Frontier(head["size"], tuple(head["frontier"]))
        velocity: Counter[tuple[str, date]] = Counter()
        minor: Counter[tuple[str, date]] = Counter()
        copies, done = self._copies(intents, velocity, minor), 0

        def batch() -> list[Copied]:
            return list(islice(copies, ROWS_AT_ONCE))

        some = batch()
        while some:
            # The next batch is made while Postgres is busy with this one.
            following = asyncio.create_task(asyncio.to_thread(batch))
            async with transaction(pool) as connection:
                await self._write(connection, some)
            done += len(some)
            progress("history", done, intents)
            some = await following
        async with transaction(pool) as connection:
            await self._write_balances(connection)
            uses = list(velocity)
            await connection.execute(
                _VELOCITY, self._tenant, self._templates[0].currency, [counter for counter, _ in uses],
                [day for _, day in uses], [velocity[use] for use in uses], [minor[use] for use in uses],
            )  # fmt: skip

    def _copies(
        self, intents: int, velocity: Counter[tuple[str, date]], minor: Counter[tuple[str, date]]
    ) -> Iterator[Copied]:
        """Yield the copies by day and, within a day, in the order of their templates; count what they use."""
        number = 0
        for place in range(DAYS):
            days, of_day = DAYS - place, intents * (place + 1) // DAYS - intents * place // DAYS
            for turn in range(of_day):
                which = turn * len(self._templates) // of_day
                template = self._templates[which]
                yield template.copy(_names(template, number, days))
                self._used[which] += 1
                for counter, day in template.velocity:
                    use = (counter, day - timedelta(days=days))
                    velocity[use] += 1
                    minor[use] += template.minor
                number += 1

    async def _write(self, connection: Connection, copies: Sequence[Copied]) -> None:
        columns = self._templates[0].columns
        rows: dict[str, list[tuple[Any, ...]]] = {
            "intents": [copy.intent for copy in copies],
            "idempotency": [copy.idempotency for copy in copies],
            "postings": [row for copy in copies for row in copy.postings],
            "transitions": [row for copy in copies for row in copy.transitions],
        }
        for table, records in rows.items():
            await connection.copy_records_to_table(table, columns=columns[table], records=records)
        first = self._frontier.size
        hashes = [leaf_hash(copy.leaf) for copy in copies]
        name = columns["intents"].index("id")
        leaves = [
            (self._tenant, first + place, copy.intent[name], copy.leaf, hashed)
            for place, (copy, hashed) in enumerate(zip(copies, hashes, strict=True))
        ]
        await connection.copy_records_to_table(
            "log_leaves", columns=("tenant", "index", "intent", "data", "hash"), records=leaves
        )
        self._frontier, tiles = self._frontier.append(hashes)
        await self._write_head(connection, tiles)

    async def _write_head(self, connection: Connection, tiles: Sequence[Tile]) -> None:
        if tiles:
            await connection.copy_records_to_table(
                "log_tiles", columns=("tenant", "level", "index", "hash"),
                records=[(self._tenant, tile.level, tile.index, tile.hash) for tile in tiles],
            )  # fmt: skip
        root, size, at = self._frontier.root(), self._frontier.size, datetime.now(UTC)
        head = sign_head(self._key, tenant=self._tenant, size=size, root=root, at=timestamp(at))
        await connection.copy_records_to_table(
            "log_heads", columns=("tenant", "size", "root", "frontier", "at", "key_id", "signature"),
            records=[
                (self._tenant, size, root, list(self._frontier.hashes), at, head.key_id, bytes.fromhex(head.signature))
            ],
        )  # fmt: skip

    async def _write_balances(self, connection: Connection) -> None:
        sums: dict[int, list[int]] = {}
        for which, copies in self._used.items():
            for debit, credit, pending, posted in self._templates[which].effects:
                for account, place in ((debit, 0), (credit, 2)):
                    held = sums.setdefault(account, [0, 0, 0, 0])
                    held[place] += copies * pending
                    held[place + 1] += copies * posted
        columns = zip(*sums.values(), strict=True)
        await connection.execute(_BALANCES, list(sums), *(list(column) for column in columns))


def _names(template: Template, number: int, days: int) -> Names:
    """Return the names of the `number`-th copy. Its uuid is of version 7, of the moment it was made, so that ids and
    copies have one order; random is only what is random in others."""
    made = template.created_at.astimezone(UTC) - timedelta(days=days)
    drawn = hashlib.blake2b(b"%d" % number, digest_size=24).digest()
    low = int.from_bytes(drawn[:8]) >> 2
    milliseconds = int(made.timestamp() * 1000)
    name = milliseconds << 80 | 0x7 << 76 | (number & 0xFFF) << 64 | 0b10 << 62 | low
    return Names(f"{name:032x}", f"past-copy-{number}", drawn[8:].hex(), days)
