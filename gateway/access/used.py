"""When keys were last used: collected in memory, written in one statement every half minute, and when all is closed.

- A request pays nothing for it: what is noted is that a key was looked up, which happens once in five seconds.
- The memory is bounded by the keys of the installation. What a store does not take is kept and written the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from zentra.runtime.errors import ZentraError

__all__ = ["UsedKeys"]

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 30.0


class UsedKeys:
    """The collection; `write` stores when each key was last used."""

    def __init__(
        self, write: Callable[[Mapping[str, datetime]], Awaitable[None]], *, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        self._write, self._flush_seconds = write, flush_seconds
        self._used: dict[str, datetime] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, key_id: str, at: datetime) -> None:
        """Take in one use; never waits."""
        self._used[key_id] = at
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_seconds, self._begin)

    async def flush(self) -> None:
        """Write what there is; where the store does not take it, keep what nothing newer is known of."""
        used, self._used = self._used, {}
        try:
            await self._write(used)
        except ZentraError as error:
            _log.warning("last uses are not written yet", extra={"error": str(error), "keys": len(used)})
            self._used = used | self._used

    async def aclose(self) -> None:
        """Write what there is, once, and stop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self.flush()

    def _begin(self) -> None:
        self._timer = None
        self._writing = asyncio.create_task(self.flush(), name="last uses")
