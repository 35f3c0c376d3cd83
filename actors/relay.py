"""The relay: publishes what was committed, marks it as sent, and sweeps what nobody marked.

Invariants. Only committed rows are published, under the id of their row, so publishing twice is publishing once. A row
that could not be published stays unsent and the owner of its partition sweeps it after a second. Once the stream has
refused a row, because it is full or away, younger rows wait behind it: the sweep publishes one row of each partition at
a time, oldest first, until none is left. So what comes late comes in order, and a stream that is full is asked once a
second and not more. The row of a command
frame is kept until a commit consumes the frame, so that whatever a stream loses can be filled again; other rows are
kept for ten minutes after they were sent."""

import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio

from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.ports import Store
from zentra.runtime.stream_ports import EventPublisher, Outgoing

__all__ = ["Relay", "row_of"]

logger = logging.getLogger(__name__)

MARK_EVERY_SECONDS: Final = 0.2
SWEEP_OLDER_SECONDS: Final = 1.0
SWEEP_LIMIT: Final = 2_000
BACKED_UP_LIMIT: Final = 256  # rows read at once while the stream may refuse them
KEPT: Final = timedelta(minutes=10)
_ID: Final = re.compile(r"([0-9a-f]{32})(?:-[0-9]+)?\Z", re.ASCII)


def row_of(message_id: str) -> str | None:
    """Return the id of the outbox row that a message was cut from, or None where it is of none."""
    found = _ID.match(message_id)
    return found[1] if found else None


class Relay:
    """Publishes outbox rows for one worker. `partitions` says what it owns at the moment."""

    def __init__(
        self,
        store: Store,
        publisher: EventPublisher,
        partitions: Callable[[], Collection[int]],
        instruments: Instruments,
    ) -> None:
        self._store, self._publisher, self._partitions = store, publisher, partitions
        self._instruments = instruments
        self._sent: list[str] = []
        self._under_way: set[str] = set()
        self._backed_up = False  # the stream refused something: what is younger waits for the sweep
        self._resends = 0
        self._left = False  # something was left to the sweep since it last looked

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish rows that were just committed; what fails, or has to wait its turn, is left to the sweep."""
        if not messages:
            return
        if self._backed_up:
            self._left = True
            return
        await self._push(messages)

    async def _push(self, messages: Sequence[Outgoing]) -> list[bool]:
        """Publish rows; return which of them the stream may still take, but has not."""
        ids = [row_of(message.id) or message.id for message in messages]
        self._under_way.update(ids)
        try:
            failures = await self._publisher.publish(messages)
        finally:
            self._under_way.difference_update(ids)
        self._sent += [key for key, failure in zip(ids, failures, strict=True) if failure is None]
        failed = sum(failure is not None for failure in failures)
        if failed:
            self._instruments.count("publish_failures", by=failed)
        refused = [failure is not None and failure.retryable for failure in failures]
        self._backed_up |= any(refused)
        return refused

    async def keep_marking(self) -> None:
        """Mark published rows as sent, a few times a second, until cancelled."""
        while True:
            await anyio.sleep(MARK_EVERY_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Mark what was published since the last time."""
        ids, self._sent = self._sent, []
        if not ids:
            return
        try:
            await self._store.mark_sent(ids)
        except Unavailable:
            self._sent = ids + self._sent  # unmarked rows are swept, which the stream takes for repeats
            raise

    async def keep_sweeping(self) -> None:
        """Publish what nobody marked as sent, every second, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_OLDER_SECONDS)
            await self._sweep(SWEEP_OLDER_SECONDS)

    async def _sweep(self, older_seconds: float) -> None:
        """Publish what nobody has marked as sent for that long, while the stream takes full pages of it."""
        while not self._backed_up and await self._sweep_page(older_seconds) == SWEEP_LIMIT:
            await self.flush()
        while self._backed_up and await self._work_off():
            await self.flush()

    async def _sweep_page(self, older_seconds: float) -> int:
        """Publish one page of unsent rows; return how many of them the stream has now."""
        partitions = self._partitions()
        if not partitions:
            return 0
        rows = await self._store.unsent(partitions, older_seconds, SWEEP_LIMIT)
        known = self._under_way.union(self._sent)
        swept = [row for row in rows if row.id not in known]
        if not swept:
            return 0
        self._instruments.count("outbox_swept", by=len(swept))
        before = len(self._sent)
        await self._push(swept)
        return len(self._sent) - before

    async def _work_off(self) -> bool:
        """Publish the oldest unsent rows in order; return whether to go on. When none is left nobody waits any more."""
        self._left = False
        rows = await self._store.unsent(self._partitions(), 0.0, BACKED_UP_LIMIT)
        known = self._under_way.union(self._sent)
        lines: dict[str, deque[Outgoing]] = {}
        for row in rows:
            if row.id not in known:
                lines.setdefault(".".join(row.subject.split(".", 2)[:2]), deque()).append(row)
        refused = False
        while lines:
            abreast = [line.popleft() for line in lines.values()]
            answers = dict(zip(lines, await self._push(abreast), strict=True))
            self._instruments.count("outbox_swept", by=len(abreast))
            refused |= any(answers.values())
            lines = {key: line for key, line in lines.items() if line and not answers[key]}
        if len(rows) == BACKED_UP_LIMIT or self._left:
            return not refused
        self._backed_up = refused
        return False

    async def republish(self) -> None:
        """Let every row that is still kept be published again, because a stream lost some of them.

        What it lost may be of any partition, so all rows count as unsent from now on: what others own, and what
        cannot be published now, is left to the sweeps. Raises Unavailable where the store cannot do it."""
        self._sent.clear()  # what was stored before the loss proves nothing any more
        unsent = await self._store.unsend()
        logger.warning("outbox rows are published again", extra={"rows": unsent})
        await self._sweep(0.0)

    async def resend(self, older_seconds: float) -> int:
        """Publish what was sent that long ago and is lost, as is known, before it was consumed; return how much it was.

        Under new ids: a stream remembers those of messages that were taken out of it, and would drop a repeat. What
        told of the same may be lost with it, so all other rows count as unsent. Raises Unavailable."""
        count = 0
        while rows := await self._store.unconsumed(self._partitions(), older_seconds, BACKED_UP_LIMIT):
            if not count:
                await self._store.unsend(commands=False)
            count += len(rows)
            self._resends += 1
            await self._push([Outgoing(row.subject, row.body, f"{row.id}-{self._resends}") for row in rows])
            await self.flush()
        return count

    async def trim(self, passed_at: datetime) -> int:
        """Delete rows of what nobody consumes here, sent ten minutes before `passed_at`; return how many."""
        return await self._store.trim_outbox(self._partitions(), min(passed_at, datetime.now(UTC)) - KEPT)
