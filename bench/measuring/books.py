"""What a load left in the ledger: the intents that exist, each with the entries that its own content asks for.

Nothing of the product's arithmetic is used: what is expected is drawn again from the number in the key, and compared
with the account names and amounts that are stored, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct, field

from zentra.bench.measuring.load import Load
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.workload import Workload
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Books", "Imbalance", "compare", "read_books", "read_imbalances"]

ROWS_AT_ONCE: Final = 1_000  # of a cursor: a load may have left millions
SHOWN_MAX: Final = 3

_INTENTS: Final = """
select i.key, exists (select from transitions t where t.intent = i.id and t.event = 'ledger.posted'),
    array_remove(array_agg(
        p.kind || ' ' || d.account_id || ' ' || c.account_id || ' ' || p.pending || ' ' || p.posted order by p.ordinal
    ), null)
from intents i left join postings p on p.intent = i.id
    left join accounts d on d.id = p.debit left join accounts c on c.id = p.credit
where starts_with(i.key, $1) group by i.id
"""
_SETTLEMENT: Final = "select account_id from accounts where tenant = $1 and type = 'settlement' and currency = $2"
_IMBALANCES: Final = """
select a.tenant, a.currency, sum(b.debits_posted)::bigint, (sum(b.debits_posted) - sum(b.credits_posted))::bigint,
    sum(b.debits_pending)::bigint, (sum(b.debits_pending) - sum(b.credits_pending))::bigint
from balances b join accounts a on a.id = b.account group by a.tenant, a.currency order by a.tenant, a.currency
"""


class Books(Struct):
    """What there is of one load. `entries_expected` are those that the completed and the refused intents ask for."""

    intents: int = 0
    distinct: Marks = field(default_factory=Marks)  # the numbers of the intents that exist
    unasked: int = 0  # intents whose number the load never had
    completed: int = 0
    entries: int = 0
    entries_expected: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    moved_minor: int = 0
    moved_minor_expected: int = 0
    unlike: list[str] = field(default_factory=list)  # keys whose entries are not theirs: the first few
    unlike_count: int = 0


class Imbalance(Struct, frozen=True):
    """All balances of a tenant in one currency: debits less credits on each layer, and what the debits come to."""

    tenant: str
    currency: str
    posted_minor: int
    posted_imbalance: int
    pending_minor: int
    pending_imbalance: int


async def read_books(pool: Pool, load: Load, tenant: str) -> Books:
    """Return what the load left, every intent compared with what was asked; `tenant` has the settlement account, whose
    name is the same for all. Raises Unavailable."""
    books, workload, sends = Books(), load.workload(), load.sends
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("set local transaction_timeout = 0")
            settlement = await connection.fetchval(_SETTLEMENT, tenant, load.currency)
            async for row in connection.cursor(_INTENTS, f"{load.prefix}-", prefetch=ROWS_AT_ONCE):
                compare(books, workload, settlement, sends, row)
    return books


async def read_imbalances(pool: Pool) -> list[Imbalance]:
    """Return the sums over all balances by tenant and currency; raises Unavailable."""
    with translated():
        return [Imbalance(*row) for row in await pool.fetch(_IMBALANCES)]


def compare(books: Books, workload: Workload, settlement: str, sends: int, row: Iterable[Any]) -> None:
    """Add one intent to the books: its key, whether it completed, and its entries as texts, in order."""
    key, completed, entries = row
    number = int(key.rpartition("-")[2])
    books.intents += 1
    books.distinct.add(number)
    if number >= sends or workload.first(number) != number:
        books.unasked += 1
        return
    body = workload.draw(number).body
    minor, source, destination = body["amount"], body["source"], body["destination"]
    held = f"reserve {source} {settlement} {minor} 0"
    if completed:
        moved = [f"post {source} {settlement} -{minor} {minor}", f"settle {settlement} {destination} 0 {minor}"]
        expected = [held, *moved]
        books.completed += 1
        books.moved_minor_expected += minor
    else:  # nothing was ever held, or it was given back
        expected = [held, f"release {source} {settlement} -{minor} 0"] if entries else []
    books.entries += len(entries)
    books.entries_expected += len(expected)
    for entry in entries:
        kind, *_, posted = entry.split(" ")
        books.by_kind[kind] += 1
        books.moved_minor += int(posted) if kind == "settle" else 0
    if entries != expected:
        books.unlike_count += 1
        if len(books.unlike) < SHOWN_MAX:
            books.unlike.append(f"{key}: {', '.join(entries) or 'none'}")
