"""The history of evidence keys in the store: begun by the first worker, continued by a rotation, read by everybody.

- Entries are verified when they are read, so a row that was changed by hand is found and nobody signs on its word.
- A key comes into force some time after its entry was written, longer than any commit takes: whoever signs a head of a
  later time has read the entry before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.history import (
    HistoryFlaw,
    KeyHistory,
    SigningKey,
    first_entry,
    in_force,
    read_history,
    rotation_entry,
)
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured
from zentra.storage.pool import Connection, Pool, transaction

__all__ = [
    "LEAD_SECONDS_MIN", "SIGNER_SECONDS", "Signers", "admit_keys", "key_history", "rotate_key", "sign_off", "sign_on",
    "signers", "signing_keys", "stopped_signers",
]  # fmt: skip

LEAD_SECONDS_MIN: Final = 15  # three times what the longest commit may take
SIGNER_SECONDS: Final = 30  # a worker that has not been heard of for so long is gone


class Signers(Struct, frozen=True):
    """Workers that were here lately by the keys that they hold, and the key in force."""

    held: Mapping[str, Sequence[str]]
    key_id: str | None

    def lacking(self, kid: str | None) -> list[str]:
        """Return the workers without a key."""
        return sorted(worker for worker, keys in self.held.items() if kid not in keys)


async def key_history(pool: Pool) -> KeyHistory:
    """Return the history, verified; empty where no worker has begun it. Raises Misconfigured and Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        return await _history(connection)


async def admit_keys(pool: Pool, keys: Sequence[Ed25519PrivateKey], *, by: str) -> KeyHistory:
    """Return the history, begun with the first of `keys` where there is none; a worker may sign with `keys` then.

    Raises Misconfigured `evidence_key_unknown`, naming the fix, where `keys` has neither the key that is in force nor
    one that is to follow; and Unavailable."""
    async with transaction(pool) as connection:
        history = await _history(connection)
        if not history.entries:
            first = keys[0]
            kid = key_id(first.public_key())
            now = await connection.fetchval("select clock_timestamp()")
            since = await connection.fetchval("select min(at) from log_heads where key_id = $1", kid) or now
            envelope = first_entry(first, since=timestamp(since), at=timestamp(now), by=by)
            await _insert(connection, 1, first, since, envelope)
            history = await _history(connection)
        now = timestamp(await connection.fetchval("select clock_timestamp()"))
    held = {key_id(key.public_key()) for key in keys}
    current = in_force(signing_keys(history), now)
    coming = {entry.key_id for entry in history.entries if entry.since > now}
    if not held & {current, *coming}:
        raise Misconfigured(
            "evidence_key_unknown",
            f"ZENTRA_EVIDENCE_KEY has {', '.join(sorted(held))}, and {current} is the key in force; give this worker"
            f" that one, or bring the new one in first: zentra evidence keys rotate --new NEW.pem",
        )
    return history


async def rotate_key(
    pool: Pool, old: Sequence[Ed25519PrivateKey], new: Ed25519PrivateKey, *, by: str, reason: str,
    lead: timedelta, needed: bool = True,
) -> KeyHistory:  # fmt: skip
    """Let `new` follow the last key `lead` from now; return the history with that entry.

    With `needed`, every worker that was here lately has to hold `new` already. Raises Misconfigured where it does not,
    where there is no history yet, `old` lacks the last key, `new` was a key before or one is to follow already; raises
    Unavailable."""
    async with transaction(pool) as connection:
        history = await _history(connection)
        if not history.entries:
            raise Misconfigured("evidence_key_absent", "no worker has begun the history of keys; start one first")
        last = history.entries[-1]
        signing = next((key for key in old if key_id(key.public_key()) == last.key_id), None)
        if signing is None:
            raise Misconfigured(
                "evidence_key_unknown", f"the last key is {last.key_id}, and it has to sign; give it with --old OLD.pem"
            )
        [(now, newest)] = await connection.fetch(_MOMENTS)
        if last.since > timestamp(now):
            raise Misconfigured("evidence_key_pending", f"key {last.key_id} follows at {last.since}; wait for that")
        kid = key_id(new.public_key())
        lacking = (await _signers(connection, history)).lacking(kid)
        if needed and lacking:
            raise Misconfigured(
                "evidence_key_absent",
                f"workers {', '.join(lacking)} do not hold key {kid} yet; put it into ZENTRA_EVIDENCE_KEY behind the"
                f" old one and restart them, or say --restart if they come back with it alone",
            )
        since = max(now + lead, (newest or now) + timedelta(microseconds=1))
        try:
            envelope = rotation_entry(
                history, signing, new, since=timestamp(since), at=timestamp(now), by=by, reason=reason
            )
        except HistoryFlaw as flaw:
            raise Misconfigured("evidence_key_unknown", str(flaw)) from flaw
        await _insert(connection, last.number + 1, new, since, envelope)
        written = await _history(connection)
    if written.envelopes[last.number] != envelope:
        raise Misconfigured("evidence_key_pending", f"key {written.entries[-1].key_id} was let follow just now")
    return written


