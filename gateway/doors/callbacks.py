"""Provider callbacks on their way to the store: those that arrive while a commit runs ride the next one.

- Nobody is told "ok" before the commit that holds the raw bytes.
- One callback that the store refuses harms no other: its group is halved until it stands alone.
- What waits is bounded in number and in bytes, and is somebody's: whoever gives up takes theirs along."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.gateway.http.sending import Sending
from zentra.runtime.errors import DataError, Unavailable, ZentraError
from zentra.storage.intake.callbacks import Callback, Taken, register_callbacks
from zentra.storage.pool import Pool

__all__ = ["CallbackIntake"]

GROUP_MAX: Final = 256
QUEUE_MAX: Final = 10_000  # a rail that is told to come back does
QUEUE_BYTES_MAX: Final = 64 * 2**20  # of bodies: so much of a gateway's memory a store that hangs may cost
RETRY_SECONDS: Final = 2

_Waiting = tuple[Callback, asyncio.Future[Taken]]


class CallbackIntake:
    """The door for verified callbacks; `aclose` waits for what is under way."""

    def __init__(self, pool: Pool, sending: Sending, *, partitions: int) -> None:
        self._pool, self._sending, self._partitions = pool, sending, partitions
        self._queue: dict[int, _Waiting] = {}  # in the order of their coming
        self._bytes = self._came = 0
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, callback: Callback) -> Taken:
        """Return, after the commit, what the callback was to the store.

        One whose caller gives up while it waits for its turn is forgotten: the provider was told to send it again.

        Raises Overloaded, Unavailable, or DataError where the store refuses it."""
        size = len(callback.body)
        if len(self._queue) >= QUEUE_MAX or self._bytes + size > QUEUE_BYTES_MAX:
            raise Overloaded(Cause.REQUESTS, RETRY_SECONDS)
        done: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._came += 1
        place, self._bytes = self._came, self._bytes + size
        self._queue[place] = callback, done
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="callbacks")
        try:
            return await done
        finally:
            self._queue.pop(place, None)
            self._bytes -= size

    async def aclose(self) -> None:
        """Return when everything submitted is answered."""
        if self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        while self._queue:
            group = [self._queue.pop(place) for place in list(itertools.islice(self._queue, GROUP_MAX))]
            try:
                await self._register(group)
            except BaseException as error:  # a bug or a cancelled runner: nobody may wait for ever
                _fail(group, error)
                raise

    async def _register(self, group: list[_Waiting]) -> None:
        try:
            done = await register_callbacks(
                self._pool, [callback for callback, _ in group], partitions=self._partitions
            )
        except DataError as error:
            if len(group) == 1:
                _fail(group, error)
                return
            await self._register(group[: len(group) // 2])
            await self._register(group[len(group) // 2 :])
            return
        except ZentraError as error:
            _fail(group, error)
            return
        self._sending.send_nowait(done.outgoing)
        for (_, answer), taken in zip(group, done.taken, strict=True):
            if not answer.done():  # the provider may have gone
                answer.set_result(taken)


def _fail(group: list[_Waiting], error: BaseException) -> None:
    for _, answer in group:
        if not answer.done():
            # Everybody gets an exception of their own: raising one in many places would chain their tracebacks.
            again = DataError(str(error)) if isinstance(error, DataError) else Unavailable(str(error))
            again.__cause__ = error
            answer.set_exception(again)
