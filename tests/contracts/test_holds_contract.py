"""What every store says of holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.contracts.test_store_contract import AT, World, pools, uuid, world
from zentra.runtime.errors import DataError
from zentra.runtime.ports import EXPIRING_MAX, HoldRow, TickWrites

__all__ = ["pools", "world"]


def expired_hold(account: int) -> HoldRow:
    """Return a hold that stands on an account, and whose time is over."""
    return HoldRow(
        intent=uuid(), tenant="acme", intent_id=f"hold-{uuid()}", account=account, account_id="a", currency="NGN",
        minor=100, remaining=60, captured=40, status="open", placed_at=AT, expires_at=AT + timedelta(days=1),
    )  # fmt: skip


def writing(*rows: HoldRow) -> Callable[[TickWrites], None]:
    """Return what writes rows."""

    def write(writes: TickWrites) -> None:
        writes.holds |= {row.intent: row for row in rows}

    return write


async def test_holds_that_are_over_or_about_to_be_are_told_of_the_first_one_first(world: World) -> None:
    account, other, now = int(uuid(), 16), int(uuid(), 16), datetime.now(UTC)
    over, soon, later = (
        replace(expired_hold(account), expires_at=now + timedelta(seconds=left)) for left in (-5, 0.9, 60)
    )
    await world.commit(writing(soon, later, over))
    found = await world.store.expiring_holds([account, other])
    assert [(one.intent, one.remaining) for one in found[account].holds] == [(over.intent, 60), (soon.intent, 60)]
    assert found[account].holds[0].expires_at == over.expires_at
    assert found[other].holds == ()
    assert all(abs((answer.at - now).total_seconds()) < 30 for answer in found.values())


@pytest.mark.parametrize("status", ["captured", "voided", "expired"])
async def test_a_hold_that_has_ended_is_not_told_of(world: World, status: str) -> None:
    row = expired_hold(int(uuid(), 16))
    await world.commit(writing(row))
    await world.commit(writing(replace(row, remaining=0, status=status, ended_at=AT)))
    assert (await world.store.expiring_holds([row.account]))[row.account].holds == ()


async def test_of_many_holds_the_first_ones_are_told_of(world: World) -> None:
    account = int(uuid(), 16)
    rows = [replace(expired_hold(account), expires_at=AT + timedelta(seconds=n)) for n in range(EXPIRING_MAX + 5)]
    await world.commit(writing(*rows))
    found = (await world.store.expiring_holds([account]))[account].holds
    assert [one.intent for one in found] == [row.intent for row in rows[:EXPIRING_MAX]]


@pytest.mark.parametrize("changes", [{"remaining": -1}, {"status": "voided"}, {"ended_at": AT}])
async def test_a_hold_that_cannot_be_is_refused(world: World, changes: dict[str, object]) -> None:
    row = replace(expired_hold(int(uuid(), 16)), **changes)
    with pytest.raises(DataError):
        await world.commit(writing(row))
