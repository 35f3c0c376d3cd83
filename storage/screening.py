"""Lists of names in the store, and the screening of parties against them; over the writer's and the owner's pools.

- A version is staged whole, in one transaction, and becomes the active one of its name in another: nobody ever reads a
  part of a list. The same list again is no new version; it only is younger.
- Workers hold the active lists in memory. Those that are staged are made ready before they are active, away from ticks.
- Parties are screened in batches. Whoever screens reads names, decides without a lock, and writes only where the party
  is still the one that was read; two screeners do the same work twice and change nothing the second time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import ListEntry, ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.matching import ALGORITHM
from zentra.runtime.compliance.parties import Finding, next_screening, screen_names, screening_mark
from zentra.runtime.compliance.rules import ClearedPair
from zentra.runtime.compliance.states import Screening
from zentra.runtime.errors import Refusal
from zentra.runtime.policy.document import rules_of
from zentra.storage.errors import translated
from zentra.storage.pool import Connection, Pool, transaction

__all__ = [
    "SCREENER",
    "SCREENING_CASE",
    "ListShelf",
    "ListVersion",
    "Rescreened",
    "Screened",
    "activate_list",
    "cleared_pairs",
    "expire_identities",
    "list_versions",
    "open_screening_case",
    "parties_due",
    "read_list_version",
    "screen_batch",
    "screened_tenants",
    "stage_list",
]

SCREENING_CASE: Final = "screening_match"
SCREENER: Final = "svc_screening"
VERSIONS_KEPT: Final = 3  # of each list, with their entries: what a recent decision names can be looked up
BATCH_MAX: Final = 200
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(ListEntry).decode


class ListVersion(Struct, frozen=True):
    """A version of a list as people see it."""

    name: str
    version: int
    digest: str
    format: str
    source: str
    fetched_at: datetime
    loaded_at: datetime
    entries: int
    names: int
    status: str


class Rescreened(Struct, frozen=True):
    """What a batch did: how many parties it looked at, and how many of them changed their state."""

    looked_at: int
    changed: int


async def stage_list(
    pool: Pool, name: str, form: str, source: str, fetched_at: datetime, entries: Sequence[ListEntry]
) -> tuple[ListVersion, bool]:
    """Store a version of a list and return it, and whether it is new: the active one, younger, where nothing differs.

    Raises Refusal `list_older` where the active version was fetched later; DataError for a name that is none."""
    digest = digest_of_list(entries)
    names = sum(len(entry.names) for entry in entries)
    async with transaction(pool) as connection:
        await connection.execute("select pg_advisory_xact_lock(hashtext('zentra screening ' || $1))", name)
        active = await connection.fetchrow(
            "select version, digest, fetched_at from screening_lists where name = $1 and status = 'active'", name
        )
        if active is not None and fetched_at < active["fetched_at"]:
            raise Refusal("list_older", f"version {active['version']} of {name} was fetched later; load a newer file")
        if active is not None and active["digest"] == digest:
            await connection.execute(
                "update screening_lists set fetched_at = $3 where name = $1 and version = $2",
                name, active["version"], fetched_at,
            )  # fmt: skip
            return await _version(connection, name, active["version"]), False
        version = await connection.fetchval(
            "select coalesce(max(version), 0) + 1 from screening_lists where name = $1", name
        )
        await connection.execute(
            "insert into screening_lists (name, version, digest, format, source, fetched_at, entries, names, status)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, 'staged')",
            name, version, digest, form, source, fetched_at, len(entries), names,
        )  # fmt: skip
        await connection.execute(
            "insert into screening_entries (list, version, place, body)"
            " select $1, $2, place, body from unnest($3::int[], $4::bytea[]) as e(place, body)",
            name, version, list(range(len(entries))), [_encode(entry) for entry in entries],
        )  # fmt: skip
        return await _version(connection, name, version), True


async def activate_list(pool: Pool, name: str, version: int) -> None:
    """Put a staged version in force with the next commit; older ones are kept for a while.

    Raises Refusal `list_not_staged`."""
    async with transaction(pool) as connection:
        await connection.execute("select pg_advisory_xact_lock(hashtext('zentra screening ' || $1))", name)
        await connection.execute(
            "update screening_lists set status = 'retired' where name = $1 and status = 'active'", name
        )
        done = await connection.execute(
            "update screening_lists set status = 'active', activated_at = now()"
            " where name = $1 and version = $2 and status = 'staged'",
            name, version,
        )  # fmt: skip
        if done.endswith(" 0"):
            raise Refusal("list_not_staged", f"{name} has no staged version {version}")
        await connection.execute(
            "delete from screening_lists where name = $1 and version <= $2", name, version - VERSIONS_KEPT
        )


async def list_versions(pool: Pool) -> list[ListVersion]:
    """Return every version that is kept, by name, the newest first."""
    with translated():
        rows = await pool.fetch(_VERSIONS + " order by name, version desc")
    return [ListVersion(*row) for row in rows]


async def read_list_version(pool: Pool, info: ListInfo) -> NameList:
    """Return a version of a list, ready to be asked; it is put together in a thread."""
    with translated():
        rows = await pool.fetch(
            "select body from screening_entries where list = $1 and version = $2 order by place",
            info.name,
            info.version,
        )
    return await asyncio.to_thread(lambda: NameList(info, [_decode(row[0]) for row in rows]))


class ListShelf:
    """The lists of one process: what was put together once is kept while some version of it may be asked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ready: dict[tuple[str, str], NameList] = {}

    async def prepare(self) -> None:
        """Make staged versions ready, so that they cost nothing once they are active."""
        rows = await self._rows(("staged", "active"))
        await self._make([_info(row) for row in rows])

    async def active(self) -> dict[str, NameList]:
        """Return the active lists by name; raise Unavailable."""
        infos = [_info(row) for row in await self._rows(("active",))]
        await self._make(infos)
        return {info.name: _aged(self._ready[info.name, info.digest], info) for info in infos}

    async def _rows(self, statuses: tuple[str, ...]) -> list[Any]:
        with translated():
            return list(await self._pool.fetch(_INFOS, list(statuses)))

    async def _make(self, infos: Sequence[ListInfo]) -> None:
        for info in infos:
            if (info.name, info.digest) not in self._ready:
                self._ready[info.name, info.digest] = await read_list_version(self._pool, info)
        for key in [key for key in self._ready if key not in {(info.name, info.digest) for info in infos}]:
            if len([other for other in self._ready if other[0] == key[0]]) > 1:
                del self._ready[key]


