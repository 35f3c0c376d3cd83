"""Where a worker can be stopped or ended: what a coroutine yields to the driver, and what is thrown into it.

A worker of the simulation is a value whose coroutines are stepped by hand. Each step runs until the coroutine ends or
stands at a `Stop`; nothing runs in between unless the driver says so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Job", "Killed", "Stop", "Turn"]


class Stop:
    """Awaited where a coroutine stands still until the driver steps it again. `place` says where that is."""

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __await__(self) -> Generator[Stop, None, None]:
        yield self


class Killed(BaseException):
    """Thrown into a worker whose process ends at once. No handler may catch it."""


class Job:
    """A coroutine of a worker and the place where it stands, None before its first step."""

    def __init__(self, kind: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self.kind, self.coroutine = kind, coroutine
        self.place: str | None = None
        self._awaited: asyncio.Future[Any] | None = None

    @property
    def may_go_on(self) -> bool:
        """Return whether it stands where nothing has to happen before it goes on."""
        return self.place in ("breath", "fenced", "committed")

    def step(self) -> bool:
        """Run to the next stop; return whether the coroutine has ended. Raises what it raises.

        Where it waits for an event of the worker, it stands until that has come."""
        if self._awaited is not None and not self._awaited.done():
            return False
        self._awaited = None
        try:
            while (stop := self.coroutine.send(None)) is None:
                continue  # a bare checkpoint of the loop: nobody else wants to run
        except StopIteration:
            return True
        if isinstance(stop, Stop):
            self.place = stop.place
        else:
            self.place, self._awaited = "event", stop
        return False


class Turn:
    """Stands in for the lock of a worker: whoever comes second stops until the first is done."""

    def __init__(self) -> None:
        self._taken = False

    async def __aenter__(self) -> None:
        while self._taken:
            await Stop("turn")
        self._taken = True

    async def __aexit__(self, *_: Any) -> None:
        self._taken = False
