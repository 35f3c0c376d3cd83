"""What a tenant changes about its accounts: status, limit, numbers, monitors; and the books that they are in.

- A change, its key, its record and the answer are one commit. The record says who, when, why, from what and to what,
  and is chained to the record before it.
- A change of an account waits for the commits of the engine that are under way and keeps new ones waiting until it is
  over (migration 0005): what is checked here is checked on balances that nobody moves, and what was answered is in
  force for every later commit.
- A limit is never set below what is used already, and an account with money or holds on it is never closed: no change
  brings an account under its own rules.
- A number is given once and to one account; a retired one is given to nobody else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ledger.book import Balance
from zentra.runtime.ledger.monitors import figure
from zentra.runtime.ledger.names import VIRTUAL_DIGITS, virtual_number
from zentra.storage.intake.commands import KeyedAnswer, once
from zentra.storage.intake.configuration import open_system_accounts
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = [
    "MONITORS_MAX",
    "NUMBERS_MAX",
    "STATUS_CHANGES",
    "ChangedBy",
    "NewMonitor",
    "NewNumber",
    "add_monitor",
    "add_number",
    "change_limit",
    "change_status",
    "minted_number",
    "need_system_accounts",
    "open_book",
    "remove_monitor",
    "retire_number",
    "set_limit",
]

MONITORS_MAX: Final = 16  # of one account: each is looked at in every commit that moves it
NUMBERS_MAX: Final = 100
STATUS_CHANGES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "freeze": (("open",), "frozen"),
    "unfreeze": (("frozen",), "open"),
    "close": (("open", "frozen"), "closed"),
    "reopen": (("closed",), "open"),
}
"""What each change of status needs the status to be, and makes of it."""


class ChangedBy(Struct, frozen=True, kw_only=True):
    """Who changes which account, and why."""

    account_id: str
    principal: str
    role: str
    reason: str
    request_id: str


class NewNumber(Struct, frozen=True):
    """A number to give to an account, in its one spelling."""

    scheme: str
    number: str


class NewMonitor(Struct, frozen=True):
    """A monitor to set up: see `runtime.ledger.monitors`."""

    id: str
    of: str
    when: str
    minor: int


async def open_book(pool: Pool, keyed: KeyedAnswer, book: str, name: str, created_by: str) -> StoredKey | None:
    """Open a book and return None, or what the key has stored already.

    Raises Refusal `book_exists`; Unavailable and DataError as the store does."""

    async def open_it(connection: Connection) -> None:
        try:
            await connection.execute(
                "insert into books (tenant, id, name, created_by) values ($1, $2, $3, $4)",
                keyed.tenant, book, name, created_by,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise Refusal("book_exists", f"there is a book {book!r}; choose another id") from error

    return await once(pool, keyed, open_it)


async def change_status(pool: Pool, keyed: KeyedAnswer, change: str, by: ChangedBy) -> StoredKey | None:
    """Do one of STATUS_CHANGES and return None, or what the key has stored already.

    Raises Refusal `not_found`, `account_is_system`, `account_status_conflict`, and for `close` `account_not_empty` with
    the figures; Unavailable and DataError as the store does."""
    needed, status = STATUS_CHANGES[change]

    async def change_it(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, by.account_id)
        if row["status"] not in needed:
            raise Refusal("account_status_conflict", f"it is {row['status']}; to {change} it takes {_either(needed)}")
        await connection.execute("update accounts set status = $2 where id = $1", row["id"], status)
        if change == "close":
            figures = _figures(row, await _balance(connection, row["id"]))
            if any(figures.values()):
                said = ", ".join(f"{name} {minor}" for name, minor in figures.items())
                raise Refusal("account_not_empty", f"{said}; move the money and wait for holds to end")
        await _record(connection, keyed.tenant, row["id"], by, change, {"status": row["status"]}, {"status": status})

    return await once(pool, keyed, change_it)


async def change_limit(pool: Pool, keyed: KeyedAnswer, limit: int, by: ChangedBy) -> StoredKey | None:
    """Let an account be overdrawn up to `limit` minor units and return None, or what the key has stored already.

    Raises Refusal `not_found`, `account_is_system`, `account_status_conflict` (closed), `limit_below_use`; Unavailable
    and DataError as the store does."""

    return await once(pool, keyed, lambda connection: set_limit(connection, keyed.tenant, limit, by))


async def set_limit(connection: Connection, tenant: str, limit: int, by: ChangedBy) -> None:
    """Let an account be overdrawn up to `limit` minor units, within the caller's transaction; raises as
    `change_limit`."""
    row = await _locked(connection, tenant, by.account_id)
    if row["status"] == "closed":
        raise Refusal("account_status_conflict", "it is closed; reopen it first")
    await connection.execute("update accounts set overdraft_limit = $2 where id = $1", row["id"], limit)
    left = _figures(row, await _balance(connection, row["id"]))["available"]
    if left < -limit:
        raise Refusal("limit_below_use", f"available {left}; the limit has to be {-left} or more")
    before, after = {"overdraft_limit": str(row["overdraft_limit"])}, {"overdraft_limit": str(limit)}
    await _record(connection, tenant, row["id"], by, "limit", before, after)


async def add_number(pool: Pool, keyed: KeyedAnswer, given: NewNumber, by: ChangedBy) -> StoredKey | None:
    """Give a number to an account and return None, or what the key has stored already.

    Raises Refusal `not_found`, `account_status_conflict` (closed), `number_taken`, `numbers_too_many`; Unavailable and
    DataError as the store does."""

    async def give_it(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, by.account_id, system=True)
        if row["status"] == "closed":
            raise Refusal("account_status_conflict", "it is closed; reopen it first")
        held = await connection.fetchval(
            "select count(*) from account_numbers where tenant = $1 and account = $2", keyed.tenant, row["id"]
        )
        if held >= NUMBERS_MAX:
            raise Refusal("numbers_too_many", f"an account has at most {NUMBERS_MAX} numbers")
        try:
            await connection.execute(
                "insert into account_numbers (tenant, scheme, number, account, created_by) values ($1, $2, $3, $4, $5)",
                keyed.tenant, given.scheme, given.number, row["id"], by.principal,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise Refusal("number_taken", "the number was given before; a number is never given twice") from error
        await _record(connection, keyed.tenant, row["id"], by, "number_added", {}, _named(given))

    return await once(pool, keyed, give_it)


async def retire_number(pool: Pool, tenant: str, given: NewNumber, by: ChangedBy) -> None:
    """Let a number of an account mean nobody any more; once it is so, nothing is changed.

    Raises Refusal `not_found`; Unavailable and DataError as the store does."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await _locked(connection, tenant, by.account_id, system=True)
        retired = await connection.fetchrow(_RETIRE, tenant, given.scheme, given.number, row["id"])
        if retired is not None:
            await _record(connection, tenant, row["id"], by, "number_retired", _named(given), {})
        elif not await connection.fetchval(_NUMBER_OF, tenant, given.scheme, given.number, row["id"]):
            raise Refusal("not_found")