def _aged(known: NameList, info: ListInfo) -> NameList:
    """Return a list as of another time at which it was fetched."""
    return known if known.info == info else known.as_of(info)


# Parties -----------------------------------------------------------------------------------------------------------


class Screened(Struct, frozen=True):
    """What the rules in force demand of parties, by tenant, of those that demand that they are screened.

    `unusable` says by tenant what is wrong with rules that cannot be used: nothing of such a tenant is accepted."""

    rules: Mapping[str, Compliance]
    unusable: Mapping[str, str]


async def screened_tenants(pool: Pool) -> Screened:
    """Return whose parties are screened by which demands; raises Unavailable."""
    with translated():
        rows = await pool.fetch("select tenant, version, rules from policies where state = 'active' order by 1")
    known = {row[0]: rules_of(msgspec.json.decode(row[2]), row[1]) for row in rows}
    asked = {tenant: one.compliance for tenant, one in known.items() if one.compliance is not None}
    return Screened(
        {tenant: one for tenant, one in asked.items() if one.screen == "all"},
        {tenant: one.unusable for tenant, one in known.items() if one.unusable},
    )


async def cleared_pairs(pool: Pool) -> dict[str, frozenset[ClearedPair]]:
    """Return every pair that a person has cleared, by tenant."""
    with translated():
        rows = await pool.fetch(
            "select tenant, array_agg(array[name_digest, list, entry_digest]) from cleared_pairs group by 1"
        )
    return {row[0]: frozenset((pair[0], pair[1], pair[2]) for pair in row[1]) for row in rows}


