"""The twin of the streams: the same publisher and source over lists, without a server, a clock or a task.

It keeps what matters of the real thing: one order per stream, messages dropped by id, refusal when the command
stream is full, trimming behind the checkpoints, sources that never repeat, and the rollback guard. A test takes the
server away with `available`, and its last messages with `roll_back`. It runs under asyncio and Trio alike.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import anyio

from zentra.runtime.messages import Load
from zentra.runtime.stream_ports import Inbound, Loss, Outgoing, Position, StreamError
from zentra.runtime.subjects import COMMANDS, DEAD, EVENTS, parse_command_subject
from zentra.streams.errors import StreamFull, StreamRefused, StreamUnavailable

__all__ = ["LoadReportsTwin", "PublisherTwin", "SourceTwin", "StreamTwin"]

_STREAM_OF = {"zc": COMMANDS, "ze": EVENTS, "zd": DEAD}
_BODY_BYTES_MAX = 1024 * 1024


class _Log:
    """One stream: the message with sequence s stands at index s - first."""

    def __init__(self, bytes_max: int | None) -> None:
        self.first = 1
        self.messages: list[Outgoing] = []
        self.bytes = 0
        self.bytes_max = bytes_max
        self.known_ids: dict[str, int] = {}
        self.times: list[float] = []  # of the messages, where there is a clock

    @property
    def last(self) -> int:
        return self.first + len(self.messages) - 1

    def append(self, message: Outgoing) -> StreamError | None:
        if message.id in self.known_ids:
            return None
        if self.bytes_max is not None and self.bytes + len(message.body) > self.bytes_max:
            return StreamFull("maximum bytes exceeded")
        self.messages.append(message)
        self.bytes += len(message.body)
        self.known_ids[message.id] = self.last
        return None

    def purge(self, up_to: int) -> None:
        gone = max(0, min(up_to, self.last + 1) - self.first)
        self.bytes -= sum(len(message.body) for message in self.messages[:gone])
        del self.messages[:gone]
        del self.times[:gone]
        self.first += gone

    def roll_back(self, to: int) -> None:
        kept = max(0, to - self.first + 1)
        self.bytes -= sum(len(message.body) for message in self.messages[kept:])
        del self.messages[kept:]
        del self.times[kept:]
        self.first = min(self.first, to + 1)
        self.known_ids = {known: sequence for known, sequence in self.known_ids.items() if sequence <= to}

    def contradicts(self, position: Position) -> bool:
        if position.sequence == 0 or position.sequence < self.first:
            return False
        return position.sequence > self.last or self.messages[position.sequence - self.first].id != position.id


class StreamTwin:
    """The three streams of one imaginary server. With a `clock`, in seconds, it tells how far back a loss goes."""

    def __init__(self, *, command_bytes_max: int | None = None, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock
        self._logs = {COMMANDS: _Log(command_bytes_max), EVENTS: _Log(None), DEAD: _Log(None)}
        self._available = True
        self._waiting: list[anyio.Event] = []
        self.loads: list[Load] = []  # as a listener heard them
        # Counts what breaks a consumer on the real server.
        self.interruptions = 0

    @property
    def available(self) -> bool:
        """Whether the server answers; setting it is taking the server away, or giving it back."""
        return self._available

    @available.setter
    def available(self, available: bool) -> None:
        self._available = available
        self.interruptions += 1
        self.wake()

    def append(self, message: Outgoing) -> StreamError | None:
        """Stores the message unless its id is known; returns why it was not stored."""
        if not self._available:
            return StreamUnavailable("disconnected")
        if len(message.body) > _BODY_BYTES_MAX:
            return StreamRefused(0, "MaxPayloadError")
        stream = _STREAM_OF.get(message.subject.partition(".")[0])
        if stream is None:
            return StreamUnavailable("no responders")
        log = self._logs[stream]
        failure = log.append(message)
        if failure is None:
            log.times += [self.clock()] * (len(log.messages) - len(log.times)) if self.clock else []
            self.wake()
        return failure

    def log(self, stream: str = COMMANDS) -> _Log:
        """The messages of one stream."""
        return self._logs[stream]

    def purge_commands(self, up_to: int) -> None:
        """Removes the commands with a sequence below `up_to`."""
        self._logs[COMMANDS].purge(up_to)

    def roll_back(self, to: int, *, events_to: int | None = None) -> None:
        """The server restarts without the commands behind sequence `to`, and the events behind `events_to`; their
        sequences are given out again."""
        self._logs[COMMANDS].roll_back(to)
        if events_to is not None:
            self._logs[EVENTS].roll_back(events_to)
        self.interruptions += 1
        self.wake()

    def forget_ids(self) -> None:
        """The dedupe window passes: every id may be stored again."""
        for log in self._logs.values():
            log.known_ids.clear()

    def forget_id(self, id: str) -> None:
        """The dedupe window passes for one id."""
        for log in self._logs.values():
            log.known_ids.pop(id, None)

    def publisher(self) -> PublisherTwin:
        """A publisher into these streams."""
        return PublisherTwin(self)

    def load_reports(self) -> LoadReportsTwin:
        """Load reports over this server."""
        return LoadReportsTwin(self)

    def source(self) -> SourceTwin:
        """A source of these commands, not started."""
        return SourceTwin(self)

    def wake(self) -> None:
        """Everyone who waits looks again."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    async def wait_change(self) -> None:
        """Returns after the next change of any stream or of `available`."""
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()


