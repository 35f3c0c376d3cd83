"""A file that is sent part by part, whose length is known before it begins.

A reader that takes nothing for ten seconds is dropped, and who may read is asked again before each part. Where a part
cannot be had the connection ends early, which the length tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from zentra.gateway.http.problems import Problem
from zentra.gateway.http.streaming import SEND_SECONDS_MAX, Headers
from zentra.gateway.listening import Receive, Send
from zentra.runtime.errors import Unavailable

__all__ = ["Download"]


class Download:
    """An answer of `length` bytes, which `parts` has."""

    def __init__(self, length: int, headers: Headers, parts: AsyncIterator[bytes]) -> None:
        self._length, self._headers, self._parts = length, headers, parts

    async def run(self, receive: Receive, send: Send, headers: Headers, check: Callable[[], Awaitable[object]]) -> None:
        """Send all of it, or as much as the reader takes and may read."""
        length = (b"content-length", b"%d" % self._length)
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *self._headers, length]})
        try:
            async for content in self._parts:
                await check()
                async with asyncio.timeout(SEND_SECONDS_MAX):
                    await send({"type": "http.response.body", "body": content, "more_body": True})
        except (Problem, TimeoutError, Unavailable):
            return  # fewer bytes than were promised: the server closes the connection, and the reader can tell
        await send({"type": "http.response.body", "body": b"", "more_body": False})