async def parties_due(pool: Pool, tenant: str, rules: Compliance, lists: Mapping[str, NameList]) -> int:
    """Return how many parties of a tenant were not screened by these lists and rules yet."""
    mark = _mark(_asked(rules, lists), rules)
    with translated():
        found = await pool.fetchval(
            "select count(*) from parties where tenant = $1 and not forced and screened_by is distinct from $2",
            tenant,
            mark,
        )
    return int(found)


async def screen_batch(
    pool: Pool,
    tenant: str,
    rules: Compliance,
    lists: Mapping[str, NameList],
    cleared: Collection[ClearedPair],
    limit: int = BATCH_MAX,
    *,
    pauses: bool = False,
) -> Rescreened:
    """Screen up to `limit` parties that were not screened by these lists and rules; nobody where a list is missing.

    With `pauses` it leaves half of the time to others: a name takes milliseconds at the most.

    Raises Unavailable, Contended or DataError as the store does; what was written until then stays."""
    asked = _asked(rules, lists)
    if not asked or len(asked) < len(rules.lists):
        return Rescreened(0, 0)
    mark = _mark(asked, rules)
    with translated():
        rows = await pool.fetch(_DUE, tenant, mark, limit)
    unmoved: list[tuple[str, int]] = []
    changed = 0
    for row in rows:
        began = time.perf_counter()
        found = screen_names([row["legal_name"], *row["aliases"]], asked, rules, cleared)
        current = Screening(row["screening_state"])
        if next_screening(current, found) is current and current is not Screening.POSSIBLE_MATCH:
            unmoved.append((row["party_id"], row["version"]))
        else:
            changed += await _write_finding(pool, tenant, row["party_id"], row["version"], found, mark, rules)
        await asyncio.sleep(time.perf_counter() - began if pauses else 0)
    if unmoved:
        async with transaction(pool) as connection:
            await connection.execute(_UNMOVED, tenant, mark, [p for p, _ in unmoved], [v for _, v in unmoved])
    return Rescreened(len(rows), changed)


async def _write_finding(
    pool: Pool, tenant: str, party: str, version: int, found: Finding, mark: str, rules: Compliance
) -> bool:
    """Write what was found of one party, unless it has changed since; return whether its state did."""
    async with transaction(pool) as connection:
        row = await connection.fetchrow(
            "select screening_state, created_by from parties where tenant = $1 and party_id = $2 and version = $3"
            " for update",
            tenant, party, version,
        )  # fmt: skip
        if row is None:
            return False
        current = Screening(row["screening_state"])
        after = next_screening(current, found)
        moved = after is not current
        await connection.execute(
            "update parties set screening_state = $3, screened_by = $4, screened_at = now(),"
            " version = version + $5, updated_at = case when $5 = 1 then now() else updated_at end"
            " where tenant = $1 and party_id = $2",
            tenant, party, after, mark, int(moved),
        )  # fmt: skip
        if moved:
            detail = {"name_digest": found.name_digest, "score": found.score, "screened_by": mark}
            await connection.execute(
                _CHANGE, tenant, party, version + 1, "screening", current, after, SCREENER, found.reason,
                _encode(detail).decode(),
            )  # fmt: skip
        if after is Screening.POSSIBLE_MATCH:
            await open_screening_case(connection, tenant, party, row["created_by"], found, rules.threshold)
        elif moved:
            await connection.execute(_SUPERSEDED, tenant, party, SCREENING_CASE, SCREENER)
        return moved


