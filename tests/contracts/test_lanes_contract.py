"""What every store does with the lanes of endpoints: their order, their numbers, their failures."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contracts.test_store_contract import AT, World, delivery, pools, story, uuid, world
from zentra.runtime.ports import LaneRow, TickWrites
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState
from zentra.runtime.webhooks.terms import Health

__all__ = ["pools", "world"]


async def begun(world: World, endpoint: str, *numbers: int) -> list[Delivery]:
    """Store deliveries that a lane has taken in under these numbers, in the order of the arguments."""
    written = story()
    made = []
    for number in numbers:
        one = delivery(endpoint, written[0].intent)
        one.id, one.sequence = uuid(), number
        made.append(one)

    def write(writes: TickWrites) -> None:
        writes.deliveries += [(one, 1) for one in made]
        writes.deliveries_begun |= {one.id for one in made}
        writes.delivery_states.update({one.id: (one, None) for one in made})

    await world.commit(write)
    return made


@pytest.mark.parametrize("timed", [False, True])
async def test_what_is_open_comes_in_the_order_of_its_lane(world: World, timed: bool) -> None:
    endpoint = f"hook-{uuid()}"
    third, first, second, ended = await begun(world, endpoint, 3, 1, 2, 4)
    due_at = AT + timedelta(hours=1)
    second.state, second.next_at = DeliveryState.RETRYING, due_at
    ended.state = DeliveryState.DELIVERED
    await world.commit(lambda writes: writes.delivery_states.update(
        {second.id: (second, due_at), ended.id: (ended, None)}))  # fmt: skip
    found = await world.store.open_deliveries("acme", endpoint, timed=timed)
    assert [(one.id, one.sequence) for one in found] == [
        (one.id, one.sequence) for one in (first, second, third) if timed or one is not second
    ]
    known = await world.store.deliveries([second.id])
    assert (known[second.id].sequence, known[second.id].next_at) == (2, due_at)


async def test_a_number_is_given_once(world: World) -> None:
    (one,) = await begun(world, f"hook-{uuid()}", 7)
    one.sequence, one.state = 8, DeliveryState.DELIVERING
    await world.commit(lambda writes: writes.delivery_states.update({one.id: (one, None)}))
    assert (await world.store.deliveries([one.id]))[one.id].sequence == 7


async def test_a_lane_begins_at_nothing_and_is_as_it_was_written_last(world: World) -> None:
    name = ("acme", f"hook-{uuid()}")
    assert await world.store.lane(*name) == LaneRow()
    for row in (LaneRow(3, Health(AT, AT + timedelta(hours=1), 4)), LaneRow(4)):
        await world.commit(lambda writes, row=row: writes.lanes.update({name: row}))  # type: ignore[misc]
        assert await world.store.lane(*name) == row
    assert await world.store.lane("globex", name[1]) == LaneRow()
