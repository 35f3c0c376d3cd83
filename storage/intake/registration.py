"""Registering intents: a group of them in one transaction, each with the answer its key will give for ever.

- Key first, intent second, everything else last, each in one order: two writers never wait for each other in a circle.
- A group is written as if all of it were new, which is cheap and nearly always so. Where something is known already,
  the store says so, nothing of that run is kept, and the next one looks before it writes.
- Whoever comes second, in this group or in another, finds what the first one stored and is never an error for others.
- A key that points to an existing intent gives that intent's first answer; one that met another command is not kept.
- The ACCEPTED transition, its timer and its frames are in the same commit, or nothing is.
- Personal data comes with the intent that has it or not at all; who reckoned with a key that its subject has no more is
  told so, and nothing of it is kept.
- A group of a few is one statement that commits itself: a round trip costs more than what it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import asyncpg
from msgspec import Struct

from zentra.runtime.errors import Contended, DataError, InDoubt, ZentraError
from zentra.runtime.idempotency import KeyRef, StoredKey
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.messages import Due, Event, Opening
from zentra.runtime.ports import Timer
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.copying import copy_timers, copy_transitions
from zentra.storage.few import few_outbox, few_timers, few_transitions, write_few
from zentra.storage.intake.personal import Personal, write_personal
from zentra.storage.outbox import Row, command_frames, feed_frames, outbox_rows, write_outbox
from zentra.storage.pool import Connection, Pool, transaction

__all__ = [
    "IntentIdTaken",
    "Outcome",
    "Registered",
    "Registration",
    "Registrations",
    "SubjectMoved",
    "register_intents",
    "stored_commands",
]

FEW_ITEMS: Final = 4  # five rows each
RUNS_MAX: Final = 8  # each run settles somebody, and a writer that loses eight times is better told to come back


class Registration(Struct, frozen=True, kw_only=True, gc=False):
    """One intent to register, with its first transition and the timer that watches over it."""

    tenant: str
    key: str
    digest: bytes
    intent: str
    intent_id: str
    command: bytes
    principal: str
    role: str
    trace: str
    request_id: str
    status: int
    answer: bytes
    transition: Transition
    timer: Timer
    personal: Personal | None = None


class Registered(Struct, frozen=True):
    """The intent is new and committed."""


class IntentIdTaken(Struct, frozen=True):
    """Another command has this intent_id; the key was not kept. `intent` is the one that has it."""

    intent: str


class SubjectMoved(Struct, frozen=True):
    """The subject of its personal data has another key by now: it was erased, or somebody was first to name it."""


Outcome = Registered | StoredKey | IntentIdTaken | SubjectMoved


class Registrations(Struct, frozen=True):
    """One outcome per item, in order, and the messages to publish now."""

    outcomes: list[Outcome]
    outgoing: list[Outgoing]


REGISTERED: Final = Registered()
MOVED: Final = SubjectMoved()


class _Moved(ZentraError):
    """Raised where subjects of personal data have other keys; `places` are those who are too late."""

    def __init__(self, places: list[int]) -> None:
        super().__init__("subjects have other keys by now")
        self.places = places


class _Known(ZentraError):
    """Raised where a key or an intent that was taken for new is known."""


async def register_intents(pool: Pool, items: Sequence[Registration], *, guess: bool = True) -> Registrations:
    """Register a group in one commit, or in a few where items stand in each other's way.

    `guess` says that the keys are most probably new. An item whose key is known gets what is stored; whether that is a
    replay or a reused key is the caller's to say. Raises Unavailable or Contended where the store cannot do it now, and
    DataError where it refuses one of the items: then none is registered, unless an earlier run settled it, and asking
    again with the same keys is safe."""
    outcomes: dict[int, Outcome] = {}
    outgoing: list[Outgoing] = []
    open_items = dict(enumerate(items))
    doubted = False
    guess = guess and _differ(items)
    for _ in range(RUNS_MAX):
        group = _Group(open_items, doubted, guess)
        try:
            async with transaction(pool, one_statement=group.few) as connection:
                await group.write(connection)
        except _Known:
            guess = False
            continue
        except _Moved as moved:
            outcomes |= dict.fromkeys(moved.places, MOVED)
        except InDoubt:
            doubted, guess = True, False
            async with transaction(pool) as connection:
                outcomes |= dict.fromkeys(await _committed(connection, open_items), REGISTERED)
        except Contended:
            guess = False
            continue
        else:
            outcomes |= group.outcomes
            outgoing += [message for _, message in group.rows]
        if len(outcomes) == len(items):
            return Registrations([outcomes[place] for place in range(len(items))], outgoing)
        open_items = {place: item for place, item in open_items.items() if place not in outcomes}
    raise Contended(f"{len(open_items)} intents are not settled after {RUNS_MAX} runs")


async def stored_commands(pool: Pool, refs: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Return the commands of (tenant, intent), as stored, by intent; raises Unavailable."""
    async with transaction(pool) as connection:
        rows = await connection.fetch(
            "select i.id, i.command from intents i join unnest($1::text[], $2::uuid[]) as given (tenant, id)"
            " on i.id = given.id and i.tenant = given.tenant",
            [tenant for tenant, _ in refs], [intent for _, intent in refs],
        )  # fmt: skip
    return {row[0]: row[1] for row in rows}


