"""Provider callbacks: raw bytes and digest are committed, unique by rail and event id, before the provider hears "ok".

- A repeat is counted and not stored twice, and it still reaches the actor, which keeps a record of it.
- The body is what arrived, byte for byte; whether it was authentic was settled before it came here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Contended
from zentra.runtime.messages import Event, RailReported
from zentra.runtime.partitions import callback_key, partition_of
from zentra.runtime.rails.port import RailOutcome
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.outbox import Row, command_frames, write_outbox
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["Callback", "Callbacks", "register_callbacks"]

RUNS_MAX: Final = 4


class Callback(Struct, frozen=True):
    """One verified callback: what it says, and the bytes and headers that said it."""

    outcome: RailOutcome
    event_id: str
    body: bytes
    headers: Mapping[str, str]


class Callbacks(Struct, frozen=True):
    """For each callback whether it was new, in order, and the messages to publish now."""

    new: list[bool]
    outgoing: list[Outgoing]


async def register_callbacks(pool: Pool, group: Sequence[Callback], *, partitions: int) -> Callbacks:
    """Commit a group of callbacks and what tells their actors.

    Raises Unavailable or Contended where nothing was committed that the provider would not send again, and DataError
    where the store refuses one of them."""
    for _ in range(RUNS_MAX):
        try:
            async with transaction(pool) as connection:
                new = await _insert(connection, group)
                rows = _frames(group, partitions)
                await write_outbox(connection, rows)
            return Callbacks(new, [message for _, message in rows])
        except Contended:
            continue
    raise Contended(f"a group of {len(group)} callbacks lost {RUNS_MAX} times")


async def _insert(connection: Connection, group: Sequence[Callback]) -> list[bool]:
    columns = zip(
        *[
            (
                c.outcome.rail, c.event_id, c.outcome.reference, c.body,
                msgspec.json.encode(dict(c.headers)).decode(), hashlib.sha256(c.body).digest(),
            )
            for c in group
        ],
        strict=True,
    )  # fmt: skip
    inserted = {(row[0], row[1]) for row in await connection.fetch(_INSERT, *columns)}
    new = []
    repeats: Counter[tuple[str, str]] = Counter()
    for callback in group:
        place = (callback.outcome.rail, callback.event_id)
        new.append(place in inserted)
        if place in inserted:
            inserted.remove(place)  # a second one in this group is a repeat
        else:
            repeats[place] += 1
    if repeats:
        rows = sorted((rail, event, count) for (rail, event), count in repeats.items())
        await connection.execute(_REPEAT, *zip(*rows, strict=True))
    return new


def _frames(group: Sequence[Callback], partitions: int) -> list[Row]:
    by_partition: dict[int, list[tuple[Event, int]]] = {}
    for callback in group:
        outcome = callback.outcome
        known = parse_reference(outcome.reference)
        key = known[0] if known is not None else callback_key(outcome.rail, outcome.reference)
        event = RailReported(outcome, callback.event_id)
        by_partition.setdefault(partition_of(key, partitions), []).append((event, 256))
    return [row for partition, events in by_partition.items() for row in command_frames(partition, "callback", events)]


_INSERT: Final = """
insert into callbacks (rail, event_id, reference, body, headers, digest)
select rail, event_id, reference, body, headers::jsonb, digest
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[])
    as given (rail, event_id, reference, body, headers, digest)
order by rail, event_id
on conflict do nothing
returning rail, event_id
"""
_REPEAT: Final = """
insert into callback_repeats as known (rail, event_id, count, last_at)
select rail, event_id, count, now()
from unnest($1::text[], $2::text[], $3::int[]) as given (rail, event_id, count)
on conflict (rail, event_id) do update set count = known.count + excluded.count, last_at = excluded.last_at
"""
