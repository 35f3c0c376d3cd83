"""What is copied is what is read: every table that has rows of our own making, on the real server, value by value."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from zentra.runtime.errors import DataError
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.intents.machine import Move
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.intents.vocabulary import State, Topic
from zentra.runtime.ledger.book import AccountRef, Posting
from zentra.runtime.ports import LogHead, Timer
from zentra.storage import copying, few
from zentra.storage.pool import Connection, Pool, transaction

numbers = itertools.count(1)
Copy = Callable[[Connection, Sequence[Any]], Awaitable[None]]

MOMENTS = (
    datetime(2026, 1, 5, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC),  # the very last one is infinity to the driver
    datetime(2026, 7, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
)
WORDS = ("acme", "", "Ẁhạt ever — 漢字 🏦", "a\tb\\N\n\"'")
BYTES = (b"", b"\0", bytes(range(256)), b"x" * 200_000)
BIG = (0, 1, -1, 2**63 - 1, -(2**63))
STATES = tuple(State)


def uuid() -> str:
    """Return an id that no test has used."""
    return f"{next(numbers):031x}f"


def pick(values: Sequence[Any], place: int) -> Any:
    """Return the values in turn."""
    return values[place % len(values)]


def account(number: int, currency: str = "NGN") -> AccountRef:
    return AccountRef(number, "acme", f"account-{number}", "customer", currency, "credit", True)


def transition(place: int, **changes: Any) -> Transition:
    move = Move(State.ACCEPTED, next(iter(Topic)))
    made = Transition(
        uuid(), 2**31 - 1 - place, pick(WORDS, place), pick(MOMENTS, place), pick(STATES, place),
        pick(WORDS, place + 1), pick(BYTES, place), pick(BYTES, place + 1), move, None,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def posting(place: int, **changes: Any) -> Posting:
    made = Posting(
        uuid(), place, pick(WORDS, place), pick(WORDS, place + 1), account(pick((1, 2**63 - 1), place)), account(7),
        pick((-(2**63), 1, 2**63 - 1), place), pick((0, 2**63 - 1), place), pick(MOMENTS, place), pick(BYTES, place),
        None if place % 3 else pick(MOMENTS, place + 1),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def timer(place: int, **changes: Any) -> Timer:
    made = Timer(pick(WORDS, place), uuid(), pick(WORDS, place + 1), place, pick(WORDS, place), pick(MOMENTS, place))
    return msgspec.structs.replace(made, **changes)


def leaf(place: int) -> copying.Leaf:
    # the index over hashes takes no value of that many bytes
    return pick(WORDS, place), 2**63 - 1 - next(numbers), uuid(), pick(BYTES, place), pick(BYTES[:3], place)


def tile(place: int) -> copying.Tile:
    return pick(WORDS, place), place, 2**63 - 1 - next(numbers), pick(BYTES, place)


def head(place: int) -> LogHead:
    size = pick((0, 1, 0b1011), place)
    frontier = Frontier(size, tuple(bytes([number]) * 32 for number in range(size.bit_count())))
    return LogHead(
        f"{WORDS[2]}{next(numbers)}", size, frontier, pick(BYTES, place), pick(MOMENTS, place), pick(WORDS, place),
        pick(BYTES, place + 1),
    )  # fmt: skip


def message(place: int) -> copying.OutboxRow:
    if place % 2:
        return uuid(), 2**31 - 1 - place, pick(WORDS, place), pick(BYTES, place // 2), ()
    told = [(uuid(), sequence) for sequence in range(place)]
    return uuid(), place, pick(WORDS, place), None, told


def columns(row: Any) -> tuple[Any, ...]:
    """Return a row as its table has it."""
    match row:
        case Transition():
            return row.intent, row.sequence, row.tenant, row.at, row.state, row.event, row.record, row.hash
        case Posting():
            currency = row.debit.currency
            return (
                row.intent, row.ordinal, row.tenant, row.kind, row.debit.id, row.credit.id, currency, row.pending,
                row.posted, row.at, row.hash, row.effective_at,
            )  # fmt: skip
        case Timer():
            return row.kind, row.key, row.name, row.partition, row.tenant, row.due_at
        case LogHead():
            return row.tenant, row.size, row.root, list(row.frontier.hashes), row.at, row.key_id, row.signature
        case (str(), int(), str(), None, told):
            return *row[:4], [key for key, _ in told], [sequence for _, sequence in told]
        case (str(), int(), str(), bytes(), ()):
            return *row[:4], None, None
    return tuple(row)


def at_once(part: Callable[[Sequence[Any]], few.Part]) -> Copy:
    """Return what writes rows as a part of one statement."""

    async def write(connection: Connection, rows: Sequence[Any]) -> None:
        await few.write_few(connection, [part(rows)])

    return write


TABLES: list[tuple[Copy, Callable[[int], Any], str]] = [
    (copying.copy_transitions, transition, "intent, sequence, tenant, at, state, event, record, hash from transitions"),
    (
        copying.copy_postings,
        posting,
        "intent, ordinal, tenant, kind, debit, credit, currency, pending, posted, at, hash, effective_at from postings",
    ),
    (copying.copy_timers, timer, "kind, key, name, partition, tenant, due_at from timers"),
    (copying.copy_leaves, leaf, "tenant, index, intent, data, hash from log_leaves"),
    (copying.copy_tiles, tile, "tenant, level, index, hash from log_tiles"),
    (copying.copy_heads, head, "tenant, size, root, frontier, at, key_id, signature from log_heads"),
    (copying.copy_outbox, message, "id, partition, subject, body, intents, sequences from outbox"),
]
ONE_STATEMENT = {
    copying.copy_transitions: at_once(few.few_transitions),
    copying.copy_postings: at_once(few.few_postings),
    copying.copy_timers: at_once(few.few_timers),
    copying.copy_leaves: at_once(few.few_leaves),
    copying.copy_tiles: at_once(few.few_tiles),
    copying.copy_heads: at_once(few.few_heads),
    copying.copy_outbox: at_once(few.few_outbox),
}
TABLES += [(ONE_STATEMENT[copy], make, selected) for copy, make, selected in TABLES]
NAMES = [columns.rpartition(" ")[2] for _, _, columns in TABLES]


@pytest.mark.parametrize(("copy", "make", "selected"), TABLES, ids=NAMES)
async def test_a_row_that_was_copied_reads_as_it_was_given(
    writer_pool: Pool, copy: Copy, make: Callable[[int], Any], selected: str
) -> None:
    rows = [make(place) for place in range(41)]
    async with transaction(writer_pool) as connection:
        before = {tuple(map(repr, row)) for row in await connection.fetch(f"select {selected}")}
        await copy(connection, rows[:1])
        await copy(connection, rows[1:])
        found = [tuple(row) for row in await connection.fetch(f"select {selected}")]
    new = [row for row in found if tuple(map(repr, row)) not in before]
    given = [columns(row) for row in rows]
    assert len(new) == len(given)
    assert [row for row in given if row not in new] == []


@pytest.mark.parametrize(
    ("copy", "row"),
    [
        (copying.copy_transitions, transition(0, intent="")),
        (copying.copy_transitions, transition(0, intent="ab" * 15 + "  ")),
        (copying.copy_transitions, transition(0, intent="no hex digits")),
        (copying.copy_transitions, transition(0, sequence=2**31)),
        (copying.copy_transitions, transition(0, sequence=None)),
        (copying.copy_transitions, transition(0, event="a\0b")),
        (copying.copy_transitions, transition(0, event="\ud800")),
        (copying.copy_transitions, transition(0, at=datetime(2026, 1, 1))),
        (copying.copy_postings, posting(0, pending=2**63)),
        (copying.copy_postings, posting(0, posted=-1)),
        (copying.copy_postings, posting(0, intent="")),
        (copying.copy_postings, posting(0, effective_at=datetime(2026, 1, 1))),
        (copying.copy_timers, timer(0, key="ab" * 17)),
        (copying.copy_outbox, (uuid(), 1, "zc.1.policy", None, [("", 1)])),
    ],
)
@pytest.mark.parametrize("one_statement", [False, True], ids=["by copy", "in one statement"])
async def test_what_fits_no_column_is_refused_and_the_connection_lives(
    writer_pool: Pool, copy: Copy, row: Any, one_statement: bool
) -> None:
    write = ONE_STATEMENT[copy] if one_statement else copy
    with pytest.raises(DataError):
        async with transaction(writer_pool) as connection:
            await write(connection, [transition(1)] * (copy is copying.copy_transitions) + [row])
    assert await writer_pool.fetchval("select 1") == 1


async def test_more_different_words_than_are_kept_are_copied_all_the_same(
    writer_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_WORDS_MAX", 3)
    rows = [timer(0, tenant=f"tenant-{number}") for number in range(10)]
    async with transaction(writer_pool) as connection:
        await copying.copy_timers(connection, rows)
        found = await connection.fetch("select tenant from timers where key = any($1::uuid[])", [t.key for t in rows])
    assert sorted(row[0] for row in found) == sorted(t.tenant for t in rows)
