"""Exchange rates as operators put them: each a new version of its pair, in force from the next commit of the engine on.

- The table holds the rate in force, a trigger keeps every version.
- A rate that is older than the one in force changes nothing and is refused.
- A principal moves a pair's mid by no more than JUMP_PERCENT_MAX in a day, however many rates that takes: each is held
  against the one that was in force a day ago, or that the installation's owner has put since. The first rate of a pair,
  and what is farther off, only the owner puts: a rate is as good as money."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.ledger.conversion import BPS, FxRate, is_rate
from zentra.runtime.ledger.money import MINOR_MAX, is_currency
from zentra.storage.intake.commands import KeyedAnswer, once
from zentra.storage.intake.configuration import open_system_accounts
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["JUMP_PERCENT_MAX", "MAX_AGE_SECONDS_MAX", "OWNER", "is_jump", "put_rate", "put_rate_once"]

MAX_AGE_SECONDS_MAX: Final = 30 * 86_400  # what is good for longer is no rate of a market
JUMP_PERCENT_MAX: Final = 20
OWNER: Final = "owner of the installation"  # who puts by `zentra rates put`; no principal has such a name
AHEAD_MAX: Final = timedelta(seconds=60)
_PUT: Final = """
insert into fx_rates as known
    (tenant, sell, buy, version, mid, spread_bps, fee_minor, as_of, max_age_seconds, source, created_by)
values ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10)
on conflict (tenant, sell, buy) do update
set version = known.version + 1, mid = excluded.mid, spread_bps = excluded.spread_bps, fee_minor = excluded.fee_minor,
    as_of = excluded.as_of, max_age_seconds = excluded.max_age_seconds, source = excluded.source,
    created_by = excluded.created_by, created_at = now()
where known.as_of <= excluded.as_of
returning version
"""


_ANCHOR: Final = """
select mid from fx_rate_versions
where tenant = $1 and sell = $2 and buy = $3 and (created_by = $4 or created_at <= now() - interval '1 day')
order by version desc limit 1
"""


async def put_rate(pool: Pool, rate: FxRate, *, created_by: str = OWNER) -> int:
    """Put a rate in force, however far from the one before, and return its version.

    Refuses what `check` refuses, `tenant_unknown`, `rate_outdated`."""
    async with tenant_transaction(pool, rate.tenant) as connection:
        if await connection.fetchval("select true from tenants where id = $1", rate.tenant) is None:
            raise Refusal("tenant_unknown", f"there is no tenant {rate.tenant!r}; create it first")
        return await _put(connection, rate, created_by)


async def put_rate_once(pool: Pool, keyed: KeyedAnswer, rate: FxRate, *, created_by: str) -> StoredKey | None:
    """Put a rate in force under a key and return None, or what the key has stored already.

    Refuses as `put_rate`, and `rate_jump`."""

    async def put(connection: Connection) -> None:
        check(rate, await connection.fetchval("select clock_timestamp()"))
        anchor = await connection.fetchval(_ANCHOR, rate.tenant, rate.sell, rate.buy, OWNER)
        if anchor is None or is_jump(anchor, rate.mid):
            away = "it is the first of its pair" if anchor is None else f"more than {JUMP_PERCENT_MAX} % from {anchor}"
            raise Refusal("rate_jump", f"{rate.mid} {rate.buy} for one {rate.sell}: {away}")
        await _put(connection, rate, created_by)

    return await once(pool, keyed, put)


async def _put(connection: Connection, rate: FxRate, created_by: str) -> int:
    check(rate, await connection.fetchval("select clock_timestamp()"))
    for currency in (rate.sell, rate.buy):  # what is converted goes through them
        await open_system_accounts(connection, rate.tenant, currency)
    version = await connection.fetchval(
        _PUT, rate.tenant, rate.sell, rate.buy, rate.mid, rate.spread_bps, rate.fee_minor, rate.as_of,
        rate.max_age_seconds, rate.source, created_by,
    )  # fmt: skip
    if version is None:
        raise Refusal("rate_outdated", f"the rate of {rate.sell} for {rate.buy} in force is a later one")
    return int(version)


def is_jump(before: str, mid: str) -> bool:
    """Return whether a mid rate is more than JUMP_PERCENT_MAX above or below another one."""
    return abs(Fraction(mid) - Fraction(before)) * 100 > Fraction(before) * JUMP_PERCENT_MAX


def check(rate: FxRate, now: datetime) -> None:
    """Refuse `currency_unknown`, `currencies_must_be_different`, `rate_malformed`, `rate_of_the_future`."""
    for currency in (rate.sell, rate.buy):
        if not is_currency(currency):
            raise Refusal("currency_unknown", f"{currency!r}: an ISO 4217 code in capitals")
    if rate.sell == rate.buy:
        raise Refusal("currencies_must_be_different", "a rate is between two currencies")
    if not is_rate(rate.mid):
        raise Refusal("rate_malformed", f"{rate.mid!r}: a decimal above zero, such as 1530.25")
    if not 0 <= rate.spread_bps < BPS or not 0 <= rate.fee_minor <= MINOR_MAX:
        raise Refusal("rate_malformed", f"the spread is 0 to {BPS - 1} basis points, the fee is 0 or more")
    if not 1 <= rate.max_age_seconds <= MAX_AGE_SECONDS_MAX:
        raise Refusal("rate_malformed", f"a rate is good for 1 to {MAX_AGE_SECONDS_MAX} seconds")
    if rate.as_of > now + AHEAD_MAX:
        raise Refusal("rate_of_the_future", "a rate is of now or of before")
