"""The accounts that the engine asks for: by id, by a number that others know, or by what a system account is for.

- An id goes before a number: an account that was opened under what looks like a number keeps its name.
- Monitors are looked for only where an account says that it has some."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.monitors import Monitor
from zentra.runtime.ledger.names import parse_number, parse_system_name, system_name
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["find_accounts"]

Name = tuple[str, str]

_SELECT: Final = """
select a.id, a.tenant, a.account_id, a.type, a.currency, a.normal_side, a.guarded, a.overdraft_limit, a.status, a.book,
       a.monitored, p.party_id, p.kyc_state, p.screening_state, p.kyc_expires_at"""
_BY_ID: Final = f"""{_SELECT}
from accounts a join unnest($1::text[], $2::text[]) as n(tenant, account_id) using (tenant, account_id)
left join parties p on p.tenant = a.tenant and p.party_id = a.party
"""
_BY_NUMBER: Final = f"""{_SELECT}, n.name
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as n(tenant, scheme, number, name)
join account_numbers k on (k.tenant, k.scheme, k.number) = (n.tenant, n.scheme, n.number) and k.retired_at is null
join accounts a on a.id = k.account and a.tenant = k.tenant
left join parties p on p.tenant = a.tenant and p.party_id = a.party
"""
_SYSTEM: Final = f"""{_SELECT}
from accounts a join unnest($1::text[], $2::text[], $3::text[], $4::text[]) as n(tenant, type, currency, book)
    using (tenant, type, currency, book)
left join parties p on p.tenant = a.tenant and p.party_id = a.party
where a.type in ('settlement', 'fee', 'suspense', 'liquidity') order by a.id desc
"""
_MONITORS: Final = """
select account, id, of, "when", minor from account_monitors
where account = any($1::bigint[]) and removed_at is null order by account, id
"""
_FIELDS: Final = 10  # of an account itself


async def find_accounts(pool: Pool, names: Collection[Name]) -> dict[Name, AccountRef]:
    """Return the accounts that (tenant, name) mean; a name that means none is absent. Raises Unavailable."""
    plain = [name for name in names if not name[1].startswith("@")]
    system = [(tenant, parsed) for tenant, name in names if (parsed := parse_system_name(name)) is not None]
    rows: dict[Name, Any] = {}
    with translated():
        if plain:
            for row in await pool.fetch(_BY_ID, [t for t, _ in plain], [n for _, n in plain]):
                rows[row["tenant"], row["account_id"]] = row
        numbers = [(tenant, *said, name) for tenant, name in plain
                   if (tenant, name) not in rows and (said := parse_number(name)) is not None]  # fmt: skip
        if numbers:
            for row in await pool.fetch(_BY_NUMBER, *map(list, zip(*numbers, strict=True))):
                rows[row["tenant"], row["name"]] = row
        if system:
            columns = zip(*[(tenant, *parsed) for tenant, parsed in system], strict=True)
            for row in await pool.fetch(_SYSTEM, *map(list, columns)):
                rows[row["tenant"], system_name(row["type"], row["currency"], row["book"])] = row
        monitors = await _monitors(pool, {row["id"] for row in rows.values() if row["monitored"]})
    return {name: _ref(row, monitors.get(row["id"], ())) for name, row in rows.items()}


def _ref(row: Any, monitors: tuple[Monitor, ...]) -> AccountRef:
    named = row["party_id"], row["kyc_state"], row["screening_state"], row["kyc_expires_at"]
    party = None if named[0] is None else PartyRef(*named)
    return AccountRef(*(*row[:_FIELDS], monitors, party))


async def _monitors(pool: Pool, accounts: Iterable[int]) -> dict[int, tuple[Monitor, ...]]:
    wanted, found = sorted(accounts), dict[int, tuple[Monitor, ...]]()
    for row in await pool.fetch(_MONITORS, wanted) if wanted else ():
        found[row[0]] = (*found.get(row[0], ()), Monitor(row[1], row[2], row[3], row[4]))
    return found