async def open_screening_case(
    connection: Connection, tenant: str, party: str, created_by: str, found: Finding, threshold: int
) -> str | None:
    """Open a case beside no intent for what was found of a party, unless one is open; return its id where it is new.

    It is assigned to an operator who neither created nor amended the party; a day is its deadline."""
    known = await connection.fetchval(
        "select id from cases where tenant = $1 and kind = $2 and status = 'open' and detail->>'party' = $3",
        tenant, SCREENING_CASE, party,
    )  # fmt: skip
    if known is not None:
        return None
    detail = {
        "party": party, "created_by": created_by, "reason": found.reason, "algorithm": ALGORITHM,
        "threshold": threshold, "score": found.score, "name_digest": found.name_digest,
        "hits": [msgspec.structs.asdict(hit) for hit in found.hits],
    }  # fmt: skip
    number = await connection.fetchval(
        "select count(*) from cases where tenant = $1 and kind = $2 and detail->>'party' = $3",
        tenant, SCREENING_CASE, party,
    )  # fmt: skip
    case = hashlib.sha256(f"screening/{tenant}/{party}/{number}".encode()).hexdigest()[:32]
    await connection.execute(_CASE, case, tenant, SCREENING_CASE, _encode(detail).decode(), created_by, party)
    return case


async def expire_identities(pool: Pool) -> int:
    """Move parties whose approval has run out to `expired`; return how many."""
    async with transaction(pool) as connection:
        rows = await connection.fetch(
            "update parties set kyc_state = 'expired', version = version + 1, updated_at = now()"
            " where (tenant, party_id) in (select tenant, party_id from parties where kyc_state = 'approved'"
            " and kyc_expires_at < now() limit $1 for update skip locked) returning tenant, party_id, version",
            BATCH_MAX,
        )  # fmt: skip
        for row in rows:
            await connection.execute(
                _CHANGE, row["tenant"], row["party_id"], row["version"], "kyc", "approved", "expired", SCREENER,
                "the approval has run out", "{}",
            )  # fmt: skip
    return len(rows)


def _asked(rules: Compliance, lists: Mapping[str, NameList]) -> list[NameList]:
    return [lists[name] for name in rules.lists or sorted(lists) if name in lists]


def _mark(lists: Sequence[NameList], rules: Compliance) -> str:
    return hashlib.sha256(screening_mark(lists, rules).encode()).hexdigest()


def _info(row: Any) -> ListInfo:
    return ListInfo(*row)


async def _version(connection: Connection, name: str, version: int) -> ListVersion:
    row = await connection.fetchrow(_VERSIONS + " where name = $1 and version = $2", name, version)
    assert row is not None, "it was written in this transaction"
    return ListVersion(*row)


_VERSIONS: Final = (
    "select name, version, digest, format, source, fetched_at, loaded_at, entries, names, status from screening_lists"
)
_INFOS: Final = (
    "select name, version, digest, fetched_at, entries, names from screening_lists where status = any($1::text[])"
    " order by name, version"
)
_DUE: Final = """
select party_id, version, legal_name, aliases, screening_state from (
    (select * from parties where tenant = $1 and not forced and screened_by is null limit $3)
    union all (select * from parties where tenant = $1 and not forced and screened_by < $2 limit $3)
    union all (select * from parties where tenant = $1 and not forced and screened_by > $2 limit $3)
) due limit $3
"""
_UNMOVED: Final = """
update parties p set screened_by = $2, screened_at = now()
from unnest($3::text[], $4::int[]) as d(party_id, version)
where p.tenant = $1 and p.party_id = d.party_id and p.version = d.version
"""
_CHANGE: Final = """
insert into party_changes (tenant, party_id, number, what, before, after, actor, reason, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_CASE: Final = """
insert into cases (id, tenant, intent, intent_id, kind, status, detail, opened_at, deadline, operator)
values ($1, $2, null, null, $3, 'open', $4, now(), now() + interval '1 day',
    (select id from principals p where tenant = $2 and role = 'operator' and disabled_at is null
        and id <> $5 and not exists (
        select from party_changes c where c.tenant = $2 and c.party_id = $6 and c.what = 'amended' and c.actor = p.id
    ) order by id limit 1))
"""
_SUPERSEDED: Final = """
update cases set status = 'resolved', operator = $4, resolved_at = now(),
    resolution = '{"resolution": "superseded", "reason": "no list names anybody alike any more"}'
where tenant = $1 and kind = $3 and status = 'open' and detail->>'party' = $2
"""
