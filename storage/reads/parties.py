"""What a tenant may read of its parties: one, a page of them, their history; and the lists that they are held against.

Every read runs under row security and names its tenant as well. Whoever may not see names is given none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from msgspec import Raw, Struct

from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = ["ListView", "PartyChangeView", "PartyPlace", "PartyView", "history", "parties", "party", "screening_lists"]


class PartyPlace(Struct, frozen=True, array_like=True):
    """The last party."""

    created_at: datetime
    party_id: str


class PartyView(Struct, frozen=True, kw_only=True):
    """A party. What says who it is (names, birth, identifiers) is null for whoever may not see names."""

    party_id: str
    kind: str
    legal_name: str | None
    aliases: tuple[str, ...] | None
    born: date | None
    countries: tuple[str, ...]
    identifiers: Raw | None
    kyc_state: str
    kyc_expires_at: datetime | None
    screening_state: str
    screened_at: datetime | None
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime


class PartyChangeView(Struct, frozen=True, kw_only=True):
    """One change of a party: what, from what to what, by whom and why; without names."""

    number: int
    what: str
    before: str | None
    after: str
    actor: str
    reason: str
    detail: Raw
    at: datetime


class ListView(Struct, frozen=True, kw_only=True):
    """The active version of a list."""

    name: str
    version: int
    digest: str
    fetched_at: datetime
    loaded_at: datetime
    entries: int
    names: int


async def party(pool: Pool, tenant: str, party_id: str, *, names: bool) -> PartyView | None:
    """Return one party, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(
            f"select {_PARTY} from parties where tenant = $1 and party_id = $2",  # noqa: S608
            tenant,
            party_id,
        )
    return None if row is None else _view(dict(row), names)


async def parties(
    pool: Pool, tenant: str, filters: Filters, *, after: PartyPlace | None, limit: int, names: bool
) -> Slice[PartyView, PartyPlace]:
    """Return a page of the tenant's parties, the newest first.

    Filters: `created_from`, `created_before`, `kind`, `kyc_state`, `screening_state`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="parties", columns=_PARTY, order=_ORDER, known=_FILTERS, filters=filters,
            after=None if after is None else (after.created_at, after.party_id), limit=limit,
        )  # fmt: skip
    return Slice([_view(dict(row), names) for row in rows], None if end is None else PartyPlace(*end))


async def history(pool: Pool, tenant: str, party_id: str) -> list[PartyChangeView] | None:
    """Return the changes of a party, the latest first, at most a thousand; None where there is no such party."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_CHANGES, tenant, party_id)
    if not rows:
        return None
    return [PartyChangeView(**{**row, "detail": Raw(row["detail"].encode())}) for row in rows]


async def screening_lists(pool: Pool, tenant: str) -> list[ListView]:
    """Return the active lists of the installation by name; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select name, version, digest, fetched_at, loaded_at, entries, names from screening_lists"
            " where status = 'active' order by name"
        )
    return [ListView(**row) for row in rows]


def _view(fields: dict[str, Any], names: bool) -> PartyView:
    if not names:
        hidden = dict.fromkeys(("legal_name", "aliases", "born", "identifiers"))
        return PartyView(**{**fields, **hidden, "countries": tuple(fields["countries"])})
    shown = {name: tuple(fields[name]) for name in ("aliases", "countries")}
    return PartyView(**{**fields, **shown, "identifiers": Raw(fields["identifiers"].encode())})


_PARTY: Final = (
    "party_id, kind, legal_name, aliases, born, countries, identifiers, kyc_state, kyc_expires_at, screening_state,"
    " screened_at, version, created_by, created_at, updated_at"
)
_ORDER: Final = {"created_at": "timestamptz", "party_id": "text"}
_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "created_at >= {}",
    "created_before": "created_at < {}",
    "kind": "kind = {}",
    "kyc_state": "kyc_state = {}",
    "screening_state": "screening_state = {}",
}
_CHANGES: Final = """
select number, what, before, after, actor, reason, detail, at from party_changes
where tenant = $1 and party_id = $2 order by number desc limit 1000
"""
