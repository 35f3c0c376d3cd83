"""Reading what force has left an account owing."""

from typing import Final

from zentra.runtime.verification.forced import OwedByForce
from zentra.storage.pool import Connection

__all__ = ["owed_by_force"]

# Workers commit in another order than their clocks say, by less than the minute after which a balance is final. So what
# was forced comes last of its minute: then an order that may have been is never taken for one that cannot.
_CHANGES: Final = """
select change, forced from (
    select at, kind = 'forced_reversal' as forced,
        case when (debit = $1) = ($2 = 'credit') then -posted - pending else posted end as change
    from postings where debit = $1 or credit = $1
) changes
order by at + case when forced then interval '60 seconds' else interval '0' end, forced, change desc
"""


async def owed_by_force(connection: Connection, account: int, normal_side: str, overdraft_limit: int) -> int:
    """Return by how much an account with a floor may stand below it; `connection` is in a transaction."""
    owed = OwedByForce(overdraft_limit)
    async for change, forced in connection.cursor(_CHANGES, account, normal_side, prefetch=5_000):
        owed.take(change, forced=forced)
    return owed.owed
