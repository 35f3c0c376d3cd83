"""Rows in the binary format of COPY, built here: one pack for what has a fixed width, the rest as it is.

A driver encodes such rows value by value, and a tick writes thousands of values.

- Each table has one function, which names its columns and builds its rows in the same order.
- What fits no column is a DataError before anything is sent.
"""

from __future__ import annotations

import struct
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
_UUID_BYTES: Final = 16
_WORDS_MAX: Final = 4_096
_PART_BYTES: Final = 96 * 1024
_NULL: Final = b"\xff\xff\xff\xff"
_INT_OID, _BYTEA_OID, _UUID_OID = 23, 17, 2950

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
_UUID_ELEMENT: Final = struct.Struct("!i16s").pack
_INT_ELEMENT: Final = struct.Struct("!ii").pack


class _Words(dict[tuple[str, ...], bytes]):
    """Text columns, each with its length, by what they say: it is the same few words. Begins anew where it is not."""

    def __missing__(self, words: tuple[str, ...]) -> bytes:
        if len(self) >= _WORDS_MAX:
            self.clear()
        self[words] = columns = b"".join([_counted(word.encode()) for word in words])
        return columns


class _Uuids(dict[str, bytes]):
    """Uuids by their 32 hex digits: rows of a tick share theirs."""

    def __missing__(self, text: str) -> bytes:
        self[text] = value = bytes.fromhex(text)
        if len(value) != _UUID_BYTES:
            raise ValueError(f"not a uuid: {text[:64]!r}")
        return value


class _Moments(dict[datetime, int]):
    """Moments as the server keeps them, microseconds since the year 2000: rows of a tick share theirs."""

    def __missing__(self, at: datetime) -> int:
        since = at - _EPOCH
        self[at] = value = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
        return value


_words: Final = _Words()


async def copy_transitions(connection: Connection, transitions: Iterable[Transition]) -> None:
    """Add transitions; raises DataError for what is no uuid, or fits no column."""
    uuids, moments, rows = _Uuids(), _Moments(), [_HEAD]
    with _refused():
        for t in transitions:
            digest, record = t.hash, t.record
            rows += (
                _TRANSITION(8, 16, uuids[t.intent], 4, t.sequence, 8, moments[t.at], len(digest)), digest,
                _LENGTH(len(record)), record, _words[t.tenant, t.state, t.event],
            )  # fmt: skip
    columns = ("intent", "sequence", "at", "hash", "record", "tenant", "state", "event")
    await _copy(connection, "transitions", columns, rows)


async def copy_postings(connection: Connection, postings: Iterable[Posting]) -> None:
    """Add postings; raises DataError for what is no uuid, or fits no column."""
    uuids, moments, rows = _Uuids(), _Moments(), [_HEAD]
    with _refused():
        for p in postings:
            debit, digest = p.debit, p.hash
            rows += (
                _POSTING(
                    11, 16, uuids[p.intent], 4, p.ordinal, 8, debit.id, 8, p.credit.id, 8, p.pending, 8, p.posted,
                    8, moments[p.at], len(digest),
                ),
                digest, _words[p.tenant, p.kind, debit.currency],
            )  # fmt: skip
    columns = (
        "intent", "ordinal", "debit", "credit", "pending", "posted", "at", "hash", "tenant", "kind", "currency",
    )  # fmt: skip
    await _copy(connection, "postings", columns, rows)


async def copy_timers(connection: Connection, timers: Iterable[Timer]) -> None:
    """Add timers that nobody has set; raises DataError for what is no uuid, or fits no column."""
    uuids, moments, rows = _Uuids(), _Moments(), [_HEAD]
    with _refused():
        for t in timers:
            rows += (
                _TIMER(6, 16, uuids[t.key], 4, t.partition, 8, moments[t.due_at]), _words[t.kind, t.name, t.tenant],
            )  # fmt: skip
    await _copy(connection, "timers", ("key", "partition", "due_at", "kind", "name", "tenant"), rows)


async def copy_leaves(connection: Connection, leaves: Iterable[Leaf]) -> None:
    """Add leaves of logs; raises DataError for what is no uuid, or fits no column."""
    uuids, rows = _Uuids(), [_HEAD]
    with _refused():
        for tenant, index, intent, data, digest in leaves:
            rows += (
                _LEAF(5, 16, uuids[intent], 8, index, len(digest)), digest, _LENGTH(len(data)), data, _words[(tenant,)],
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
            frontier = _array(_BYTEA_OID, [_counted(digest) for digest in h.frontier.hashes])
            rows += (
                _LOG_HEAD(7, 8, h.size, 8, moments[h.at], len(h.root)), h.root, _counted(h.signature), frontier,
                _words[h.tenant, h.key_id],
            )  # fmt: skip
    await _copy(connection, "log_heads", ("size", "at", "root", "signature", "frontier", "tenant", "key_id"), rows)


async def copy_outbox(connection: Connection, messages: Iterable[OutboxRow]) -> None:
    """Add rows of the outbox; raises DataError for what is no uuid, or fits no column."""
    uuids, rows = _Uuids(), [_HEAD]
    with _refused():
        for key, partition, subject, body, told in messages:
            words = subject.encode()
            rows += (_OUTBOX(6, 16, uuids[key], 4, partition, len(words)), words)
            if body is not None:
                rows += (_LENGTH(len(body)), body, _NULL, _NULL)
            else:
                intents = _array(_UUID_OID, [_UUID_ELEMENT(16, uuids[intent]) for intent, _ in told])
                rows += (_NULL, intents, _array(_INT_OID, [_INT_ELEMENT(4, sequence) for _, sequence in told]))
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
    except (ValueError, TypeError, struct.error) as error:
        raise DataError(str(error)) from error


def _counted(data: bytes) -> bytes:
    return _LENGTH(len(data)) + data


def _array(oid: int, elements: Sequence[bytes]) -> bytes:
    """Return an array of one dimension, or of none where it is empty; each element comes with its length."""
    data = b"".join(elements)
    if not elements:
        return _LENGTH(12) + struct.pack("!iii", 0, 0, oid)
    return _ARRAY(20 + len(data), 1, 0, oid, len(elements), 1) + data
