"""Provider callbacks: raw bytes and digest are committed, unique by rail and event id, before the provider hears "ok".

- A repeat is counted and not stored twice, and it still reaches the actor, which keeps a record of it.
- One that says under a new event id what another has said, by the references and the status, is stored with its bytes,
  and marked: what it says beyond that, another amount for one, is the actor's to judge.
- A known event id over other bytes is no repeat. It is stored under an id of its own, so nothing a rail said is lost.
- The body is what arrived, byte for byte; whether it was authentic was settled before it came here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from zentra.runtime.errors import Contended
from zentra.runtime.messages import Event, RailReported, callback_cause
from zentra.runtime.partitions import callback_key, partition_of
from zentra.runtime.ports import WaitingCallback
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.outbox import Row, command_frames, write_outbox
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["WAITING", "Callback", "Callbacks", "Taken", "register_callbacks", "waiting_of"]

RUNS_MAX: Final = 4
OTHER_BYTES_DIGITS: Final = 16  # of the digest that tells a known event id over other bytes apart


class Taken(StrEnum):
    """What a callback was to the store."""

    NEW = "new"
    REPEATED = "repeated"  # the same event id and bytes
    SAID_BEFORE = "said_before"  # another event id; the same references and status


class Callback(Struct, frozen=True):
    """One verified callback: what it says, and the bytes and headers that said it."""

    outcome: RailOutcome
    event_id: str
    body: bytes
    headers: Mapping[str, str]
    peer: str | None = None


class Callbacks(Struct, frozen=True):
    """What each callback was, in order, and the messages to publish now."""

    taken: list[Taken]
    outgoing: list[Outgoing]


async def register_callbacks(pool: Pool, group: Sequence[Callback], *, partitions: int) -> Callbacks:
    """Commit a group of callbacks and what tells their actors.

    Raises Unavailable or Contended where nothing was committed that the provider would not send again, and DataError
    where the store refuses one of them."""
    for _ in range(RUNS_MAX):
        try:
            async with transaction(pool) as connection:
                named, taken = await _store(connection, group)
                rows = _frames(named, partitions)
                await write_outbox(connection, rows)
            return Callbacks(taken, [message for _, message in rows])
        except Contended:
            continue
    raise Contended(f"a group of {len(group)} callbacks lost {RUNS_MAX} times")


async def _store(connection: Connection, group: Sequence[Callback]) -> tuple[list[Callback], list[Taken]]:
    """Return the callbacks under the event ids that they are stored by, and what each was."""
    named, fresh = list(group), await _insert(connection, group)
    taken: list[Taken | None] = [None] * len(group)
    stored = await _digests(connection, named)
    others = []
    for place, callback in enumerate(group):
        digest = hashlib.sha256(callback.body).digest()
        if stored.get(_name(callback), digest) == digest:
            taken[place] = _count(fresh, callback)
        else:
            event_id = f"{callback.event_id}~{digest.hex()[:OTHER_BYTES_DIGITS]}"
            named[place] = structs.replace(callback, event_id=event_id)
            others.append(place)
    if others:
        again = await _insert(connection, [named[place] for place in others])
        for place in others:
            taken[place] = _count(again, named[place])
    told = [word if word is not None else Taken.REPEATED for word in taken]
    repeats = Counter(_name(one) for one, word in zip(named, told, strict=True) if word is Taken.REPEATED)
    if repeats:
        rows = sorted((rail, event, count) for (rail, event), count in repeats.items())
        await connection.execute(_REPEAT, *zip(*rows, strict=True))
    return named, told


def _count(fresh: dict[tuple[str, str], Taken], callback: Callback) -> Taken:
    """Return what a callback was of which the first of its id is among the `fresh`: the second one is a repeat."""
    return fresh.pop(_name(callback), Taken.REPEATED)


def _name(callback: Callback) -> tuple[str, str]:
    return callback.outcome.rail, callback.event_id


async def _insert(connection: Connection, group: Sequence[Callback]) -> dict[tuple[str, str], Taken]:
    """Store what is new of a group; return that, by rail and event id."""
    first: dict[tuple[str, str], Callback] = {}
    said: dict[tuple[str, str, str, str | None], str] = {}
    for callback in group:
        first.setdefault(_name(callback), callback)
    rows = []
    for callback in first.values():
        one = callback.outcome
        same_as = said.setdefault((one.rail, one.reference, one.status, one.provider_reference), callback.event_id)
        rows.append(
            (
                one.rail, callback.event_id, one.reference, callback.body,
                msgspec.json.encode(dict(callback.headers)).decode(), hashlib.sha256(callback.body).digest(),
                str(one.status), one.minor, one.currency, one.provider_reference, one.reason, one.trust, callback.peer,
                None if same_as == callback.event_id else same_as,
            )
        )  # fmt: skip
    stored = await connection.fetch(_INSERT, *zip(*rows, strict=True))
    return {(row[0], row[1]): Taken.NEW if row[2] is None else Taken.SAID_BEFORE for row in stored}


async def _digests(connection: Connection, group: Sequence[Callback]) -> dict[tuple[str, str], bytes]:
    """Return the digests that are stored under the rails and event ids of a group."""
    names = sorted({_name(callback) for callback in group})
    return {(row[0], row[1]): row[2] for row in await connection.fetch(_DIGESTS, *zip(*names, strict=True))}


def _frames(group: Sequence[Callback], partitions: int) -> list[Row]:
    by_partition: dict[int, list[tuple[Event, int]]] = {}
    for callback in group:
        outcome = structs.replace(callback.outcome, event_id=callback.event_id)
        known = parse_reference(outcome.reference)
        key = known[0] if known is not None else callback_key(outcome.rail, outcome.reference)
        event = RailReported(outcome, callback_cause(callback.event_id))
        by_partition.setdefault(partition_of(key, partitions), []).append((event, 256))
    return [row for partition, events in by_partition.items() for row in command_frames(partition, "callback", events)]


def waiting_of(
    names: Collection[tuple[str, str]], rows: Sequence[Sequence[Any]]
) -> dict[tuple[str, str], tuple[WaitingCallback, ...]]:
    """Return what the rows of `WAITING` say, by rail and reference."""
    found: dict[tuple[str, str], list[WaitingCallback]] = {}
    for rail, reference, event_id, status, minor, currency, provider, reason, trust, digest, at in rows:
        outcome = RailOutcome(
            rail, reference, OutcomeStatus(status), minor, currency, provider, event_id, reason, trust, digest.hex()
        )
        found.setdefault((rail, reference), []).append(WaitingCallback(outcome, at))
    return {name: tuple(found[name]) for name in names if name in found}


def strangers_of(rails: Collection[str], rows: Sequence[Sequence[Any]]) -> dict[str, frozenset[str]]:
    """Return what the rows of `OPEN_STRANGERS` say, by rail."""
    found: dict[str, set[str]] = {rail: set() for rail in rails}
    for rail, reference in rows:
        found[rail].add(reference)
    return {rail: frozenset(references) for rail, references in found.items()}


_INSERT: Final = """
insert into callbacks (rail, event_id, reference, body, headers, digest, status, minor, currency, provider_reference,
    reason, trust, peer, same_as)
