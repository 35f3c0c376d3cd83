"""The commit of a tick on the real database: concurrent ticks, stripes, and the rows that people work on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from tests.services import Database
from zentra.runtime.errors import DataError
from zentra.runtime.ledger.book import AccountRef, Balance
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import CaseRow, DenialRow, EndpointDisabled, Fence, Ground, TickPlan, TickWrites
from zentra.runtime.reviews import Desk
from zentra.runtime.stream_ports import Position
from zentra.storage.engine import journal
from zentra.storage.engine.journal import commit_tick
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool, transaction

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
numbers = itertools.count(1)
Write = Callable[[TickWrites], None]


def uuid() -> str:
    return f"{next(numbers):032x}"


@pytest.fixture(autouse=True)
async def people(admin_pool: Pool) -> None:
    """A tenant, its developer and two operators."""
    await admin_pool.execute("insert into tenants values ('acme', 'Acme') on conflict do nothing")
    await admin_pool.execute(
        "insert into principals (tenant, id, name, role) values ('acme', 'dev', 'D', 'developer'),"
        " ('acme', 'op-a', 'A', 'operator'), ('acme', 'op-b', 'B', 'operator') on conflict do nothing"
    )


async def commit(
    pool: Pool,
    write: Write = lambda writes: None,
    *,
    partitions: Sequence[int] = (0,),
    accounts: Sequence[AccountRef] = (),
    velocity: Sequence[VelocityKey] = (),
    stripe: int = 1,
) -> Ground:
    """Commit one tick of whoever owns the partitions now."""
    leases = await PostgresStore(pool).leases(partitions)
    fences = tuple(Fence(p, leases[p].epoch, leases[p].version, Position(1, "m")) for p in sorted(leases))

    def decide(_: Ground) -> TickWrites:
        writes = TickWrites()
        write(writes)
        return writes

    return await commit_tick(pool, TickPlan(fences, tuple(velocity), tuple(accounts), stripe), decide)


def adding(kind: str, row: object) -> Write:
    """Return what adds one row to a list of writes."""
    return lambda writes: getattr(writes, kind).append(row)


_WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


async def ground_of(pool: Pool, plan: TickPlan, decided: asyncio.Event, go_on: asyncio.Event) -> Ground:
    """Read the ground of a tick, and commit when told to."""
    async with transaction(pool) as connection:
        ground = await journal._fenced(connection, plan)
        await journal._lock(connection, plan, ground)
        decided.set()
        await go_on.wait()
    return ground


async def reserving(pool: Pool, source: AccountRef) -> TickPlan:
    """Return the plan of a tick that may reserve from an account."""
    lease = (await PostgresStore(pool).leases([3]))[3]
    return TickPlan((Fence(3, lease.epoch, lease.version, lease.position),), (), (source,), 1)


async def freeze(pool: Pool, ref: AccountRef) -> None:
    await pool.execute("update accounts set status = 'frozen' where id = $1", ref.id)


async def test_a_freeze_is_not_answered_before_the_ticks_that_do_not_know_of_it(
    writer_pool: Pool, admin_pool: Pool
) -> None:
    ref = await account(admin_pool, guarded=True)
    decided, go_on = asyncio.Event(), asyncio.Event()
    tick = asyncio.create_task(ground_of(writer_pool, await reserving(writer_pool, ref), decided, go_on))
    await decided.wait()
    freezing = asyncio.create_task(freeze(admin_pool, ref))
    while not await admin_pool.fetchval(_WAITING):
        assert not freezing.done()
    go_on.set()
    await tick
    await freezing


async def test_a_tick_that_waited_for_a_freeze_knows_of_it(writer_pool: Pool, admin_pool: Pool) -> None:
    ref = await account(admin_pool, guarded=True)
    plan = await reserving(writer_pool, ref)
    before = await admin_pool.fetchval("select version from configuration_version")
    go_on = asyncio.Event()
    go_on.set()
    async with admin_pool.acquire() as connection, connection.transaction():
        await connection.execute("update accounts set status = 'frozen' where id = $1", ref.id)
        tick = asyncio.create_task(ground_of(writer_pool, plan, asyncio.Event(), go_on))
        while not await admin_pool.fetchval(_WAITING):
            assert not tick.done()
    assert (await tick).configuration_version == before + 1


async def test_whoever_changes_an_account_and_sleeps_is_ended(
    database: Database, writer_pool: Pool, admin_pool: Pool
) -> None:
    ref = await account(admin_pool, guarded=True)
    asleep = await asyncpg.connect(database.admin_url)
    begun = asleep.transaction()
    await begun.start()
    await asleep.execute("update zentra.accounts set status = 'frozen' where id = $1", ref.id)
    await commit(writer_pool, partitions=[3])
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await asleep.execute("select 1")
    asleep.terminate()
    assert await admin_pool.fetchval("select status from accounts where id = $1", ref.id) == "open"


async def account(admin: Pool, *, guarded: bool) -> AccountRef:
    name = f"account-{next(numbers)}"
    key = await admin.fetchval(
        "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by)"
        " values ('acme', $1, 'o', $2, 'NGN', 'credit', $3, 'test') returning id",
        name,
        "customer" if guarded else "fee",
        guarded,
    )
    if guarded:
        await admin.execute("insert into balances (account, stripe, tenant) values ($1, 0, 'acme')", key)
    return AccountRef(key, "acme", name, "customer" if guarded else "fee", "NGN", "credit", guarded)


# Concurrent ticks -----------------------------------------------------------------------------------------------------


async def test_of_two_ticks_with_one_fence_exactly_one_commits(writer_pool: Pool) -> None:
    leases = await PostgresStore(writer_pool).leases([1, 2])
    fences = tuple(Fence(p, leases[p].epoch, leases[p].version, Position(1, "m")) for p in (1, 2))
    plan = TickPlan(fences, (), (), 1)
    grounds = await asyncio.gather(*[commit_tick(writer_pool, plan, lambda _: TickWrites()) for _ in range(2)])
    assert sorted(len(ground.lost) for ground in grounds) == [0, 2]


async def test_ticks_that_share_everything_wait_for_each_other_and_lose_nothing(
    writer_pool: Pool, admin_pool: Pool
) -> None:
    refs = [await account(admin_pool, guarded=True) for _ in range(5)]
    keys = [VelocityKey("acme", f"account/{ref.account_id}", "2026-01-05", "NGN") for ref in refs]

    def write(writes: TickWrites) -> None:
        for ref in reversed(refs):
            writes.balance_changes[ref.id] = (ref, Balance(credits_posted=1))
        for key in reversed(keys):
            writes.velocity_changes[key] = Usage(1, 1)

    async def one(partition: int) -> None:
        # plans come in no order: the order of locks is the commit's own
        order = refs if partition % 2 else refs[::-1]
        await commit(
            writer_pool, write, partitions=[partition], accounts=order, velocity=keys[::-1] if partition % 2 else keys
        )

    await asyncio.gather(*[one(10 + number) for number in range(24)])
    ground = await commit(writer_pool, accounts=refs, velocity=keys)
    assert {balance.credits_posted for balance in ground.balances.values()} == {24}
    assert {(usage.count, usage.minor) for usage in ground.usage.values()} == {(24, 24)}


async def test_writers_with_their_own_stripes_never_meet_on_an_account_without_a_floor(
    writer_pool: Pool, admin_pool: Pool
) -> None:
    ref = await account(admin_pool, guarded=False)

    def adding_to(change: Balance) -> Write:
        return lambda writes: writes.balance_changes.update({ref.id: (ref, change)})

    for stripe, minor in ((3, 5), (4, 7), (3, 1)):
        change = Balance(credits_posted=minor, debits_pending=-minor)
        await commit(writer_pool, adding_to(change), accounts=[ref], stripe=stripe)
    rows = await admin_pool.fetch("select * from balances where account = $1 order by stripe", ref.id)
    assert [(row["stripe"], row["credits_posted"], row["debits_pending"]) for row in rows] == [(3, 6, -6), (4, 7, -7)]


# The desk -------------------------------------------------------------------------------------------------------------


async def test_a_review_is_opened_closed_and_opened_again_in_its_next_round(
    writer_pool: Pool, admin_pool: Pool
) -> None:
    key = uuid()

    def opened(round_number: int, creator: str) -> Write:
        row = (
            key, round_number, "acme", "i-1", creator, ["review_threshold"], 3, AT, AT + timedelta(hours=72), AT, 2,
            "transfer", "NGN", 5,
        )  # fmt: skip
        return adding("reviews_opened", row)

    def changed(desk: Desk) -> Write:
        return lambda writes: writes.reviews_changed.update({key: desk})

    async def row() -> dict[str, Any]:
        return dict(await admin_pool.fetchrow("select * from reviews where id = $1", key) or {})

    await commit(writer_pool, opened(1, "dev"))
    assert ((await row())["status"], (await row())["assigned_to"], (await row())["minor"]) == ("open", None, 5)
    desk = Desk(AT, AT, 2, "op-a", 1, breached=True, approved_by=("op-b",), comments=3)
    await commit(writer_pool, changed(desk))
    kept = await row()
    assert [kept[name] for name in ("assigned_to", "level", "breached", "approved_by", "comments", "approvals")] == [
        "op-a", 1, True, ["op-b"], 3, 2,
    ]  # fmt: skip
    await commit(writer_pool, adding("reviews_closed", (key, "approved", "op-a", AT, "fine")))
    assert ((await row())["status"], (await row())["decided_by"], (await row())["reason"]) == (
        "approved", "op-a", "fine",
    )  # fmt: skip
    await commit(writer_pool, opened(2, "op-a"))
    again = await row()
    assert (again["status"], again["round"], again["decided_by"]) == ("open", 2, None)
    assert [again[name] for name in ("assigned_to", "level", "breached", "approved_by", "comments")] == [
        None, 0, False, [], 0,
    ]  # fmt: skip


async def test_a_decision_that_was_refused_gives_its_seat_back(writer_pool: Pool) -> None:
    review, command = uuid(), uuid()
    row = "insert into review_decisions (review, round, seat, tenant, verdict, principal, reason, command)" \
          " values ($1, 1, 1, 'acme', 'approved', $2, 'r', $3)"  # fmt: skip
    await writer_pool.execute(row, review, "gone", command)
    with pytest.raises(asyncpg.UniqueViolationError):
        await writer_pool.execute(row, review, "op-a", uuid())
    await commit(writer_pool, adding("decisions_refused", (command, "permission_denied")))
    await writer_pool.execute(row, review, "op-a", uuid())


# fmt: off
RESOLUTIONS = [
    ("its tenant",     "acme", "acme",   "resolved"),
    ("another tenant", "acme", "globex", "open"),
    ("nobody's case",  "-",    "acme",   "open"),
    ("for nobody",     "-",    "-",      "resolved"),
]
# fmt: on


@pytest.mark.parametrize(("tenant", "by", "status"), [r[1:] for r in RESOLUTIONS], ids=[r[0] for r in RESOLUTIONS])
async def test_a_case_is_opened_once_and_resolved_once_by_its_tenant(
    writer_pool: Pool, admin_pool: Pool, tenant: str, by: str, status: str
) -> None:
    key = uuid()
    case = CaseRow(key, tenant, None, None, "poison_message", {"reason": "x"}, AT, AT)
    for _ in range(2):
        await commit(writer_pool, adding("cases_opened", case))
    for who in ("first", "second"):
        row = (key, who, {"resolution": "dismissed"}, AT, by)
        await commit(writer_pool, adding("cases_resolved", row))
    found = await admin_pool.fetchrow("select status, operator, detail from cases where id = $1", key)
    assert found is not None
    assert found["status"] == status
    assert msgspec.json.decode(found["detail"]) == {"reason": "x"}
    assert (found["operator"] == "first") == (status == "resolved")


# fmt: off
OPERATORS = [
    # who may work, who made the intent, whose the case is
    ((),                 "dev",  "op-a"),
    ((),                 "op-a", "op-b"),
    ((),                 None,   "op-a"),
    (("op-a",),          "dev",  "op-b"),
    (("op-b",),          "op-a", "op-a"),  # there is nobody else
    (("op-a", "op-b"),   "dev",  None),
]
# fmt: on


@pytest.mark.parametrize(("disabled", "made_by", "operator"), OPERATORS)
async def test_a_case_is_given_to_an_operator_who_may_work_and_did_not_make_the_intent(
    writer_pool: Pool, admin_pool: Pool, disabled: tuple[str, ...], made_by: str | None, operator: str | None
) -> None:
    key, intent = uuid(), uuid()
    if made_by is not None:
        await admin_pool.execute(
            "insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)"
            " values ($1, 'acme', $3, '', '', $2, 'operator', '', '', now())",
            intent, made_by, intent,
        )  # fmt: skip
    await admin_pool.execute("update principals set disabled_at = now() where id = any($1)", list(disabled))
    case = CaseRow(key, "acme", intent, "i", "rail_unknown", {"rail": "x"}, AT, AT)
    try:
        await commit(writer_pool, adding("cases_opened", case))
    finally:
        await admin_pool.execute("update principals set disabled_at = null where id = any($1)", list(disabled))
    assert await admin_pool.fetchval("select operator from cases where id = $1", key) == operator


async def test_a_second_outcome_of_a_command_is_refused(writer_pool: Pool, admin_pool: Pool) -> None:
    key = uuid()
    await commit(writer_pool, adding("command_outcomes", (key, "acme", True, "done", {}, AT)))
    with pytest.raises(DataError):
        await commit(writer_pool, adding("command_outcomes", (key, "acme", False, "not_cancellable", {}, AT)))
    assert await admin_pool.fetchval("select code from command_outcomes where command = $1", key) == "done"
    assert await PostgresStore(writer_pool).answered([key, uuid()]) == {key}


async def test_denials_are_counted_by_the_minute(writer_pool: Pool, admin_pool: Pool) -> None:
    actor = f"actor-{next(numbers)}"
    for seconds in (1, 2, 59, 61):
        row = DenialRow("acme", actor, "developer", "ledger.reserve", "not_found", AT + timedelta(seconds=seconds), "r")
        await commit(writer_pool, adding("denials", row))
    rows = await admin_pool.fetch("select count from denials where actor = $1 order by minute", actor)
    assert [row["count"] for row in rows] == [3, 1]


async def test_a_callback_belongs_to_the_intent_that_claimed_it_first(writer_pool: Pool, admin_pool: Pool) -> None:
    event = f"evt-{next(numbers)}"
    await admin_pool.execute(
        "insert into callbacks (rail, event_id, reference, body, headers, digest)"
        " values ('alpha', $1, 'r', '', '{}', '')",
        event,
    )
    first, second = uuid(), uuid()
    for intent in (first, second):
        claim = ("alpha", event, "acme", intent)
        await commit(writer_pool, adding("callbacks_claimed", claim))
    assert await admin_pool.fetchval("select intent from callbacks where event_id = $1", event) == first


async def test_an_endpoint_that_is_disabled_changes_the_configuration(writer_pool: Pool, admin_pool: Pool) -> None:
    name = f"hook-{next(numbers)}"
    await admin_pool.execute(
        "insert into endpoints (tenant, id, url, events, secrets, created_by)"
        " values ('acme', $1, 'https://x.test', '{*}', array['s'::bytea], 'dev')",
        name,
    )
    store = PostgresStore(writer_pool)
    before = await store.configuration()
    assert (await commit(writer_pool)).configuration_version == before.version
    disabled = EndpointDisabled("acme", name, "failing", AT)
    await commit(writer_pool, lambda writes: writes.endpoints_disabled.update({("acme", name): disabled}))
    after = await store.configuration()
    assert after.version > before.version
    assert name not in [endpoint.id for endpoint in after.endpoints.get("acme", ())]
    assert ("acme", name) in after.endpoints_held
    (row,) = await admin_pool.fetch(
        "select disabled_at, disabled_reason, disabled_by from endpoints where id = $1", name
    )
    assert tuple(row) == (AT, "failing", "svc_events")


@pytest.mark.parametrize("key", ["", "00", "not-a-uuid"])
async def test_an_id_that_is_none_is_refused_and_the_connection_lives(writer_pool: Pool, key: str) -> None:
    writes: list[Write] = [
        lambda w: w.command_outcomes.append((key, "acme", True, "done", {}, AT)),
        lambda w: w.cases_resolved.append((key, "op-a", {}, AT, "acme")),
        lambda w: w.timers_cleared.add(("intent", key, "state")),
    ]
    for write in writes:
        with pytest.raises(DataError):
            await commit(writer_pool, write)
    await commit(writer_pool)
