"""Commands on existing objects, and answers that go with a key: immutable facts, committed before anybody acts on them.

- The fact, its idempotency row and its frame are one commit; the gateway answers after it.
- A round of a review has seats: one rejection ends it, or as many approvals as it takes, each by another person. Who
  finds none left is told so and nothing of theirs is kept. A decision that the engine refuses gives its seat back.
- A key that is known brings back what it did first; what it did is never done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import asyncpg
from msgspec import Struct

from zentra.runtime.errors import Contended
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.messages import CommandGiven
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.errors import AlreadyDecided, translated
from zentra.storage.outbox import command_frames, write_outbox
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = [
    "Command", "Decision", "KeyedAnswer", "bind_key", "claim_key", "give_command", "known_key", "once",
    "register_command", "rerun", "stored_key",
]  # fmt: skip

RUNS_MAX: Final = 4

T = TypeVar("T")


class KeyedAnswer(Struct, frozen=True, kw_only=True):
    """A key, the digest of what was asked with it, and the answer it will give from now on."""

    tenant: str
    key: str
    digest: bytes
    subject: str
    status: int
    answer: bytes
    request_id: str


class Decision(Struct, frozen=True):
    """A person's verdict on one round of a review (the intent's uuid), which takes so many approvals."""

    review: str
    round: int
    verdict: str
    reason: str
    approvals: int = 1
    request_hash: str | None = None


class Command(Struct, frozen=True, kw_only=True):
    """Something asked of an object that `partition` owns; `subject` is the object's text id, `id` a uuid, `intent` the
    intent that it may move where the subject is another object, `also` what is written before it in its transaction."""

    id: str
    kind: str
    subject: str
    principal: str
    role: str
    body: bytes
    partition: int
    stage: str = "command"
    decision: Decision | None = None
    intent: str = ""
    also: Callable[[Connection], Awaitable[None]] | None = None


async def register_command(pool: Pool, keyed: KeyedAnswer, command: Command) -> StoredKey | Outgoing:
    """Commit the command and return its message to publish, or what its key has stored already.

    Raises AlreadyDecided where the round of the review has no seat left for this decision; Unavailable and DataError
    as the store does, and what the command's `also` raises. Asking again with the same key is safe."""

    async def register(connection: Connection) -> StoredKey | Outgoing:
        stored = await claim_key(connection, keyed)
        return stored if stored is not None else await give_command(connection, keyed.tenant, command)

    return await rerun(pool, keyed.tenant, register)


async def once(pool: Pool, keyed: KeyedAnswer, write: Callable[[Connection], Awaitable[None]]) -> StoredKey | None:
    """Run `write` with its key in one transaction of the tenant and return None, or what the key has stored already.

    Raises what `write` raises; Unavailable and DataError as the store does."""

    async def run(connection: Connection) -> StoredKey | None:
        stored = await claim_key(connection, keyed)
        if stored is None:
            await write(connection)
        return stored

    return await rerun(pool, keyed.tenant, run)


async def rerun(pool: Pool, tenant: str, run: Callable[[Connection], Awaitable[T]]) -> T:
    """Return what `run` returns in a transaction of the tenant, which it runs anew where it has lost against others.

    Raises Contended where it lost RUNS_MAX times, and what `run` raises otherwise."""
    for _ in range(RUNS_MAX):
        try:
            async with tenant_transaction(pool, tenant) as connection:
                return await run(connection)
        except Contended:
            continue
    raise Contended(f"a transaction of {tenant} lost {RUNS_MAX} times")


async def claim_key(connection: Connection, keyed: KeyedAnswer) -> StoredKey | None:
    """Store the key within the caller's transaction and return None, or return what it has stored before.

    Waits for another transaction that is storing the same key. Raises Contended where that one gave it up again."""
    row = await connection.fetchrow(
        _CLAIM, keyed.tenant, keyed.key, keyed.digest, keyed.subject, keyed.status, keyed.answer, keyed.request_id
    )
    if row is not None:
        return None
    stored = await known_key(connection, keyed.tenant, keyed.key)
    if stored is None:
        raise Contended(f"key {keyed.key!r} was given up while it was read")
    return stored


async def known_key(connection: Connection, tenant: str, key: str) -> StoredKey | None:
    """Return what a key of the tenant has stored, or None."""
    found = await connection.fetchrow(_STORED, tenant, key)
    return None if found is None else StoredKey(*found)


async def bind_key(pool: Pool, keyed: KeyedAnswer) -> StoredKey | None:
    """Commit what a key is for and return None, or return what it has stored before.

    Raises Unavailable and DataError as the store does. Asking again with the same key is safe."""
    return await rerun(pool, keyed.tenant, lambda connection: claim_key(connection, keyed))


async def stored_key(pool: Pool, tenant: str, key: str) -> StoredKey | None:
    """Return what a key of the tenant has stored, or None; over the writer's pool. Raises Unavailable."""
    with translated():
        async with pool.acquire() as connection:
            return await known_key(connection, tenant, key)


async def give_command(connection: Connection, tenant: str, command: Command) -> Outgoing:
    """Store the command and its frame within the caller's transaction and return its message, to publish after it.

    Raises AlreadyDecided and Contended as `register_command` does."""
    if command.also is not None:
        await command.also(connection)
    created: datetime = await connection.fetchval(
        "insert into commands (id, tenant, kind, subject, principal, role, body)"
        " values ($1, $2, $3, $4, $5, $6, $7) returning created_at",
        command.id, tenant, command.kind, command.subject, command.principal, command.role, command.body,
    )  # fmt: skip
    decision = command.decision
    if decision is not None:
        try:
            seat = await connection.fetchval(
                _TAKE_SEAT, decision.review, decision.round, tenant, decision.verdict, command.principal,
                decision.reason, created, decision.approvals, command.id, decision.request_hash,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:  # somebody took it at the same moment: look again
            raise Contended(f"a seat of review {decision.review} was taken") from error
        if seat is None:
            raise AlreadyDecided(decision.review, decision.round)
    event = CommandGiven(
        command.id, tenant, command.kind, command.subject, command.principal, command.role, command.body,
        command.intent,
    )  # fmt: skip
    rows = list(command_frames(command.partition, command.stage, [(event, len(command.body))]))
    await write_outbox(connection, rows)
    return rows[0][1]


_STORED: Final = """
select digest, status, answer, subject, request_id, first_seen from idempotency where tenant = $1 and key = $2
"""
_TAKE_SEAT: Final = """
insert into review_decisions
    (review, round, seat, tenant, verdict, principal, reason, decided_at, command, request_hash)
select $1, $2, 1 + count(*), $3, $4, $5, $6, $7, $9, $10
from review_decisions where review = $1 and round = $2 and refused is null
having count(*) < $8 and count(*) filter (where verdict = 'rejected' or principal = $5) = 0
returning seat
"""
_CLAIM: Final = """
insert into idempotency (tenant, key, digest, subject, status, answer, request_id)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing
returning first_seen
"""
