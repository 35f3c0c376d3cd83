"""Ending tasks that speak to NATS."""

from __future__ import annotations

import asyncio
from typing import Any, Final

__all__ = ["ended"]

AGAIN_SECONDS: Final = 0.1


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and return when it is done; what it ends with stays in it.

    nats-py waits with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes in the moment of
    its answer (python/cpython#86296): a task that goes on is cancelled again."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_SECONDS)
