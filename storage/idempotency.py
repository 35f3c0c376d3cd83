"""Idempotency keys in Redis: one call per group takes the locks and brings the answers that are known.

- Redis is never asked what is true, only what is fast: without it every key goes to Postgres, and no client notices.
- A dead or slow server costs one short timeout, then nothing until the next try a second later.
- A lock belongs to a process and not to a request: two requests of one process are told apart by Postgres.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from zentra.runtime.idempotency import IN_FLIGHT, InFlight, KeyRef, StoredKey, Taken
from zentra.storage.caching import open_redis

__all__ = ["RedisIdempotency", "RedisIdempotencyStatistics"]

PREFIX = "gateway:idempotency:"
ANSWER_SECONDS = 24 * 3600
LOCK_SECONDS_MAX = 10.0  # above the longest commit, so a lock ends early only where its process has ended
PAUSE_SECONDS = 1.0
CONNECTIONS_MAX = 16

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredKey).decode


class _Script:
    """A script by its digest, with its text for a server that has lost it."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = ""


class RedisIdempotencyStatistics(Struct, frozen=True):
    """Whether the cache answers, and how often it did not."""

    degraded: bool
    failures: int
    skipped: int


class RedisIdempotency:
    """The cache port over one Redis; `open` makes one, `aclose` ends it."""

    def __init__(self, client: Redis, *, answer_seconds: int = ANSWER_SECONDS) -> None:
        self._client = client
        self._execute: Callable[..., Awaitable[Any]] = client.execute_command
        self._answer_ms = answer_seconds * 1000
        self._token = secrets.token_hex(8)
        self._scripts = {name: _Script(name) for name in ("take", "store", "release")}
        self._silent_until = 0.0
        self._failures = self._skipped = 0

    @classmethod
    def open(cls, url: str, *, answer_seconds: int = ANSWER_SECONDS) -> RedisIdempotency:
        """Return a cache on `url`. Nothing is sent yet; a server that is not there is found out at the first use."""
        client = open_redis(url, connections_max=CONNECTIONS_MAX)
        return cls(client, answer_seconds=answer_seconds)

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    async def take(self, keys: Sequence[KeyRef]) -> Taken:
        """Return what is known of each key, and lock those of which nothing is; never raises for Redis."""
        values = await self._run("take", keys, self._token, str(round(LOCK_SECONDS_MAX * 1000)))
        if values is None:
            return Taken((None,) * len(keys), degraded=True)
        # Nearly every key is new, and then there is nothing to look at one by one.
        if values.count(1) == len(values):
            return Taken((None,) * len(keys))
        return Taken([_found(value) for value in values])

    async def store(self, answers: Sequence[tuple[KeyRef, StoredKey]]) -> None:
        """Keep answers; each replaces the lock on its key."""
        values = [b"A" + _encode(answer) for _, answer in answers]
        await self._run("store", [key for key, _ in answers], str(self._answer_ms), *values)

    async def release(self, keys: Sequence[KeyRef]) -> None:
        """Give up our locks on keys that led to nothing."""
        await self._run("release", keys, self._token)

    def statistics(self) -> RedisIdempotencyStatistics:
        """Return whether Redis is being left alone now, how many calls failed and how many were not even tried."""
        return RedisIdempotencyStatistics(time.monotonic() < self._silent_until, self._failures, self._skipped)

    async def _run(self, name: str, keys: Sequence[KeyRef], *values: str | bytes) -> list[Any] | None:
        """Return what a script answers, or None where Redis is left alone or fails."""
        if not keys:
            return []
        if time.monotonic() < self._silent_until:
            self._skipped += 1
            return None
        script = self._scripts[name]
        names = [f"{PREFIX}{tenant}:{key}" for tenant, key in keys]
        try:
            if not script.digest:
                script.digest = str(await self._client.script_load(script.text))
            try:
                return await self._send("EVALSHA", script.digest, len(names), *names, *values)
            except NoScriptError:
                return await self._send("EVAL", script.text, len(names), *names, *values)
        except (RedisError, OSError, TimeoutError):
            self._failures += 1
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            return None

    async def _send(self, *words: str | bytes | int) -> list[Any]:
        answer = await self._execute(*words)
        return answer if isinstance(answer, list) else [answer]


def _found(value: object) -> StoredKey | InFlight | None:
    if value == 1:
        return None
    if not isinstance(value, bytes):
        return IN_FLIGHT
    try:
        return _decode(memoryview(value)[1:])
    except msgspec.MsgspecError:
        return None  # written by another version: the store knows
