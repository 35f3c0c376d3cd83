"""The relay: publishes what was committed, marks it as sent, sweeps what nobody marked, repairs what a stream lost.

Invariants. Only committed rows are published, under the id of their row, so publishing twice is publishing once. A row
that could not be published stays unsent and the owner of its partition sweeps it after a second. Commands and the rest
are two lines, and neither waits for the other. Once the stream has refused a row of a line, because it is full or away,
younger rows of that line wait behind it: the sweep publishes one row of each partition at a time, oldest first, until
none is left. So what comes late comes in order, and a stream that is full is asked once a second and not more.
The row of a command frame is kept until a commit consumes the frame, so that whatever a stream loses can be filled
again; other rows are kept for ten minutes after they were sent.

What a rolled back stream lost. The owner of a partition whose position is contradicted asks where the stream ends,
publishes every row of the partition once more behind that end, and goes on from the last message of before the loss, or
from the end where nobody knows which that is. No frame is missed, whoever does what meanwhile:

- one that was published before the end was known was committed before that, so its row is there when the rows are read
  afterwards, and it is published again unless it was consumed, which only the owner can do;
- it is published under an id that names the end. No message at or before the end can have that, so no dedupe drops it,
  and it lies behind the end;
- one that is published after the end is known, by whomever, lies behind it. What lies behind the end is read.

So it does not matter whether a row was marked as sent, swept by somebody who had noticed the loss earlier, or on its
way: each owner settles its own partitions, and those that stand at a position that still holds read on from there. The
new position is taken only after all of that was published: a worker that ends in between leaves the contradicted one,
and the next owner finds it and does the same behind another end. Going on from before the end is for what has no row,
the reports of outward calls: those that were published since the loss are read as well. It repeats nothing of before,
for the lost position was behind all of that."""

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
from zentra.runtime.stream_ports import CommandSource, EventPublisher, Loss, Outgoing, Position, StreamError

__all__ = ["Relay", "row_of"]

logger = logging.getLogger(__name__)

MARK_EVERY_SECONDS: Final = 0.2
SWEEP_OLDER_SECONDS: Final = 1.0
SWEEP_LIMIT: Final = 500  # rows at once: what is fresh gets its turn in between
BACKED_UP_LIMIT: Final = 256  # rows read at once while the stream may refuse them
KEPT: Final = timedelta(minutes=10)
MARKED_LATE_SECONDS: Final = 5.0  # between the stream's answer and the mark, where the store is slow
_ID: Final = re.compile(r"([0-9a-f]{32})(?:-[0-9]+)?\Z", re.ASCII)


def row_of(message_id: str) -> str | None:
    """Return the id of the outbox row that a message was cut from, or None where it is of none."""
    found = _ID.match(message_id)
    return found[1] if found else None