async def add_monitor(pool: Pool, keyed: KeyedAnswer, monitor: NewMonitor, by: ChangedBy) -> StoredKey | None:
    """Set a monitor up and return None, or what the key has stored already.

    Raises Refusal `not_found`, `account_is_system` (its balance is read by nobody), `monitors_too_many`; Unavailable
    and DataError as the store does."""

    async def set_up(connection: Connection) -> None:
        row = await _locked(connection, keyed.tenant, by.account_id)
        held = await connection.fetchval(_MONITORS_HELD, keyed.tenant, row["id"])
        if held >= MONITORS_MAX:
            raise Refusal("monitors_too_many", f"an account has at most {MONITORS_MAX} monitors")
        await connection.execute(
            'insert into account_monitors (tenant, id, account, of, "when", minor, created_by)'
            " values ($1, $2, $3, $4, $5, $6, $7)",
            keyed.tenant, monitor.id, row["id"], monitor.of, monitor.when, monitor.minor, by.principal,
        )  # fmt: skip
        await connection.execute("update accounts set monitored = true where id = $1", row["id"])
        after = {"monitor": monitor.id, "of": monitor.of, "when": monitor.when, "minor": str(monitor.minor)}
        await _record(connection, keyed.tenant, row["id"], by, "monitor_added", {}, after)

    return await once(pool, keyed, set_up)


