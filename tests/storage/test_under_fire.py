"""Faults at the worst moment on the real database: commits that outlive their connection, rows a stream has lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.storage.test_registration import _count, _item
from zentra.runtime.errors import InDoubt
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.engine import store as store_module
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake import registration as module
from zentra.storage.intake.registration import Registered, register_intents
from zentra.storage.outbox import mark_sent, write_outbox
from zentra.storage.pool import Connection, Pool, transaction

_WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("happens", [True, False])
async def test_an_intake_whose_commit_ends_after_its_connection_is_lost_answers_what_became_of_it(
    writer_pool: Pool, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch, size: int, happens: bool
) -> None:
    """The server goes on with a commit whose client is gone, and who asks meanwhile sees nothing of it."""
    ended: list[asyncio.Task[None]] = []
    lingering = await admin_pool.acquire()

    async def end_when_awaited() -> None:
        while not await admin_pool.fetchval(_WAITING):  # the next run has met the rows of this one
            pass
        await lingering.execute("commit" if happens else "rollback")

    @asynccontextmanager
    async def cut_off(pool: Pool, **options: Any) -> AsyncIterator[Connection]:
        if ended:
            async with transaction(pool, **options) as connection:
                yield connection
            return
        await lingering.execute("begin")
        yield lingering
        ended.append(asyncio.create_task(end_when_awaited()))
        raise InDoubt("the connection died while the server was committing")

    monkeypatch.setattr(module, "transaction", cut_off)
    items = [_item(f"cut-off-{happens}-{size}-{n}") for n in range(size)]
    try:
        done = await register_intents(writer_pool, items)
        await ended[0]
    finally:
        await admin_pool.release(lingering)
    assert done.outcomes == [Registered()] * size
    assert bool(done.outgoing) is not happens  # what the lost run wrote is left to the sweep
    intents = [item.intent for item in items]
    assert await _count(writer_pool, intents) == {"intents": size, "transitions": size, "timers": size}


async def test_every_row_that_was_sent_can_be_taken_back(writer_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "UNSEND_ROWS", 2)
    rows = [(partition, Outgoing("zc.1.log", b"", f"{partition:032x}")) for partition in range(5)]
    async with transaction(writer_pool) as connection:
        await write_outbox(connection, rows)
    ids = [message.id for _, message in rows]
    await mark_sent(writer_pool, ids)
    store = PostgresStore(writer_pool)
    assert await store.unsend(math.inf, 0, []) >= len(ids)
    assert {row.id for row in await store.unsent(range(5), -1, 1_000)} >= set(ids)
    await mark_sent(writer_pool, ids)
