"""What concurrent clients asked and heard, written down as it happens and read back as one history.

- A line per invocation, per answer and per outcome that stayed unknown; every field by name, bodies as the text that
  came. Times are nanoseconds of the machine's monotonic clock, so they compare across processes of one boot.
- An invocation is on its way to the file before the request leaves, an answer before anybody acts on it: whoever is
  killed leaves a history in which the open calls are those whose outcome nobody knows.
- Nothing is ever rewritten. A line that was cut by a crash is passed over, and only such a line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

__all__ = [
    "Call",
    "Create",
    "HistoryBroken",
    "OpenCall",
    "Operation",
    "Place",
    "ReadAccount",
    "ReadEntries",
    "ReadIntent",
    "Recorder",
    "read_history",
]

FORMAT: Final = 1


class Create(Struct, frozen=True, kw_only=True, tag_field="type", tag="create"):
    """A request for an intent: `body` is the JSON that was sent, without the key. `wait` is that of `Prefer`."""

    tenant: str
    key: str
    body: dict[str, Any]
    door: str = "http"  # http, nats
    wait: int = 0


class ReadIntent(Struct, frozen=True, kw_only=True, tag_field="type", tag="read_intent"):
    """A look at an intent."""

    tenant: str
    intent_id: str


class ReadAccount(Struct, frozen=True, kw_only=True, tag_field="type", tag="read_account"):
    """A look at an account's balances."""

    tenant: str
    account_id: str


class Place(Struct, frozen=True, kw_only=True):
    """The entry behind which a page begins: what an entries cursor says."""

    at: str
    intent: str
    ordinal: int


class ReadEntries(Struct, frozen=True, kw_only=True, tag_field="type", tag="read_entries"):
    """A look at a page of an account's entries, newest first."""

    tenant: str
    account_id: str
    limit: int
    after: Place | None = None


Operation = Create | ReadIntent | ReadAccount | ReadEntries


class Opened(Struct, frozen=True, kw_only=True, tag_field="line", tag="opened"):
    """The first line of a recording; `at` is the monotonic clock, `wall` unix time then."""

    format: int
    at: int
    wall: float


class Invocation(Struct, frozen=True, kw_only=True, tag_field="line", tag="invocation"):
    """A client is about to ask."""

    number: int
    process: int
    at: int
    operation: Operation


class Answered(Struct, frozen=True, kw_only=True, tag_field="line", tag="answer"):
    """A client has heard."""

    number: int
    at: int
    status: int
    replayed: bool
    body: str


class Unknown(Struct, frozen=True, kw_only=True, tag_field="line", tag="unknown"):
    """A client has given up: the operation may have happened, or may still."""

    number: int
    at: int
    why: str


Line = Opened | Invocation | Answered | Unknown


class Call(Struct, frozen=True, kw_only=True):
    """One operation of a history. `status` 0 means that the outcome is unknown; then `returned` is None."""

    number: int
    process: int
    operation: Operation
    invoked: int
    returned: int | None = None
    status: int = 0
    replayed: bool = False
    body: str = ""
    why: str = ""

    @property
    def known(self) -> bool:
        """Whether it was answered at all."""
        return self.returned is not None

    def shown(self) -> str:
        """Return the call as a reader of a violation wants it."""
        operation = msgspec.to_builtins(self.operation)
        kind = operation.pop("type")
        asked = ", ".join(f"{name}={value!r}" for name, value in operation.items() if value not in (None, "", 0))
        heard = f"{self.status}{' replayed' if self.replayed else ''}" if self.known else f"unknown ({self.why})"
        return f"call {self.number} of process {self.process} [{kind} {asked}] -> {heard}"


class HistoryBroken(Exception):
    """Raised where a recording contradicts itself, which no interruption explains; the sentence says how."""


