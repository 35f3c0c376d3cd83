"""What a version of a policy would have said of past intents.

Past decisions are taken in the order of their times. One that was made under the very version that is tested is made
again from its recorded inputs, and has to be the same. Any other is made on the fields as they were recorded, and on
windows that are counted anew: every intent that was accepted then counts from its time on, and no more from the time
when it failed, whatever the tested version says of it. So each answer is what this version would have said at that
moment of the same history; windows begin empty where the test begins."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from zentra.runtime.intents.facts import Judged, Seen, VelocityUse
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy.decision import (
    NO_SCORERS,
    Gathered,
    decide,
    evaluate,
    gather,
    velocity_keys,
)  # fmt: skip
from zentra.runtime.policy.fields import RISK_SCORE, Subject
from zentra.runtime.policy.people import demanded, with_people
from zentra.runtime.policy.program import program_of
from zentra.runtime.policy.replay import Past, again, same
from zentra.runtime.policy.rules import PolicyRules, is_plain
from zentra.runtime.policy.scoring import Scorer
from zentra.runtime.policy.windows import Usage, VelocityKey, add

__all__ = ["Backtest", "BacktestReport", "Changed"]

_Accounts = dict[str, dict[str, str | int | bool | None]] | UnsetType
CHANGED_MAX: Final = 100  # shown; all are counted
_OF_THE_MOMENT: Final = frozenset({"hour", "weekday", RISK_SCORE, "source.type"})  # made anew under the tested version


class Changed(Struct, frozen=True):
    """A decision that the tested version would have made another way."""

    intent_id: str
    at: str
    was: str
    was_reasons: tuple[str, ...]
    would_be: str
    reasons: tuple[str, ...]


class BacktestReport(Struct, frozen=True):
    """What a backtest has found. `identical` counts decisions of the tested version that came out the same, `different`
    those that did not, which must be none."""

    version: int
    decisions: int
    was: dict[str, int]
    would_be: dict[str, int]
    changed: int
    reasons: dict[str, int]
    identical: int
    different: int
    examples: tuple[Changed, ...]


class Backtest:
    """One run: take decisions in order of time, then look at the report."""

    def __init__(
        self,
        rules: PolicyRules,
        accounts: Mapping[str, AccountRef],
        scorers: Mapping[str, Scorer] = NO_SCORERS,
    ) -> None:
        """`accounts` are those of the tenant that the intents name, by their id."""
        self._rules, self._accounts, self._scorers = rules, accounts, scorers
        self._usage: dict[VelocityKey, Usage] = {}
        self._ends: list[tuple[str, int, Callable[[], None]]] = []  # what is given back, by time
        self._was: Counter[str] = Counter()
        self._would_be: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._changed: list[Changed] = []
        self._count = self._identical = self._different = self._changes = 0

    def take(self, past: Past, failed_at: str | None = None) -> Judged:
        """Return what the tested version says of a decision; `failed_at` is when an accepted intent gave back."""
        while self._ends and self._ends[0][0] <= past.at:
            heapq.heappop(self._ends)[2]()
        made = self._made(past)
        self._count += 1
        self._was[past.judged.outcome] += 1
        self._would_be[made.outcome] += 1
        if (made.outcome, made.reasons) != (past.judged.outcome, tuple(past.judged.reasons)):
            self._changes += 1
            for reason in made.reasons or ("accepted",):
                self._reasons[reason] += 1
            if len(self._changed) < CHANGED_MAX:
                self._changed.append(
                    Changed(
                        past.intent_id, past.at, past.judged.outcome, tuple(past.judged.reasons), made.outcome,
                        made.reasons,
                    )
                )  # fmt: skip
        if past.judged.outcome == "accepted":
            self._counted(past, failed_at)
        return made

    def report(self) -> BacktestReport:
        """Return what was found so far."""
        return BacktestReport(
            self._rules.version, self._count, dict(self._was), dict(self._would_be), self._changes,
            dict(self._reasons.most_common()), self._identical, self._different, tuple(self._changed),
        )  # fmt: skip

    def _made(self, past: Past) -> Judged:
        rules = self._rules
        source = self._accounts.get(past.command.source)
        if past.judged.version == rules.version:
            made = again(past, rules, source_type=None if source is None else source.type, scorers=self._scorers)
            if same(past.judged, made):
                self._identical += 1
            else:
                self._different += 1
            return made
        now = _time_of(past)
        for key in self._keys(past, now):
            self._usage.setdefault(key, Usage())
        if is_plain(rules):
            made = decide(
                rules, past.command, tenant=past.tenant, role=past.role, source=source, usage=self._usage,
                day=now.date().isoformat(), waives=past.waives,
            )  # fmt: skip
        else:
            made = evaluate(program_of(rules), self._gathered(past, now, source), self._scorers)
        known = demanded(past.judged.diligence, rules.compliance)
        return made if known is None else with_people(made, known, past.waives)

    def _gathered(self, past: Past, now: datetime, source: AccountRef | None) -> Gathered:
        """Gather as it was then: what the decision has kept of its fields is taken from it."""
        program, command = program_of(self._rules), past.command
        destination = self._accounts.get(command.destination)
        legs = (
            None if command.legs is UNSET else [name for leg in command.legs for name in (leg.source, leg.destination)]
        )
        accounts = None if legs is None else {name: self._accounts.get(name) for name in legs}
        subject = Subject(command, past.role, past.principal, source, destination, now, program.zone, accounts)
        gathered = gather(program, subject, past.tenant, self._usage, past.waives)
        if not isinstance(past.judged.seen, Seen):
            return gathered
        seen = gathered.inputs.seen
        known: dict[str, Any] = {
            name: value
            for name, value in past.judged.seen.fields.items()
            if name in seen.fields and name not in _OF_THE_MOMENT
        }
        accounts_seen = _recorded(seen.accounts, past.judged.seen.accounts)
        seen = replace(seen, fields={**seen.fields, **known}, accounts=accounts_seen)
        return replace(gathered, inputs=replace(gathered.inputs, seen=seen))

    def _keys(self, past: Past, now: datetime) -> tuple[VelocityKey, ...]:
        return velocity_keys(self._rules, past.tenant, past.command, now.date().isoformat(), now)

    def _counted(self, past: Past, failed_at: str | None) -> None:
        """Count an accepted intent in the windows of the tested version, and give it back when it has failed."""
        now, minor = _time_of(past), past.command.amount
        keys = self._keys(past, now)
        for key in keys:
            self._usage.setdefault(key, Usage())
        uses: list[tuple[VelocityKey, VelocityUse]] = []
        if is_plain(self._rules):
            uses = [(key, VelocityUse(key.counter, key.day)) for key in keys]
        elif keys:
            source = self._accounts.get(past.command.source)
            uses = list(self._gathered(past, now, source).uses.items())

        def move(sign: int) -> None:
            for key, use in uses:
                usage = self._usage[key]
                if use.bucket is not UNSET:
                    add(usage, key.counter, use.bucket, sign, sign * minor)
                else:
                    usage.count += sign
                    usage.minor += sign * minor

        move(1)
        if failed_at is not None and uses:
            heapq.heappush(self._ends, (failed_at, self._count, lambda: move(-1)))


def _recorded(made: _Accounts, recorded: _Accounts) -> _Accounts:
    """Return what is known of the accounts of legs, as it was recorded where it was."""
    if made is UNSET or recorded is UNSET:
        return made
    return {
        name: {part: recorded.get(name, {}).get(part, value) for part, value in told.items()}
        for name, told in made.items()
    }


def _time_of(past: Past) -> datetime:
    """Return the time that a decision was made at."""
    seen = past.judged.seen
    at = seen.at if isinstance(seen, Seen) and len(seen.at) > len("2026-01-01") else past.at
    return datetime.fromisoformat(at)
