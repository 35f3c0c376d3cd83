"""Changes of accounts wait for the commits that are under way, are checked on what these leave, and come one by one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest

from tests.storage.test_journal import _WAITING, account, reserving
from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.book import AccountRef, Balance
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.storage.engine.journal import commit_tick
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake import accounts as intake
from zentra.storage.intake.accounts import ChangedBy, NewMonitor, NewNumber, minted_number
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.pool import Pool, transaction


def keyed(key: str = "") -> KeyedAnswer:
    return KeyedAnswer(
        tenant="acme", key=key or uuid.uuid4().hex, digest=b"d", subject="account/x", status=200, answer=b"{}",
        request_id="req",
    )  # fmt: skip


def by(ref: AccountRef, reason: str = "r") -> ChangedBy:
    return ChangedBy(account_id=ref.account_id, principal="ada", role="operator", reason=reason, request_id="req")


async def opened(admin: Pool, *, guarded: bool = True) -> AccountRef:
    await admin.execute("insert into tenants values ('acme', 'Acme') on conflict do nothing")
    return await account(admin, guarded=guarded)


async def moving(pool: Pool, plan: TickPlan, ref: AccountRef, change: Balance, go_on: asyncio.Event) -> None:
    """Commit a tick that changes a balance, once it may."""
    locked = asyncio.Event()

    def decide(ground: Ground) -> TickWrites:
        locked.set()
        return TickWrites(balance_changes={ref.id: (ref, change)})

    async def turn() -> None:
        await go_on.wait()

    await commit_tick(pool, plan, decide, None, turn)


async def test_an_account_is_closed_on_the_balance_that_commits_under_way_leave(
    writer_pool: Pool, tenant_pool: Pool, admin_pool: Pool
) -> None:
    ref, go_on = await opened(admin_pool), asyncio.Event()
    plan = await reserving(writer_pool, ref)
    tick = asyncio.create_task(moving(writer_pool, plan, ref, Balance(credits_posted=7), go_on))
    while not await admin_pool.fetchval(
        "select count(*) from pg_stat_activity where state = 'idle in transaction' and datname = current_database()"
    ):
        assert not tick.done()
    closing = asyncio.create_task(intake.change_status(tenant_pool, keyed(), "close", by(ref)))
    while not await admin_pool.fetchval(_WAITING):
        assert not closing.done()
    go_on.set()
    await tick
    with pytest.raises(Refusal, match="posted 7"):
        await closing
    assert await admin_pool.fetchval("select status from accounts where id = $1", ref.id) == "open"
    assert await admin_pool.fetchval("select count(*) from account_changes where account = $1", ref.id) == 0


async def test_a_change_and_a_tick_that_begins_a_stripe_of_the_account_do_not_wait_for_each_other(
    writer_pool: Pool, tenant_pool: Pool, admin_pool: Pool
) -> None:
    ref = await opened(admin_pool, guarded=False)
    given = NewNumber("virtual", minted_number())
    async with transaction(tenant_pool) as connection:
        await connection.execute("select set_config('zentra.tenant', 'acme', true)")
        await connection.fetchrow(intake._LOCKED, "acme", ref.account_id)
        go_on = asyncio.Event()
        go_on.set()
        await moving(writer_pool, await reserving(writer_pool, ref), ref, Balance(debits_posted=1), go_on)
    assert await intake.add_number(tenant_pool, keyed(), given, by(ref)) is None


async def test_of_two_who_freeze_an_account_one_does(tenant_pool: Pool, admin_pool: Pool) -> None:
    ref = await opened(admin_pool)
    done = await asyncio.gather(
        *(intake.change_status(tenant_pool, keyed(), "freeze", by(ref, str(n))) for n in range(4)),
        return_exceptions=True,
    )
    assert [one for one in done if one is None] == [None]
    assert {one.reason for one in done if isinstance(one, Refusal)} == {"account_status_conflict"}


async def test_changes_that_come_at_once_are_one_chain(tenant_pool: Pool, admin_pool: Pool) -> None:
    ref = await opened(admin_pool)
    await asyncio.gather(*(intake.change_limit(tenant_pool, keyed(), n, by(ref)) for n in range(8)))
    rows = await admin_pool.fetch(
        "select sequence, record, hash from account_changes where account = $1 order by 1", ref.id
    )
    assert [row["sequence"] for row in rows] == list(range(1, 9))
    link = bytes(32)
    for row in rows:
        link = sha256(link + row["record"]).digest()
        assert row["hash"] == link


async def test_every_change_tells_the_engine_to_look_again_and_a_replay_does_not(
    writer_pool: Pool, tenant_pool: Pool, admin_pool: Pool
) -> None:
    ref, key = await opened(admin_pool), uuid.uuid4().hex
    version = "select version from configuration_version"
    store = PostgresStore(writer_pool)
    monitor = NewMonitor(uuid.uuid4().hex, "posted", "above", 5)
    given = NewNumber("virtual", minted_number())
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: intake.change_status(tenant_pool, keyed(key), "freeze", by(ref)),
        lambda: intake.change_limit(tenant_pool, keyed(), 5, by(ref)),
        lambda: intake.add_monitor(tenant_pool, keyed(), monitor, by(ref)),
        lambda: intake.remove_monitor(tenant_pool, "acme", monitor.id, by(ref)),
    ]
    for change in changes:
        before = await admin_pool.fetchval(version)
        assert await change() is None
        assert await admin_pool.fetchval(version) > before
    before = await admin_pool.fetchval(version)
    assert await intake.change_status(tenant_pool, keyed(key), "freeze", by(ref)) is not None
    assert await intake.add_number(tenant_pool, keyed(), given, by(ref)) is None
    assert await admin_pool.fetchval(version) == before, "a new number is looked up when it is first named"
    name = ("acme", f"virtual:{given.number}")
    assert (await store.accounts([name]))[name].status == "frozen"
    await intake.retire_number(tenant_pool, "acme", given, by(ref))
    assert await admin_pool.fetchval(version) > before
    assert await store.accounts([name]) == {}


async def test_nobody_changes_the_accounts_of_others(tenant_pool: Pool, admin_pool: Pool) -> None:
    ref = await opened(admin_pool)
    await admin_pool.execute("insert into tenants values ('globex', 'Globex') on conflict do nothing")
    given = NewNumber("virtual", minted_number())
    assert await intake.add_number(tenant_pool, keyed(), given, by(ref)) is None
    tries: list[Callable[[], Awaitable[object]]] = [
        lambda: intake.retire_number(tenant_pool, "globex", given, by(ref)),
        lambda: intake.remove_monitor(tenant_pool, "globex", uuid.uuid4().hex, by(ref)),
        lambda: intake.retire_number(tenant_pool, "acme", NewNumber("virtual", "0"), by(ref)),
        lambda: intake.remove_monitor(tenant_pool, "acme", uuid.uuid4().hex, by(ref)),
    ]
    for foreign in tries:
        with pytest.raises(Refusal, match="not_found"):
            await foreign()