class Recorder:
    """Writes one recording; safe for threads and tasks. A context manager, or `close` it."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Append to `path`, behind what an earlier recorder left there. Raises HistoryBroken or OSError."""
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        known = list(read_history([path])) if path.exists() else []
        self._next = max((call.number for call in known), default=-1) + 1
        self._processes = max((call.process for call in known), default=-1) + 1
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = path.open("ab", buffering=0)
        if torn:
            self._file.write(b"\n")
        self._write(Opened(format=FORMAT, at=clock(), wall=time.time()))

    def new_process(self) -> int:
        """Return a number for a client. One process has one call open at a time; after an unknown outcome a client goes
        on as a new one, because the old call may still be under way."""
        with self._lock:
            self._processes += 1
            return self._processes - 1

    def invoked(self, process: int, operation: Operation) -> int:
        """Write down that `process` is about to ask, and return the number of the call."""
        with self._lock:
            number = self._next
            self._next += 1
            self._write(Invocation(number=number, process=process, at=self._clock(), operation=operation))
        return number

    def answered(self, number: int, status: int, body: bytes, *, replayed: bool = False) -> None:
        """Write down what was heard; the time is that of this call, so call it at once."""
        at = self._clock()
        text = body.decode("utf-8", errors="backslashreplace")
        with self._lock:
            self._write(Answered(number=number, at=at, status=status, replayed=replayed, body=text))

    def unknown(self, number: int, why: str) -> None:
        """Write down that no answer came, and why nobody waits for it any longer."""
        at = self._clock()
        with self._lock:
            self._write(Unknown(number=number, at=at, why=why))

    @contextmanager
    def call(self, process: int, operation: Operation) -> Iterator[OpenCall]:
        """Record an operation around the request that makes it.

        Leaving without `answer`, by an exception or not, leaves the outcome unknown; exceptions go on their way."""
        opened = OpenCall(self, self.invoked(process, operation))
        why = "nobody waited for the answer"
        try:
            yield opened
        except BaseException as error:
            why = type(error).__name__
            raise
        finally:
            if not opened.done:
                self.unknown(opened.number, why)

    def history(self) -> list[Call]:
        """Return everything recorded so far, in order of invocation. Raises HistoryBroken."""
        return read_history([self.path])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: Line) -> None:
        self._file.write(_encode(line) + b"\n")  # unbuffered: the system has it, whatever becomes of this process


class OpenCall:
    """A call whose answer is awaited."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number = number
        self.done = False

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, replayed: bool = False
    ) -> None:
        """Record the answer; over HTTP `headers` say whether it is a replay, over NATS `replayed` does."""
        said = {name.lower(): value for name, value in (headers or {}).items()}
        self.done = True
        self._recorder.answered(
            self.number, status, body, replayed=replayed or said.get("idempotent-replayed") == "true"
        )


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode


def read_history(paths: Iterable[Path]) -> list[Call]:
    """Return the calls of some recordings in order of invocation; a call without an end has an unknown outcome.

    Calls and processes of several recordings are renumbered to be distinct. Raises HistoryBroken where an end has no
    beginning or a second one, where a process asks while it waits, or where a line is damaged that no crash can have
    cut; OSError where a file cannot be read."""
    calls: list[Call] = []
    for path in paths:
        more = _read_one(path)
        number = max((call.number for call in calls), default=-1) + 1
        process = max((call.process for call in calls), default=-1) + 1
        if calls:
            more = [
                msgspec.structs.replace(call, number=call.number + number, process=call.process + process)
                for call in more
            ]
        calls += more
    return sorted(calls, key=lambda call: (call.invoked, call.number))


def _read_one(path: Path) -> list[Call]:
    lines = path.read_bytes().split(b"\n")
    calls: dict[int, Call] = {}
    ended: set[int] = set()
    waiting: dict[int, int] = {}
    for place, data in enumerate(lines):
        if not data:
            continue
        try:
            line = _decode(data)
        except msgspec.MsgspecError:
            if _was_cut(lines, place):
                continue
            raise HistoryBroken(f"{path}: line {place + 1} is damaged") from None
        if isinstance(line, Opened):
            if line.format != FORMAT:
                raise HistoryBroken(f"{path}: written in format {line.format}, this reads {FORMAT}")
            waiting.clear()  # whoever waited is gone with the recorder before
        elif isinstance(line, Invocation):
            if line.number in calls or line.process in waiting:
                raise HistoryBroken(f"{path}: call {line.number} of process {line.process} begins out of turn")
            waiting[line.process] = line.number
            calls[line.number] = Call(
                number=line.number, process=line.process, operation=line.operation, invoked=line.at,
                why="the recording ends before an answer",
            )  # fmt: skip
        else:
            if line.number not in calls or line.number in ended:
                raise HistoryBroken(f"{path}: call {line.number} ends twice or without a beginning")
            ended.add(line.number)
            call = calls[line.number]
            waiting.pop(call.process, None)
            calls[line.number] = _ended(call, line)
    return list(calls.values())


def _ended(call: Call, line: Answered | Unknown) -> Call:
    if isinstance(line, Unknown):
        return msgspec.structs.replace(call, why=line.why)
    if line.at < call.invoked:
        raise HistoryBroken(f"call {call.number} was answered before it was made")
    return msgspec.structs.replace(
        call, returned=line.at, status=line.status, replayed=line.replayed, body=line.body, why=""
    )


def _was_cut(lines: list[bytes], place: int) -> bool:
    """Whether a line may have been cut by a crash: it is the last of the file, or a new recorder began behind it."""
    if place == len(lines) - 1:
        return True
    following = lines[place + 1]
    return following.startswith(b'{"line":"opened"')
