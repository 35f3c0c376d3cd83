"""Names looked up in threads of their own, each name once at a time: a name server that hangs holds up its names alone.

A look-up has its thread until the system has an answer, also where nobody waits for that any more. So whoever asks, the
`asker` of the call under way, has a few at once and no more. One more waits a moment, which is long for servers that
answer, and is `LookupsBusy` then: a tenant whose names are never answered holds up itself.

The threads of the event loop are few, and everybody's. What is shared is a look-up that is under way; when it has ended
nothing of it is kept, so the next connection looks again, and what it finds is judged again."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["LookupsBusy", "SharedLookups", "asker"]

LOOKUPS_EACH: Final = 4  # under way for one asker
WAIT_SECONDS: Final = 2.0  # for one of them to end

_Key = tuple[str, int, socket.AddressFamily]


asker: ContextVar[str] = ContextVar("asker", default="")
"""For whom the call under way is made."""


class LookupsBusy(OSError):
    """Raised where the look-ups that an asker may have under way do not end."""


class SharedLookups(AbstractResolver):
    """A resolver with at most `lookups_max` look-ups under way. Make it inside a running event loop."""

    def __init__(self, lookups_max: int) -> None:
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(LOOKUPS_EACH))
        self._threads = ThreadPoolExecutor(lookups_max, thread_name_prefix="lookup")
        self._under_way: dict[_Key, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises OSError where it has none, `LookupsBusy` where it is not asked for."""
        key = (host, port, family)
        task = self._under_way.get(key) or await self._begun(key)
        return list(await asyncio.shield(task))  # whoever gives up waiting leaves the others their answer

    async def _begun(self, key: _Key) -> asyncio.Task[list[ResolveResult]]:
        """Return the look-up of a name, begun as soon as its asker may have one more."""
        places = self._places[asker.get()]
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            raise LookupsBusy(f"{LOOKUPS_EACH} names are being looked up for {asker.get()!r}") from None
        task = self._under_way.get(key)
        if task is not None:  # somebody else has begun it meanwhile
            places.release()
            return task
        task = self._under_way[key] = asyncio.create_task(self._look_up(key))
        task.add_done_callback(lambda done: self._ended(key, places, done))
        return task

    def _ended(self, key: _Key, places: asyncio.Semaphore, task: asyncio.Task[list[ResolveResult]]) -> None:
        del self._under_way[key]
        places.release()
        if not task.cancelled():
            task.exception()  # all who asked may have given up: then it is nobody's

    async def _look_up(self, key: _Key) -> list[ResolveResult]:
        host, port, family = key
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port, family)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC)
            for kind, address in found
        ]

    async def close(self) -> None:
        """Ask nobody any more; a look-up that hangs ends with its thread."""
        for task in list(self._under_way.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[tuple[int, str]]:
    """Return family and address of each that the system finds, in its order."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    except ValueError as error:  # UnicodeError of the codec, among others: no server can be asked for such a name
        raise socket.gaierror(socket.EAI_NONAME, f"no name that can be asked for: {error}") from error
    found = []
    for kind, _, _, _, address in infos:
        text = str(address[0])
        if kind == socket.AF_INET6 and len(address) > 3 and address[3]:  # a link-local address says its interface
            text = socket.getnameinfo((text, *address[1:]), _NUMERIC)[0]
        found.append((int(kind), text))
    return found
