"""Rate limits in Redis: one call takes tokens of many buckets, by the server's clock.

- All gateways share the buckets, and what was granted to one is granted to no other.
- A dead or slow server costs one short timeout, then nothing until the next try a second later; callers are told None.
- The name of a bucket carries its tenant.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from zentra.runtime.limits import Ask, Grant
from zentra.storage.caching import open_redis

__all__ = ["RedisLimits"]

PREFIX: Final = "gateway:limits:"
PAUSE_SECONDS: Final = 1.0
CONNECTIONS_MAX: Final = 4
_SCRIPT: Final = (Path(__file__).parent / "lua" / "limits.lua").read_text(encoding="utf-8")


class RedisLimits:
    """The store of rate limits over one Redis; `open` makes one, `aclose` ends it."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._execute: Callable[..., Awaitable[Any]] = client.execute_command
        self._digest = ""
        self._silent_until = 0.0

    @classmethod
    def open(cls, url: str) -> RedisLimits:
        """Return a store on `url`. Nothing is sent yet; a server that is not there is found out at the first use."""
        return cls(open_redis(url, connections_max=CONNECTIONS_MAX))

    @property
    def degraded(self) -> bool:
        """Whether Redis is being left alone now."""
        return time.monotonic() < self._silent_until

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    async def take(self, asks: Sequence[Ask]) -> list[Grant] | None:
        """Return a grant per ask, in order, or None where Redis is left alone or fails."""
        if not asks:
            return []
        if self.degraded:
            return None
        names = [PREFIX + ask.name for ask in asks]
        values = [value for ask in asks for value in (*ask.quota, ask.wanted, ask.least)]
        try:
            if not self._digest:
                self._digest = str(await self._client.script_load(_SCRIPT))
            try:
                answer = await self._execute("EVALSHA", self._digest, len(names), *names, *values)
            except NoScriptError:
                answer = await self._execute("EVAL", _SCRIPT, len(names), *names, *values)
        except (RedisError, OSError, TimeoutError):
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            return None
        return [
            Grant(answer[at], answer[at + 1], answer[at + 2] / 1e6, answer[at + 3] / 1e6)
            for at in range(0, len(answer), 4)
        ]