async def _committed(connection: Connection, items: dict[int, Registration]) -> list[int]:
    """Return which items a commit in doubt has registered; its frames are then left to the sweep."""
    rows = await connection.fetch(
        "select id from intents where id = any($1::uuid[])", [item.intent for item in items.values()]
    )
    found = {row[0] for row in rows}
    return [place for place, item in items.items() if item.intent in found]


class _Group:
    """One run: what it decided, by the place of each item, and the rows it put into the outbox.

    A run that guesses copies keys and intents as if all were new, and raises _Known where one is not. After a run in
    doubt (`doubted`), what this one finds may be of that one: a server goes on with a commit whose client is gone. The
    keys wait for its end, so what it registered is seen before anything is added to it."""

    def __init__(self, items: dict[int, Registration], doubted: bool, guess: bool) -> None:
        self.items, self.doubted, self.guess = items, doubted, guess
        self.outcomes: dict[int, Outcome] = {}
        self.rows: list[Row] = []
        self.few = guess and len(items) <= FEW_ITEMS and all(item.personal is None for item in items.values())

    async def write(self, connection: Connection) -> None:
        if self.few:
            await self._write_few(connection)
        elif self.guess:
            await self._copy_keys_and_intents(connection)
            await self._insert_rest(connection, list(self.items))
            self.outcomes = dict.fromkeys(self.items, REGISTERED)
        else:
            await self._look_and_write(connection)

    async def _look_and_write(self, connection: Connection) -> None:
        winners = await self._insert_keys(connection)
        if self.doubted:
            done = await _committed(connection, {place: self.items[place] for place in winners})
            self.outcomes |= dict.fromkeys(done, REGISTERED)
            winners = [place for place in winners if place not in self.outcomes]
        winners = await self._insert_intents(connection, winners)
        if winners:
            await self._insert_rest(connection, winners)
            self.outcomes |= dict.fromkeys(winners, REGISTERED)
        await self._read_losers(connection)

    async def _write_few(self, connection: Connection) -> None:
        """Write all as new, in one statement; raises _Known where something is not."""
        items = list(self.items.values())
        self.rows = _frames(items)
        parts = [
            (_ADD_KEYS, _columns(map(_key_row, sorted(items, key=_by_key)))),
            (_ADD_INTENTS, _columns(map(_intent_row, sorted(items, key=_by_intent_id)))),
            few_transitions([item.transition for item in items]),
            few_timers([item.timer for item in items]),
            few_outbox(outbox_rows(self.rows)),
        ]
        with _known_is_told():
            await write_few(connection, parts)
        self.outcomes = dict.fromkeys(self.items, REGISTERED)

    async def _copy_keys_and_intents(self, connection: Connection) -> None:
        """Write both as new, in the order of the statements below, byte by byte; raises _Known where one is not."""
        items = self.items.values()
        with _known_is_told():
            await connection.copy_records_to_table(
                "idempotency", columns=_KEY_COLUMNS, records=[_key_row(i) for i in sorted(items, key=_by_key)]
            )
            await connection.copy_records_to_table(
                "intents", columns=_INTENT_COLUMNS, records=[_intent_row(i) for i in sorted(items, key=_by_intent_id)]
            )

    async def _insert_keys(self, connection: Connection) -> list[int]:
        """Return the places whose keys are ours now."""
        items = self.items.values()
        columns = zip(*[_key_row(i) for i in items], strict=True)
        if await _affected(connection, _INSERT_KEYS, *columns) == len(items):
            return list(self.items)
        # The uuid is this item's alone, so the row that carries it was written by it.
        rows = await connection.fetch(_SUBJECTS, [i.tenant for i in items], [i.key for i in items])
        subjects = {row[0] for row in rows}
        return [place for place, i in self.items.items() if f"intent/{i.intent}" in subjects]

    async def _insert_intents(self, connection: Connection, places: list[int]) -> list[int]:
        """Return the places whose intents are new; settle the keys of the others."""
        if not places:
            return places
        items = [self.items[place] for place in places]
        columns = zip(*[_intent_row(i) for i in items], strict=True)
        if await _affected(connection, _INSERT_INTENTS, *columns) == len(items):
            return places
        rows = await connection.fetch(_INTENTS, [i.tenant for i in items], [i.intent_id for i in items])
        existing = {(row["tenant"], row["intent_id"]): row for row in rows}
        winners, same, taken = [], [], []
        for place, item in zip(places, items, strict=True):
            row = existing[item.tenant, item.intent_id]
            if row["id"] == item.intent:
                winners.append(place)
            elif row["digest"] == item.digest:
                same.append((item.tenant, item.key, row["key"]))
            else:
                taken.append((item.tenant, item.key))
                self.outcomes[place] = IntentIdTaken(row["id"])
        if same:
            done = await _affected(connection, _FOLLOW_FIRST_KEY, *zip(*same, strict=True))
            if done != len(same):
                raise DataError("an intent has lost the key that it was registered with")
        if taken:
            await connection.execute(_DROP_KEYS, *zip(*taken, strict=True))
        return winners

    async def _insert_rest(self, connection: Connection, places: list[int]) -> None:
        items = [self.items[place] for place in places]
        personal = [(place, i, i.personal) for place, i in zip(places, items, strict=True) if i.personal is not None]
        if personal:
            moved = await write_personal(connection, [(i.tenant, i.intent, one) for _, i, one in personal])
            if moved:
                raise _Moved([personal[number][0] for number in moved])
        await copy_transitions(connection, [item.transition for item in items])
        await copy_timers(connection, [item.timer for item in items])
        self.rows = _frames(items)
        await write_outbox(connection, self.rows)

    async def _read_losers(self, connection: Connection) -> None:
        """Give those who came second what is stored.

        Where the key is free again, because the first to come with it asked for an intent id that is taken, the others
        are told of the id as well; what may still be registered has no outcome yet."""
        losers = {place: (i.tenant, i.key) for place, i in self.items.items() if place not in self.outcomes}
        if losers:
            stored = await _stored(connection, list(losers.values()))
            self.outcomes |= {place: stored[key] for place, key in losers.items() if key in stored}
        left = {place: i for place, i in self.items.items() if place not in self.outcomes}
        if left:
            wanted = list(left.values())
            rows = await connection.fetch(_INTENTS, [i.tenant for i in wanted], [i.intent_id for i in wanted])
            existing = {(row["tenant"], row["intent_id"]): row for row in rows}
            for place, item in left.items():
                row = existing.get((item.tenant, item.intent_id))
                if row is not None and row["digest"] != item.digest:
                    self.outcomes[place] = IntentIdTaken(row["id"])


