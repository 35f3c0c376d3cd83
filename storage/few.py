"""A few rows of several tables in one statement: a round trip costs more than a handful of rows.

- It adds the same rows as `storage.copying` and the statements of the tables do, in one round trip instead of one for
  each table. Many rows are cheaper by COPY, so whoever has many does not come here.
- What fits no column is a DataError; the parts of a statement are written all or not at all.
- The text depends on which parts there are and on nothing else, so a driver prepares each combination once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from zentra.runtime.errors import DataError
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.ledger.book import Posting
from zentra.runtime.ports import LogHead, Timer
from zentra.storage.copying import Leaf, OutboxRow, Tile
from zentra.storage.pool import Connection

__all__ = [
    "FEW_ROWS",
    "Part",
    "few_heads",
    "few_leaves",
    "few_outbox",
    "few_postings",
    "few_tiles",
    "few_timers",
    "few_transitions",
    "write_few",
]

FEW_ROWS: Final = 24  # of all tables together; far more are cheaper by COPY
_UUID_DIGITS: Final = 32

Part = tuple[str, Sequence[Sequence[Any]]]
"""A statement whose arguments are written `{0}`, `{1}` and so on, and the columns that it takes as arrays."""

_TRANSITIONS: Final = """
insert into transitions (intent, sequence, at, hash, record, tenant, state, event)
select * from unnest({0}::uuid[], {1}::int[], {2}::timestamptz[], {3}::bytea[], {4}::bytea[], {5}::text[],
                     {6}::text[], {7}::text[])
"""
_POSTINGS: Final = """
insert into postings (intent, ordinal, debit, credit, pending, posted, at, hash, tenant, kind, currency, effective_at)
select * from unnest({0}::uuid[], {1}::int[], {2}::bigint[], {3}::bigint[], {4}::bigint[], {5}::bigint[],
                     {6}::timestamptz[], {7}::bytea[], {8}::text[], {9}::text[], {10}::text[], {11}::timestamptz[])
"""
_TIMERS: Final = """
insert into timers (key, partition, due_at, kind, name, tenant)
select * from unnest({0}::uuid[], {1}::int[], {2}::timestamptz[], {3}::text[], {4}::text[], {5}::text[])
"""
_LEAVES: Final = """
insert into log_leaves (intent, index, hash, data, tenant)
select * from unnest({0}::uuid[], {1}::bigint[], {2}::bytea[], {3}::bytea[], {4}::text[])
"""
_TILES: Final = """
insert into log_tiles (level, index, hash, tenant)
select * from unnest({0}::smallint[], {1}::bigint[], {2}::bytea[], {3}::text[])
"""
_HEADS: Final = """
insert into log_heads (size, at, root, signature, frontier, tenant, key_id)
select size, at, root, signature, frontier::bytea[], tenant, key_id
from unnest({0}::bigint[], {1}::timestamptz[], {2}::bytea[], {3}::bytea[], {4}::text[], {5}::text[], {6}::text[])
    as given (size, at, root, signature, frontier, tenant, key_id)
"""
# A row of unnest has no arrays of different lengths, so what is told comes as their text.
_OUTBOX: Final = """
insert into outbox (id, partition, subject, body, intents, sequences)
select id, partition, subject, body, intents::uuid[], sequences::int[]
from unnest({0}::uuid[], {1}::int[], {2}::text[], {3}::bytea[], {4}::text[], {5}::text[])
    as given (id, partition, subject, body, intents, sequences)
"""


def few_transitions(transitions: Iterable[Transition]) -> Part:
    """Return the part that adds transitions; raises DataError for what is no uuid."""
    rows = [
        (_uuid(t.intent), t.sequence, _moment(t.at), t.hash, t.record, t.tenant, t.state, t.event) for t in transitions
    ]
    return _TRANSITIONS, list(zip(*rows, strict=True))


def few_postings(postings: Iterable[Posting]) -> Part:
    """Return the part that adds postings; raises DataError for what is no uuid."""
    rows = [
        (
            _uuid(p.intent), p.ordinal, p.debit.id, p.credit.id, p.pending, p.posted, _moment(p.at), p.hash, p.tenant,
            p.kind, p.debit.currency, p.effective_at and _moment(p.effective_at),
        )
        for p in postings
    ]  # fmt: skip
    return _POSTINGS, list(zip(*rows, strict=True))


def few_timers(timers: Iterable[Timer]) -> Part:
    """Return the part that adds timers that nobody has set; raises DataError for what is no uuid."""
    rows = [(_uuid(t.key), t.partition, _moment(t.due_at), t.kind, t.name, t.tenant) for t in timers]
    return _TIMERS, list(zip(*rows, strict=True))


def few_leaves(leaves: Iterable[Leaf]) -> Part:
    """Return the part that adds leaves of logs; raises DataError for what is no uuid."""
    rows = [(_uuid(intent), index, digest, data, tenant) for tenant, index, intent, data, digest in leaves]
    return _LEAVES, list(zip(*rows, strict=True))


def few_tiles(tiles: Iterable[Tile]) -> Part:
    """Return the part that adds subtrees of logs."""
    rows = [(level, index, digest, tenant) for tenant, level, index, digest in tiles]
    return _TILES, list(zip(*rows, strict=True))


def few_heads(heads: Iterable[LogHead]) -> Part:
    """Return the part that adds signed heads of logs; raises DataError for a time without a zone."""
    rows = [(h.size, _moment(h.at), h.root, h.signature, _hex(h.frontier.hashes), h.tenant, h.key_id) for h in heads]
    return _HEADS, list(zip(*rows, strict=True))


def few_outbox(messages: Iterable[OutboxRow]) -> Part:
    """Return the part that adds rows of the outbox; raises DataError for what is no uuid."""
    rows = [
        (_uuid(key), partition, subject, body, *_told(body, told)) for key, partition, subject, body, told in messages
    ]
    return _OUTBOX, list(zip(*rows, strict=True))


async def write_few(connection: Connection, parts: Collection[Part]) -> None:
    """Write all parts in one statement; nothing where there are none. Raises what the driver raises."""
    if parts:
        statement = _together(tuple([(text, len(columns)) for text, columns in parts]))
        await connection.execute(statement, *[column for _, columns in parts for column in columns])


@cache
def _together(parts: tuple[tuple[str, int], ...]) -> str:
    """Return one statement of the parts, given how many arguments each has. A server carries out every part of a
    `with` that writes, whether it is asked for its rows or not."""
    named, first = [], 1
    for number, (text, count) in enumerate(parts):
        named.append(f"part_{number} as ({text.format(*[f'${first + place}' for place in range(count)])})")
        first += count
    return f"with {', '.join(named)} select"


def _uuid(text: str) -> str:
    """Return the text; an empty one would end the connection instead of being refused."""
    if len(text) != _UUID_DIGITS:
        raise DataError(f"not a uuid: {text[:64]!r}")
    return text


def _moment(at: datetime) -> datetime:
    """Return the moment; the driver would take one without a zone for a local time."""
    if at.tzinfo is None:
        raise DataError(f"a time without a zone: {at}")
    return at


def _hex(values: Iterable[bytes]) -> str:
    """Return an array of bytes as the server reads it."""
    quoted = [f'"\\\\x{value.hex()}"' for value in values]
    return f"{{{','.join(quoted)}}}"


def _told(body: bytes | None, told: Sequence[tuple[str, int]]) -> tuple[str | None, str | None]:
    if body is not None:
        return None, None
    intents = ",".join([_uuid(intent) for intent, _ in told])
    return f"{{{intents}}}", f"{{{','.join([str(sequence) for _, sequence in told])}}}"