class _Line:
    """The rows of commands, or those of everything else."""

    def __init__(self, *, commands: bool) -> None:
        self.commands = commands
        self.backed_up = False  # the stream refused something: what is younger waits for the sweep
        self.left = False  # something was left to the sweep since it last looked


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
        self._commands, self._events = _Line(commands=True), _Line(commands=False)
        self._repaired: int | None = None  # the loss of the source whose rows were taken back last

    @property
    def backed_up(self) -> bool:
        """Return whether the stream has refused something that is still not published."""
        return self._commands.backed_up or self._events.backed_up

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish rows that were just committed; what fails, or has to wait its turn, is left to the sweep."""
        if not messages:
            return
        if self.backed_up:
            for message in messages:
                self._line(message).left = True
            messages = [message for message in messages if not self._line(message).backed_up]
        await self._push(messages)

    def _line(self, message: Outgoing) -> _Line:
        return self._commands if message.subject.startswith("zc.") else self._events

    async def _push(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        """Publish rows; return what the stream has said of each, None where it has the row."""
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
            for message, failure in zip(messages, failures, strict=True):
                self._line(message).backed_up |= _refused(failure)
        return failures

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
        """Publish what nobody has marked as sent for so long, line by line, while the stream takes full pages."""
        lines = [self._commands, self._events]
        while lines:
            lines = [line for line in lines if await self._sweep_some(line, older_seconds)]
            await self.flush()

    async def _sweep_some(self, line: _Line, older_seconds: float) -> bool:
        """Publish a page of a line; return whether to go on with it at once."""
        if line.backed_up:
            return await self._work_off(line)
        return await self._sweep_page(line, older_seconds) or line.backed_up

    async def _sweep_page(self, line: _Line, older_seconds: float) -> bool:
        """Publish one page of unsent rows; return whether it was full and the stream has taken some of it."""
        partitions = self._partitions()
        if not partitions:
            return False
        rows = await self._store.unsent(partitions, older_seconds, SWEEP_LIMIT, commands=line.commands)
        known = self._under_way.union(self._sent)
        swept = [row for row in rows if row.id not in known]
        if not swept:
            return False
        self._instruments.count("outbox_swept", by=len(swept))
        failures = await self._push(swept)
        return len(rows) == SWEEP_LIMIT and None in failures

    async def _work_off(self, line: _Line) -> bool:
        """Publish the oldest unsent rows in order; return whether to go on. When none is left nobody waits any more."""
        line.left = False
        rows = await self._store.unsent(self._partitions(), 0.0, BACKED_UP_LIMIT, commands=line.commands)
        known = self._under_way.union(self._sent)
        queues: dict[str, deque[Outgoing]] = {}
        for row in rows:
            if row.id not in known:
                queues.setdefault(".".join(row.subject.split(".", 2)[:2]), deque()).append(row)
        refused = False
        while queues:
            abreast = [queue.popleft() for queue in queues.values()]
            answers = dict(zip(queues, map(_refused, await self._push(abreast)), strict=True))
            self._instruments.count("outbox_swept", by=len(abreast))
            refused |= any(answers.values())
            queues = {key: queue for key, queue in queues.items() if queue and not answers[key]}
        if len(rows) == BACKED_UP_LIMIT or line.left:
            return not refused
        line.backed_up = refused
        return False

    async def republish(self, source: CommandSource, partitions: Collection[int]) -> Position:
        """Publish what a rolled back stream lost; return the place from which the contradicted partitions go on.

        All of it for the first that a worker finds of a loss: it may have struck any partition, and the feed. What
        others own, and all from the first page that the stream refuses, is left to the sweeps. Raises Unavailable where
        the store cannot do it, StreamError where the stream cannot be asked."""
        self._sent.clear()  # what was stored before the loss proves nothing any more
        end = await source.end()
        loss = await source.loss()
        concerned = set(partitions) if loss.number == self._repaired else {*partitions, *self._partitions()}
        rows = await self._store.outstanding(concerned)
        refused = False
        self._under_way.update(rows)  # the sweep need not publish them as well
        try:
            for start in range(0, len(rows), BACKED_UP_LIMIT):
                page = await self._store.frames(rows[start : start + BACKED_UP_LIMIT])
                refused = any(map(_refused, await self._push(_anew(page, end))))
                await self.flush()
                if refused:  # no page after it would be taken, and each is waited for
                    break
        finally:
            self._under_way.difference_update(rows)
        logger.warning("command frames are published again", extra={"rows": len(rows), "behind": end.sequence})
        if refused and loss.number == self._repaired:  # of these no one has said yet that they may be lost
            await self._store.unsend(0.0, 0.0, ())
        await self._take_back(loss, kept=() if refused else concerned)
        # What was left is told from times, and after the end was: it may be of messages behind that.
        return end if loss.left is None or loss.left.sequence > end.sequence else loss.left

    async def _take_back(self, loss: Loss, kept: Collection[int]) -> None:
        """Let what the streams may lack be published again by the sweeps, once for each loss."""
        if loss.number == self._repaired:
            return
        until = max(0.0, loss.to_seconds - MARKED_LATE_SECONDS)
        rows = await self._store.unsend(loss.from_seconds + MARKED_LATE_SECONDS, until, kept)
        self._repaired = loss.number
        logger.warning("outbox rows are published again", extra={"rows": rows})

    async def resend(self, source: CommandSource, older_seconds: float) -> int:
        """Publish what was sent that long ago and is lost, as is known, before it was consumed; return how much it was.

        Under new ids: a stream remembers those of messages that were taken out of it, and would drop a repeat. What
        told of the same may be lost with it, and is taken back. Raises Unavailable and StreamError."""
        count = 0
        while rows := await self._store.unconsumed(self._partitions(), older_seconds, BACKED_UP_LIMIT):
            if not count:
                end = await source.end()
                await self._take_back(await source.loss(), kept=self._partitions())
            count += len(rows)
            refused = any(map(_refused, await self._push(_anew(rows, end))))
            await self.flush()
            if refused:  # these count as sent now, and are found again when they were not consumed by then
                break
        return count

    async def trim(self, passed_at: datetime) -> int:
        """Delete rows of what nobody consumes here, sent ten minutes before `passed_at`; return how many."""
        return await self._store.trim_outbox(self._partitions(), min(passed_at, datetime.now(UTC)) - KEPT)


def _refused(failure: StreamError | None) -> bool:
    """Return whether the stream may still take what it has not taken."""
    return failure is not None and failure.retryable


def _anew(rows: Sequence[Outgoing], end: Position) -> list[Outgoing]:
    """Return frames under ids that no message has at or before the end: one that had would lie behind it."""
    return [Outgoing(row.subject, row.body, f"{row.id}-{end.sequence}") for row in rows]
