"""What every store does with the rows of a draft, which are written before counters and balances are locked."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from tests.contracts.test_holds_contract import expired_hold
from tests.contracts.test_store_contract import AT, World, delivery, leaf, pools, story, uuid, world
from zentra.actors.tick import derived_id
from zentra.runtime.errors import DataError
from zentra.runtime.evidence.merkle import leaf_hash
from zentra.runtime.ledger.book import AccountRef, Balance
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Fence, Ground, TickPlan, TickWrites, Timer
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState

__all__ = ["pools", "world"]

OURS, THEIRS = 0, 1  # partitions
OWNED: Final = {"transitions", "timer", "outbox", "delivery", "delivery begun", "leaf", "log head"}
ALL: Final = OWNED | {"outcome", "hold"}
Decide = Callable[[Ground], TickWrites]


class Made:
    """One row of each kind that a tick writes and a store tells of, and how to find them again."""

    def __init__(self) -> None:
        self.story, self.outcome = story(2), uuid()
        self.intent = self.story[0].intent
        self.timer = Timer("intent", self.intent, "state", OURS, "acme", AT - timedelta(days=900))
        self.row = Outgoing("ze.0.acme.topic", b"[]", uuid())
        self.delivery = delivery(f"hook-{uuid()}", self.intent)
        self.tenant = f"t-{uuid()}"
        self.hold = expired_hold(int(uuid(), 16))

    @property
    def timer_key(self) -> tuple[str, str, str]:
        return self.timer.kind, self.timer.key, self.timer.name

    def writes(self, **changes: Any) -> TickWrites:
        """Return all of it."""
        writes = TickWrites(**changes)
        writes.transitions += self.story
        writes.timers_set[self.timer_key] = self.timer
        writes.outbox.append((OURS, self.row))
        writes.deliveries.append((self.delivery, 1))
        writes.deliveries_begun.add(self.delivery.id)
        writes.delivery_states[self.delivery.id] = (self.delivery, None)
        leaf(self.tenant, 0, self.tenant.encode())(writes)
        writes.command_outcomes.append((self.outcome, "acme", True, "done", {}, AT))
        writes.holds[self.hold.intent] = self.hold
        return writes

    async def found(self, world: World) -> set[str]:
        """Return the kinds of which the row is there."""
        store, data = world.store, self.tenant.encode()
        stored = (await store.intents([self.intent])).get(self.intent)
        delivered = (await store.deliveries([self.delivery.id])).get(self.delivery.id)
        link = (derived_id("leaf", data), leaf_hash(data))
        there = {
            "transitions": stored is not None and stored.records == tuple((t.record, t.hash) for t in self.story),
            "timer": self.timer in [timer for timer, _ in await store.due_timers([OURS], 0, 1000)],
            "outbox": self.row in await store.unsent([OURS], -60, 1000),
            "delivery": delivered is not None,
            "delivery begun": delivered is not None and delivered.begun,
            "leaf": link in await store.leaves([link]),
            "log head": self.tenant in await store.logs([self.tenant]),
            "outcome": self.outcome in await store.answered([self.outcome]),
            "hold": bool((await store.expiring_holds([self.hold.account]))[self.hold.account].holds),
        }
        return {kind for kind, is_there in there.items() if is_there}


class Shared:
    """An account and a counter, to which others add as well."""

    def __init__(self, ref: AccountRef) -> None:
        self.ref, self.key = ref, VelocityKey("acme", f"account/{uuid()}", "2026-01-05", "NGN")

    def added(self, minor: int) -> dict[str, Any]:
        """Return what adds to both."""
        changes = {self.ref.id: (self.ref, Balance(credits_posted=minor))}
        return {"balance_changes": changes, "velocity_changes": {self.key: Usage(1, minor)}}

    async def holds(self, world: World) -> tuple[int, int]:
        """Return what both hold."""
        return (await world.balance(self.ref)).credits_posted, (await world.usage(self.key))[1]


async def commit(
    world: World,
    drafted: TickWrites,
    decide: Decide,
    shared: Shared | None = None,
    *,
    turn: Callable[[], Awaitable[None]] | None = None,
    consumed: Sequence[tuple[int, str]] = (),
    grounds: list[Ground] | None = None,
) -> Ground:
    """Commit one tick with a draft; `grounds` is told of the one that the draft was made on."""
    lease = (await world.store.leases([OURS]))[OURS]
    fence = Fence(OURS, lease.epoch, lease.version, lease.position)
    accounts, velocity = ((shared.ref,), (shared.key,)) if shared else ((), ())
    plan = TickPlan((fence,), velocity, accounts, 1, tuple(consumed), velocity, accounts)

    async def draft(ground: Ground) -> TickWrites:
        if grounds is not None:
            grounds.append(copy.deepcopy(ground))
        return drafted

    return await world.store.commit(plan, decide, draft, turn)


async def test_writes_that_are_decided_as_they_were_drafted_are_written_once(world: World) -> None:
    made, shared = Made(), Shared(await world.account())
    writes = made.writes(**shared.added(5))
    before = (await world.store.leases([OURS]))[OURS].version
    await commit(world, writes, lambda ground: writes, shared)
    assert await made.found(world) == ALL
    assert (await world.store.leases([OURS]))[OURS].version == before + 1
    assert await shared.holds(world) == (5, 5)


async def test_of_other_writes_than_the_drafted_all_is_written_as_well(world: World) -> None:
    """And of those that were drafted nothing but what only an owner writes."""
    first, second, shared = Made(), Made(), Shared(await world.account())
    drafted, decided = first.writes(**shared.added(100)), second.writes(**shared.added(5))
    await commit(world, drafted, lambda ground: decided, shared)
    assert await first.found(world) == OWNED
    assert await second.found(world) == ALL
    assert await shared.holds(world) == (5, 5)


async def test_an_empty_draft_leaves_everything_to_the_decision(world: World) -> None:
    made, shared = Made(), Shared(await world.account())
    writes = made.writes(**shared.added(5))
    await commit(world, TickWrites(), lambda ground: writes, shared)
    assert await made.found(world) == ALL
    assert await shared.holds(world) == (5, 5)


async def test_what_is_decided_follows_what_was_drafted(world: World) -> None:
    made = Made()
    cleared = Timer("intent", uuid(), "state", OURS, "acme", made.timer.due_at)
    cleared_key = (cleared.kind, cleared.key, cleared.name)
    drafted = made.writes(timers_cleared={cleared_key})
    changed = copy.copy(made.delivery)
    changed.state, changed.attempts = DeliveryState.DELIVERING, 1
    decided = TickWrites(
        timers_set={cleared_key: cleared},
        timers_cleared={made.timer_key},
        delivery_states={made.delivery.id: (changed, None)},
    )
    await commit(world, drafted, lambda ground: decided)
    assert await made.found(world) == OWNED - {"timer"}
    assert cleared in [timer for timer, _ in await world.store.due_timers([OURS], 0, 1000)]
    stored = (await world.store.deliveries([made.delivery.id]))[made.delivery.id]
    assert (stored.state, stored.attempts) == (DeliveryState.DELIVERING, 1)


@pytest.mark.parametrize("length", [2, 4], ids=["all", "some"])
async def test_transitions_that_were_handed_over_by_the_draft_are_written_once(world: World, length: int) -> None:
    written = story(length)
    decided = TickWrites(transitions=written, drafted=2)
    await commit(world, TickWrites(transitions=written[:2]), lambda ground: decided)
    stored = (await world.store.intents([written[0].intent]))[written[0].intent]
    assert stored.records == tuple((t.record, t.hash) for t in written)


def _raise(_: Ground) -> TickWrites:
    raise LookupError("changed its mind")


def _begins(again: Delivery) -> TickWrites:
    return TickWrites(deliveries_begun={again.id}, delivery_states={again.id: (again, None)})


def _names_no_uuid(timer: Timer) -> TickWrites:
    return TickWrites(timers_set={("intent", "", "state"): timer})


# fmt: off
REFUSED: list[tuple[str, Callable[[Made], Decide], type[Exception]]] = [
    ("the decision raises",            lambda made: _raise,                                             LookupError),
    ("the decision brings them again", lambda made: lambda ground: TickWrites(transitions=made.story),  DataError),
    ("a delivery is begun again",      lambda made: lambda ground: _begins(made.delivery),              DataError),
    ("something else is refused",      lambda made: lambda ground: _names_no_uuid(made.timer),          DataError),
]
# fmt: on


@pytest.mark.parametrize(("decide", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_where_the_commit_fails_nothing_of_its_draft_remains(
    world: World, decide: Callable[[Made], Decide], error: type[Exception]
) -> None:
    made, shared, frame = Made(), Shared(await world.account()), Outgoing("zc.0.ledger", b"", uuid())
    await world.commit(lambda writes: writes.outbox.append((OURS, frame)))
    before = await world.store.leases([OURS])
    with pytest.raises(error):
        await commit(world, made.writes(**shared.added(5)), decide(made), shared, consumed=[(OURS, frame.id)])
    assert await made.found(world) == set()
    assert await world.store.leases([OURS]) == before
    assert await world.store.frames([frame.id]) == [frame]
    assert await shared.holds(world) == (0, 0)


async def test_a_draft_that_the_store_refuses_is_not_decided(world: World) -> None:
    made, bystander, decided = Made(), Made(), list[Ground]()
    await world.commit(lambda writes: writes.transitions.extend(made.story))
    drafted = bystander.writes()
    drafted.transitions += made.story

    def decide(ground: Ground) -> TickWrites:
        decided.append(ground)
        return drafted

    with pytest.raises(DataError):
        await commit(world, drafted, decide)
    assert await bystander.found(world) == set()
    assert decided == []


async def test_a_draft_stands_on_what_is_unknown_is_seen_by_nobody_and_keeps_nobody_waiting(world: World) -> None:
    made, shared = Made(), Shared(await world.account())
    seen: list[set[str]] = []
    grounds: list[Ground] = []
    writes = made.writes(**shared.added(5))

    async def turn() -> None:
        seen.append(await made.found(world))
        await world.commit(_adds(shared, 7), partitions=[THEIRS], accounts=[shared.ref], velocity=[shared.key])

    ground = await commit(world, writes, lambda ground: writes, shared, turn=turn, grounds=grounds)
    assert seen == [set()]
    assert (grounds[0].balances, grounds[0].usage) == ({shared.ref.id: Balance()}, {shared.key: Usage()})
    assert (ground.balances, ground.usage) == (
        {shared.ref.id: Balance(credits_posted=7)},
        {shared.key: Usage(1, 7)},
    )
    assert await made.found(world) == ALL
    assert await shared.holds(world) == (12, 12)


async def test_a_rolling_counter_of_a_draft_is_written_once_and_seen_by_the_next(world: World) -> None:
    made, shared = Made(), Shared(await world.account())
    shared.key = VelocityKey("acme", f"rolling-60-6/account/{uuid()}", "1970-01-01", "NGN")
    usage, grounds = Usage(1, 5, ((100, 1, 5),)), list[Ground]()
    for writes in (made.writes(velocity_windows={shared.key: usage}), Made().writes()):
        await commit(world, writes, lambda ground, writes=writes: writes, shared, grounds=grounds)  # type: ignore[misc]
    assert [ground.usage for ground in grounds] == [{shared.key: Usage()}, {shared.key: usage}]


def _adds(shared: Shared, minor: int) -> Callable[[TickWrites], None]:
    def write(writes: TickWrites) -> None:
        writes.balance_changes = shared.added(minor)["balance_changes"]
        writes.velocity_changes = shared.added(minor)["velocity_changes"]

    return write