def _differ(items: Sequence[Registration]) -> bool:
    """Return whether no two items have a key or an intent's id in common."""
    most = len(items)
    return len({(i.tenant, i.key) for i in items}) == most == len({(i.tenant, i.intent_id) for i in items})


@contextmanager
def _known_is_told() -> Iterator[None]:
    """Raise _Known where a key or an intent that was taken for new is known."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise _Known("a key or an intent is known already") from error


def _columns(rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return list(zip(*rows, strict=True))


def _by_key(item: Registration) -> KeyRef:
    return item.tenant, item.key


def _by_intent_id(item: Registration) -> KeyRef:
    return item.tenant, item.intent_id


def _key_row(i: Registration) -> tuple[object, ...]:
    return i.tenant, i.key, i.digest, f"intent/{i.intent}", i.status, i.answer, i.request_id, i.transition.at


def _intent_row(i: Registration) -> tuple[object, ...]:
    return (
        i.intent, i.tenant, i.intent_id, i.digest, i.command, i.principal, i.role, i.key, i.trace, i.transition.at,
    )  # fmt: skip


def _frames(items: list[Registration]) -> list[Row]:
    due: dict[int, list[tuple[Event, int]]] = {}
    feeds: dict[tuple[int, str, str], list[Transition]] = {}
    for item in items:
        transition, partition = item.transition, item.timer.partition
        record = transition.record
        event = Due(item.intent, item.tenant, transition.sequence, Opening(record, transition.hash))
        due.setdefault(partition, []).append((event, len(record)))
        feeds.setdefault((partition, item.tenant, transition.event), []).append(transition)
    rows = [row for partition, events in due.items() for row in command_frames(partition, "policy", events)]
    for (partition, tenant, topic), transitions in feeds.items():
        rows += feed_frames(partition, tenant, topic, transitions)
    return rows


async def _stored(connection: Connection, keys: Sequence[KeyRef]) -> dict[KeyRef, StoredKey]:
    rows = await connection.fetch(_KEYS, [tenant for tenant, _ in keys], [key for _, key in keys])
    return {(row[0], row[1]): StoredKey(*row[2:]) for row in rows}


async def _affected(connection: Connection, statement: str, *columns: Sequence[object]) -> int:
    """Return how many rows a statement wrote: the last word of the server's `INSERT 0 500`."""
    return int((await connection.execute(statement, *columns)).rpartition(" ")[2])


