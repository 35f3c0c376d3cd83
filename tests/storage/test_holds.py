"""Holds on Postgres: the race of captures against expiry, what an audit says of them, and who may read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from tests.actors.racing import CONFIGURATION, FUNDS, MINOR, START, Raced, Racer, race
from tests.actors.world import ACCOUNTS
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.storage.audit import audit_installation
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool
from zentra.storage.reads.holds import has_expired, holds
from zentra.storage.reads.tenant import account


class Clocked(PostgresStore):
    """The store with a clock that a race sets."""

    clock = START

    async def commit(
        self,
        plan: TickPlan,
        decide: Callable[[Ground], TickWrites],
        draft: Callable[[Ground], Awaitable[TickWrites]] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> Ground:
        def decide_then(ground: Ground) -> TickWrites:
            ground.now = self.clock
            return decide(ground)

        async def draft_then(ground: Ground) -> TickWrites:
            assert draft is not None
            ground.now = self.clock
            return await draft(ground)

        return await super().commit(plan, decide_then, None if draft is None else draft_then, turn)


async def open_books(admin: Pool) -> None:
    """Open the accounts, fund the customer out of liquidity, and limit the day so that counters are kept."""
    await admin.execute("insert into tenants values ('acme', 'Acme'), ('globex', 'Globex')")
    numbers = {}
    for ref in ACCOUNTS:
        numbers[ref.account_id] = await admin.fetchval(
            "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by)"
            " values ('acme', $1, 'o', $2, 'NGN', 'credit', $3, 'test') returning id",
            ref.account_id, ref.type, ref.guarded,
        )  # fmt: skip
    giver, taker = numbers["liquidity-ngn"], numbers["customer"]
    rows = [
        (numbers[ref.account_id], 0, 0, FUNDS if ref.account_id == "customer" else 0) for ref in ACCOUNTS if ref.guarded
    ]
    await admin.executemany(
        "insert into balances (account, stripe, tenant, debits_posted, credits_posted) values ($1, $2, 'acme', $3, $4)",
        [*rows, (giver, 1, FUNDS, 0)],
    )
    await admin.execute(
        "insert into postings values ('00000000-0000-0000-0000-00000000000f', 0, 'acme', 'book', $1, $2, 'NGN', 0, $3,"
        " now(), '')",
        giver, taker, FUNDS,
    )  # fmt: skip
    await admin.execute(
        "insert into policies (tenant, version, rules, created_by) values ('acme', 1, $1, 'test')",
        msgspec.json.encode({"limits": CONFIGURATION.policies["acme"].limits}).decode(),
    )


async def breaches(admin: Pool) -> set[tuple[str, str]]:
    return {(one.letter, one.detail) for one in (await audit_installation(admin)).breaches}


async def test_of_a_capture_and_an_expiry_exactly_one_wins_on_postgres_too(
    writer_pool: Pool, admin_pool: Pool, tenant_pool: Pool
) -> None:
    """And what is left behind is clean, until somebody touches it."""
    await open_books(admin_pool)
    store, raced = Clocked(writer_pool), Raced()

    def set_clock(at: object) -> None:
        store.clock = at  # type: ignore[assignment]

    for prefix, undrafted_max in (("a", 16), ("b", 0)):
        racer = Racer(store, set_clock, undrafted_max)
        await racer.begin(f"racer-{prefix}")
        begin = START + timedelta(days=undrafted_max)
        await race(racer, undrafted_max, 150, raced, begin=begin, prefix=prefix)
        await store.release(f"racer-{prefix}")
    assert raced.wrong == []
    assert min(raced.captured, raced.expired) > 50
    moved = raced.captured * MINOR
    seen = await account(tenant_pool, "acme", "customer")
    assert seen is not None
    assert (seen.debits_pending, seen.debits_posted, seen.expired_unbooked) == (0, moved, 0)
    counted = await admin_pool.fetchrow("select sum(count)::int, sum(minor)::int from velocity")
    assert tuple(counted or ()) == (raced.captured, moved)
    assert await breaches(admin_pool) == set()
    await _spoil(admin_pool)


async def _spoil(admin: Pool) -> None:
    """Object where the audit does not notice what is wrong with a hold."""
    [hold] = await admin.fetch("select * from holds where status = 'captured' limit 1")
    for letter, change in (
        ("D", "captured = captured - 1"),
        ("D", "minor = minor + 1"),
        ("D", "status = 'open', ended_at = null"),
        ("K", "expires_at = placed_at"),
        ("K", "expires_at = expires_at + interval '1 microsecond'"),
    ):
        transaction = admin.acquire()
        async with transaction as connection:
            await connection.execute(f"update holds set {change} where intent = $1", hold["intent"])
            assert letter in {one for one, _ in await breaches(admin)}, change
            await connection.execute(
                "update holds set captured = $2, minor = $3, status = $4, ended_at = $5, expires_at = $6"
                " where intent = $1",
                hold["intent"], hold["captured"], hold["minor"], hold["status"], hold["ended_at"], hold["expires_at"],
            )  # fmt: skip
    await admin.execute(
        "insert into postings select intent, ordinal + 9, tenant, kind, debit, credit, currency, pending, posted, at,"
        " hash from postings where intent = $1 and kind = 'post'",
        hold["intent"],
    )
    assert {"B", "D", "E"} <= {one for one, _ in await breaches(admin)}
    await admin.execute("delete from postings where intent = $1 and ordinal >= 9", hold["intent"])
    assert await breaches(admin) == set()


async def test_a_hold_whose_time_is_over_is_shown_so_at_once_and_to_its_tenant_alone(
    admin_pool: Pool, tenant_pool: Pool
) -> None:
    number = await admin_pool.fetchval("select id from accounts where account_id = 'poor'")
    rows = [("0" * 31 + "1", "-1 second", 30), ("0" * 31 + "2", "1 hour", 500), ("0" * 31 + "3", "-1 hour", 4)]
    await admin_pool.execute("update balances set debits_pending = 534 where account = $1", number)
    for intent, left, minor in rows:
        await admin_pool.execute(
            "insert into holds (intent, tenant, intent_id, account, account_id, currency, minor, remaining, captured,"
            " status, placed_at, expires_at)"
            " values ($1, 'acme', $2, $3, 'poor', 'NGN', $4, $4, 0, 'open', now(), now() + $5::text::interval)",
            intent, f"hold-{intent}", number, minor, left,
        )  # fmt: skip
    expired = await holds(tenant_pool, "acme", {"account": "poor", "status": "expired"}, after=None, limit=10)
    assert [(row.intent, row.remaining, row.ended_at == row.expires_at) for row in expired.rows] == [
        (rows[2][0], 0, True), (rows[0][0], 0, True),
    ]  # fmt: skip
    standing = await holds(tenant_pool, "acme", {"account": "poor", "status": "open"}, after=None, limit=10)
    assert [(row.intent, row.remaining) for row in standing.rows] == [(rows[1][0], 500)]
    seen = await account(tenant_pool, "acme", "poor")
    assert seen is not None
    assert (seen.debits_pending, seen.expired_unbooked) == (534, 34)
    assert [await has_expired(tenant_pool, "acme", intent) for intent, *_ in rows] == [True, False, True]
    assert (await holds(tenant_pool, "globex", {}, after=None, limit=10)).rows == []
    assert not await has_expired(tenant_pool, "globex", rows[0][0])


async def test_pages_of_holds_meet_each_once(tenant_pool: Pool) -> None:
    met, after = [], None
    while True:
        page = await holds(tenant_pool, "acme", {}, after=after, limit=40)
        met += [row.intent for row in page.rows]
        after = page.after
        if after is None:
            break
    assert len(met) == len(set(met)) == 303
