"""A task that is ended ends, also where what it waits for swallows a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from zentra.streams.ending import ended


@pytest.mark.parametrize("swallowed", [0, 1, 3])
async def test_a_task_ends_however_many_cancellations_it_swallows(swallowed: int) -> None:
    left = swallowed

    async def work() -> None:
        nonlocal left
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not left:
                    raise
                left -= 1

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await ended(task)
    assert task.cancelled()
    assert left == 0


async def test_what_has_ended_is_let_be() -> None:
    async def fail() -> None:
        raise ValueError("long ago")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await ended(task)
    assert isinstance(task.exception(), ValueError)
