"""Lists are walked to their end without gap or repeat, in bounded pages, whatever is written meanwhile."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from zentra.runtime.ports import DenialRow
from zentra.storage.pool import Pool, tenant_transaction, transaction
from zentra.storage.reads import lists, walking
from zentra.storage.reads.entries import EntryPlace, EntryView, entries
from zentra.storage.reads.reviews import reviews
from zentra.storage.reads.tenant import record_denials
from zentra.storage.reads.walking import Filters, Slice

AT = datetime(2026, 4, 1, 12, tzinfo=UTC)
TENANTS = ("acme", "globex")
NOW = datetime.now(UTC)  # of entries: whether a snapshot held them is asked for an hour
COUNT = 12  # intents, accounts, reviews, cases, deliveries of each tenant
STATES = ("ACCEPTED", "PROCESSING/judging", "SUCCESSFUL")

Read = Callable[..., Awaitable[Slice[Any, Any]]]


def uuid_at(number: int, tenant: str) -> str:
    """A uuid of version 7, a second after the one before; tenants take turns within the millisecond."""
    milliseconds = int(AT.timestamp() * 1000) + number * 1000
    return f"{milliseconds:012x}7{TENANTS.index(tenant):03x}8{number:015x}"


def command(number: int) -> bytes:
    said: dict[str, Any] = {
        "kind": "payment" if number % 2 else "transfer", "minor": str(number * 100), "currency": "NGN",
        "source": f"c-{number % 3}", "destination": "m-1", "primitives": ["policy"], "metadata": {},
        "money_model": "minor_units + ledger_currency", "scope": "default", "country": None,
    }  # fmt: skip
    return json.dumps(said).encode()


@pytest.fixture(scope="module")
def filled() -> list[bool]:
    return []


@pytest.fixture(autouse=True)
async def rows(admin_pool: Pool, writer_pool: Pool, filled: list[bool]) -> None:
    """Two tenants with a dozen of everything, once per module."""
    if filled:
        return
    filled.append(True)
    for tenant in TENANTS:
        await admin_pool.execute("insert into tenants (id, name) values ($1, $1)", tenant)
        for endpoint in ("ep-1", "ep-2"):
            await admin_pool.execute(
                "insert into endpoints values ($1, $2, 'https://x', '{*}', array['s'::bytea], 'enabled', 'ada', $3)",
                tenant, endpoint, AT,
            )  # fmt: skip
        for number in range(COUNT):
            await fill(admin_pool, tenant, number)
    for number in range(COUNT):
        at = AT + timedelta(minutes=number)
        denied = ("support", "GET /reviews", "not_found", at, "req_1")
        await record_denials(writer_pool, [DenialRow(tenant, f"eve-{number % 3}", *denied) for tenant in TENANTS])


async def fill(pool: Pool, tenant: str, number: int) -> None:
    uuid, at = uuid_at(number, tenant), AT + timedelta(seconds=number)
    await pool.execute(
        "insert into intents values ($1, $2, $3, 'd', $4, 'ada', 'developer', 'k', 't', $5)",
        uuid, tenant, f"order-{number}", command(number), at,
    )  # fmt: skip
    for sequence, state in enumerate(STATES[: number % 3 + 1], 1):
        await pool.execute(
            "insert into transitions values ($1, $2, $3, $4, $5, 'e', '{}', 'h')", uuid, sequence, tenant, at, state
        )
    await pool.execute(
        "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by, created_at)"
        " values ($1, $2, $3, 'customer', 'NGN', 'credit', true, 'ada', $4)",
        tenant, f"a-{number}", f"owner-{number % 3}", at,
    )  # fmt: skip
    await pool.execute(
        "insert into reviews (id, tenant, intent_id, created_by, rules, version, assigned_to, status, opened_at,"
        " expires_at, due_at, kind, currency, minor)"
        " values ($1, $2, $3, 'ada', $4, 1, $5, $6, $7, $7, $8, $9, 'NGN', $10)",
        uuid, tenant, f"order-{number}", f'["rule-{number % 3}"]', f"op-{number % 2}",
        "open" if number % 3 else "approved", at - timedelta(seconds=number % 2),
        at if number < 6 else None, "payment" if number % 2 else "transfer", number * 100,
    )  # fmt: skip
    await pool.execute(
        "insert into cases (id, tenant, intent, intent_id, kind, status, detail, opened_at, deadline)"
        " values ($1, $2, $1, $3, $4, 'open', '{}', $5, $5)",
        uuid, tenant, f"order-{number}", f"kind-{number % 3}", at,
    )  # fmt: skip
    await pool.execute(
        "insert into deliveries values ($1, $2, $3, $1, 1, $4, 'body', $5)",
        uuid, tenant, f"ep-{number % 2 + 1}", f"event-{number % 3}", AT + timedelta(seconds=number // 2),
    )  # fmt: skip


async def walked(read: Read, pool: Pool, tenant: str, filters: Filters, limit: int) -> tuple[list[Any], list[int]]:
    """Return everything that a walk meets, and the sizes of its pages."""
    met: list[Any] = []
    sizes: list[int] = []
    after = None
    while True:
        page = await read(pool, tenant, filters, after=after, limit=limit)
        assert len(page.rows) <= limit
        met += page.rows
        sizes.append(len(page.rows))
        if page.after is None:
            return met, sizes
        after = page.after


def is_overdue(number: int) -> bool:
    return number in (1, 2, 4, 5)


def is_not_overdue(number: int) -> bool:
    return not is_overdue(number)


# A list, what names a row of it, filters, and which of the dozen pass them.
# fmt: off
LISTS: list[tuple[Read, Callable[[Any], object], Filters, Callable[[int], bool]]] = [
    (lists.intents,    lambda row: row.intent_id,  {},                                          lambda n: True),
    (lists.intents,    lambda row: row.intent_id,  {"states": ["ACCEPTED"]},                    lambda n: n % 3 == 0),
    (lists.intents,    lambda row: row.intent_id,  {"states": ["REVIEW"]},                      lambda n: False),
    (lists.intents,    lambda row: row.intent_id,  {"kind": "payment", "currency": "NGN"},      lambda n: n % 2 == 1),
    (lists.intents,    lambda row: row.intent_id,  {"account": "c-2"},                          lambda n: n % 3 == 2),
    (lists.intents,    lambda row: row.intent_id,  {"amount_min": 300, "amount_max": 500},      lambda n: 3 <= n <= 5),
    (lists.intents,    lambda row: row.intent_id,  {"intent_id": "order-7"},                    lambda n: n == 7),
    (lists.intents,    lambda row: row.intent_id,  {"created_from": AT + timedelta(seconds=4),
                                                    "created_before": AT + timedelta(seconds=8)}, lambda n: 4 <= n < 8),
    (lists.accounts,   lambda row: row.account_id, {},                                          lambda n: True),
    (lists.accounts,   lambda row: row.account_id, {"owner": "owner-1", "status": "open"},      lambda n: n % 3 == 1),
    (reviews,          lambda row: row.intent_id,  {},                                          lambda n: True),
    (reviews,          lambda row: row.intent_id,  {"status": "approved"},                      lambda n: n % 3 == 0),
    (reviews,          lambda row: row.intent_id,  {"overdue": True},                           is_overdue),
    (reviews,          lambda row: row.intent_id,  {"overdue": False},                          is_not_overdue),
    (reviews,          lambda row: row.intent_id,  {"assigned_to": "op-1", "rule": "rule-0"},   lambda n: n % 6 == 3),
    (reviews,          lambda row: row.intent_id,  {"amount_min": 300, "amount_max": 500},      lambda n: 3 <= n <= 5),
    (reviews,          lambda row: row.intent_id,  {"kind": "payment", "currency": "NGN"},      lambda n: n % 2 == 1),
    (lists.cases,      lambda row: row.intent_id,  {},                                          lambda n: True),
    (lists.cases,      lambda row: row.intent_id,  {"kind": "kind-2", "status": "open"},        lambda n: n % 3 == 2),
    (lists.cases,      lambda row: row.intent_id,  {"created_before": AT + timedelta(seconds=3)}, lambda n: n < 3),
    (lists.denials,    lambda row: row.minute,     {},                                          lambda n: True),
    (lists.denials,    lambda row: row.minute,     {"actor": "eve-1", "reason": "not_found"},   lambda n: n % 3 == 1),
    (lists.deliveries, lambda row: row.id,         {},                                          lambda n: True),
    (lists.deliveries, lambda row: row.id,         {"endpoint": "ep-1"},                        lambda n: n % 2 == 0),
    (lists.deliveries, lambda row: row.id,         {"event": "event-1", "status": "pending"},   lambda n: n % 3 == 1),
    (lists.deliveries, lambda row: row.id,         {"intent": uuid_at(5, "acme")},              lambda n: n == 5),
    (lists.deliveries, lambda row: row.id,         {"created_from": AT + timedelta(seconds=2)}, lambda n: n >= 4),
]
# fmt: on


def name_of(read: Read, number: int) -> object:
    if read is lists.denials:
        return AT + timedelta(minutes=number)
    if read is lists.deliveries:
        return uuid_at(number, "acme")
    return f"{'a' if read is lists.accounts else 'order'}-{number}"


@pytest.mark.parametrize("examined_max", [4, 5_000])
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize(("read", "name", "filters", "passes"), LISTS)
async def test_a_walk_meets_everything_once_and_pages_are_bounded(
    tenant_pool: Pool, monkeypatch: pytest.MonkeyPatch,
    read: Read, name: Callable[[Any], object], filters: Filters, passes: Callable[[int], bool],
    limit: int, examined_max: int,
) -> None:  # fmt: skip
    """Also where a page may look at four rows only: it is short then, or empty, and the walk goes on."""
    for module in (walking, lists):
        monkeypatch.setattr(module, "EXAMINED_MAX", examined_max)
    monkeypatch.setattr(lists, "FIRST_WINDOW", 3)
    met, sizes = await walked(read, tenant_pool, "acme", filters, limit)
    expected = {name_of(read, number) for number in range(COUNT) if passes(number)}
    assert len(met) == len(expected)
    assert {name(row) for row in met} == expected
    assert len(sizes) <= 2 * COUNT + 2


async def test_lists_are_newest_first(tenant_pool: Pool) -> None:
    for read, key in (
        (lists.intents, lambda row: row.id), (lists.accounts, lambda row: row.id),
        (reviews, lambda row: (row.opened_at, row.id)), (lists.cases, lambda row: (row.opened_at, row.id)),
        (lists.deliveries, lambda row: (row.created_at, row.id)), (lists.denials, lambda row: row.minute),
    ):  # fmt: skip
        met, _ = await walked(read, tenant_pool, "acme", {}, 5)
        assert [key(row) for row in met] == sorted((key(row) for row in met), reverse=True), read


async def test_what_is_made_during_a_walk_moves_nothing(tenant_pool: Pool, admin_pool: Pool) -> None:
    first = await lists.intents(tenant_pool, "globex", {}, after=None, limit=5)
    await fill(admin_pool, "globex", 90)
    rest = await lists.intents(tenant_pool, "globex", {}, after=first.after, limit=50)
    assert [row.intent_id for row in [*first.rows, *rest.rows]] == [f"order-{n}" for n in reversed(range(COUNT))]


async def test_the_horizon_tells_a_tenant_no_id(tenant_pool: Pool) -> None:
    async with tenant_transaction(tenant_pool, "acme") as connection:
        horizon = await connection.fetchval("select intents_before($1, 1)", "f" * 32)
    assert horizon[12:] == "0" * 20


# Entries.


async def book(pool: Any, intent: str, seconds: float, *, kind: str = "book", minor: int = 7) -> None:
    await pool.execute(
        "insert into postings select $1, 0, 'acme', $4, a.id, b.id, 'NGN', 0, $3::bigint, $2, 'h'"
        " from accounts a join accounts b using (tenant) where tenant = 'acme' and a.account_id = 'a-0'"
        " and b.account_id = 'a-1'",
        intent, NOW + timedelta(seconds=seconds), minor, kind,
    )  # fmt: skip


async def pages(pool: Pool, place: EntryPlace | None, limit: int, filters: Filters | None = None) -> list[EntryView]:
    met: list[EntryView] = []
    while True:
        page = await entries(pool, "acme", "a-0", filters or {}, after=place, limit=limit)
        assert page is not None
        met += page.rows
        if (place := page.after) is None:
            return met


async def test_a_walk_shows_the_account_as_it_was_when_it_began(tenant_pool: Pool, admin_pool: Pool) -> None:
    """A posting that was decided before what was shown, and committed after it, is in no page of that walk."""
    await admin_pool.execute("truncate postings")
    for number in range(6):
        await book(admin_pool, f"{number:032x}", number)
    async with transaction(admin_pool) as late:
        await book(late, "a" * 32, 1.5)  # decided early, committed late: the snapshot knows it as under way
        first = await entries(tenant_pool, "acme", "a-0", {}, limit=2)
        assert first is not None
        assert [row.intent for row in first.rows] == [f"{number:032x}" for number in (5, 4)]
    await book(admin_pool, "b" * 32, 2.5)  # begun and committed after the first page
    rest = await pages(tenant_pool, first.after, 2)
    assert [row.intent for row in rest] == [f"{number:032x}" for number in (3, 2, 1, 0)]
    assert [row.intent[0] for row in await pages(tenant_pool, None, 2)] == ["0", "0", "0", "b", "0", "a", "0", "0"]


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, 6), ({"kind": "book"}, 3), ({"side": "debit"}, 6), ({"side": "credit"}, 0), ({"amount_min": 14}, 4),
        ({"amount_max": 7}, 2), ({"intent": f"{3:032x}"}, 1), ({"created_from": NOW + timedelta(seconds=4)}, 2),
    ],
)  # fmt: skip
async def test_entries_are_narrowed(
    tenant_pool: Pool, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch, filters: Filters, kept: int, limit: int
) -> None:
    monkeypatch.setattr("zentra.storage.reads.entries.EXAMINED_MAX", 3)
    await admin_pool.execute("truncate postings")
    for number in range(6):
        await book(admin_pool, f"{number:032x}", number, kind=("book", "post")[number % 2], minor=7 * (number // 2 + 1))
    met = await pages(tenant_pool, None, limit, filters)
    assert len({row.intent for row in met}) == len(met) == kept
    assert {row.other for row in met} <= {"a-1"}


async def test_entries_of_no_account_are_none(tenant_pool: Pool) -> None:
    assert await entries(tenant_pool, "globex", "nobody", {}) is None
