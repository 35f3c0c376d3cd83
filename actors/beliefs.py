"""What a worker believes the store to hold: the balances and counters that its own ticks have left behind.

A belief is never the ground of a commit. A tick that was decided on beliefs is committed only where the locked rows
prove that every decision stands; else it is decided again under the locks. So what follows a commit is decided while
that commit is on its way, and rows are locked only for as long as it takes to add to them. Whoever shares its accounts
with other workers is deceived all the time, and stops believing for a while."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import astuple

from zentra.runtime.ledger.book import AccountRef, Balance, available
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan

__all__ = ["Beliefs", "Believed"]

BELIEFS_MAX: Final = 200_000  # balances, and as many counters: some 30 MiB
DOUBTING_TICKS: Final = 16  # half a second under load

Believed = tuple[dict[int, Balance], dict[VelocityKey, Usage]]
"""Balances of accounts with a floor by account id, and counters by key."""


class Beliefs:
    """The last known balances and counters of one worker. What it hands out is not changed by anybody."""

    def __init__(self) -> None:
        self._balances: dict[int, Balance] = {}
        self._usage: dict[VelocityKey, Usage] = {}
        self._doubting = 0

    def unknown(self, plan: TickPlan) -> tuple[tuple[VelocityKey, ...], tuple[AccountRef, ...]]:
        """Return the counters and accounts of a plan that have to be read before anything can be believed of it."""
        if self._doubting:
            return (), ()
        balances, usage = self._balances, self._usage
        accounts = tuple([ref for ref in plan.accounts if ref.guarded and ref.id not in balances])
        return tuple([key for key in plan.velocity if key not in usage]), accounts

    def on(self, plan: TickPlan, ground: Ground) -> Believed | None:
        """Return what the rows that `plan` locks are believed to hold, or what they have just been seen to hold; None
        where that is doubted, or something was not looked at."""
        if self._doubting:
            self._doubting -= 1
            return None
        balances, usage = {**ground.balances}, {**ground.usage}
        try:
            for ref in plan.accounts:
                if ref.guarded:
                    balances[ref.id] = self._balances.get(ref.id) or balances[ref.id]
            for key in plan.velocity:
                usage[key] = self._usage.get(key) or usage[key]
        except KeyError:  # forgotten since
            return None
        return balances, usage

    def affords(self, ref: AccountRef, minor: int) -> bool:
        """Return whether an account is believed to hold what is to be taken from it."""
        balance = self._balances.get(ref.id)
        if self._doubting or balance is None:
            return not ref.guarded
        return available(ref, balance) + ref.overdraft_limit >= minor

    @property
    def doubted(self) -> bool:
        """Return whether nothing is believed now."""
        return self._doubting > 0

    def follow(self, balances: dict[int, Balance], usage: dict[VelocityKey, Usage]) -> None:
        """Believe what a tick was decided to leave behind."""
        if len(self._balances) > BELIEFS_MAX or len(self._usage) > BELIEFS_MAX:
            self._balances.clear()
            self._usage.clear()
        self._balances.update(balances)
        self._usage.update(usage)

    def correct(self, believed: Mapping[int, Balance], actual: Mapping[int, Balance]) -> None:
        """Take in what others have added meanwhile."""
        for key, found in actual.items():
            before, now = believed[key], self._balances.get(key)
            if found != before and now is not None:
                counters = zip(astuple(now), astuple(found), astuple(before), strict=True)
                self._balances[key] = Balance(*[stands + is_ - was for stands, is_, was in counters])

    def deceived(self) -> None:
        """Believe nothing for a while: somebody else writes to the same rows."""
        self._doubting = DOUBTING_TICKS

    def forget(self, plan: TickPlan) -> None:
        """Believe nothing of what a tick was to leave behind that was not committed."""
        for ref in plan.accounts:
            self._balances.pop(ref.id, None)
        for key in plan.velocity:
            self._usage.pop(key, None)
