"""What every outbox does, on the twin and on Postgres: rows live until they are marked, consumed, trimmed."""

from __future__ import annotations

import math
from datetime import timedelta

import anyio
import pytest

from tests.contracts.test_store_contract import World, pools, uuid, world
from zentra.runtime.errors import DataError
from zentra.runtime.ports import TickWrites
from zentra.runtime.stream_ports import Outgoing

__all__ = ["pools", "world"]


async def test_the_outbox_holds_what_is_unsent_until_it_is_marked_and_then_until_it_is_trimmed(world: World) -> None:
    rows = [Outgoing(f"ze.7.acme.topic{number}", b"body", uuid()) for number in range(3)]
    ground = await world.commit(lambda writes: writes.outbox.extend((7, row) for row in rows))

    async def unsent() -> list[str]:
        return [row.id for row in await world.store.unsent([7], 0, 100)]

    with anyio.fail_after(5):
        while sorted(await unsent()) != sorted(row.id for row in rows):  # the clock has to pass the commit
            await anyio.lowlevel.checkpoint()
    assert await world.store.unsent([7], 60, 100) == []
    assert await world.store.unsent([8], 0, 100) == []
    await world.store.mark_sent([rows[0].id, rows[0].id, uuid()])
    assert sorted(await unsent()) == sorted(row.id for row in rows[1:])
    await world.store.unsend(math.inf, 0, [])
    assert sorted(await unsent()) == sorted(row.id for row in rows)
    await world.store.mark_sent([rows[0].id])
    assert await world.store.trim_outbox([7], ground.now - timedelta(seconds=60)) == 0
    assert await world.store.trim_outbox([8], ground.now + timedelta(seconds=60)) == 0
    assert await world.store.trim_outbox([7], ground.now + timedelta(seconds=60)) == 1
    await world.store.unsend(math.inf, 0, [])
    assert sorted(await unsent()) == sorted(row.id for row in rows[1:])
    await world.store.mark_sent([row.id for row in rows])
    await world.store.trim_outbox([7], ground.now + timedelta(seconds=60))


async def test_the_row_of_a_command_frame_lives_until_a_commit_consumes_the_frame(world: World) -> None:
    rows = [Outgoing(f"zc.9.stage{number}", b"body", uuid()) for number in range(3)]
    event = Outgoing("ze.9.acme.topic", b"[]", uuid())
    ids = [row.id for row in rows]

    async def left(partition: int = 9, limit: int = 10) -> list[Outgoing]:
        return await world.store.unconsumed([partition], -60, limit)

    ground = await world.commit(lambda writes: writes.outbox.extend((9, row) for row in (*rows, event)))
    assert await left() == []  # not sent
    await world.store.mark_sent([*ids, event.id])
    assert await left() == rows
    assert await left(limit=2) == rows[:2]
    assert await left(8) == []
    assert await world.store.unconsumed([9], 60, 10) == []
    assert await world.store.trim_outbox([9], ground.now + timedelta(seconds=60)) == 1
    await world.store.unsend(math.inf, 0, [9])
    assert await left() == rows
    await world.commit(partitions=[9], consumed=[(9, ids[0]), (9, uuid())])
    assert await left() == rows[1:]
    await world.commit(partitions=[8], consumed=[(9, ids[1])])  # of a partition that takes no part
    await world.commit(partitions=[8, 9], consumed=[(9, ids[1])], stale={9: (0, 1)})
    assert await left() == rows[1:]

    def refused(writes: TickWrites) -> None:
        raise DataError("no")

    with pytest.raises(DataError):
        await world.commit(refused, partitions=[9], consumed=[(9, ids[1])])
    assert await left() == rows[1:]
    await world.commit(partitions=[9], consumed=[(9, key) for key in ids])
    assert await left() == []


async def test_rows_are_found_by_what_they_carry_and_by_name(world: World) -> None:
    rows = [Outgoing(f"{kind}.6.acme.topic", b"body", uuid()) for kind in ("zc", "ze", "zc", "ze")]
    await world.commit(lambda writes: writes.outbox.extend((6, row) for row in rows))
    commands, events = [rows[0].id, rows[2].id], [rows[1].id, rows[3].id]

    async def unsent(commands: bool | None) -> list[str]:
        return [row.id for row in await world.store.unsent([6], -60, 10, commands=commands)]

    assert sorted(await unsent(True)) == sorted(commands)
    assert sorted(await unsent(False)) == sorted(events)
    assert len(await unsent(None)) == 4
    await world.store.mark_sent([rows[0].id])
    assert sorted(await world.store.outstanding([5, 6])) == sorted(commands)  # sent or not
    assert await world.store.outstanding([5]) == []
    named = [rows[2].id, uuid(), rows[1].id]
    assert [(row.id, row.body) for row in await world.store.frames(named)] == [(named[0], b"body"), (named[2], b"body")]
    await world.commit(partitions=[6], consumed=[(6, rows[0].id)])
    assert await world.store.outstanding([6]) == [rows[2].id]
    await world.commit(partitions=[6], consumed=[(6, rows[2].id)])
    await world.store.mark_sent(events)
    assert await unsent(None) == []


@pytest.mark.parametrize(
    ("since", "until", "kept", "taken_back"),
    [
        (math.inf, 0, [], "command event"),
        (60, 0, [], "command event"),
        (60, 0, [4], "event"),
        (-60, 0, [], "command"),  # the feed was sent before that
        (math.inf, 60, [], ""),  # all was sent after that
    ],
)
async def test_what_a_stream_may_have_lost_is_taken_back_by_when_it_was_sent(
    world: World, since: float, until: float, kept: list[int], taken_back: str
) -> None:
    rows = [Outgoing("zc.4.command", b"body", uuid()), Outgoing("ze.4.acme.event", b"body", uuid())]
    ids = [row.id for row in rows]
    await world.commit(lambda writes: writes.outbox.extend((4, row) for row in rows))
    await world.store.mark_sent(ids)
    assert await world.store.unsend(since, until, kept) >= len(taken_back.split())
    left = {row.id: row.subject for row in await world.store.unsent([4], -60, 100)}
    assert " ".join(left[key].rsplit(".", 1)[1] for key in ids if key in left) == taken_back
    await world.commit(partitions=[4], consumed=[(4, ids[0])])