def signing_keys(history: KeyHistory) -> tuple[SigningKey, ...]:
    """Return what a worker has to know of a history."""
    return tuple(SigningKey(entry.key_id, entry.since) for entry in history.entries)


async def sign_on(pool: Pool, worker: str, keys: Sequence[str]) -> None:
    """Say that a worker is here and which keys it holds; forget those that are long gone. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_SIGN_ON, worker, sorted(keys), SIGNER_SECONDS)


async def sign_off(pool: Pool, worker: str) -> None:
    """Say that a worker ends; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute("delete from evidence_signers where worker = $1", worker)


async def signers(pool: Pool) -> Signers:
    """Return who was here lately with which keys; raises Misconfigured and Unavailable."""
    async with transaction(pool) as connection:
        return await _signers(connection, await _history(connection))


async def stopped_signers(pool: Pool) -> list[str]:
    """Return the workers that were here lately and lack the key in force: they seal nothing. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        return [row[0] for row in await connection.fetch(_STOPPED, SIGNER_SECONDS)]


async def _signers(connection: Connection, history: KeyHistory) -> Signers:
    now = timestamp(await connection.fetchval("select clock_timestamp()"))
    rows = await connection.fetch(
        "select worker, keys from evidence_signers where seen_at > now() - make_interval(secs => $1)", SIGNER_SECONDS
    )
    return Signers({row[0]: row[1] for row in rows}, in_force(signing_keys(history), now))


async def _history(connection: Connection) -> KeyHistory:
    rows = await connection.fetch("select envelope from evidence_key_entries order by number")
    if not rows:
        return KeyHistory()
    try:
        return _verified(tuple(row[0] for row in rows))
    except HistoryFlaw as flaw:
        raise Misconfigured("evidence_key_unknown", f"the history of keys was changed by hand: {flaw}") from flaw


@lru_cache(maxsize=4)
def _verified(envelopes: tuple[bytes, ...]) -> KeyHistory:
    """Return the history that these rows are; it is asked for with every change of what is set up."""
    return read_history(envelopes)


async def _insert(
    connection: Connection, number: int, key: Ed25519PrivateKey, since: datetime, envelope: bytes
) -> None:
    public = key.public_key()
    raw, kid = public.public_bytes_raw(), key_id(public)
    await connection.execute(_ENTRY, number, kid, raw, since, envelope)
    await connection.execute(_KEY, kid, raw)


_ENTRY: Final = """
insert into evidence_key_entries (number, key_id, public_key, since, envelope) values ($1, $2, $3, $4, $5)
on conflict do nothing
"""
_KEY: Final = "insert into evidence_keys (key_id, public_key) values ($1, $2) on conflict do nothing"
_MOMENTS: Final = """
select clock_timestamp(), (select max(last.at) from tenants t cross join lateral (
    select at from log_heads where tenant = t.id order by size desc limit 1) last)
"""
_SIGN_ON: Final = """
with gone as (delete from evidence_signers where seen_at < now() - 10 * make_interval(secs => $3) and worker <> $1)
insert into evidence_signers (worker, keys) values ($1, $2)
on conflict (worker) do update set keys = excluded.keys, seen_at = now()
"""
_STOPPED: Final = """
select worker from evidence_signers
where seen_at > now() - make_interval(secs => $1) and not (
    select key_id from evidence_key_entries where since <= now() or number = 1 order by number desc limit 1
) = any(keys)
"""