async def remove_monitor(pool: Pool, tenant: str, monitor: str, by: ChangedBy) -> None:
    """Take a monitor away; once it is gone, nothing is changed.

    Raises Refusal `not_found`; Unavailable and DataError as the store does."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await _locked(connection, tenant, by.account_id)
        if await connection.fetchrow(_REMOVE, tenant, monitor, row["id"]) is None:
            if not await connection.fetchval(_MONITOR_OF, tenant, monitor, row["id"]):
                raise Refusal("not_found")
            return
        left = await connection.fetchval(_MONITORS_HELD, tenant, row["id"])
        await connection.execute("update accounts set monitored = $2 where id = $1", row["id"], left > 0)
        await _record(connection, tenant, row["id"], by, "monitor_removed", {"monitor": monitor}, {})


async def need_system_accounts(pool: Pool, tenant: str, currency: str) -> None:
    """Open the system accounts of the default book in `currency` where there are none: money may come in before any
    account is opened for it. Raises Refusal `account_exists`; Unavailable and DataError as the store does."""
    async with tenant_transaction(pool, tenant) as connection:
        await open_system_accounts(connection, tenant, currency)


def minted_number(draw: Callable[[int], int] = secrets.randbelow) -> str:
    """Return a virtual number nobody could guess; whether it is free only the store can tell."""
    digits = VIRTUAL_DIGITS - 1
    return virtual_number(f"{draw(10**digits):0{digits}d}")


async def _locked(connection: Connection, tenant: str, account_id: str, *, system: bool = False) -> asyncpg.Record:
    """Return the row of an account that nobody else changes meanwhile; raise Refusal where there is none, or, unless
    `system` accounts will do, where it is one."""
    row = await connection.fetchrow(_LOCKED, tenant, account_id)
    if row is None:
        raise Refusal("not_found")
    if not row["guarded"] and not system:
        raise Refusal("account_is_system", f"{account_id} is the runtime's own and stays as it is")
    return row


async def _balance(connection: Connection, account: int) -> Balance:
    row = await connection.fetchrow(_BALANCE, account)
    assert row is not None
    return Balance(*row)


def _figures(row: asyncpg.Record, balance: Balance) -> dict[str, int]:
    figures = {name: figure(name, row["normal_side"], balance) for name in ("posted", "pending", "available")}
    # what comes in and what goes out may cancel in one figure, and are two holds all the same
    held = balance.debits_pending if row["normal_side"] == "credit" else balance.credits_pending
    return {**figures, "held": held}


def _named(given: NewNumber) -> dict[str, str]:
    return {"scheme": given.scheme, "number": given.number}


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)


async def _record(
    connection: Connection, tenant: str, account: int, by: ChangedBy, change: str, before: Mapping[str, str],
    after: Mapping[str, str],
) -> None:  # fmt: skip
    """Append to the history of an account, whose row is locked: so the number and the chain have no gaps."""
    last = await connection.fetchrow(_LAST, account)
    sequence, link = (last["sequence"] + 1, last["hash"]) if last is not None else (1, GENESIS)
    at = await connection.fetchval("select greatest(clock_timestamp(), $1)", None if last is None else last["at"])
    record: dict[str, Any] = {
        "account_id": by.account_id, "actor": by.principal, "after": dict(after), "at": timestamp(at),
        "before": dict(before), "change": change, "reason": by.reason, "request_id": by.request_id, "role": by.role,
        "sequence": sequence, "tenant": tenant,
    }  # fmt: skip
    data = canonical.encode(record)
    await connection.execute(
        "insert into account_changes (account, sequence, tenant, at, record, hash) values ($1, $2, $3, $4, $5, $6)",
        account, sequence, tenant, at, data, chain(link, data),
    )  # fmt: skip


# Not `for update`: a tick that begins a stripe holds its account's key, and would wait for us while we wait for it.
_LOCKED: Final = """
select id, guarded, status, overdraft_limit, normal_side from accounts
where tenant = $1 and account_id = $2 for no key update
"""
_BALANCE: Final = """
select coalesce(sum(debits_pending), 0)::bigint, coalesce(sum(credits_pending), 0)::bigint,
       coalesce(sum(debits_posted), 0)::bigint, coalesce(sum(credits_posted), 0)::bigint
from balances where account = $1
"""
_LAST: Final = "select sequence, hash, at from account_changes where account = $1 order by sequence desc limit 1"
_RETIRE: Final = """
update account_numbers set retired_at = now()
where tenant = $1 and scheme = $2 and number = $3 and account = $4 and retired_at is null returning number
"""
_NUMBER_OF: Final = """
select true from account_numbers where tenant = $1 and scheme = $2 and number = $3 and account = $4
"""
_MONITORS_HELD: Final = """
select count(*) from account_monitors where tenant = $1 and account = $2 and removed_at is null
"""
_REMOVE: Final = """
update account_monitors set removed_at = now()
where tenant = $1 and id = $2 and account = $3 and removed_at is null returning id
"""
_MONITOR_OF: Final = "select true from account_monitors where tenant = $1 and id = $2 and account = $3"