select rail, event_id, reference, body, headers::jsonb, digest, status, minor, currency, provider_reference, reason,
    trust, peer, coalesce(same_as, (
        select known.event_id from callbacks known
        where known.rail = given.rail and known.reference = given.reference and known.status = given.status
            and known.provider_reference is not distinct from given.provider_reference
        order by known.received_at limit 1))
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::bigint[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
    as given (rail, event_id, reference, body, headers, digest, status, minor, currency, provider_reference, reason,
        trust, peer, same_as)
order by rail, event_id
on conflict do nothing
returning rail, event_id, same_as
"""
_DIGESTS: Final = """
select rail, event_id, digest
from callbacks join unnest($1::text[], $2::text[]) as given (rail, event_id) using (rail, event_id)
"""
_REPEAT: Final = """
insert into callback_repeats as known (rail, event_id, count, last_at)
select rail, event_id, count, now()
from unnest($1::text[], $2::text[], $3::int[]) as given (rail, event_id, count)
on conflict (rail, event_id) do update set count = known.count + excluded.count, last_at = excluded.last_at
"""
WAITING: Final = """
select n.rail, n.reference, c.event_id, coalesce(c.status, 'unknown'), c.minor, c.currency, c.provider_reference,
    c.reason, coalesce(c.trust, 'none'), c.digest, c.received_at
from unnest($1::text[], $2::text[]) as n (rail, reference) cross join lateral (
    select * from callbacks
    where rail = n.rail and reference = n.reference and intent is null
    order by received_at, event_id limit $3
) c
"""
"""The callbacks that no intent has claimed, of rails and references, in the order of their arrival; so many of each.

One that a gateway of the version before has kept says nothing but that it came."""

OPEN_STRANGERS: Final = """
with open_ones as materialized (
    select detail->>'rail' as rail, detail->>'reference' as reference, opened_at, id
    from cases where tenant = '-' and status = 'open' and kind = 'unknown_reference'
)
select n.rail, c.reference
from unnest($1::text[]) as n (rail) cross join lateral (
    select reference from open_ones where rail = n.rail order by (reference = $2) desc, opened_at, id limit $3 + 1
) c
"""
"""The references of rails whose case is open: one row for what stands for the rest, and so many others."""
