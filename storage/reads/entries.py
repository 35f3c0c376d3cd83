"""The entries of an account, in pages, as of the moment at which a walk began.

The time of a posting is that of its decision, and commits do not end in the order in which they were decided: a posting
may appear between two pages, and beside entries that were shown already. A walk that let it in here and not there would
show neither what was there before nor what is there now. So the first page takes the snapshot that it was read in, and
later pages show what that snapshot held and nothing else: all pages of a walk are the account at one moment, and their
sums are those of its counters then. What was committed later is seen by the next walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.walking import EXAMINED_MAX, Filters, Slice, Terms

__all__ = ["HELD", "EntryPlace", "EntryView", "entries"]


class EntryPlace(Struct, frozen=True, array_like=True):
    """The last entry that was looked at, and the snapshot of the first page; without one a page takes its own."""

    at: datetime
    intent: str
    ordinal: int
    snapshot: str | None = None
    taken_at: datetime | None = None


class EntryView(Struct, frozen=True, kw_only=True):
    """One side of a posting: `side` is the account's own, `other` the account on the other side."""

    intent: str
    ordinal: int
    at: datetime
    kind: str
    side: str
    other: str
    currency: str
    pending: int
    posted: int
    hash: bytes
    effective_at: datetime | None = None


async def entries(
    pool: Pool, tenant: str, account_id: str, filters: Filters, *, after: EntryPlace | None = None, limit: int = 25
) -> Slice[EntryView, EntryPlace] | None:
    """Return a page of the account's entries, newest first, or None where there is no such account.

    Filters: `created_from`, `created_before`, `intent` (uuid), `kind`, `side`, `amount_min`, `amount_max` (of what an
    entry moves on either layer). Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        number = await connection.fetchval(
            "select id from accounts where tenant = $1 and account_id = $2", tenant, account_id
        )
        if number is None:
            return None
        place = (
            (None,) * 5 if after is None else (after.at, after.intent, after.ordinal, after.snapshot, after.taken_at)
        )
        loose = {name: value for name, value in filters.items() if name in _LOOSE}
        examined_max = EXAMINED_MAX if loose else limit + 1
        terms = Terms(tenant, number, *place, examined_max)
        terms.filter(_NARROW, {name: value for name, value in filters.items() if name not in loose})
        narrow, kept = terms.text, len(terms.text)
        terms.filter(_LOOSE, loose)
        statement = _ENTRIES.format(narrow=narrow, fits=terms.text[kept:])
        rows = await connection.fetch(statement, *terms.values)
    fitting = [row for row in rows if row["fits"]]
    views = [EntryView(**{name: row[name] for name in _FIELDS}) for row in fitting[:limit]]
    last = fitting[limit - 1] if len(fitting) > limit else rows[-1] if loose and len(rows) == examined_max else None
    return Slice(views, None if last is None else EntryPlace(*(last[name] for name in _PLACE)))


_FIELDS: Final = (
    "intent",
    "ordinal",
    "at",
    "kind",
    "side",
    "other",
    "currency",
    "pending",
    "posted",
    "hash",
    "effective_at",
)
_PLACE: Final = ("at", "intent", "ordinal", "snapshot", "taken_at")
_NARROW: Final[Mapping[str, str]] = {
    "created_from": "at >= {}",
    "created_before": "at < {}",
    "intent": "intent = {}",
}
_LOOSE: Final[Mapping[str, str]] = {
    "kind": "s.kind = {}",
    "side": "s.side = {}",
    "amount_min": "greatest(abs(s.pending), s.posted) >= {}::bigint",
    "amount_max": "greatest(abs(s.pending), s.posted) <= {}::bigint",
}
# Whether the snapshot held the row. Rows carry the low half of the transaction that made them; within an hour the other
# half can only be the snapshot's own or its neighbour. What was decided an hour before the snapshot had been committed
# by then, or never was: no transaction lasts that long.
HELD: Final = """
($6::text is null or at < $7::timestamptz - interval '1 hour' or pg_visible_in_snapshot(
    (pg_snapshot_xmax($6::pg_snapshot)::text::numeric + mod(
        mod(xmin::text::numeric - pg_snapshot_xmax($6::pg_snapshot)::text::numeric, 4294967296) + 6442450944, 4294967296
    ) - 2147483648)::text::xid8, $6::pg_snapshot))"""
"""A condition on a posting, where $6 is a snapshot, or null for the present one, and $7 the time that it was taken."""
_SIDE: Final = """
    (select intent, ordinal, at, kind, '{side}' as side, {other} as opposite, currency, pending, posted, hash,
            effective_at
     from postings
     where {side} = $2 and tenant = $1
        and ($3::timestamptz is null or (at <= $3 and (at, intent, ordinal) < ($3, $4::uuid, $5::int)))
        and {held}{{narrow}}
     order by at desc, intent desc, ordinal desc limit $8)"""
# Each side is read from its own index, newest first and no further than the page.
_ENTRIES: Final = (
    "with sides as ("
    + _SIDE.format(side="debit", other="credit", held=HELD)
    + " union all"
    + _SIDE.format(side="credit", other="debit", held=HELD)
    + """
)
select s.intent, s.ordinal, s.at, s.kind, s.side, a.account_id as other, s.currency, s.pending, s.posted, s.hash,
       s.effective_at,
       coalesce($6::text, pg_current_snapshot()::text) as snapshot, coalesce($7::timestamptz, now()) as taken_at,
       (true{fits}) as fits
from sides s join accounts a on a.id = s.opposite and a.tenant = $1
order by s.at desc, s.intent desc, s.ordinal desc
limit $8
"""
)
