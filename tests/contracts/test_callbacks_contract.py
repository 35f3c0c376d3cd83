"""Callbacks that no intent has claimed: the twin and Postgres tell of the same, in the same order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.contracts.test_store_contract import World, pools, uuid, world
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.ports import (
    STRANGERS_MORE,
    STRANGERS_OPEN_MAX,
    WAITING_MAX,
    CaseRow,
    TickWrites,
    WaitingCallback,
)
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.storage.intake.callbacks import Callback, register_callbacks
from zentra.storage.pool import Pool

__all__ = ["pools", "world"]

Take = Callable[[RailOutcome], Awaitable[None]]


@pytest.fixture
async def take(world: World, pools: tuple[Pool, Pool] | None) -> Take:
    """Keep a callback as the gateway does."""

    async def take(outcome: RailOutcome) -> None:
        assert outcome.event_id is not None
        if pools is None:
            assert isinstance(world.store, StoreTwin)
            world.store.take_callback(outcome)
            return
        callback = Callback(outcome, outcome.event_id, outcome.event_id.encode(), {})
        await register_callbacks(pools[0], [callback], partitions=8)

    return take


def said(reference: str, event: str, status: str = "succeeded", **changes: object) -> RailOutcome:
    fields = {"minor": 5, "currency": "NGN", "provider_reference": "p", "trust": "shared_secret"} | changes
    return RailOutcome("bank", reference, OutcomeStatus(status), event_id=event, **fields)  # type: ignore[arg-type]


def events(found: tuple[WaitingCallback, ...]) -> list[str | None]:
    return [one.outcome.event_id for one in found]


async def test_what_waits_is_told_of_in_the_order_of_its_arrival(world: World, take: Take) -> None:
    mine, other = f"r-{uuid()}", f"r-{uuid()}"
    names = [f"{n}-{mine}" for n in (2, 1, 3)]
    for name in names:
        await take(said(mine, name))
    await take(said(other, f"9-{other}", "pending", minor=None, currency=None, provider_reference=None, reason="late"))
    found = await world.store.waiting_callbacks([("bank", mine), ("bank", other), ("other", mine)])
    assert found.keys() == {("bank", mine), ("bank", other)}
    assert events(found["bank", mine]) == names
    [lone] = found["bank", other]
    assert (lone.outcome.status, lone.outcome.minor, lone.outcome.reason) == ("pending", None, "late")
    assert lone.outcome.trust == "shared_secret"
    assert abs(lone.at - datetime.now(UTC)) < timedelta(seconds=30)


async def test_what_an_intent_has_claimed_waits_no_more(world: World, take: Take) -> None:
    reference, intent = f"r-{uuid()}", uuid()
    for number in range(2):
        await take(said(reference, f"{number}-{reference}"))

    def claim(writes: TickWrites) -> None:
        writes.callbacks_claimed.append(("bank", f"0-{reference}", "acme", intent))

    await world.commit(claim)
    found = await world.store.waiting_callbacks([("bank", reference)])
    assert events(found["bank", reference]) == [f"1-{reference}"]


async def test_of_many_the_first_ones_are_told_of(world: World, take: Take) -> None:
    reference = f"r-{uuid()}"
    for number in range(WAITING_MAX + 5):
        await take(said(reference, f"{number:04}-{reference}"))
    found = await world.store.waiting_callbacks([("bank", reference)])
    assert events(found["bank", reference]) == [f"{n:04}-{reference}" for n in range(WAITING_MAX)]


async def test_the_references_whose_case_is_open_are_told_of_by_rail(world: World) -> None:
    rail, other = f"rail-{uuid()}", f"rail-{uuid()}"
    rows = [_case(rail, f"r-{number:03}") for number in range(STRANGERS_OPEN_MAX + 5)]
    rows += [_case(other, "r-1"), _case(other, "r-2"), _case(rail, STRANGERS_MORE)]

    def open_them(writes: TickWrites) -> None:
        writes.cases_opened += rows

    def resolve(writes: TickWrites) -> None:
        for case, tenant in ((rows[-2], "-"), (rows[-3], "acme")):  # of the installation, which is nobody else's
            writes.cases_resolved.append((case.id, "ada", {"resolution": "dismissed"}, datetime.now(UTC), tenant))

    await world.commit(open_them)
    await world.commit(resolve)
    found = await world.store.open_strangers([rail, other, "nobody"])
    assert (found[other], found["nobody"]) == (frozenset({"r-1"}), frozenset())
    assert len(found[rail]) == STRANGERS_OPEN_MAX + 1
    assert STRANGERS_MORE in found[rail]


def _case(rail: str, reference: str) -> CaseRow:
    detail, at = {"rail": rail, "reference": reference}, datetime.now(UTC)
    return CaseRow(uuid(), "-", None, None, "unknown_reference", detail, at, at)
