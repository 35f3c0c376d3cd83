"""What force has left an account owing: by how much it may stand below its floor, and no longer than until it is paid.

Force takes an account below its floor, once, by what was forced. Money that comes in pays that back, and nothing else
may take it down again: an account that has recovered has the floor of any other."""

from msgspec import Struct

__all__ = ["OwedByForce"]


class OwedByForce(Struct):
    """The fold of an account's postings, in the order of their times: `limit` is its overdraft limit, `left` what can
    be taken out of it, `owed` by how much that may be below the limit."""

    limit: int
    left: int = 0
    owed: int = 0

    def take(self, change: int, *, forced: bool) -> None:
        """Take a posting that changes what can be taken out."""
        self.left += change
        if forced:
            self.owed -= change
        if forced or change > 0:
            self.owed = min(self.owed, max(-self.limit - self.left, 0))
