"""The commands of the partitions one worker owns, from one throw-away consumer.

Delivery is exactly the order of the stream, without repeats: whatever happens to the consumer, the next one starts
behind what the caller has taken. Before every build the rollback guard compares the messages at the positions with
their ids. A store that lost its tail reuses sequences, and a consumer started at an old position would silently
skip new messages; so the source reports the partitions and stands still until the caller has rewound them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.msg import Msg

from zentra.runtime.stream_ports import Inbound, Loss, Position, StreamError
from zentra.runtime.subjects import COMMANDS, EVENTS, command_filters, parse_command_subject
from zentra.streams.connection import Connection, Hook
from zentra.streams.ending import ended
from zentra.streams.pull import Pull, wait_or_watch
from zentra.streams.rollback import end_of_commands, last_stored, partitions_rolled_back

__all__ = ["CommandSource", "SourceStatistics"]

_log = logging.getLogger(__name__)

_BATCH = 512
# Beyond these nothing more is asked for; two batches may still arrive on top.
_BUFFERED_MAX = 4096
_BUFFERED_BYTES_MAX = 64 * 1024 * 1024
# Pauses between two attempts double up to the last; each is drawn between zero and its bound, so that a fleet
# that lost one server does not come back in step.
_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 2.0
# Subjects are partitions times stages; a stream somebody else writes into must not grow the table for ever.
_SUBJECTS_MAX = 8192

_NOT_OURS = (0, "")

_random = secrets.SystemRandom()


class SourceStatistics(msgspec.Struct, frozen=True):
    """Counts since the source was made, and what is buffered now."""

    delivered: int
    skipped: int
    builds: int
    gaps: int
    buffered: int


class CommandSource:
    """Delivers the commands of the owned partitions out of `partitions` in all."""

    def __init__(
        self, client: Connection, partitions: int, *, batch: int = _BATCH, buffered_max: int = _BUFFERED_MAX
    ) -> None:
        self._client = client
        self._partitions = partitions
        self._batch = batch
        self._buffered_max = buffered_max
        self._positions: dict[int, Position | Inbound] = {}
        self._floors: dict[int, int] = {}
        self._floor_max = 0
        self._taken: Position | None = None
        self._buffer: list[Inbound] = []
        self._buffered_bytes = 0
        self._subjects: dict[str, tuple[int, str]] = {}
        self._rolled_back: set[int] = set()
        self._pull: Pull | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._look = asyncio.Event()
        self._remove_hooks: Hook | None = None
        self._stood = False
        self._losses = 0
        self._lost_at: tuple[float, float] | None = None  # when it was last heard of, and when it was lost
        self._delivered = self._skipped = self._builds = self._gaps = 0

    @property
    def last_delivered(self) -> Position | None:
        """Everything of the owned partitions up to here was handed out; None when nothing was since `start`."""
        return self._taken

    @property
    def at_end(self) -> bool:
        """Whether everything was handed out that the stream held when the server was last heard of, seconds ago."""
        return self._pull is not None and self._pull.at_end and not self._buffer

    @property
    def frames_waiting(self) -> int:
        """What is buffered, and what the server said that it had yet to deliver, when it was last heard of."""
        return len(self._buffer) + (self._pull.pending if self._pull is not None else 0)

    async def start(self, positions: Mapping[int, Position]) -> None:
        """Own exactly these partitions and deliver what lies behind their positions; forgets what was buffered.

        Returns after the first attempt to reach the stream; while the server is away it goes on trying by itself.
        """
        await self.stop()
        self._positions = dict(positions)
        self._floors = {partition: position.sequence for partition, position in positions.items()}
        self._floor_max = max(self._floors.values(), default=0)
        self._taken = None
        self._rolled_back = set()
        self._subjects.clear()
        if not positions:
            return
        self._remove_hooks = self._client.add_hooks(on_reconnect=self._look.set)
        attempted = asyncio.Event()
        self._task = asyncio.create_task(self._supervise(attempted), name="command source")
        # Should a bug end the task, nobody may be left waiting for it.
        self._task.add_done_callback(lambda _: attempted.set())
        self._task.add_done_callback(lambda _: self._arrived.set())
        await attempted.wait()

    async def stop(self) -> None:
        """Delivers nothing any more; what was buffered is dropped."""
        if self._remove_hooks is not None:
            self._remove_hooks()
            self._remove_hooks = None
        task, self._task = self._task, None
        if task is not None:
            await ended(task)
        await self._discard_pull()

    def take_nowait(self, limit: int) -> list[Inbound]:
        """What has arrived, at most `limit` messages, in stream order; empty when nothing has."""
        buffer = self._buffer
        if not buffer or limit < 1:
            return []
        if len(buffer) <= limit:
            taken, self._buffer = buffer, []
            self._buffered_bytes = 0
        else:
            taken = buffer[:limit]
            del buffer[:limit]
            self._buffered_bytes -= sum(len(message.body) for message in taken)
        positions = self._positions
        for message in taken:
            positions[message.partition] = message
        last = taken[-1]
        self._taken = Position(last.sequence, last.id)
        self._delivered += len(taken)
        # The consumer may have stopped asking because the buffer was full.
        self._look.set()
        return taken

    async def wait_arrival(self) -> None:
        """Returns when something can be taken, or when `take_rolled_back` has something to say.

        Raises whatever ended the task of the source, which only a bug can.
        """
        while not self._buffer and not self._rolled_back:
            if self._task is not None and self._task.done() and (crash := self._task.exception()) is not None:
                raise crash
            self._arrived.clear()
            await self._arrived.wait()

    async def verify(self, positions: Mapping[int, Position]) -> list[int]:
        """The partitions, sorted, whose position is not what the store holds there.

        Raises StreamError when the store cannot be asked.
        """
        return await partitions_rolled_back(self._client, positions)

    def take_rolled_back(self) -> set[int]:
        """The partitions found rolled back since the last call; the source stands still until started again."""
        found, self._rolled_back = self._rolled_back, set()
        return found

    async def end(self) -> Position:
        """Where the stream ends now, as its leader sees it. Raises StreamError when the store cannot be asked."""
        return await end_of_commands(self._client)

    async def loss(self) -> Loss:
        """What the streams may lack since a consumer of this source last ended, should they have been rolled back.

        A source that never had one cannot tell how far back. Raises StreamError when the store cannot be asked."""
        if self._lost_at is None:
            return Loss(self._losses, None, math.inf, 0.0)
        number, (heard_at, lost_at), now = self._losses, self._lost_at, asyncio.get_running_loop().time
        left, _ = await last_stored(self._client, COMMANDS, now() - heard_at)
        _, seconds = await last_stored(self._client, EVENTS, now() - heard_at)
        return Loss(number, left, seconds, now() - lost_at)

    def statistics(self) -> SourceStatistics:
        """What was delivered and skipped, how often a consumer was built, how many gaps were seen, what waits."""
        return SourceStatistics(self._delivered, self._skipped, self._builds, self._gaps, len(self._buffer))

    async def _supervise(self, attempted: asyncio.Event) -> None:
        pause = _PAUSE_FIRST_S
        while True:
            self._look.clear()
            try:
                standing = await self._build()
            except StreamError as error:
                _log.warning("command consumer not built", extra={"error": str(error)})
                attempted.set()
                await self._discard_pull()
                await self._rest(pause)
                pause = min(pause * 2, _PAUSE_MAX_S)
                continue
            attempted.set()
            if not standing:
                return
            pause = _PAUSE_FIRST_S
            reason = await self._run()
            _log.warning("command consumer broken", extra={"reason": reason})
            await self._discard_pull()

    async def _rest(self, seconds_max: float) -> None:
        try:
            async with asyncio.timeout(_random.uniform(0, seconds_max)):
                await self._look.wait()
        except TimeoutError:
            return
        # The server is back: go at once, but not all workers in the same millisecond.
        await asyncio.sleep(_random.uniform(0, _PAUSE_FIRST_S))

    async def _run(self) -> str:
        pull = self._pull
        assert pull is not None, "a build that stands leaves a pull"
        while pull.broken is None:
            await wait_or_watch(self._look)
            if self._look.is_set():
                self._look.clear()
                await pull.ask()
            else:
                await pull.watch()
        self._gaps += pull.found_gap
        return pull.broken

    async def _build(self) -> bool:
        """Builds a consumer behind what was taken; False when the store was rolled back. Raises StreamError."""
        rolled_back = await self._find_rolled_back()
        if rolled_back:
            _log.error("command stream rolled back", extra={"partitions": sorted(rolled_back)})
            self._rolled_back |= rolled_back
            self._arrived.set()
            return False
        start = min(position.sequence for position in self._positions.values())
        if self._taken is not None:
            start = max(start, self._taken.sequence)
        self._pull = Pull(
            self._client,
            COMMANDS,
            batch=self._batch,
            deliver=self._deliver,
            has_room=self._has_room,
            on_broken=self._broke,
        )
        self._builds += 1
        await self._pull.open(command_filters(frozenset(self._floors), self._partitions), start + 1)
        self._stood = True
        return True

    def _broke(self) -> None:
        self._note_end()
        self._look.set()

    def _note_end(self) -> None:
        """Remember when a consumer ended that stood on a stream which was found whole."""
        if self._stood and self._pull is not None:
            self._stood = False
            self._losses += 1
            self._lost_at = (self._pull.heard_at, asyncio.get_running_loop().time())

    async def _find_rolled_back(self) -> set[int]:
        positions = {partition: Position(at.sequence, at.id) for partition, at in self._positions.items()}
        taken = self._taken
        if taken is not None:
            # While the last message taken is still there, so is everything before it.
            behind = {partition: at for partition, at in positions.items() if at.sequence > taken.sequence}
            key = next((p for p, at in positions.items() if at == taken), next(iter(positions)))
            if not await self.verify({**behind, key: taken}):
                return set()
        return set(await self.verify(positions))

    async def _discard_pull(self) -> None:
        self._note_end()
        pull, self._pull = self._pull, None
        self._buffer = []
        self._buffered_bytes = 0
        if pull is not None:
            await pull.close()

    def _has_room(self) -> bool:
        return len(self._buffer) < self._buffered_max and self._buffered_bytes < _BUFFERED_BYTES_MAX

    def _deliver(self, sequence: int, message: Msg) -> None:
        subject = message.subject
        known = self._subjects.get(subject)
        if known is None:
            known = self._learn(subject)
        partition, stage = known
        if not stage or (sequence <= self._floor_max and sequence <= self._floors[partition]):
            self._skipped += 1
            return
        headers: dict[str, Any] | None = message.headers
        body = message.data
        self._buffer.append(
            Inbound(partition, stage, sequence, headers.get("Nats-Msg-Id", "") if headers else "", body)
        )
        self._buffered_bytes += len(body)
        if not self._arrived.is_set():
            self._arrived.set()

    def _learn(self, subject: str) -> tuple[int, str]:
        if len(self._subjects) >= _SUBJECTS_MAX:
            self._subjects.clear()
        known = _NOT_OURS
        try:
            partition, stage = parse_command_subject(subject)
        except ValueError:
            _log.warning("foreign subject in the command stream", extra={"subject": subject})
        else:
            if partition in self._floors:
                known = (partition, stage)
        self._subjects[subject] = known
        return known
