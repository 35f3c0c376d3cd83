"""What a worker believes the store to hold: the balances and counters that its own ticks have left behind.

A belief is never the ground of a commit. A tick that was decided on beliefs is committed only where the locked rows
prove that every decision stands; else it is decided again under the locks. So what follows a commit is decided while
that commit is on its way, and rows are locked only for as long as it takes to add to them. Whoever shares its accounts
with other workers is deceived all the time, and stops believing for a while."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.structs import astuple

from zentra.runtime.ledger.book import AccountRef, Balance, available
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan

__all__ = ["Beliefs", "Believed"]

BELIEFS_MAX: Final = 200_000  # balances, and as many counters: some 30 MiB
DOUBTING_TICKS: Final = 16  # half a second under load

NOTHING: Final = Balance()
UNCORRECTED: Final[Mapping[int, Balance]] = {}


class Believed(NamedTuple):
    """What a draft stands on: balances of accounts with a floor by account id, and counters by key."""

    balances: dict[int, Balance]
    usage: dict[VelocityKey, Usage]
    corrected: Mapping[int, Balance]  # what these balances had been corrected by until then, since the era began
    era: int


class Beliefs:
    """The last known balances and counters of one worker. What it hands out is not changed by anybody."""

    def __init__(self) -> None:
        self._balances: dict[int, Balance] = {}
        self._usage: dict[VelocityKey, Usage] = {}
        self._corrected: dict[int, Balance] = {}  # all that was ever added to a balance by `correct`, in this era
        self._era = 0  # ends when everything is forgotten
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
        corrected = UNCORRECTED
        if known := self._corrected:
            corrected = {ref.id: known[ref.id] for ref in plan.accounts if ref.id in known}
        return Believed(balances, usage, corrected, self._era)

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
        if max(len(self._balances), len(self._usage), len(self._corrected)) > BELIEFS_MAX:
            self._balances.clear()
            self._usage.clear()
            self._corrected = {}
            self._era += 1
        self._balances.update(balances)
        self._usage.update(usage)

    def correct(self, believed: Believed, actual: Mapping[int, Balance]) -> None:
        """Take in what others have added since a draft was made on what was `believed`.

        Another draft that was on its way at the same time may have found it before: that was taken in already."""
        if believed.era != self._era:  # nobody knows what was taken in since
            return
        corrected = self._corrected
        for key, found in actual.items():
            before, then, by_now = believed.balances[key], believed.corrected.get(key), corrected.get(key)
            now = self._balances.get(key)
            if now is None or (found == before and by_now is then):
                continue
            sums = zip(
                astuple(found), astuple(before), astuple(by_now or NOTHING), astuple(then or NOTHING), strict=True
            )
            missed = [is_ - was - (known - known_then) for is_, was, known, known_then in sums]
            if any(missed):
                self._balances[key] = _plus(now, missed)
                corrected[key] = _plus(by_now or NOTHING, missed)

    def deceived(self) -> None:
        """Believe nothing for a while: somebody else writes to the same rows."""
        self._doubting = DOUBTING_TICKS

    def forget(self, plan: TickPlan) -> None:
        """Believe nothing of what a tick was to leave behind that was not committed."""
        for ref in plan.accounts:
            self._balances.pop(ref.id, None)
        for key in plan.velocity:
            self._usage.pop(key, None)


def _plus(balance: Balance, counters: list[int]) -> Balance:
    return Balance(*[stands + added for stands, added in zip(astuple(balance), counters, strict=True)])
