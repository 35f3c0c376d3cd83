"""What a worker believes the store to hold: the balances and counters that its own ticks have left behind.

A belief is never the ground of a commit. A tick that was decided on beliefs is committed only where the locked rows
prove every one of them true; else it is decided again under the locks. So what follows a commit can be decided while
that commit is on its way, and rows are locked only for as long as it takes to add to them. Whoever shares its accounts
with other workers is deceived all the time, and stops believing for a while."""

from typing import Final

from zentra.runtime.ledger.book import Balance
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import TickPlan

__all__ = ["Beliefs", "Believed"]

BELIEFS_MAX: Final = 200_000  # balances, and as many counters: some 30 MiB
DOUBTING_TICKS: Final = 64  # about what a second holds under load

Believed = tuple[dict[int, Balance], dict[VelocityKey, Usage]]
"""Balances of accounts with a floor by account id, and counters by key."""


class Beliefs:
    """The last known balances and counters of one worker. What it hands out is not changed by anybody."""

    def __init__(self) -> None:
        self._balances: dict[int, Balance] = {}
        self._usage: dict[VelocityKey, Usage] = {}
        self._doubting = 0

    def on(self, plan: TickPlan) -> Believed | None:
        """Return what the rows that `plan` locks are believed to hold, or None where one is not known or doubted."""
        if self._doubting:
            self._doubting -= 1
            return None
        return self._of(plan)

    def knows(self, plan: TickPlan) -> bool:
        """Return whether `on` would return something."""
        return not self._doubting and self._of(plan) is not None

    def _of(self, plan: TickPlan) -> Believed | None:
        balances, usage = self._balances, self._usage
        try:
            return {ref.id: balances[ref.id] for ref in plan.accounts if ref.guarded}, {
                k: usage[k] for k in plan.velocity
            }
        except KeyError:
            return None

    def follow(self, balances: dict[int, Balance], usage: dict[VelocityKey, Usage]) -> None:
        """Believe what a tick was decided to leave behind."""
        if len(self._balances) > BELIEFS_MAX or len(self._usage) > BELIEFS_MAX:
            self._balances.clear()
            self._usage.clear()
        self._balances.update(balances)
        self._usage.update(usage)

    def deceived(self) -> None:
        """Believe nothing for a while: somebody else writes to the same rows."""
        self._doubting = DOUBTING_TICKS

    def forget(self, plan: TickPlan) -> None:
        """Believe nothing of what a tick was to leave behind that was not committed."""
        for ref in plan.accounts:
            self._balances.pop(ref.id, None)
        for key in plan.velocity:
            self._usage.pop(key, None)
