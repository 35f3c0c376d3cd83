"""Waiting for an outcome without asking again and again.

An intent's waiter is told by the event tail: it makes sure that the tail is live, then reads the state, then waits for
an event of its intent, so nothing can slip in between. A refused command has no event: its outcome is a row and nothing
else. For those alone the store is asked, once every 20 ms for all who wait together, and never while nobody does.

- The tail is a hint and the store is the truth: what is returned was always read, and it is read once more at the end.
- The tail runs while somebody waits, and a little longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from zentra.runtime.errors import Unavailable
from zentra.runtime.intents.vocabulary import SETTLED, State

__all__ = ["CommandOutcome", "CommandWaiters", "EventFeed", "IntentWaiters"]

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 30.0  # starting the tail costs a round trip, running it costs a read of every event
POLL_SECONDS: Final = 0.02

T = TypeVar("T")
Frames = list[tuple[str, bytes]]


class EventFeed(Protocol):
    """The tail of the event stream, as streams.feed has it."""

    async def start(self) -> None:
        """Deliver what is published from now on; nothing where it runs already."""
        ...

    async def stop(self) -> None:
        """Deliver nothing any more."""
        ...


class _Told(msgspec.Struct):
    """The part of a transition record that tells a waiter to look."""

    intent: str
    event: str
    to: str
    step: str | None = None


_decode: Final = msgspec.json.Decoder(list[_Told]).decode
_NEWS: Final = frozenset({state.lifecycle for state in SETTLED} | {"REVIEW"})
_HELD: Final = State.HELD.step


class IntentWaiters:
    """Those who wait for intents; `make_feed` is given the function that takes the frames."""

    def __init__(
        self, make_feed: Callable[[Callable[[Frames], None]], EventFeed], *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._feed = make_feed(self._on_frames)
        self._idle_seconds = idle_seconds
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._watching: dict[str, set[asyncio.Event]] = {}
        self._starting = asyncio.Lock()
        self._live = self._draining = False
        self._idle: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def live(self) -> bool:
        """Whether the tail runs."""
        return self._live

    @property
    def waiting(self) -> int:
        """How many intents are waited for by somebody whom the tail would tell."""
        return len(self._waiting) if self._live else 0

    async def wait(
        self, intent: str, read: Callable[[], Awaitable[T]], ready: Callable[[T], bool], seconds: float
    ) -> T:
        """Return what `read` returns once it is `ready`, or after `seconds` whatever it returns then."""
        told = asyncio.Event()
        self._waiting.setdefault(intent, set()).add(told)
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._start()
                    while not ready(state := await read()) and not self._draining:
                        await told.wait()
                        told.clear()
                    return state
            except TimeoutError:
                return await read()
        finally:
            self._leave(intent, told)

    async def watch(self, intent: str) -> asyncio.Event:
        """Return an event that is set whenever something happens to the intent, until `unwatch` is called."""
        told = asyncio.Event()
        self._watching.setdefault(intent, set()).add(told)
        try:
            await self._start()
        except BaseException:
            self.unwatch(intent, told)
            raise
        return told

    def unwatch(self, intent: str, told: asyncio.Event) -> None:
        """Tell no more."""
        self._forget(self._watching, intent, told)

    def drain(self) -> None:
        """Let nobody wait any longer: all get the state as it is."""
        self._draining = True
        for waiting in self._waiting.values():
            for told in waiting:
                told.set()

    async def aclose(self) -> None:
        """Stop the tail; those who still wait do so until their time is over."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        async with self._starting:
            await self._stop()

    async def _start(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._live:
            return
        async with self._starting:
            if not self._live:
                await self._feed.start()
                self._live = True

    def _leave(self, intent: str, told: asyncio.Event) -> None:
        self._forget(self._waiting, intent, told)

    def _forget(self, those: dict[str, set[asyncio.Event]], intent: str, told: asyncio.Event) -> None:
        others = those[intent]
        others.discard(told)
        if not others:
            del those[intent]
        if not self._waiting and not self._watching and self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        self._idle = None
        self._stopping = asyncio.create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        async with self._starting:
            if not self._waiting and not self._watching:
                await self._stop()

    async def _stop(self) -> None:
        self._live = False
        await self._feed.stop()  # also where its start was given up: it goes on trying by itself

    def _on_frames(self, frames: Frames) -> None:
        waiting, watching = self._waiting, self._watching
        if not waiting and not watching:
            return
        for _, body in frames:
            try:
                records = _decode(body)
            except msgspec.MsgspecError:
                _log.warning("event frame cannot be read")
                continue
            for record in records:
                for told in watching.get(record.intent, ()):
                    told.set()
                if record.intent in waiting and (
                    record.to in _NEWS or record.step == _HELD or record.event.startswith("case.")
                ):
                    for told in waiting[record.intent]:
                        told.set()


class CommandOutcome(Protocol):
    """What became of a command."""

    @property
    def accepted(self) -> bool:
        """Whether it was carried out."""
        ...

    @property
    def code(self) -> str:
        """`done`, or why not."""
        ...


Outcome = TypeVar("Outcome", bound=CommandOutcome)


class CommandWaiters(Generic[Outcome]):
    """Those who wait for outcome rows; `find` returns those that exist of the given (tenant, command), by command."""

    def __init__(
        self, find: Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, Outcome]]], *,
        pause_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._find = find
        self._pause = pause_seconds
        self._waiting: dict[tuple[str, str], set[asyncio.Future[Outcome | None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    @property
    def asking(self) -> bool:
        """Whether the store is being asked."""
        return self._asking is not None

    async def wait(self, tenant: str, command: str, seconds: float) -> Outcome | None:
        """Return the outcome of a command, or None where there is none within `seconds`."""
        key = (tenant, command)
        answer: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(answer)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="command outcomes")
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return None
        finally:
            others = self._waiting.get(key)
            if others is not None:
                others.discard(answer)
                if not others:
                    del self._waiting[key]

    def drain(self) -> None:
        """Let nobody wait any longer: all are told that there is no outcome yet."""
        for waiting in self._waiting.values():
            for answer in waiting:
                if not answer.done():
                    answer.set_result(None)

    async def aclose(self) -> None:
        """Stop asking; those who still wait do so until their time is over."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait([asking])

    async def _ask(self) -> None:
        try:
            while self._waiting:
                try:
                    found = await self._find(list(self._waiting))
                except Unavailable as error:
                    _log.warning("command outcomes cannot be read", extra={"error": str(error)})
                    found = {}
                for key in [key for key in self._waiting if key[1] in found]:
                    for answer in self._waiting.pop(key):
                        if not answer.done():
                            answer.set_result(found[key[1]])
                if self._waiting:
                    await asyncio.sleep(self._pause)
        finally:
            self._asking = None
