"""The outbox: frames are cut once, stored with what they tell of, and published under the id of their row.

- A frame holds events of one partition and one stage, and fits into a message of the stream with room to spare.
- A row that nobody marks as sent is published again by the owner of its partition; the id makes that harmless.
- A frame of the feed is an array of stored records: its row names them, and its body is made when it is asked for.
- The first event of an intent brings its first record along, to spare the worker a look; the row does without, and so
  does the frame when it has to be sent again.
- The row of a command frame is deleted by the commit that consumes the frame, and by nothing else: a row that is there
  is a frame that was not consumed. Whoever touches rows beside a tick steps around those that one is deleting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from zentra.runtime.intents.transaction import Transition
from zentra.runtime.messages import Due, Event, encode_frame
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.subjects import command_subject, event_subject
from zentra.storage.copying import OutboxRow, copy_outbox
from zentra.storage.errors import translated
from zentra.storage.identifiers import Uuid7
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["Row", "command_frames", "feed_frames", "frames", "mark_sent", "outbox_rows", "unsent", "write_outbox"]

FRAME_EVENTS_MAX: Final = 256  # beyond some hundred, larger frames gain nothing
FRAME_BYTES_MAX: Final = 256 * 1024  # a quarter of what the stream takes, because events weigh more than their records

Row = tuple[int, Outgoing]
"""A partition and the message for it."""

_MESSAGES: Final = """
select o.subject, coalesce(o.body, '['::bytea || (
    select string_agg(t.record, ','::bytea order by told.place)
    from unnest(o.intents, o.sequences) with ordinality as told (intent, sequence, place)
    join transitions t on t.intent = told.intent and t.sequence = told.sequence
) || ']'::bytea), o.id
from outbox o
"""
_UNSENT: Final = (
    _MESSAGES
    + """
where o.partition = any($1::int[]) and o.sent_at is null
    and o.created_at < clock_timestamp() - make_interval(secs => $2)
    and ($4::bool is null or (o.subject like 'zc.%') = $4)
order by o.created_at, o.id limit $3
"""
)
_NAMED: Final = (
    _MESSAGES + "join unnest($1::uuid[]) with ordinality as named (id, place) using (id) order by named.place"
)
_T = TypeVar("_T")
_new_id: Final = Uuid7()


def command_frames(partition: int, stage: str, events: Sequence[tuple[Event, int]]) -> Iterator[Row]:
    """Yield frames of the events, in order; each event comes with about how many bytes it has."""
    subject = command_subject(partition, stage)
    for part in _cut(events):
        yield partition, Outgoing(subject, encode_frame(part), _new_id(), kept=_without_openings(part))


def feed_frames(partition: int, tenant: str, topic: str, transitions: Sequence[Transition]) -> Iterator[Row]:
    """Yield what the tenant's feed gets of these transitions: JSON arrays of their records."""
    subject = event_subject(partition, tenant, topic)
    for part in _cut([(transition, len(transition.record)) for transition in transitions]):
        body = b"[" + b",".join([transition.record for transition in part]) + b"]"
        told = tuple([(transition.intent, transition.sequence) for transition in part])
        yield partition, Outgoing(subject, body, _new_id(), told)


async def write_outbox(connection: Connection, rows: Iterable[Row]) -> None:
    """Store the rows within the caller's transaction."""
    await copy_outbox(connection, outbox_rows(rows))


def outbox_rows(rows: Iterable[Row]) -> list[OutboxRow]:
    """Return the rows as their table has them; of a frame that tells of stored records only their names, and of one
    that brings records with it the frame without them."""
    return [(m.id, partition, m.subject, None if m.told else m.kept or m.body, m.told) for partition, m in rows]


async def unsent(
    pool: Pool, partitions: Collection[int], older_seconds: float, limit: int, commands: bool | None = None
) -> list[Outgoing]:
    """Return rows that nobody has marked as sent for that long, oldest first, with their bodies: those of command
    frames, all but these, or both."""
    with translated():
        rows = await pool.fetch(_UNSENT, sorted(partitions), older_seconds, limit, commands)
    return [Outgoing(row[0], row[1], row[2]) for row in rows]


async def frames(pool: Pool, ids: Sequence[str]) -> list[Outgoing]:
    """Return these rows with their bodies, in this order, but for those that are gone."""
    with translated():
        rows = await pool.fetch(_NAMED, list(ids))
    return [Outgoing(row[0], row[1], row[2]) for row in rows]


async def mark_sent(pool: Pool, ids: Sequence[str]) -> None:
    """Mark rows as sent; raises Unavailable where the store cannot be asked."""
    async with transaction(pool) as connection:
        await connection.execute(
            "update outbox set sent_at = now() where id in (select id from outbox"
            " where id = any($1::uuid[]) and sent_at is null order by id for update skip locked)",
            sorted(ids),
        )


def _without_openings(events: list[Event]) -> bytes:
    """Return the frame of the events without the records that some open with; nothing where none does."""
    if not any(isinstance(event, Due) and event.opening is not None for event in events):
        return b""
    return encode_frame([Due(e.intent, e.tenant, e.version) if isinstance(e, Due) else e for e in events])


def _cut(items: Sequence[tuple[_T, int]]) -> Iterator[list[_T]]:
    part: list[_T] = []
    weight = 0
    for item, size in items:
        if part and (weight + size > FRAME_BYTES_MAX or len(part) == FRAME_EVENTS_MAX):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += size
    if part:
        yield part
