"""What a tenant sets up by itself: accounts and webhook endpoints, under its own row security.

- The key, what it made and the answer are one commit, as everywhere.
- An account brings the system accounts of its book and currency with it, so that a transfer has something to settle
  against.
- System accounts have no floor; nobody but the runtime opens them.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.ledger.money import is_currency
from zentra.runtime.ledger.names import DEFAULT_BOOK, system_account_id
from zentra.runtime.webhooks.terms import TERMS, EndpointTerms
from zentra.storage.intake.commands import KeyedAnswer, once
from zentra.storage.pool import Connection, Pool

__all__ = [
    "CLIENT_ACCOUNT_TYPES",
    "SYSTEM_ACCOUNTS",
    "NewAccount",
    "NewEndpoint",
    "create_account",
    "create_endpoint",
    "open_system_accounts",
]

CLIENT_ACCOUNT_TYPES: Final = ("customer", "operating", "merchant", "payout", "reserved")
SYSTEM_ACCOUNTS: Final = ("settlement", "liquidity", "fee", "suspense")


class NewAccount(Struct, frozen=True, kw_only=True):
    """An account to open; `account_id` is unique in its tenant."""

    account_id: str
    owner: str
    type: str
    currency: str
    created_by: str
    overdraft_limit: int = 0
    book: str = DEFAULT_BOOK
    party: str | None = None


class NewEndpoint(Struct, frozen=True, kw_only=True):
    """A webhook endpoint to set up; `secret` is sealed by the caller."""

    id: str
    url: str
    events: tuple[str, ...]
    secret: bytes
    created_by: str
    terms: EndpointTerms = TERMS
    keys: tuple[bytes, ...] = ()


async def create_account(pool: Pool, keyed: KeyedAnswer, account: NewAccount) -> StoredKey | None:
    """Open the account and return None, or what the key has stored already.

    Raises Refusal `account_type_unknown`, `currency_unknown`, `overdraft_limit_negative`, `book_not_found`,
    `account_exists` or `party_not_found`; Unavailable and DataError as the store does."""
    if account.type not in CLIENT_ACCOUNT_TYPES:
        raise Refusal("account_type_unknown", f"one of {', '.join(CLIENT_ACCOUNT_TYPES)}")
    if not is_currency(account.currency):
        raise Refusal("currency_unknown", "an ISO 4217 code in capitals")
    if account.overdraft_limit < 0:
        raise Refusal("overdraft_limit_negative", "a limit is 0 or more minor units")

    async def open_it(connection: Connection) -> None:
        if not await connection.fetchval(_BOOK, keyed.tenant, account.book):
            raise Refusal("book_not_found", f"there is no book {account.book!r}; open it first")
        await open_system_accounts(connection, keyed.tenant, account.currency, account.book)
        try:
            number = await connection.fetchval(
                _ACCOUNT, keyed.tenant, account.account_id, account.owner, account.type, account.currency,
                True, account.overdraft_limit, account.created_by, account.book, account.party,
            )  # fmt: skip
        except asyncpg.ForeignKeyViolationError as error:
            raise Refusal("party_not_found", f"{account.party} is no party of the tenant") from error
        except asyncpg.UniqueViolationError as error:
            raise Refusal("account_exists", f"{account.account_id} is there already; choose another id") from error
        await connection.execute(_BALANCE, number, keyed.tenant)

    return await once(pool, keyed, open_it)


async def create_endpoint(
    pool: Pool, keyed: KeyedAnswer, endpoint: NewEndpoint, *, endpoints_max: int
) -> StoredKey | None:
    """Set up the endpoint and return None, or what the key has stored already.

    Those of one tenant are set up one after the other, so that no two find the last place free; deleted ones have none.
    Raises Refusal `endpoint_exists`, `endpoints_too_many`; Unavailable and DataError as the store does."""

    async def set_up(connection: Connection) -> None:
        await connection.execute(_ENDPOINTS_LOCK, keyed.tenant)
        held = await connection.fetchval(_ENDPOINTS_HELD, keyed.tenant)
        if held >= endpoints_max:
            raise Refusal(
                "endpoints_too_many",
                f"there are {held} and {endpoints_max} may be; delete one, or have ZENTRA_ENDPOINTS_MAX raised",
            )  # fmt: skip
        try:
            await connection.execute(
                "insert into endpoints (tenant, id, url, events, secrets, created_by, terms, keys)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8)",
                keyed.tenant, endpoint.id, endpoint.url, list(endpoint.events), [endpoint.secret], endpoint.created_by,
                msgspec.json.encode(endpoint.terms).decode(), list(endpoint.keys),
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise Refusal("endpoint_exists", f"{endpoint.id} exists already; choose another id") from error

    return await once(pool, keyed, set_up)


async def open_system_accounts(connection: Connection, tenant: str, currency: str, book: str = DEFAULT_BOOK) -> None:
    """Open what is missing of the system accounts of a book in `currency`.

    Raises Refusal `account_exists` where another account has the id that one of them would have."""
    held = await connection.fetchval(_SYSTEM_HELD, tenant, list(SYSTEM_ACCOUNTS), currency, book)
    if held == len(SYSTEM_ACCOUNTS):
        return
    ids = [system_account_id(kind, currency, book) for kind in SYSTEM_ACCOUNTS]
    opened = await connection.fetch(_SYSTEM, tenant, ids, list(SYSTEM_ACCOUNTS), currency, book)
    for row in opened:
        await connection.execute(_BALANCE, row["id"], tenant)
    if await connection.fetchval(_SYSTEM_HELD, tenant, list(SYSTEM_ACCOUNTS), currency, book) < len(SYSTEM_ACCOUNTS):
        raise Refusal("account_exists", f"one of {', '.join(ids)} is another account, and the book needs all of them")


_ACCOUNT: Final = """
insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, overdraft_limit, created_by,
    book, party)
values ($1, $2, $3, $4, $5, 'credit', $6, $7, $8, $9, $10)
returning id
"""
_SYSTEM: Final = """
insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by, book)
select $1, account_id, 'system', type, $4, 'credit', false, 'system', $5
from unnest($2::text[], $3::text[]) as given (account_id, type)
order by account_id
on conflict do nothing
returning id, account_id
"""
_SYSTEM_HELD: Final = """
select count(distinct type) from accounts
where tenant = $1 and type = any($2::text[]) and currency = $3 and book = $4
    and type in ('settlement', 'fee', 'suspense', 'liquidity')
"""
_ENDPOINTS_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('zentra/endpoints/' || $1, 0))"
_ENDPOINTS_HELD: Final = "select count(*) from endpoints where tenant = $1 and status <> 'deleted'"
_BOOK: Final = "select true from books where tenant = $1 and id = $2"
_BALANCE: Final = "insert into balances (account, stripe, tenant) values ($1, 0, $2)"
