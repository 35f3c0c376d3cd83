"""What every store refuses: rows that are there already, and ids that are none; nothing of their tick is written."""

from __future__ import annotations

import pytest

from tests.contracts.test_store_contract import AT, World, Write, delivery, leaf, numbers, pools, story, uuid, world
from zentra.runtime.errors import DataError
from zentra.runtime.ledger.book import AccountRef, Posting
from zentra.runtime.ports import TickWrites
from zentra.runtime.stream_ports import Outgoing

__all__ = ["pools", "world"]


def _posting(ref: AccountRef, other: AccountRef) -> Posting:
    return Posting(uuid(), 0, "acme", "book", ref, other, 0, 5, AT, b"hash")


async def test_a_row_that_is_there_already_is_refused_and_nothing_of_its_tick_is_written(world: World) -> None:
    written, posting = story(2), _posting(await world.account(), await world.account())
    one, row = delivery("hook", written[0].intent), Outgoing("zc.1.policy", b"", uuid())
    tenant = f"t{next(numbers)}"
    bystander = story(1)

    def begin(writes: TickWrites) -> None:
        writes.deliveries_begun.add(one.id)
        writes.delivery_states[one.id] = (one, None)

    twice: dict[str, Write] = {
        "transitions": lambda writes: writes.transitions.extend(written),
        "postings": lambda writes: writes.postings.append(posting),
        "deliveries": lambda writes: writes.deliveries.append((one, 1)),
        "delivery begun": begin,
        "outbox": lambda writes: writes.outbox.append((1, row)),
        "log": leaf(tenant, 0, tenant.encode()),
    }
    for name, write in twice.items():
        await world.commit(write)
        before = await world.store.leases([0])

        def again(writes: TickWrites, write: Write = write) -> None:
            writes.transitions += bystander
            write(writes)

        with pytest.raises(DataError):
            await world.commit(again)
        assert await world.store.intents([bystander[0].intent]) == {}, name
        assert await world.store.leases([0]) == before, name


async def test_a_leaf_is_logged_once_wherever_it_would_stand(world: World) -> None:
    tenant = f"t{next(numbers)}"
    await world.commit(leaf(tenant, 0, tenant.encode()))
    with pytest.raises(DataError):
        await world.commit(leaf(tenant, 1, tenant.encode()))


@pytest.mark.parametrize("key", ["", "not-a-uuid", "0" * 31, "g" * 32, "\x00" * 32])
async def test_an_id_that_is_none_is_refused(world: World, key: str) -> None:
    with pytest.raises(DataError):
        await world.store.intents([key])
    with pytest.raises(DataError):
        await world.store.deliveries([key])
