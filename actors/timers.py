"""The timers of the partitions a worker owns: rows in the store, the next due ones in a heap.

A row is the truth. The heap holds what is due within the horizon: read from the store, or set by a commit of this
worker. The state timer of a transaction may be due sooner than its row says; that only this worker knows. The next
owner works it out anew, and where it is forgotten because there are too many, the row fires instead. Reading the row
does not put it off, and whichever fires first stands for both.

A timer that was handed out is remembered until its tick has committed, so that reading the store again does not hand it
out twice. One whose event came to nothing (it was set aside as poison, so its row stands as it stood) is left alone for
a while, longer each time, and then handed out again: it neither spins nor is forgotten."""

import heapq
from collections.abc import Container, Iterable
from typing import Final

from zentra.actors.tick import Input, Tick
from zentra.actors.unpacking import timers_told
from zentra.runtime.messages import TimerFired
from zentra.runtime.ports import Timer

__all__ = ["HORIZON_SECONDS", "REST_SECONDS_MAX", "REST_SECONDS_MIN", "SOON_MAX", "Timers"]

HORIZON_SECONDS: Final = 5.0  # rows due later than this are left in the store
REST_SECONDS_MIN: Final = 60.0  # of a timer that came to nothing; doubled each time
REST_SECONDS_MAX: Final = 3_600.0  # a case is open: whoever mends the cause need not wait longer than this
SOON_MAX: Final = 100_000  # remembered, a quarter of a kilobyte each: twenty-five seconds at 4,000 intents a second

Key = tuple[str, str, str]


class Timers:
    """The next due timers. Times are seconds of the worker's monotonic clock; only differences matter."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._due: dict[Key, tuple[float, Timer]] = {}
        self._soon: dict[str, tuple[float, str, int, str]] = {}  # by intent: when, intent, partition, tenant
        self._soon_heap: list[tuple[float, str, int, str]] = []
        self._handed_out: set[Key] = set()
        self._resting: dict[Key, tuple[float, float, int]] = {}  # until when, for how long, of which partition

    def learn(self, rows: Iterable[tuple[Timer, float]], now: float) -> None:
        """Take rows of the store, each with the seconds that were left at `now`."""
        for timer, seconds_left in rows:
            key = (timer.kind, timer.key, timer.name)
            if key not in self._handed_out and (key not in self._resting or self._resting[key][0] <= now):
                self._set(timer, now + seconds_left)

    def follow(self, tick: Tick, now: float) -> None:
        """Follow what a tick that was committed `now` set, cleared and was told of."""
        writes, at = tick.writes, tick.now
        rows = [(timer, (timer.due_at - at).total_seconds()) for timer in writes.timers_set.values()]
        self.committed(rows, writes.timers_cleared, now)
        for timer in tick.timers_soon.values():
            self.remember(timer, (timer.due_at - at).total_seconds(), now)
        if self._handed_out:
            self.came_to_nothing(timers_told(tick), now)

    def remember(self, timer: Timer, seconds_left: float, now: float) -> None:
        """Let the state timer of a transaction fire before its row does; seconds are counted from `now`."""
        if len(self._soon_heap) < SOON_MAX:
            self._soon[timer.key] = entry = (now + seconds_left, timer.key, timer.partition, timer.tenant)
            heapq.heappush(self._soon_heap, entry)

    def committed(self, set_: Iterable[tuple[Timer, float]], cleared: Iterable[Key], now: float) -> None:
        """Follow what a commit of this worker set and cleared; seconds are counted from `now`."""
        for key in cleared:
            self._forget(key)
        for timer, seconds_left in set_:
            self._forget((timer.kind, timer.key, timer.name))
            if seconds_left < HORIZON_SECONDS:
                self._set(timer, now + seconds_left)

    def came_to_nothing(self, fired: Iterable[tuple[int, Key]], now: float) -> None:
        """Let timers rest, of (partition, key), whose events were committed without setting or clearing them."""
        for partition, key in fired:
            if key in self._handed_out:
                self._handed_out.discard(key)
                _, lasted, _ = self._resting.get(key, (0.0, REST_SECONDS_MIN / 2, partition))
                lasts = min(lasted * 2, REST_SECONDS_MAX)
                self._resting[key] = (now + lasts, lasts, partition)

    def drop_partitions(self, partitions: frozenset[int]) -> None:
        """Forget the timers of partitions that somebody else owns."""
        self._due = {key: entry for key, entry in self._due.items() if entry[1].partition not in partitions}
        self._soon = {intent: entry for intent, entry in self._soon.items() if entry[2] not in partitions}
        self._handed_out.clear()
        self._resting = {key: rest for key, rest in self._resting.items() if rest[2] not in partitions}

    def next_due(self) -> float | None:
        """Return when the next timer is due, or None where none is known."""
        return min((due for due in (self._row_due(), self._soon_due()) if due is not None), default=None)

    def take(self, now: float, limit: int, owned: Container[int], *, only_rows: bool = False) -> list[Input]:
        """Return the events of timers that are due, where asked for without those that are sooner than their rows.

        One of a partition that is not `owned` is forgotten: it was learnt of while the partition changed hands."""
        taken: list[Input] = []
        while len(taken) < limit:
            soon = None if only_rows else self._soon_due()
            due = min((due for due in (self._row_due(), soon) if due is not None), default=None)
            if due is None or due > now:
                break
            if due == soon:
                _, intent, partition, tenant = heapq.heappop(self._soon_heap)
                key = ("intent", intent, "state")
            else:
                _, key = heapq.heappop(self._heap)
                timer = self._due[key][1]
                partition, tenant = timer.partition, timer.tenant
            self._not_due(key)
            if partition not in owned:
                continue
            self._handed_out.add(key)
            taken.append(Input(partition, "timer", TimerFired(*key, tenant), f"timer/{key[2]}"))
        return taken

    def _row_due(self) -> float | None:
        while self._heap:
            due, key = self._heap[0]
            entry = self._due.get(key)
            if entry is not None and entry[0] == due:
                return due
            heapq.heappop(self._heap)
        return None

    def _soon_due(self) -> float | None:
        heap, soon = self._soon_heap, self._soon
        while heap:
            entry = heap[0]
            if soon.get(entry[1]) is entry:
                return entry[0]
            heapq.heappop(heap)
        return None

    def _forget(self, key: Key) -> None:
        self._handed_out.discard(key)
        self._resting.pop(key, None)
        self._not_due(key)

    def _not_due(self, key: Key) -> None:
        self._due.pop(key, None)
        if key[2] == "state":
            self._soon.pop(key[1], None)

    def _set(self, timer: Timer, due: float) -> None:
        key = (timer.kind, timer.key, timer.name)
        known = self._due.get(key)
        if known is None or abs(known[0] - due) > 0.05:
            self._due[key] = (due, timer)
            heapq.heappush(self._heap, (due, key))
