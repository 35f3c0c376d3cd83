"""What every store does, held against the twin and against Postgres."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from zentra.actors.tick import derived_id
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.errors import DataError
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Transaction, Transition, advance, register, restore
from zentra.runtime.intents.vocabulary import Fact, IntentKind
from zentra.runtime.ledger.book import AccountRef, Balance, Book
from zentra.runtime.ledger.monitors import Monitor
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import (
    Configuration,
    Fence,
    Ground,
    Lease,
    LogHead,
    RailCounts,
    Store,
    TickPlan,
    TickWrites,
    Timer,
)
from zentra.runtime.rails.health import Counts
from zentra.runtime.reviews import Desk
from zentra.runtime.stream_ports import Position
from zentra.runtime.webhooks.delivery import OPEN, Delivery, DeliveryState
from zentra.storage.engine import journal
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool

numbers = itertools.count(1)
COMMAND = IntentCommand(kind=IntentKind.TRANSFER, minor="100", currency="NGN", source="a", destination="b")
AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
Write = Callable[[TickWrites], None]


def uuid() -> str:
    """Return an id that no test has used."""
    return f"{next(numbers):032x}"


class World:
    """A store with one worker that owns every partition, and how accounts come into it."""

    def __init__(
        self, store: Store, open_account: Callable[..., object], give_number: Callable[[AccountRef, str], object]
    ) -> None:
        self.store, self._open, self._give = store, open_account, give_number
        self.worker = f"worker-{next(numbers)}"

    async def number(self, ref: AccountRef, digits: str) -> None:
        """Give a virtual number to an account."""
        given = self._give(ref, digits)
        if hasattr(given, "__await__"):
            await given

    async def account(
        self, *, guarded: bool = True, book: str = "default", monitors: tuple[Monitor, ...] = ()
    ) -> AccountRef:
        """Open an account that nobody else uses."""
        name = f"account-{next(numbers)}"
        ref = AccountRef(
            0, "acme", name, "customer" if guarded else "fee", "NGN", "credit", guarded, book=book, monitors=monitors
        )
        opened = self._open(ref)
        if hasattr(opened, "__await__"):
            await opened
        return (await self.store.accounts([("acme", name)]))["acme", name]

    async def commit(
        self,
        write: Write = lambda writes: None,
        *,
        partitions: Sequence[int] = (0,),
        accounts: Sequence[AccountRef] = (),
        velocity: Sequence[VelocityKey] = (),
        stripe: int = 1,
        position: Position | None = None,
        stale: dict[int, tuple[int, int]] | None = None,
        consumed: Sequence[tuple[int, str]] = (),
    ) -> Ground:
        """Commit one tick; `stale` takes (epoch, version) back for some fences."""
        leases = await self.store.leases(partitions)
        fences = []
        for partition in sorted(leases):
            lease, (epoch, version) = leases[partition], (stale or {}).get(partition, (0, 0))
            place = position or lease.position
            fences.append(Fence(partition, lease.epoch - epoch, lease.version - version, place))
        locked = tuple(sorted(accounts, key=lambda ref: ref.id))
        plan = TickPlan(tuple(fences), tuple(velocity), locked, stripe, tuple(consumed))

        def decide(_: Ground) -> TickWrites:
            writes = TickWrites()
            write(writes)
            return writes

        return await self.store.commit(plan, decide)

    async def usage(self, key: VelocityKey) -> tuple[int, int]:
        """Return what a counter holds."""
        usage = (await self.commit(velocity=[key])).usage[key]
        return usage.count, usage.minor

    async def balance(self, ref: AccountRef) -> Balance:
        """Return the counters of an account with a floor."""
        return (await self.commit(accounts=[ref])).balances[ref.id]


def counted(worker: str, rail: str, calls: int, circuit: str = "closed") -> RailCounts:
    """Return what a worker says of a rail."""
    return RailCounts(worker, rail, Counts(calls, 1, 2, 0.5), circuit, 3)


@pytest.fixture(params=["twin", "postgres", "postgres, where any rows are many"])
def pools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Pool, Pool] | None:
    """The pools of the batch writers and of the superuser; None for the twin."""
    if request.param == "twin":
        return None
    if request.param != "postgres":
        monkeypatch.setattr(journal, "FEW_ROWS", -1)
    return request.getfixturevalue("writer_pool"), request.getfixturevalue("admin_pool")


@pytest.fixture
async def world(pools: tuple[Pool, Pool] | None) -> AsyncIterator[World]:
    """A world on the twin, and one on Postgres."""
    if pools is None:
        twin = StoreTwin(lambda: datetime.now(UTC), Configuration(1, {}, {}, {}, {}))

        def open_twin(ref: AccountRef) -> object:
            return twin.open_account(structs.replace(ref, id=next(numbers)))

        def give_twin(ref: AccountRef, digits: str) -> None:
            twin.numbers[ref.tenant, "virtual", digits] = ref.account_id

        made = World(twin, open_twin, give_twin)
    else:
        made = await _postgres(*pools)
    await made.store.claim(made.worker, 60)
    yield made
    await made.store.release(made.worker)


async def _postgres(writer: Pool, admin: Pool) -> World:
    await admin.execute("insert into tenants values ('acme', 'Acme') on conflict do nothing")

    async def open_row(ref: AccountRef) -> None:
        await admin.execute("insert into books values ('acme', $1, 'b', 'test') on conflict do nothing", ref.book)
        account = await admin.fetchval(
            "insert into accounts"
            " (tenant, account_id, owner, type, currency, normal_side, guarded, book, monitored, created_by)"
            " values ($1, $2, 'o', $3, $4, $5, $6, $7, $8, 'test') returning id",
            *_columns(ref), ref.book, bool(ref.monitors),
        )  # fmt: skip
        for one in ref.monitors:
            await admin.execute(
                "insert into account_monitors values ($1, $2, $3, $4, $5, $6, 'test')",
                ref.tenant, one.id, account, one.of, one.when, one.minor,
            )  # fmt: skip
        if ref.guarded:
            await admin.execute("insert into balances (account, stripe, tenant) values ($1, 0, 'acme')", account)

    async def give_row(ref: AccountRef, digits: str) -> None:
        await admin.execute("insert into account_numbers values ('acme', 'virtual', $1, $2, 't')", digits, ref.id)
        await admin.execute(
            "insert into account_numbers values ('acme', 'virtual', '0', $1, 't', now(), now())"
            " on conflict do nothing", ref.id,
        )  # fmt: skip

    return World(PostgresStore(writer), open_row, give_row)


def _columns(ref: AccountRef) -> tuple[str, str, str, str, str, bool]:
    return ref.tenant, ref.account_id, ref.type, ref.currency, ref.normal_side, ref.guarded


def story(length: int = 3) -> list[Transition]:
    """Return the first transitions of an intent."""
    intent = uuid()
    first = register(
        intent=intent, tenant="acme", intent_id=f"i-{intent}", command=COMMAND, digest=b"d", key="k", principal="dev",
        role="developer", trace="t", at=AT, cause="c",
    )  # fmt: skip
    found = [first]
    tx = restore([(first.record, first.hash)])
    for number in range(length - 1):
        noted = f.CaseNoted(uuid(), f"kind-{number}")
        found.append(advance(tx, Fact.CASE_OPENED, noted, actor="svc", now=AT, cause="c"))
    return found


# Fences ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", [(1, 0), (0, 1), (1, 1), (-1, 0)], ids=["epoch", "version", "both", "future"])
async def test_a_fence_that_does_not_fit_is_lost_and_the_rest_commits(world: World, stale: tuple[int, int]) -> None:
    await world.commit(partitions=[3, 4])
    before = await world.store.leases([3, 4])
    written = story(1)
    ground = await world.commit(
        lambda writes: writes.transitions.extend(written), partitions=[3, 4], stale={3: stale},
        position=Position(9, "m9"),
    )  # fmt: skip
    assert ground.lost == {3}
    after = await world.store.leases([3, 4])
    assert after[3] == before[3]
    assert after[4] == Lease(4, before[4].epoch, before[4].version + 1, Position(9, "m9"))
    assert set(await world.store.intents([written[0].intent])) == {written[0].intent}


async def test_a_tick_that_lost_every_partition_still_returns(world: World) -> None:
    ground = await world.commit(partitions=[3, 4], stale={3: (1, 0), 4: (0, 1)})
    assert ground.lost == {3, 4}


async def test_a_decision_that_raises_writes_nothing_and_moves_no_fence(world: World) -> None:
    ref, written = await world.account(), story(1)
    before = await world.store.leases([0])

    def write(writes: TickWrites) -> None:
        writes.transitions += written
        writes.balance_changes[ref.id] = (ref, Balance(credits_posted=5))
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await world.commit(write, accounts=[ref])
    assert await world.store.leases([0]) == before
    assert await world.store.intents([written[0].intent]) == {}
    assert await world.balance(ref) == Balance()


async def test_time_never_runs_backwards_between_ticks(world: World) -> None:
    first, second = (await world.commit()).now, (await world.commit()).now
    assert first.tzinfo is not None
    assert first <= second


# Counters -------------------------------------------------------------------------------------------------------------


async def test_balances_are_what_was_added_to_them_over_all_stripes(world: World) -> None:
    guarded, system = await world.account(), await world.account(guarded=False)
    for stripe, minor in ((1, 100), (2, 50), (1, 7)):
        book = Book({})
        book.balances = {guarded.id: await world.balance(guarded)}
        posted = book.book(system, guarded, minor, AT, currency="NGN", intent=uuid(), ordinal=0)
        assert isinstance(posted, tuple)

        def write(writes: TickWrites, book: Book = book) -> None:
            writes.postings = book.postings
            refs = {ref.id: ref for ref in (guarded, system)}
            writes.balance_changes = {key: (refs[key], change) for key, change in book.changes.items()}

        await world.commit(write, accounts=[guarded, system], stripe=stripe)
    assert await world.balance(guarded) == Balance(credits_posted=157)
    assert (await world.store.statistics())["ledger_imbalance_minor_units"] == 0


async def test_only_accounts_with_a_floor_are_read(world: World) -> None:
    guarded, system = await world.account(), await world.account(guarded=False)
    ground = await world.commit(accounts=[guarded, system])
    assert set(ground.balances) == {guarded.id}


async def test_velocity_is_counted_by_window(world: World) -> None:
    today = VelocityKey("acme", f"account/{uuid()}", "2026-01-05", "NGN")
    tomorrow = VelocityKey("acme", today.counter, "2026-01-06", "NGN")
    for count, minor in ((1, 100), (1, 50), (-1, -100)):
        await world.commit(_counted(today, count, minor), velocity=[today])
    assert (await world.usage(today), await world.usage(tomorrow)) == ((1, 50), (0, 0))


def _counted(key: VelocityKey, count: int, minor: int) -> Write:
    return lambda writes: writes.velocity_changes.update({key: Usage(count, minor)})


async def test_a_rolling_counter_is_kept_as_it_was_written(world: World) -> None:
    """Next to counters of one period, which are added to; buckets come back in order, with the sums over them."""
    rolling = VelocityKey("acme", f"rolling-60-6/account/{uuid()}", "1970-01-01", "NGN")
    daily = VelocityKey("acme", f"account/{uuid()}", "2026-01-05", "NGN")
    held = [
        Usage(1, 5, ((100, 1, 5),)),
        Usage(3, 2**62 + 5, ((100, 1, 5), (101, 2, 2**62))),
        Usage(0, 0, ((101, 0, 0),)),
    ]
    for usage in held:

        def write(writes: TickWrites, usage: Usage = usage) -> None:
            writes.velocity_windows[rolling] = usage
            writes.velocity_changes[daily] = Usage(1, 7)

        before = await world.commit(write, velocity=sorted([rolling, daily], key=lambda key: key.counter))
        assert before.usage[daily].buckets == ()
        found = (await world.commit(velocity=[rolling])).usage[rolling]
        assert found == usage
    assert await world.usage(daily) == (3, 21)


async def test_no_rolling_counter_falls_below_zero(world: World) -> None:
    key = VelocityKey("acme", f"rolling-60-6/account/{uuid()}", "1970-01-01", "NGN")
    with pytest.raises(DataError):
        await world.commit(
            lambda writes: writes.velocity_windows.update({key: Usage(-1, 0, ((1, -1, 0),))}), velocity=[key]
        )


async def test_no_counter_falls_below_zero(world: World) -> None:
    key = VelocityKey("acme", f"account/{uuid()}", "2026-01-05", "NGN")
    ref = await world.account()
    change = Balance(debits_pending=-1)
    with pytest.raises(DataError):
        await world.commit(_counted(key, -1, -1), velocity=[key])
    with pytest.raises(DataError):
        await world.commit(lambda writes: writes.balance_changes.update({ref.id: (ref, change)}), accounts=[ref])


# Timers and the outbox ------------------------------------------------------------------------------------------------


async def test_timers_are_set_replaced_and_cleared(world: World) -> None:
    now = (await world.commit()).now
    first, second = (Timer("intent", uuid(), "state", 5, "acme", now) for _ in range(2))
    key = (first.kind, first.key, first.name)

    async def due(seconds: float) -> list[str]:
        rows = await world.store.due_timers([5], seconds, 100)
        assert all(left < seconds for _, left in rows)
        return [timer.key for timer, _ in rows if timer.key in (first.key, second.key)]

    def both(writes: TickWrites) -> None:
        writes.timers_set[key] = first
        writes.timers_set[second.kind, second.key, second.name] = second

    await world.commit(both)
    assert sorted(await due(1)) == sorted([first.key, second.key])
    assert [timer for timer, _ in await world.store.due_timers([6], 1, 100)] == []
    later = Timer("intent", first.key, "state", 5, "acme", now + timedelta(seconds=900))
    await world.commit(lambda writes: writes.timers_set.update({key: later}))
    assert await due(1) == [second.key]
    assert await due(1_000) == [second.key, first.key]
    await world.commit(lambda writes: writes.timers_cleared.update({key, ("intent", uuid(), "never-set")}))
    assert await due(1_000) == [second.key]


# Actors ---------------------------------------------------------------------------------------------------------------


async def test_an_intent_comes_back_as_it_was(world: World) -> None:
    written = story(4)
    await world.commit(lambda writes: writes.transitions.extend(written))
    intent = written[0].intent
    unknown = uuid()
    stored = await world.store.intents([intent, unknown])
    assert set(stored) == {intent}
    assert stored[intent].records == tuple((t.record, t.hash) for t in written)
    tx: Transaction = restore(stored[intent].records, stored[intent].deliveries)
    assert (tx.sequence, tx.hash, len(tx.cases_open)) == (4, written[-1].hash, 3)


def delivery(endpoint: str, intent: str) -> Delivery:
    return Delivery(id=uuid(), tenant="acme", endpoint=endpoint, intent=intent, event="ledger.posted", body=b"{}")


async def test_a_delivery_is_stored_begun_and_open_until_it_has_ended(world: World) -> None:
    endpoint, written = f"hook-{uuid()}", story(1)
    one = delivery(endpoint, written[0].intent)

    def made(writes: TickWrites) -> None:
        writes.transitions += written
        writes.deliveries.append((one, 1))

    await world.commit(made)
    found = (await world.store.deliveries([one.id, uuid()]))[one.id]
    assert (found.begun, found.state, found.body) == (False, DeliveryState.PENDING, b"{}")
    assert await world.store.open_deliveries("acme", endpoint) == []
    assert (await world.store.intents([one.intent]))[one.intent].deliveries == {one.id}

    async def is_open(state: DeliveryState, due: datetime | None = None, *, first: bool = False) -> bool:
        changed = copy.copy(one)
        changed.state, changed.attempts = state, 2

        def write(writes: TickWrites) -> None:
            writes.delivery_states[one.id] = (changed, due)
            if first:
                writes.deliveries_begun.add(one.id)

        await world.commit(write)
        rows = await world.store.open_deliveries("acme", endpoint)
        assert all((row.state, row.attempts, row.begun) == (state, 2, True) for row in rows)
        lanes = [lane for lane in await world.store.open_lanes() if lane[1] == endpoint]
        assert lanes == ([("acme", endpoint)] if state in OPEN else [])
        return bool(rows)

    assert await is_open(DeliveryState.PENDING, first=True)
    assert await is_open(DeliveryState.DELIVERING)
    assert not await is_open(DeliveryState.RETRYING, AT)  # its timer looks after it
    assert await is_open(DeliveryState.RETRYING)  # its timer has fired, it waits for its lane
    assert not await is_open(DeliveryState.EXHAUSTED)
    assert not await is_open(DeliveryState.DELIVERED)


async def test_every_lane_with_something_open_is_told_of_once(world: World) -> None:
    hooks, written = [f"hook-{uuid()}" for _ in range(3)], story(1)
    made = [delivery(hook, written[0].intent) for hook in (*hooks, hooks[0])]

    def write(writes: TickWrites) -> None:
        writes.transitions += written
        for one in made:
            writes.deliveries.append((one, 1))
            writes.deliveries_begun.add(one.id)
            writes.delivery_states[one.id] = (one, None)

    await world.commit(write)
    assert {lane for lane in await world.store.open_lanes() if lane[1] in hooks} == {("acme", hook) for hook in hooks}


def leaf(tenant: str, index: int, data: bytes) -> Write:
    """Return what appends a leaf to a log of `index` leaves."""
    hashed = leaf_hash(data)
    frontier, tiles = Frontier().append([leaf_hash(b"%d" % n) for n in range(index)] + [hashed])

    def write(writes: TickWrites) -> None:
        writes.leaves.append((tenant, index, derived_id("leaf", data), data, hashed))
        writes.tiles += [(tenant, tile.level, tile.index, tile.hash) for tile in tiles if tile.level > 0]
        writes.heads.append(LogHead(tenant, index + 1, frontier, frontier.root(), AT, "key", b"signature"))

    return write


async def test_a_log_is_continued_from_its_latest_head(world: World) -> None:
    tenant = f"t{next(numbers)}"
    assert await world.store.logs([tenant]) == {}
    for index in range(3):
        await world.commit(leaf(tenant, index, b"%s/%d" % (tenant.encode(), index)))
    head = (await world.store.logs([tenant, "nobody"]))[tenant]
    assert (head.size, head.frontier.size, head.root, head.signature) == (3, 3, head.frontier.root(), b"signature")
    data = b"%s/1" % tenant.encode()
    intent, known = derived_id("leaf", data), leaf_hash(data)
    assert await world.store.leaves([(intent, known), (intent, leaf_hash(b"")), (uuid(), known)]) == {(intent, known)}


# Refusals -------------------------------------------------------------------------------------------------------------


async def test_workloads_count_the_open_reviews_of_a_tenant(world: World) -> None:
    first, second, closed, foreign = (uuid() for _ in range(4))

    def opened(writes: TickWrites) -> None:
        for key, tenant in ((first, "acme"), (second, "acme"), (closed, "acme"), (foreign, "globex")):
            writes.reviews_opened.append(
                (key, 1, tenant, f"i-{key}", "dev", ["rule"], 1, AT, AT, AT, 1, "transfer", "NGN", 5)
            )
            writes.reviews_changed[key] = Desk(AT, assigned_to="ola")
        writes.reviews_changed[second] = Desk(AT)
        writes.reviews_closed.append((closed, "expired", "svc_policy", AT, "late"))

    before = (await world.store.workloads(["acme"]))["acme"].open.get("ola", 0)
    await world.commit(opened)
    found = await world.store.workloads(["acme", "nobody"])
    assert (found["acme"].open["ola"] - before, found["nobody"].open) == (1, {})
    assert abs(found["acme"].at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_workers_that_are_alive_hear_what_the_others_have_counted_last(world: World) -> None:
    store, one, other = world.store, world.worker, f"{world.worker}-b"
    await store.claim(other, 10)
    alone, _ = await store.exchange_health(one, [], 10)
    rail, more = f"rail-{uuid()}", f"rail-{uuid()}"
    first = [counted(one, rail, 5), counted(one, more, 1)]
    assert (await store.exchange_health(one, first, 10))[0] == alone
    heard = (await store.exchange_health(other, [counted(other, rail, 7, "open")], 10))[1]
    assert [row for row in heard if row.rail in (rail, more)] == sorted(first, key=lambda row: row.rail)
    again = (await store.exchange_health(one, [counted(one, rail, 6)], 10))[1]
    assert [row for row in again if row.worker == other] == [counted(other, rail, 7, "open")]
    heard = (await store.exchange_health(other, [], 10))[1]
    assert [row for row in heard if row.worker == one] == [counted(one, rail, 6)]
    await store.release(other)
    count, heard = await store.exchange_health(one, [], 10)
    assert (count, [row for row in heard if row.worker == other]) == (alone - 1, [])
