"""What every store finds for a recovery, held against the twin and against Postgres."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from msgspec import structs

from tests.contracts.test_store_contract import AT, COMMAND, World, pools, uuid, world
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transition, advance, register, restore
from zentra.runtime.intents.vocabulary import Fact
from zentra.runtime.ports import Endpoint, LogHead, TickWrites, Timer
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState
from zentra.runtime.webhooks.recovery import Phase, Recovery, RecoveryStatus, Which, begun, turned
from zentra.storage.engine import recoveries as recoveries_module
from zentra.storage.pool import Pool

__all__ = ["pools", "world"]

SINCE, BEFORE = AT + timedelta(hours=1), AT + timedelta(hours=2)
LONG_AGO, WITHIN, LATER = AT, AT + timedelta(minutes=90), AT + timedelta(hours=3)


def history(at: datetime, *then: datetime, ahead: timedelta = timedelta(0)) -> list[Transition]:
    """Return an intent that began at a time, with an event at each of the others; the clock of its gateway is ahead."""
    intent = f"{int((at + ahead).timestamp() * 1000):012x}{uuid()[-20:]}"
    first = register(
        intent=intent, tenant="acme", intent_id=f"i-{intent}", command=COMMAND, digest=b"d", key="k", principal="dev",
        role="developer", trace="t", at=at, cause="c",
    )  # fmt: skip
    found, tx = [first], restore([(first.record, first.hash)])
    for number, moment in enumerate(then):
        noted = f.CaseNoted(uuid(), f"kind-{number}")
        found.append(advance(tx, Fact.CASE_OPENED, noted, actor="svc", now=moment, cause="c"))
    return found


class Shelf:
    """A world and the intents in it."""

    def __init__(self, world: World, admin: Pool | None) -> None:
        self._world, self._admin = world, admin
        self.store = world.store
        self.endpoint = f"ep_{uuid()}"

    async def intent(
        self, at: datetime, *then: datetime, timer: bool = False, leaf_at: datetime | None = None,
        ahead: timedelta = timedelta(0),
    ) -> str:  # fmt: skip
        """Store an intent, with a timer where it is not at its end, and a leaf where it is sealed; return its uuid."""
        written = history(at, *then, ahead=ahead)
        intent = written[0].intent
        if self._admin is not None:
            await self._admin.execute(
                "insert into intents values ($1, 'acme', $2, 'd', '{}', 'dev', 'developer', 'k', 't', $3)",
                intent, f"i-{intent}", at,
            )  # fmt: skip
        logs = await self.store.logs(["acme"])
        frontier = logs["acme"].frontier if logs else Frontier()

        def write(writes: TickWrites) -> None:
            writes.transitions += written
            if timer:
                writes.timers_set["intent", intent, "state"] = Timer("intent", intent, "state", 0, "acme", LATER)
            if leaf_at is not None:
                data = intent.encode()
                after, _ = frontier.append([leaf_hash(data)])
                writes.leaves.append(("acme", frontier.size, intent, data, leaf_hash(data)))
                writes.heads.append(LogHead("acme", after.size, after, after.root(), leaf_at, "key", b"s"))

        await self._world.commit(write)
        return intent

    async def deliver(self, intent: str, sequence: int, state: DeliveryState, event: str = "case.opened") -> str:
        """Store a delivery to the endpoint that stands so; return its uuid."""
        one = Delivery(
            id=uuid(), tenant="acme", endpoint=self.endpoint, intent=intent, event=event, body=b"{}", state=state,
            trigger="replay", actor="ops",
        )  # fmt: skip

        def write(writes: TickWrites) -> None:
            writes.deliveries.append((one, sequence))
            writes.deliveries_begun.add(one.id)
            writes.delivery_states[one.id] = (one, None)

        await self._world.commit(write)
        return one.id

    async def hears(self, *events: str) -> None:
        """Set the endpoint up, with these filters."""
        if self._admin is not None:
            await self._admin.execute(
                "insert into endpoints (tenant, id, url, events, secrets, created_by)"
                " values ('acme', $1, 'https://x.test', $2, array['s'::bytea], 'dev')",
                self.endpoint, list(events),
            )  # fmt: skip
        else:
            assert isinstance(self.store, StoreTwin)
            made = Endpoint("acme", self.endpoint, "https://x.test", events, (b"s",))
            current = self.store.current
            self.store.configure(structs.replace(current, endpoints={**current.endpoints, "acme": (made,)}))

    def recovery(self, which: Which, since: datetime = SINCE, before: datetime = BEFORE) -> Recovery:
        """Return a recovery of the endpoint that has looked at nothing."""
        return begun(
            id=uuid(), tenant="acme", endpoint=self.endpoint, which=which, since=since, before=before,
            events=("case.*",), principal="ops", dry_run=False,
        )  # fmt: skip

    async def walk(self, recovery: Recovery) -> tuple[list[str], list[tuple[str, int]]]:
        """Return the deliveries and the events that a recovery finds, in order, walking it to its end."""
        deliveries: list[str] = []
        events: list[tuple[str, int]] = []
        while recovery.status is RecoveryStatus.RUNNING:
            page = await self.store.recovery_page(recovery)
            deliveries += [key for key, _ in page.deliveries]
            for missed in page.missed:
                assert len(missed.records) == max(missed.sequences)
                events += [(missed.intent, sequence) for sequence in missed.sequences]
            recovery = turned(recovery, page, replayed=0, made=0, skipped=0, found=0)
        return deliveries, events


@pytest.fixture
async def shelf(world: World, pools: tuple[Pool, Pool] | None) -> Shelf:
    """Intents and deliveries, on the twin and on Postgres."""
    if pools is not None:
        await pools[1].execute("truncate intents, log_leaves, log_heads, log_tiles, timers, transitions, deliveries")
    return Shelf(world, None if pools is None else pools[1])


async def test_every_event_without_a_delivery_is_found_once_however_old_its_intent(shelf: Shelf) -> None:
    await shelf.intent(LONG_AGO, LONG_AGO, timer=True)  # nothing of it is of the time
    await shelf.intent(LONG_AGO, LONG_AGO, leaf_at=LONG_AGO)
    begun_within = await shelf.intent(WITHIN, WITHIN, WITHIN)
    still_open = await shelf.intent(LONG_AGO, WITHIN, timer=True)
    sealed = await shelf.intent(LONG_AGO, LONG_AGO, WITHIN, leaf_at=WITHIN)
    await shelf.intent(LATER, LATER, timer=True)
    told = await shelf.intent(WITHIN, WITHIN, WITHIN)
    await shelf.deliver(told, 2, DeliveryState.DELIVERED)
    deliveries, events = await shelf.walk(shelf.recovery(Which.MISSING))
    assert deliveries == []
    assert sorted(events) == sorted([(begun_within, 2), (begun_within, 3), (still_open, 2), (sealed, 3), (told, 3)])


async def test_an_intent_is_found_whose_gateway_has_its_clock_ahead(shelf: Shelf) -> None:
    at = BEFORE - timedelta(seconds=30)
    found = await shelf.intent(at, at, ahead=timedelta(minutes=10))
    await shelf.intent(BEFORE + timedelta(minutes=5), BEFORE + timedelta(minutes=5))
    assert (await shelf.walk(shelf.recovery(Which.MISSING)))[1] == [(found, 2)]


async def test_pages_are_bounded_and_miss_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("PAGE_EXAMINED_MAX", 2), ("PAGE_EVENTS_MAX", 1), ("PAGE_DELIVERIES_MAX", 1)):
        monkeypatch.setattr(recoveries_module, name, limit)
    wanted = []
    for _ in range(3):
        wanted += [(await shelf.intent(WITHIN, WITHIN), 2)]
        wanted += [(await shelf.intent(LONG_AGO, WITHIN, timer=True), 2)]
        wanted += [(await shelf.intent(LONG_AGO, WITHIN, leaf_at=WITHIN), 2)]
    assert sorted((await shelf.walk(shelf.recovery(Which.MISSING)))[1]) == sorted(wanted)
    made = [await shelf.deliver(intent, 2, DeliveryState.EXHAUSTED) for intent, _ in wanted]
    far = datetime.max.replace(tzinfo=AT.tzinfo, year=9000)
    deliveries, events = await shelf.walk(shelf.recovery(Which.UNDELIVERED, before=far))
    assert (sorted(deliveries), events) == (sorted(made), [])


@pytest.mark.parametrize(
    ("hears", "asked", "found"),
    [
        (("ledger.posted", "policy.*"), (), 0),
        (("case.opened",), (), 3),
        (("case.*",), (), 3),
        (("*",), (), 3),
        (("*",), ("ledger.*",), 0),
        (("*",), ("case.opened",), 3),
    ],
)
async def test_what_the_endpoint_does_not_want_fills_no_page(
    shelf: Shelf, hears: tuple[str, ...], asked: tuple[str, ...], found: int
) -> None:
    await shelf.hears(*hears)
    for _ in range(3):
        await shelf.intent(WITHIN, WITHIN)
    recovery = structs.replace(shelf.recovery(Which.MISSING), events=asked)
    _, events = await shelf.walk(recovery)
    assert len(events) == found


@pytest.mark.parametrize(
    ("which", "states"),
    [
        (Which.FAILED, {"exhausted", "retrying"}),
        (Which.ANY, {"exhausted", "retrying", "delivered"}),
        (Which.MISSING, set()),
    ],
)
async def test_deliveries_are_found_by_how_they_stand(shelf: Shelf, which: Which, states: set[str]) -> None:
    intent = await shelf.intent(LONG_AGO, *[WITHIN] * 5)
    made = {
        await shelf.deliver(intent, number, state): str(state) for number, state in enumerate(DeliveryState, start=2)
    }
    far = datetime.max.replace(tzinfo=AT.tzinfo, year=9000)
    deliveries, _ = await shelf.walk(shelf.recovery(which, before=far))
    assert sorted(deliveries) == sorted(key for key, state in made.items() if state in states)
    nothing, _ = await shelf.walk(shelf.recovery(which, since=far - timedelta(seconds=1), before=far))
    assert nothing == []
    kept = await shelf.store.deliveries(list(made))
    assert {one.actor for one in kept.values()} == {"ops"}


async def test_a_recovery_is_kept_as_it_stands(shelf: Shelf, world: World) -> None:
    first = shelf.recovery(Which.UNDELIVERED)
    await world.commit(lambda writes: writes.recoveries.update({first.id: first}))
    assert await shelf.store.recoveries([first.id, uuid()]) == {first.id: first}
    assert (await shelf.store.running_recoveries(["acme", "globex"]))["acme"][first.id] == shelf.endpoint
    assert await shelf.store.running_recoveries(["globex"]) == {}
    later = structs.replace(
        first, phase=Phase.SEALED, place="7", found=3, replayed=1, made=1, skipped=1, status=RecoveryStatus.DONE
    )
    await world.commit(lambda writes: writes.recoveries.update({first.id: later}))
    assert await shelf.store.recoveries([first.id]) == {first.id: later}
    assert first.id not in (await shelf.store.running_recoveries(["acme"])).get("acme", {})
