"""How much new work goes in while workers are busy: as much as keeps them busy, and the rest waits at the door.

Work that was accepted and waits costs memory, queries and timers in every process; work that waits in the queue of a
gateway costs its place. So groups are let in by the room that is left: what workers may have waiting, less what they
say is waiting, less what was let in since and cannot be in their reports yet.

- Reports are advice. A worker that was not heard of for three seconds is not counted, and where nobody is heard of
  nothing is held: then the backlog in the store is what closes the doors.
- A hold ends after a second, whatever the reports say: a wrong one slows the doors down and shuts none.
- Each gateway goes by what all workers say, and so by what every gateway let in: several share the room first come,
  first served, and pass it by what one lets in between two reports at most. Nobody starves: all see the same room.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from zentra.runtime.messages import Load

__all__ = ["Admission", "portion"]

EVENTS_MAX: Final = 4_000  # per worker, two full ticks: less would let it run dry, more only waits
LEAST: Final = 250  # to hold a little longer is cheaper than a commit for what just fits
FRESH_SECONDS: Final = 3.0  # workers report every second, also when nothing changes
UNSEEN_SECONDS: Final = 0.1  # from a commit until a worker knows of it: publishing and fetching
UNSEEN_SECONDS_MAX: Final = 0.4  # a worker reports again within a tick; one of whose reports nothing changed may not
HOLD_SECONDS_MAX: Final = 1.0


def portion(room: int | None, wanted: int) -> int:
    """Return how many of `wanted` go in now: all where nothing is known of the `room`, none where it is not worth a
    commit."""
    if room is None or room >= wanted:
        return wanted
    return room if room >= LEAST else 0


class Admission:
    """Lets groups in; one per gateway. `events_max` is what may wait, times the workers that were heard of lately."""

    def __init__(self, events_max: int = EVENTS_MAX, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._events_max, self._clock = events_max, clock
        self._reports: dict[str, tuple[int, float]] = {}
        self._unseen: deque[tuple[float, int]] = deque()
        self._news: asyncio.Future[None] | None = None
        self._open = False
        self._held = 0.0
        self._holding_since: float | None = None

    @property
    def held_seconds(self) -> float:
        """For how long groups were held since the start."""
        since = self._holding_since
        return self._held + (self._clock() - since if since is not None else 0.0)

    @property
    def waiting(self) -> int:
        """How many events wait at the workers that were heard of lately."""
        return sum([waiting for waiting, _ in self._fresh()])

    def heard(self, load: Load) -> None:
        """Take in a report."""
        self._reports[load.worker] = load.waiting, self._clock()
        self._tell()

    def admitted(self, events: int) -> None:
        """Count what was let in and committed."""
        if self._reports:
            self._unseen.append((self._clock(), events))

    def room(self) -> int | None:
        """Return how many events more may wait; None where no worker was heard of lately."""
        now = self._clock()
        fresh = self._fresh()
        unseen = self._unseen
        while unseen and unseen[0][0] <= now - UNSEEN_SECONDS_MAX:
            unseen.popleft()
        if not fresh:
            return None
        room = 0
        for waiting, reported in fresh:  # each worker gets its share of what was let in since it could know
            since = reported - UNSEEN_SECONDS
            mine = sum([events for at, events in unseen if at > since]) // len(fresh)
            room += max(0, self._events_max - waiting - mine)  # one that lags takes no room from the others
        return room

    async def enter(self, wanted: int) -> int:
        """Return how many of `wanted` (at least one) may go in now; waits until some may, for a second at most."""
        fits = portion(self.room(), wanted)
        if fits or self._open:
            return fits or wanted
        self._holding_since = began = self._clock()
        try:
            async with asyncio.timeout(HOLD_SECONDS_MAX):
                while not (self._open or (fits := portion(self.room(), wanted))):
                    self._news = asyncio.get_running_loop().create_future()
                    await self._news
        except TimeoutError:
            fits = wanted
        finally:
            self._holding_since = self._news = None
            self._held += self._clock() - began
        return fits or wanted

    def open(self) -> None:
        """Hold nobody any more: the gateway ends, and what it took has to be answered."""
        self._open = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _fresh(self) -> list[tuple[int, float]]:
        """Return what the workers that were heard of lately said, and when."""
        since = self._clock() - FRESH_SECONDS
        for worker in [worker for worker, (_, at) in self._reports.items() if at < since]:
            del self._reports[worker]
        return list(self._reports.values())
