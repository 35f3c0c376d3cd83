"""Rows in the binary format of COPY, built here: one pack for what has a fixed width, the rest as it is.

A driver encodes such rows value by value, and a tick writes thousands of values.

- Each table has one function, which names its columns and builds its rows in the same order.
- What fits no column is a DataError before anything is sent.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from zentra.runtime.errors import DataError
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.ledger.book import Posting
from zentra.runtime.ports import LogHead, Timer
from zentra.storage.pool import Connection

__all__ = [
    "Leaf",
    "OutboxRow",
    "Tile",
    "copy_heads",
    "copy_leaves",
    "copy_outbox",
    "copy_postings",
    "copy_tiles",
    "copy_timers",
    "copy_transitions",
]

Leaf = tuple[str, int, str, bytes, bytes]
"""Tenant, index, intent, data and hash."""
Tile = tuple[str, int, int, bytes]
"""Tenant, level, index and hash."""
OutboxRow = tuple[str, int, str, bytes | None, Sequence[tuple[str, int]]]
"""Id, partition, subject, and a body or else the records, (intent, sequence), that it is made of."""

_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
_END: Final = b"\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # of the server's timestamps
_DAY_US: Final = 86_400_000_000
_UUID_DIGITS: Final = 32
_WORDS_MAX: Final = 4_096
_PART_BYTES: Final = 96 * 1024
_NULL: Final = b"\xff\xff\xff\xff"
_INT_OID, _BYTEA_OID, _UUID_OID = 23, 17, 2950

_POSTING_COLUMNS: Final = (
    "intent", "ordinal", "debit", "credit", "pending", "posted", "at", "hash", "tenant", "kind", "currency",
)  # fmt: skip

# A row: the number of its columns, then of each its length and its value. Columns of a fixed width come first, and the
# length of the first other one closes the pack.
_LENGTH: Final = struct.Struct("!i").pack
_TRANSITION: Final = struct.Struct("!hi16siiiqi").pack
_POSTING: Final = struct.Struct("!hi16siiiqiqiqiqiqi").pack
_TIMER: Final = struct.Struct("!hi16siiiq").pack
_LEAF: Final = struct.Struct("!hi16siqi").pack
_TILE: Final = struct.Struct("!hihiqi").pack
_LOG_HEAD: Final = struct.Struct("!hiqiqi").pack
_OUTBOX: Final = struct.Struct("!hi16siii").pack
_ARRAY: Final = struct.Struct("!iiiiii").pack  # bytes, dimensions, nulls, type, elements, first index
_INT: Final = struct.Struct("!i").pack


class _Words(dict[tuple[str, ...], bytes]):
    """Text columns, each with its length, by what they say: it is the same few words. Begins anew where it is not."""

    def __missing__(self, words: tuple[str, ...]) -> bytes:
        if len(self) >= _WORDS_MAX:
            self.clear()
        self[words] = columns = b"".join([_counted(word.encode()) for word in words])
        return columns


def _uuids(texts: list[str]) -> list[bytes]:
    """Return uuids of 32 hex digits each as bytes, read in one go; raises ValueError for what is none."""
    for text in texts:
        if len(text) != _UUID_DIGITS:
            raise ValueError(f"not a uuid: {text[:64]!r}")
    data = unhexlify("".join(texts))
    return [data[place : place + 16] for place in range(0, len(data), 16)]


class _Moments(dict[datetime, int]):
    """Moments as the server keeps them, microseconds since the year 2000: rows of a tick share theirs."""

    def __missing__(self, at: datetime) -> int:
        since = at - _EPOCH
        self[at] = value = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
        return value


_words: Final = _Words()


async def copy_transitions(connection: Connection, transitions: Sequence[Transition]) -> None:
    """Add transitions; raises DataError for what is no uuid, or fits no column."""
    moments, rows = _Moments(), [_HEAD]
    with _refused():
        for t, intent in zip(transitions, _uuids([t.intent for t in transitions]), strict=True):
            digest, record = t.hash, t.record
            rows += (
                _TRANSITION(8, 16, intent, 4, t.sequence, 8, moments[t.at], len(digest)), digest,
                _LENGTH(len(record)), record, _words[t.tenant, t.state, t.event],
            )  # fmt: skip
    columns = ("intent", "sequence", "at", "hash", "record", "tenant", "state", "event")
    await _copy(connection, "transitions", columns, rows)


async def copy_postings(connection: Connection, postings: Sequence[Posting]) -> None:
    """Add postings; raises DataError for what is no uuid, or fits no column. The few with an effective date go apart,
    so
    that the others are no wider."""
    dated = [p for p in postings if p.effective_at is not None]
    if dated:
        with _refused():
            await connection.copy_records_to_table(
                "postings", columns=(*_POSTING_COLUMNS, "effective_at"), records=[_dated(p) for p in dated]
            )
        postings = [p for p in postings if p.effective_at is None]
    if postings:
        await _copy_undated(connection, postings)


async def _copy_undated(connection: Connection, postings: Sequence[Posting]) -> None:
    moments, rows = _Moments(), [_HEAD]
    with _refused():
        for p, intent in zip(postings, _uuids([p.intent for p in postings]), strict=True):
            debit, digest = p.debit, p.hash
            rows += (
                _POSTING(
                    11, 16, intent, 4, p.ordinal, 8, debit.id, 8, p.credit.id, 8, p.pending, 8, p.posted,
                    8, moments[p.at], len(digest),
                ),
                digest, _words[p.tenant, p.kind, debit.currency],
            )  # fmt: skip
    await _copy(connection, "postings", _POSTING_COLUMNS, rows)


def _dated(p: Posting) -> tuple[Any, ...]:
    if len(p.intent) != _UUID_DIGITS:
        raise DataError(f"not a uuid: {p.intent[:64]!r}")
    if p.at.tzinfo is None or p.effective_at is None or p.effective_at.tzinfo is None:
        raise DataError(f"a time without a zone: {p.at}, {p.effective_at}")
    return (
        p.intent, p.ordinal, p.debit.id, p.credit.id, p.pending, p.posted, p.at, p.hash, p.tenant, p.kind,
        p.debit.currency, p.effective_at,
    )  # fmt: skip


async def copy_timers(connection: Connection, timers: Sequence[Timer]) -> None:
    """Add timers that nobody has set; raises DataError for what is no uuid, or fits no column."""
    moments, rows = _Moments(), [_HEAD]
    with _refused():
        for t, key in zip(timers, _uuids([t.key for t in timers]), strict=True):
            rows += (
                _TIMER(6, 16, key, 4, t.partition, 8, moments[t.due_at]), _words[t.kind, t.name, t.tenant],
            )  # fmt: skip
    await _copy(connection, "timers", ("key", "partition", "due_at", "kind", "name", "tenant"), rows)


async def copy_leaves(connection: Connection, leaves: Sequence[Leaf]) -> None:
    """Add leaves of logs; raises DataError for what is no uuid, or fits no column."""
    rows = [_HEAD]
    with _refused():
        intents = _uuids([leaf[2] for leaf in leaves])
        for (tenant, index, _, data, digest), intent in zip(leaves, intents, strict=True):
            rows += (
                _LEAF(5, 16, intent, 8, index, len(digest)), digest, _LENGTH(len(data)), data, _words[(tenant,)],
            )  # fmt: skip
    await _copy(connection, "log_leaves", ("intent", "index", "hash", "data", "tenant"), rows)


async def copy_tiles(connection: Connection, tiles: Iterable[Tile]) -> None:
    """Add subtrees of logs; raises DataError for what fits no column."""
    rows = [_HEAD]
    with _refused():
        for tenant, level, index, digest in tiles:
            rows += (_TILE(4, 2, level, 8, index, len(digest)), digest, _words[(tenant,)])
    await _copy(connection, "log_tiles", ("level", "index", "hash", "tenant"), rows)


async def copy_heads(connection: Connection, heads: Iterable[LogHead]) -> None:
    """Add signed heads of logs; raises DataError for what fits no column."""
    moments, rows = _Moments(), [_HEAD]
    with _refused():
        for h in heads:
            frontier = _array(_BYTEA_OID, 32, h.frontier.hashes)
            rows += (
                _LOG_HEAD(7, 8, h.size, 8, moments[h.at], len(h.root)), h.root, _counted(h.signature), frontier,
                _words[h.tenant, h.key_id],
            )  # fmt: skip
    await _copy(connection, "log_heads", ("size", "at", "root", "signature", "frontier", "tenant", "key_id"), rows)


async def copy_outbox(connection: Connection, messages: Sequence[OutboxRow]) -> None:
    """Add rows of the outbox; raises DataError for what is no uuid, or fits no column."""
    rows = [_HEAD]
    with _refused():
        keys = _uuids([message[0] for message in messages])
        for (_, partition, subject, body, told), key in zip(messages, keys, strict=True):
            words = subject.encode()
            rows += (_OUTBOX(6, 16, key, 4, partition, len(words)), words)
            if body is not None:
                rows += (_LENGTH(len(body)), body, _NULL, _NULL)
            else:
                intents, sequences = _uuids([name[0] for name in told]), [_INT(name[1]) for name in told]
                rows += (_NULL, _array(_UUID_OID, 16, intents), _array(_INT_OID, 4, sequences))
    await _copy(connection, "outbox", ("id", "partition", "subject", "body", "intents", "sequences"), rows)


async def _copy(connection: Connection, table: str, columns: tuple[str, ...], rows: list[bytes]) -> None:
    """Send rows in parts so small that either side has memory for them: larger ones are mapped and cleared first, page
    by page, each time they are copied."""
    rows.append(_END)
    step = 1 + len(rows) * _PART_BYTES // sum(map(len, rows))
    # One part goes as it is, in a view, because bytes would name a file; the driver has no type for that.
    source: Any = memoryview(b"".join(rows)) if step >= len(rows) else _parts(rows, step)
    await connection.copy_to_table(table, source=source, columns=columns, format="binary")


async def _parts(rows: list[bytes], step: int) -> AsyncIterator[bytes]:
    for place in range(0, len(rows), step):
        yield b"".join(rows[place : place + step])


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what values that fit no column raise into DataError."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise DataError(str(error)) from error


def _counted(data: bytes) -> bytes:
    return _LENGTH(len(data)) + data


def _array(oid: int, width: int, elements: Sequence[bytes]) -> bytes:
    """Return an array of one dimension, or of none where it is empty, of elements that have `width` bytes each."""
    if not elements:
        return _LENGTH(12) + struct.pack("!iii", 0, 0, oid)
    length = _LENGTH(width)
    data = length + length.join(elements)
    return _ARRAY(20 + len(data), 1, 0, oid, len(elements), 1) + data