_KEY_COLUMNS: Final = ("tenant", "key", "digest", "subject", "status", "answer", "request_id", "first_seen")
_INTENT_COLUMNS: Final = (
    "id", "tenant", "intent_id", "digest", "command", "principal", "role", "key", "trace", "created_at",
)  # fmt: skip
_ADD_KEYS: Final = """
insert into idempotency (tenant, key, digest, subject, status, answer, request_id, first_seen)
select * from unnest({0}::text[], {1}::text[], {2}::bytea[], {3}::text[], {4}::smallint[], {5}::bytea[], {6}::text[],
                     {7}::timestamptz[])
returning 1
"""
# It looks at what the part before has written, so the keys are written first.
_ADD_INTENTS: Final = """
insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)
select * from unnest({0}::uuid[], {1}::text[], {2}::text[], {3}::bytea[], {4}::bytea[], {5}::text[], {6}::text[],
                     {7}::text[], {8}::text[], {9}::timestamptz[])
where (select count(*) from part_0) > 0
"""
_INSERT_KEYS: Final = """
insert into idempotency (tenant, key, digest, subject, status, answer, request_id, first_seen)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::smallint[], $6::bytea[], $7::text[],
                     $8::timestamptz[]) as given (tenant, key, digest, subject, status, answer, request_id, first_seen)
order by tenant collate "C", key collate "C"
on conflict do nothing
"""
_INSERT_INTENTS: Final = """
insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::timestamptz[])
    as given (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)
order by tenant collate "C", intent_id collate "C"
on conflict do nothing
"""
_SUBJECTS: Final = """
select subject from idempotency join unnest($1::text[], $2::text[]) as given (tenant, key) using (tenant, key)
"""
_KEYS: Final = """
select tenant, key, digest, status, answer, subject, request_id, first_seen
from idempotency join unnest($1::text[], $2::text[]) as given (tenant, key) using (tenant, key)
"""
_INTENTS: Final = """
select tenant, intent_id, id, digest, key
from intents join unnest($1::text[], $2::text[]) as given (tenant, intent_id) using (tenant, intent_id)
"""
_DROP_KEYS: Final = """
delete from idempotency i using unnest($1::text[], $2::text[]) as given (tenant, key)
where i.tenant = given.tenant and i.key = given.key
"""
_FOLLOW_FIRST_KEY: Final = """
update idempotency i
set subject = first.subject, status = first.status, answer = first.answer, request_id = first.request_id,
    first_seen = first.first_seen
from unnest($1::text[], $2::text[], $3::text[]) as given (tenant, key, first_key)
join idempotency first on first.tenant = given.tenant and first.key = given.first_key
where i.tenant = given.tenant and i.key = given.key
"""
