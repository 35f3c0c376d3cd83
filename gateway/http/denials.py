"""Refusals on their way to the store: collected, aggregated per actor, route, reason and minute, written in bulk.

- A refusal is answered at once and written within a quarter of a second, or when the process drains.
- The memory is bounded for each tenant. Beyond it refusals are counted under a collective actor of that tenant: their
  number is never lost, and a flood of one tenant takes nothing from what is kept of another's.
- A store that does not answer gets the same rows again; counts are added, so nothing is overwritten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from zentra.gateway.http.problems import Caller
from zentra.runtime.errors import ZentraError
from zentra.runtime.instruments import Instruments
from zentra.runtime.ports import DenialRow

__all__ = ["Collected", "Denials"]

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.25
ROWS_MAX: Final = 1024  # distinct actors, routes and reasons of a tenant within a quarter of a second


class Collected(NamedTuple):
    """Refusals of one sort: the first, the latest, and how many."""

    first: DenialRow
    latest: DenialRow
    times: int


_Key = tuple[Caller, str, str, datetime]


class Denials:
    """The buffer; `write` stores refusals, each as the first and the latest of its sort and their count."""

    def __init__(
        self, write: Callable[[Sequence[Collected]], Awaitable[None]], instruments: Instruments,
        *, flush_seconds: float = FLUSH_SECONDS, rows_max: int = ROWS_MAX,
    ) -> None:  # fmt: skip
        self._write = write
        self._instruments = instruments
        self._flush_seconds, self._rows_max = flush_seconds, rows_max
        self._rows: dict[_Key, Collected] = {}
        self._kept: Counter[str] = Counter()  # rows by tenant
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, caller: Caller, action: str, reason: str, request_id: str) -> None:
        """Take in one refusal; never waits."""
        now = datetime.now(UTC)
        minute = now.replace(second=0, microsecond=0)
        key = (caller, action, reason, minute)
        if key not in self._rows and self._kept[caller.tenant] >= self._rows_max:
            self._instruments.count("denials_collected")
            caller, action = Caller(caller.tenant, "many", "-"), "-"
            key = (caller, action, reason, minute)
        row = DenialRow(caller.tenant, caller.actor, caller.role, action, reason, now, request_id)
        known = self._rows.get(key)
        self._kept[caller.tenant] += known is None
        self._rows[key] = Collected(row, row, 1) if known is None else Collected(known.first, row, known.times + 1)
        self._arm()

    async def flush(self) -> None:
        """Write what there is; where the store does not take it, keep it and try again later."""
        rows, self._rows = self._rows, {}
        self._kept.clear()
        if not rows:
            return
        try:
            await self._write(list(rows.values()))
        except ZentraError as error:
            _log.warning("denials are not written yet", extra={"error": str(error), "rows": len(rows)})
            for key, known in rows.items():
                later = self._rows.get(key, Collected(known.first, known.latest, 0))
                self._rows[key] = Collected(known.first, later.latest, known.times + later.times)
            self._kept = Counter(caller.tenant for caller, *_ in self._rows)
            self._arm()

    async def aclose(self) -> None:
        """Write what there is, once, and stop trying."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self.flush(), name="denials")
        else:
            self._arm()
