"""Accounts, verified: what their counters say against the sums of their postings, one account after the other.

- Accounts come in the order of their numbers, so that as few are in memory as the caller likes.
- Of all accounts only sums by tenant, currency and type are kept: these have to come out even.
"""

from collections.abc import Callable
from typing import Final

from zentra.runtime.verification.postings import COUNTERS, NOTHING, AccountFacts, Counters, added

__all__ = ["AccountsVerifier", "Differ", "left"]

Differ = Callable[[str, str, str, str, object, object], None]
"""Takes note of a difference: check, tenant, where, what, expected, found."""


def left(facts: AccountFacts, stored: Counters) -> int:
    """Return what can be taken out of an account, without what it may be overdrawn."""
    dp, cp, dq, cq = stored
    return cq - dq - dp if facts.normal_side == "credit" else dq - cq - cp


class AccountsVerifier:
    """Verifies accounts and, at the end, whether all of them together are even."""

    def __init__(self, differ: Differ) -> None:
        self.differ = differ
        self.accounts = 0
        self._excess: dict[tuple[str, str, str], int] = {}

    def account(
        self, facts: AccountFacts, stored: Counters, folded: Counters, held: int | None, opening: Counters = NOTHING,
        forced: int = 0,
    ) -> None:  # fmt: skip
        """Verify an account: `stored` are its counters over all stripes, `folded` the sums of its postings behind the
        point where it stood at `opening`, `held` what its open holds hold, or None where not all of them were seen,
        `forced` by how much it may stand below its floor, because of what was taken from it by force."""
        self.accounts += 1
        expected = added(folded, opening)
        tenant, name = facts.tenant, facts.account_id
        if stored != expected:
            for counter, want, have in zip(COUNTERS, expected, stored, strict=True):
                if want != have:
                    self.differ("balance", tenant, name, counter, want, have)
        if facts.guarded:
            least, found = -facts.overdraft_limit - forced, left(facts, stored)
            if found < least:
                self.differ("floor", tenant, name, "available", f"at least {least}", found)
        if held is not None and held != stored[0]:
            self.differ("holds", tenant, name, "debits_pending", held, stored[0])
        for layer, place in _LAYERS:
            excess = stored[place] - stored[place + 1]
            if excess:
                key = (tenant, facts.currency, layer)
                self._excess[key] = self._excess.get(key, 0) + excess

    def unknown(self, number: int, stored: Counters, folded: Counters) -> None:
        """Note counters or postings of an account that does not exist."""
        for counter, want, have in zip(COUNTERS, folded, stored, strict=True):
            if want or have:
                self.differ("balance", "-", f"account number {number}, which does not exist", counter, want, have)

    def finish(self) -> None:
        """Verify that all accounts together are even."""
        for (tenant, currency, layer), excess in sorted(self._excess.items()):
            if excess:
                self.differ("conservation", tenant, currency, f"debits less credits, {layer}", 0, excess)


_LAYERS: Final = (("pending", 0), ("posted", 2))