class PublisherTwin:
    """Publishes by appending."""

    def __init__(self, stream: StreamTwin) -> None:
        self._stream = stream

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        """One result per message, in order."""
        return [self._stream.append(message) for message in messages]


class LoadReportsTwin:
    """Tells by noting it."""

    def __init__(self, stream: StreamTwin) -> None:
        self._stream = stream

    async def report(self, load: Load) -> None:
        """Tells it once; raises StreamUnavailable without a server."""
        if not self._stream.available:
            raise StreamUnavailable("disconnected")
        self._stream.loads.append(load)


class SourceTwin:
    """Reads the commands of its partitions straight from the log."""

    def __init__(self, stream: StreamTwin) -> None:
        self._stream = stream
        self._floors: dict[int, int] = {}
        self._positions: dict[int, Position] = {}
        self._next = 0
        self._taken: Position | None = None
        self._rolled_back: set[int] = set()
        self._standing = True
        self._seen_interruptions = 0
        self._losses = 0
        self._heard_at: float | None = None  # since the last start or interruption
        self._lost_at: tuple[float, float] | None = None

    @property
    def last_delivered(self) -> Position | None:
        """Everything of the owned partitions up to here was handed out; None when nothing was since `start`."""
        return self._taken

    @property
    def at_end(self) -> bool:
        """Whether everything was handed out that the stream holds for the owned partitions."""
        reads = self._standing and self._seen_interruptions == self._stream.interruptions
        return bool(self._floors) and self._stream.available and reads and not self._has_more()

    @property
    def frames_waiting(self) -> int:
        """How many frames the stream holds that were not taken; none where it cannot be asked."""
        log = self._stream.log()
        ahead = range(max(self._next, log.first), log.last + 1) if self._floors and self._stream.available else ()
        return sum(self._is_ours(log.messages[sequence - log.first].subject, sequence) for sequence in ahead)

    async def start(self, positions: Mapping[int, Position]) -> None:
        """Own exactly these partitions and deliver what lies behind their positions."""
        self._floors = {partition: position.sequence for partition, position in positions.items()}
        self._positions = dict(positions)
        self._next = min(self._floors.values(), default=0) + 1
        self._taken = None
        self._rolled_back = set()
        self._lose()
        self._standing = False
        self._seen_interruptions = -1

    def take_nowait(self, limit: int) -> list[Inbound]:
        """What has arrived, at most `limit` messages, in stream order."""
        taken: list[Inbound] = []
        if not self._look():
            return taken
        log = self._stream.log()
        sequence = max(self._next, log.first)
        while sequence <= log.last and len(taken) < limit:
            message = log.messages[sequence - log.first]
            partition, stage = parse_command_subject(message.subject)
            if sequence > self._floors.get(partition, sequence):
                taken.append(Inbound(partition, stage, sequence, message.id, message.body))
            sequence += 1
        if limit > 0:
            self._next = sequence
        for inbound in taken:
            self._positions[inbound.partition] = self._taken = Position(inbound.sequence, inbound.id)
        return taken

    async def wait_arrival(self) -> None:
        """Returns when something can be taken, or when `take_rolled_back` has something to say."""
        while not self._rolled_back and not (self._look() and self._has_more()) and not self._rolled_back:
            await self._stream.wait_change()

    async def verify(self, positions: Mapping[int, Position]) -> list[int]:
        """The partitions, sorted, whose position the log contradicts; raises StreamUnavailable without a server."""
        if not self._stream.available:
            raise StreamUnavailable("disconnected")
        log = self._stream.log()
        return sorted(partition for partition, position in positions.items() if log.contradicts(position))

    def take_rolled_back(self) -> set[int]:
        """The partitions found rolled back since the last call."""
        self._look()
        found, self._rolled_back = self._rolled_back, set()
        return found

    async def end(self) -> Position:
        """The last command; without one the last sequence. Raises StreamUnavailable without a server."""
        if not self._stream.available:
            raise StreamUnavailable("disconnected")
        log = self._stream.log()
        return Position(log.last, log.messages[-1].id if log.messages else "")

    async def loss(self) -> Loss:
        """What may be lacking since it last stood; without a clock nothing tells. Raises StreamUnavailable."""
        if not self._stream.available:
            raise StreamUnavailable("disconnected")
        clock = self._stream.clock
        if self._lost_at is None or clock is None:
            return Loss(self._losses, None, math.inf, 0.0)
        (heard_at, lost_at), now = self._lost_at, clock()
        commands, events = self._stream.log(), self._stream.log(EVENTS)
        left, told = bisect_right(commands.times, heard_at), bisect_right(events.times, heard_at)
        position = Position(commands.first + left - 1, commands.messages[left - 1].id if left else "")
        return Loss(self._losses, position, now - events.times[told - 1] if told else math.inf, now - lost_at)

    async def stop(self) -> None:
        """Delivers nothing any more."""
        self._lose()
        self._floors = {}
        self._positions = {}
        self._rolled_back = set()

    def _look(self) -> bool:
        """Whether it may deliver; after an interruption only if the store still holds what was taken."""
        if not self._floors or not self._stream.available:
            return False
        if self._seen_interruptions != self._stream.interruptions:
            self._lose()
            self._seen_interruptions = self._stream.interruptions
            log = self._stream.log()
            behind = [
                at for at in self._positions.values() if self._taken is None or at.sequence > self._taken.sequence
            ]
            doubtful = any(log.contradicts(at) for at in [*behind, *([self._taken] if self._taken else [])])
            found = (
                {partition for partition, at in self._positions.items() if log.contradicts(at)} if doubtful else set()
            )
            self._rolled_back |= found
            self._standing = not found
            # As a new consumer would: reused sequences behind what was taken must be seen.
            smallest = min(at.sequence for at in self._positions.values())
            self._next = max(smallest, self._taken.sequence if self._taken else 0) + 1
        if self._standing:
            self._heard_at = self._stream.clock() if self._stream.clock else 0.0
        return self._standing

    def _lose(self) -> None:
        """Remember when it was last known to stand on a stream that was whole."""
        if self._heard_at is not None:
            self._losses += 1
            self._lost_at = (self._heard_at, self._stream.clock() if self._stream.clock else 0.0)
            self._heard_at = None

    def _is_ours(self, subject: str, sequence: int) -> bool:
        return sequence > self._floors.get(parse_command_subject(subject)[0], sequence)

    def _has_more(self) -> bool:
        log = self._stream.log()
        for sequence in range(max(self._next, log.first), log.last + 1):
            if self._is_ours(log.messages[sequence - log.first].subject, sequence):
                return True
            # Nothing of ours: no later look needs to see it again.
            self._next = sequence + 1
        return False
