"""The audit of a whole installation: the invariants that the store can be asked for, in one snapshot.

Everything is recomputed from immutable rows: balances from postings, chains from records. Nothing is repaired. The
letters are those of the domain's list; a clean audit is an empty list."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.intents.vocabulary import SETTLED
from zentra.runtime.ledger.invariants import Breach
from zentra.storage.pool import Connection, Pool, transaction
from zentra.storage.verification.forced import owed_by_force

__all__ = ["Audit", "audit_installation"]

CHUNK: Final = 5_000  # rows per round trip of the chain walk
SHOWN_MAX: Final = 20  # breaches named per invariant; the count says how many there are

# Each query returns (where, detail) rows; a row is a breach.
_QUERIES: Final[Mapping[str, tuple[str, str]]] = {
    "paired": (
        "A",
        """
        select p.intent::text || '/' || p.ordinal, 'between accounts of other tenants or currencies'
        from postings p join accounts d on d.id = p.debit join accounts c on c.id = p.credit
        where d.tenant <> p.tenant or c.tenant <> p.tenant or d.currency <> p.currency or c.currency <> p.currency
        """,
    ),
    "conserved": (
        "A",
        """
        select a.tenant || ' ' || a.currency, 'debits exceed credits by ' || sum(b.debits_posted - b.credits_posted)
            || ' posted, ' || sum(b.debits_pending - b.credits_pending) || ' pending'
        from balances b join accounts a on a.id = b.account group by a.tenant, a.currency
        having sum(b.debits_posted - b.credits_posted) <> 0 or sum(b.debits_pending - b.credits_pending) <> 0
        """,
    ),
    "folded": (
        "B",
        """
        with sides as (
            select debit as account, pending as dp, posted as dq, 0::bigint as cp, 0::bigint as cq from postings
            union all select credit, 0, 0, pending, posted from postings
        ), folded as (
            select account, sum(dp) as dp, sum(dq) as dq, sum(cp) as cp, sum(cq) as cq from sides group by account
        ), held as (
            select account, sum(debits_pending) as dp, sum(debits_posted) as dq, sum(credits_pending) as cp,
                sum(credits_posted) as cq from balances group by account
        )
        select a.tenant || ' ' || a.account_id, 'counters differ from the fold of the postings'
        from accounts a left join folded f on f.account = a.id left join held h on h.account = a.id
        where (coalesce(f.dp, 0), coalesce(f.dq, 0), coalesce(f.cp, 0), coalesce(f.cq, 0))
            <> (coalesce(h.dp, 0), coalesce(h.dq, 0), coalesce(h.cp, 0), coalesce(h.cq, 0))
        """,
    ),
    "holds": (
        "D",
        """
        select p.intent::text, 'settled with ' || sum(p.pending) || ' still pending'
        from postings p
        where (select t.state from transitions t where t.intent = p.intent order by t.sequence desc limit 1) = any($1)
        group by p.intent having sum(p.pending) <> 0
        """,
    ),
    "held_once": (  # a hold may be captured several times, but its rest is released once, and nothing after nothing
        "E",
        """
        select p.intent::text, count(*) filter (where p.pending > 0) || ' holds, '
            || count(*) filter (where p.pending < 0) || ' endings, ' || sum(p.pending) || ' left'
        from postings p left join holds h on h.intent = p.intent
        group by p.intent, h.intent, starts_with(p.kind, 'fee')
        having count(*) filter (where p.pending > 0) > 1 or sum(p.pending) < 0
            or count(*) filter (where p.pending < 0 and (h.intent is null or p.kind = 'release')) > 1
        """,
    ),
    "projected": (
        "D",
        """
        select h.intent::text, 'is ' || h.status || ' with ' || h.remaining || ' of ' || h.minor || ', the ledger says '
            || p.held || ' held and ' || p.posted || ' posted, its intent is ' || coalesce(t.state, 'nowhere')
        from holds h
        cross join lateral (select coalesce(sum(pending), 0) as held,
            coalesce(sum(posted) filter (where kind = 'post'), 0) as posted,
            coalesce(max(pending) filter (where kind = 'reserve'), 0) as reserved,
            coalesce(max(debit) filter (where kind = 'reserve'), 0) as account
            from postings where intent = h.intent) p
        left join lateral (select state from transitions where intent = h.intent order by sequence desc limit 1) t
            on true
        where (h.remaining, h.captured, h.minor, h.account) <> (p.held, p.posted, p.reserved, p.account)
            or (h.status = 'open') is distinct from (t.state = 'PROCESSING/held')
        union all
        select t.intent::text, 'is held and no hold stands for it' from transitions t
        where t.state = 'PROCESSING/held' and not exists (select from holds h where h.intent = t.intent)
        """,
    ),
    "expired_in_time": (
        "K",
        """
        select h.intent::text, t.event || ' at ' || t.at || ', its time is over at ' || h.expires_at
        from holds h join transitions t on t.intent = h.intent
        where (t.event in ('hold.captured', 'hold.voided') and t.at >= h.expires_at)
            or (t.event = 'hold.expired' and t.at < h.expires_at)
        union all
        select h.intent::text, 'placed at ' || h.placed_at || ' until ' || h.expires_at || ', its records say otherwise'
        from holds h
        join transitions first on first.intent = h.intent and first.sequence = 1
        join transitions placed on placed.intent = h.intent and placed.event = 'ledger.reserved'
        cross join lateral (select make_interval(secs => (convert_from(first.record, 'UTF8')::jsonb
            #>> '{facts,command,hold,expires_in_seconds}')::float8) as lasts) said
        where h.placed_at <> placed.at or h.expires_at <> placed.at + said.lasts
        """,
    ),
    "one_effect": (
        "G",
        """
        select tenant || ' ' || key, count(*) || ' intents' from intents group by tenant, key having count(*) > 1
        """,
    ),
    "reversed_once": (  # of what went from one account to another, no more comes back that way
        "L",
        """
        with ways as (
            select intent, debit, credit, posted from postings
            where posted <> 0 and kind not in ('reversal', 'forced_reversal', 'fee_refund')
            union all select intent, credit, debit, -posted from postings
            where kind in ('reversal', 'forced_reversal', 'fee_refund')
        )
        select intent::text, 'more given back than was posted' from ways
        group by intent, debit, credit having sum(posted) < 0
        """,
    ),
    "fees_apart": (
        "A",
        """
        select p.intent::text || '/' || p.ordinal, 'a ' || p.kind || ' on ' || a.account_id || ', which takes no fees'
        from postings p join accounts a on a.id = case p.kind when 'fee_refund' then p.debit else p.credit end
        where p.kind in ('fee', 'fee_reserve', 'fee_release', 'fee_refund') and a.type <> 'fee'
        """,
    ),
    "fees_refunded": (
        "L",
        """
        select intent::text, 'more fees given back than were charged' from postings where starts_with(kind, 'fee')
        group by intent having coalesce(sum(posted) filter (where kind = 'fee_refund'), 0)
            > coalesce(sum(posted) filter (where kind = 'fee'), 0)
        """,
    ),
    "versions": (
        "P",
        """
        select i.id::text, count(t.sequence) || ' records up to ' || coalesce(max(t.sequence), 0)
        from intents i left join transitions t on t.intent = i.id
        group by i.id having count(t.sequence) <> coalesce(max(t.sequence), 0) or count(t.sequence) = 0
        """,
    ),
    "logged": (
        "S",
        """
        select t.intent::text, 'sealed ' || count(*) || ' times, logged ' ||
            (select count(*) from log_leaves l where l.intent = t.intent)
        from transitions t where t.event in ('review.closed', 'evidence.amended') group by t.intent
        having count(*) < (select count(*) from log_leaves l where l.intent = t.intent)
        """,
    ),
}
_BELOW: Final = """
select a.id, a.tenant || ' ' || a.account_id, a.normal_side, a.overdraft_limit, -a.overdraft_limit - case a.normal_side
    when 'credit' then b.credits_posted - b.debits_posted - b.debits_pending
    else b.debits_posted - b.credits_posted - b.credits_pending end as below
from accounts a join balances b on b.account = a.id
where a.guarded and -a.overdraft_limit > case a.normal_side
    when 'credit' then b.credits_posted - b.debits_posted - b.debits_pending
    else b.debits_posted - b.credits_posted - b.credits_pending end
order by a.id
"""
_CHAIN: Final = """
select intent, sequence, record, hash from transitions where (intent, sequence) > ($1, $2)
order by intent, sequence limit $3
"""


class Audit(Struct, frozen=True):
    """What an audit found and how much it looked at."""

    breaches: tuple[Breach, ...]
    intents: int
    postings: int
    records: int
    unsettled: int

    @property
    def clean(self) -> bool:
        """Return whether no invariant is broken."""
        return not self.breaches


async def audit_installation(pool: Pool) -> Audit:
    """Return the audit of everything in the store, as of one moment.

    `pool` needs a role that sees every tenant. Raises Unavailable where the store cannot answer."""
    breaches: list[Breach] = []
    async with transaction(pool) as connection:
        await connection.execute("set transaction isolation level repeatable read, read only")
        await connection.execute("set local transaction_timeout = 0")
        settled = [str(state) for state in SETTLED]
        for letter, query in _QUERIES.values():
            rows = await connection.fetch(query, *([settled] if "$1" in query else []))
            breaches += [Breach(letter, row[0], row[1]) for row in rows[:SHOWN_MAX]]
            if len(rows) > SHOWN_MAX:
                breaches.append(Breach(letter, "and more", f"{len(rows)} in all"))
        await _look_below(connection, breaches)
        records = await _walk_chains(connection, breaches)
        intents, postings, unsettled = await _count(connection, settled)
    return Audit(tuple(breaches), intents, postings, records, unsettled)


async def _look_below(connection: Connection, breaches: list[Breach]) -> None:
    """C: no account with a floor stands below it, but by what force has left it owing."""
    found = 0
    for account, name, normal_side, limit, below in await connection.fetch(_BELOW):
        owed = await owed_by_force(connection, account, normal_side, limit)
        if below > owed:
            found += 1
            if found <= SHOWN_MAX:
                breaches.append(Breach("C", name, f"stands below its floor by {below}, of which {owed} by force"))
    if found > SHOWN_MAX:
        breaches.append(Breach("C", "and more", f"{found} in all"))


async def _count(connection: Connection, settled: list[str]) -> tuple[int, int, int]:
    row = await connection.fetchrow(
        """
        select (select count(*) from intents), (select count(*) from postings),
            (select count(*) from intents i where not exists (
                select from transitions t where t.intent = i.id and t.state = any($1)))
        """,
        settled,
    )
    return (row[0], row[1], row[2]) if row is not None else (0, 0, 0)


async def _walk_chains(connection: Connection, breaches: list[Breach]) -> int:
    """S: recompute every hash from the record before it; return how many records there are."""
    at: tuple[str, int] = ("0" * 32, 0)
    previous = GENESIS
    count = broken = 0
    while rows := await connection.fetch(_CHAIN, *at, CHUNK):
        for intent, sequence, record, link in rows:
            if intent != at[0]:
                previous = GENESIS
            previous = chain(previous, record)
            if previous != link:
                broken += 1
                if broken <= SHOWN_MAX:
                    breaches.append(
                        Breach("S", f"{intent} record {sequence}", "the hash does not follow from the record")
                    )
                previous = link
            at = (intent, sequence)
        count += len(rows)
    return count
