"""One decision: the rules of a tenant in one version, over one intent and the counters that it touches.

    standard rules   scopes, source, limits: one table, in order
    windows          what a velocity window may hold
    rules            the tenant's own conditions, in the order of the document
    risk             the score, against its thresholds

Every rule answers, and the worst answer is the outcome (denied before review before accepted), so a decision names all
that spoke against it. An allow rule takes back the reviews that it names, and never a denial. A decision is a function
of its inputs alone: the same inputs and version give the same decision, at any time.

What cannot be evaluated never helps an intent: a rule without an answer counts as if it had matched, an allow without
one allows nothing, a figure that nobody knows denies, and rules that cannot be read deny everything."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from msgspec import UNSET, Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, Seen, VelocityUse
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import SYSTEM_ACCOUNT_TYPES
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy.fields import RISK_SCORE, Subject
from zentra.runtime.policy.program import Program, program_of
from zentra.runtime.policy.rules import Limits, PolicyRules, Risk, WindowLimits, is_plain
from zentra.runtime.policy.scoring import DEFAULT_SCORER, RiskFacts, Scorer, default_score, score_of
from zentra.runtime.policy.windows import Usage, VelocityKey, bucket_at, counter_of, counts, day_of, used

__all__ = ["DAILY", "STANDARD_RULES", "Inputs", "Judging", "decide", "decide_again", "velocity_keys"]

DAILY: Final = "limits.daily"  # what the daily limits count is called where figures are named
SOURCE_TYPE: Final = "source.type"
NO_LIMITS: Final = Limits()
NO_SCORERS: Final[Mapping[str, Scorer]] = {}
_LANES: Final = {"accepted": "straight_through", "review": "manual", "denied": "blocked"}
_OUTCOMES: Final = {"deny": "denied", "review": "review"}

Objection = tuple[str, str]
"""What a rule says against a case: review or denied, and the reason."""


class Judging(Struct, frozen=True, gc=False):
    """What only conditions, windows and risk look at."""

    now: datetime
    principal: str
    destination: AccountRef | None
    scorers: Mapping[str, Scorer] = NO_SCORERS


class Inputs(Struct, frozen=True, gc=False):
    """Everything that a decision under conditions rests on, by value: its canonical bytes are what the digest covers."""

    command: IntentCommand
    principal: str
    role: str
    seen: Seen
    tenant: str
    version: int
    waives: tuple[str, ...]


class _Case(Struct, frozen=True, gc=False):
    command: IntentCommand
    minor: int
    role: str
    source_type: str | None
    limits: Limits
    rules: PolicyRules
    usage: Usage
    booked: bool


class _Seen(Struct, frozen=True, gc=False):
    """What a decision under the standard rules has seen, in canonical order: its digest stands in the decision."""

    command: IntentCommand
    day: str
    role: str
    source: str | None
    tenant: str
    usage: list[tuple[str, str] | None]
    version: int
    waives: tuple[str, ...]


def velocity_keys(
    rules: PolicyRules, tenant: str, command: IntentCommand, day: str, now: datetime | None = None
) -> tuple[VelocityKey, ...]:
    """Return the counters that a decision on `command` has to lock; `now` is needed where rules have windows."""
    limits = _limits(rules, command.currency)
    keys: tuple[VelocityKey, ...] = ()
    if command.kind != "book_transfer" and not (limits.daily_minor_max is None and limits.daily_count_max is None):
        keys = (VelocityKey(tenant, f"account/{command.source}", day, command.currency),)
    if now is None or is_plain(rules):
        return keys
    return tuple(dict.fromkeys((*keys, *_window_keys(program_of(rules), tenant, command, now).values())))


def decide(
    rules: PolicyRules,
    command: IntentCommand,
    *,
    tenant: str,
    role: str,
    source: AccountRef | None,
    usage: Mapping[VelocityKey, Usage],
    day: str,
    waives: tuple[str, ...] = (),
    judging: Judging | None = None,
) -> Judged:
    """Return the decision on `command`.

    `usage` holds what the counters of `velocity_keys` had counted; a missing one denies. `waives` are rules that a
    person approved for this intent: their review becomes `waived`. `judging` is needed by all but standard rules."""
    if judging is not None and not is_plain(rules):
        return _decide_by_program(program_of(rules), command, tenant, role, source, usage, day, waives, judging)
    if not is_plain(rules):
        return _failed(rules, b"", "the rules need more than was given")
    keys = velocity_keys(rules, tenant, command, day)
    counted = [usage.get(key) for key in keys]
    source_type = None if source is None else source.type
    results, reasons = _standard(rules, command, role, source_type, counted, waives)
    answers = results.values() if reasons else ()
    outcome = "denied" if "denied" in answers else "review" if "review" in answers else "accepted"
    figures = [None if entry is None else (str(entry.count), str(entry.minor)) for entry in counted]
    seen = _Seen(command, day, role, source_type, tenant, figures, rules.version, waives)
    digest = hashlib.sha256(canonical.encode(seen)).hexdigest()
    if not keys:
        return Judged(outcome, rules.version, digest, _LANES[outcome], results, tuple(reasons))
    taken = tuple([VelocityUse(key.counter, key.day) for key in keys]) if outcome == "accepted" else ()
    rested = Seen(day, {DAILY: figures[0]}, {SOURCE_TYPE: source_type})
    return Judged(outcome, rules.version, digest, _LANES[outcome], results, tuple(reasons), taken, rested)


def decide_again(
    rules: PolicyRules, inputs: Inputs, *, source_type: str | None = None, scorers: Mapping[str, Scorer] = NO_SCORERS
) -> Judged:
    """Return the decision that these inputs lead to under these rules, without what it took from counters.

    Under standard rules without counters the inputs name no source type: it is the account's. A score of a scorer that
    is not there is believed."""
    if not is_plain(rules):
        return _evaluated(program_of(rules), inputs, scorers, believe=True)
    day, usage = inputs.seen.at[:10], inputs.seen.usage
    counted = [_usage_of(usage[DAILY])] if DAILY in usage else []
    given = inputs.seen.fields.get(SOURCE_TYPE, source_type)
    kind = None if given is None else str(given)
    results, reasons = _standard(rules, inputs.command, inputs.role, kind, counted, inputs.waives)
    answers = results.values()
    outcome = "denied" if "denied" in answers else "review" if "review" in answers else "accepted"
    figures = [None if entry is None else (str(entry.count), str(entry.minor)) for entry in counted]
    seen = _Seen(inputs.command, day, inputs.role, kind, inputs.tenant, figures, rules.version, inputs.waives)
    digest = hashlib.sha256(canonical.encode(seen)).hexdigest()
    return Judged(outcome, rules.version, digest, _LANES[outcome], results, tuple(reasons), (), inputs.seen)


# The standard rules ---------------------------------------------------------------------------------------------------


def _standard(
    rules: PolicyRules, command: IntentCommand, role: str, source_type: str | None,
    counted: list[Usage | None], waives: tuple[str, ...],
) -> tuple[dict[str, str], list[str]]:  # fmt: skip
    used_: Usage | None = counted[0] if counted else _NOTHING
    results = _PASSED
    reasons: list[str] = []
    if used_ is None:
        results, used_ = {"velocity_counted": "denied", **results}, _NOTHING
        reasons.append("velocity_unknown")
    limits, booked = _limits(rules, command.currency), command.kind == "book_transfer"
    case = _Case(command, command.amount, role, source_type, limits, rules, used_, booked)
    for name, rule in STANDARD_RULES.items():
        objection = rule(case)
        if objection is None:
            continue
        outcome, reason = objection
        if outcome == "review" and name in waives:
            results = {**results, name: "waived"}
        else:
            results = {**results, name: outcome}
            reasons.append(reason)
    return results, reasons


def _limits(rules: PolicyRules, currency: str) -> Limits:
    return rules.limits.get(currency) or rules.limits.get("*") or NO_LIMITS


def _scope(case: _Case) -> Objection | None:
    allowed = case.rules.scopes is None or case.command.scope in case.rules.scopes
    return None if allowed else ("denied", "scope_not_allowed")


def _source(case: _Case) -> Objection | None:
    """Money comes out of an account without a floor only by an operator's hand."""
    system = case.source_type in SYSTEM_ACCOUNT_TYPES
    return ("denied", "source_not_permitted") if system and case.role not in ("operator", "admin") else None


def _transaction_limit(case: _Case) -> Objection | None:
    limit = case.limits.transaction_minor_max
    over = limit is not None and case.minor > limit and not case.booked
    return ("denied", "transaction_limit_exceeded") if over else None


def _daily_amount(case: _Case) -> Objection | None:
    limit = case.limits.daily_minor_max
    over = limit is not None and case.usage.minor + case.minor > limit and not case.booked
    return ("denied", "daily_amount_exceeded") if over else None


def _daily_count(case: _Case) -> Objection | None:
    limit = case.limits.daily_count_max
    over = limit is not None and case.usage.count + 1 > limit and not case.booked
    return ("denied", "daily_count_exceeded") if over else None


def _review_threshold(case: _Case) -> Objection | None:
    threshold = case.limits.review_minor_min
    over = threshold is not None and case.minor >= threshold and not case.booked
    return ("review", "review_threshold_reached") if over else None


STANDARD_RULES: Final[Mapping[str, Callable[[_Case], Objection | None]]] = {
    "scope_allowed": _scope,
    "source_permitted": _source,
    "transaction_limit": _transaction_limit,
    "daily_amount": _daily_amount,
    "daily_count": _daily_count,
    "review_threshold": _review_threshold,
}
_PASSED: Final = dict.fromkeys(STANDARD_RULES, "passed")  # what nearly every decision holds: nobody changes it
_NOTHING: Final = Usage()


# Windows, conditions and risk -----------------------------------------------------------------------------------------


def _window_keys(
    program: Program, tenant: str, command: IntentCommand, now: datetime
) -> dict[str, VelocityKey]:
    """Return the counter of each window that counts such an intent."""
    zone = program.rules.time_zone
    return {
        name: VelocityKey(
            tenant, counter_of(window, zone, command), day_of(window, program.zone, now), command.currency
        )
        for name, window in program.windows.items()
        if counts(window, command)
    }


def _decide_by_program(
    program: Program, command: IntentCommand, tenant: str, role: str, source: AccountRef | None,
    usage: Mapping[VelocityKey, Usage], day: str, waives: tuple[str, ...], judging: Judging,
) -> Judged:  # fmt: skip
    """Gather what the rules look at, by value, and evaluate that."""
    rules, now = program.rules, judging.now
    seconds = int(now.timestamp())
    keys = _window_keys(program, tenant, command, now)
    figures: dict[str, tuple[str, str] | None] = {}
    for name, key in keys.items():
        found = usage.get(key)
        if found is None:
            figures[name] = None
        else:
            count, minor = used(program.windows[name], found, seconds)
            figures[name] = (str(count), str(minor))
    daily = velocity_keys(rules, tenant, command, day)
    if daily:
        found = usage.get(daily[0])
        figures[DAILY] = None if found is None else (str(found.count), str(found.minor))
    subject = Subject(command, role, judging.principal, source, judging.destination, now, program.zone)
    kept: dict[str, str | int | bool | None] = {SOURCE_TYPE: None if source is None else source.type}
    for name, field in program.fields.items():
        if field.kept:
            kept[name] = _read(field.read, subject)
    seen = Seen(timestamp(now), figures, kept)
    inputs = Inputs(command, judging.principal, role, seen, tenant, rules.version, waives)
    judged = _evaluated(program, inputs, judging.scorers, believe=False)
    if judged.outcome != "accepted":
        return judged
    taken: dict[VelocityKey, VelocityUse] = {}
    for name, key in keys.items():
        bucket = bucket_at(program.windows[name], usage[key], seconds)
        taken[key] = VelocityUse(key.counter, key.day, UNSET if bucket is None else bucket)
    for key in daily:
        taken[key] = VelocityUse(key.counter, key.day)
    return Judged(
        judged.outcome, judged.version, judged.input_digest, judged.lane, judged.results, judged.reasons,
        tuple(taken.values()), judged.seen,
    )  # fmt: skip


def _read(read: Callable[[Subject], str | int | bool | None], subject: Subject) -> str | int | bool | None:
    try:
        return read(subject)
    except Exception:  # a value that cannot be had is a value that is not there: the rule says what follows
        return None


class _Tally:
    """The answers of one decision so far."""

    def __init__(self, waives: tuple[str, ...]) -> None:
        self._waives = waives
        self.results: dict[str, str] = {}
        self._objections: dict[str, tuple[str, str, str, bool]] = {}  # rule -> outcome, reason, lane, answered

    def take(self, results: Mapping[str, str], reasons: list[str]) -> None:
        """Take the answers of the standard rules: their reasons are in the order of the objections."""
        self.results.update(results)
        against = iter(reasons)
        for name, result in results.items():
            if result in ("denied", "review"):
                self._objections[name] = (result, next(against), "", True)

    def passed(self, name: str) -> None:
        """A rule has nothing against it."""
        self.results[name] = "passed"

    def objected(self, name: str, outcome: str, reason: str, lane: str = "", *, answered: bool = True) -> None:
        """A rule is against it; `answered` False: because it has no answer."""
        if outcome == "review" and name in self._waives:
            self.results[name] = "waived"
        else:
            self.results[name] = outcome
            self._objections[name] = (outcome, reason, lane, answered)

    def allowed(self, name: str, waives: tuple[str, ...]) -> None:
        """A rule allows it: the reviews it names are taken back, but for those of rules without an answer."""
        self.results[name] = "allowed"
        for other in waives:
            objection = self._objections.get(other)
            if objection is not None and objection[0] == "review" and objection[3]:
                del self._objections[other]
                self.results[other] = "waived"

    def judged(self, version: int, digest: str, seen: Seen) -> Judged:
        """Return the decision: the worst answer, in the lane of the first rule that gave it."""
        objections = list(self._objections.values())
        for outcome in ("denied", "review"):
            worst = [objection for objection in objections if objection[0] == outcome]
            if worst:
                lane = worst[0][2] or _LANES[outcome]
                reasons = tuple([reason for _, reason, _, _ in objections])
                return Judged(outcome, version, digest, lane, self.results, reasons, (), seen)
        return Judged("accepted", version, digest, _LANES["accepted"], self.results, (), (), seen)


def _evaluated(program: Program, inputs: Inputs, scorers: Mapping[str, Scorer], *, believe: bool) -> Judged:
    """Return the decision on these inputs; whatever goes wrong beyond a single rule denies."""
    try:
        if program.failure:
            return _failed(program.rules, canonical.encode(inputs), program.failure, inputs.seen)
        return _tallied(program, inputs, scorers, believe)
    except Exception as error:
        return _failed(program.rules, b"", f"{type(error).__name__}: {error}", inputs.seen)


def _tallied(program: Program, inputs: Inputs, scorers: Mapping[str, Scorer], believe: bool) -> Judged:
    rules, command, seen = program.rules, inputs.command, inputs.seen
    tally = _Tally(inputs.waives)
    daily = [_usage_of(seen.usage[DAILY])] if DAILY in seen.usage else []
    source_type = seen.fields.get(SOURCE_TYPE)
    kind = None if source_type is None else str(source_type)
    tally.take(*_standard(rules, command, inputs.role, kind, daily, inputs.waives))
    usage = {name: _usage_of(figures) for name, figures in seen.usage.items()}
    minor = command.amount
    for name, window in program.windows.items():
        if counts(window, command):
            _weigh(tally, name, usage.get(name), minor, window.limits.get(command.currency) or window.limits.get("*"))
    values = _values(program, inputs, usage)
    score: int | None = None
    if rules.risk is not None:
        score = _score(rules.risk, inputs, usage, scorers, believe)
        values[RISK_SCORE] = score
        seen = Seen(seen.at, seen.usage, {**seen.fields, RISK_SCORE: score})
        inputs = Inputs(command, inputs.principal, inputs.role, seen, inputs.tenant, inputs.version, inputs.waives)
    allowing = []
    for compiled in program.tests:
        rule = compiled.rule
        try:
            hit: object = compiled.test(values)
        except Exception:  # it has no answer, which is below
            hit = None
        if rule.outcome == "allow":
            tally.passed(rule.name)
            if hit is True:
                allowing.append(rule)
        elif hit is False:
            tally.passed(rule.name)
        else:
            reason = rule.reason if hit is True else "rule_unanswerable"
            outcome = _OUTCOMES.get(rule.outcome, "denied")
            tally.objected(rule.name, outcome, reason, rule.lane, answered=hit is True)
    if rules.risk is not None:
        _weigh_risk(tally, rules.risk, score)
    for rule in allowing:
        tally.allowed(rule.name, rule.waives)
    digest = hashlib.sha256(canonical.encode(inputs)).hexdigest()
    return tally.judged(inputs.version, digest, seen)


def _weigh(tally: _Tally, name: str, held: Usage | None, minor: int, limits: WindowLimits | None) -> None:
    """Let a window answer: it has to be known, to fit into 64 bits, and to stay within its limits."""
    rule = f"window.{name}"
    if held is None:
        tally.objected(rule, "denied", "velocity_unknown", answered=False)
    elif held.minor + minor > MINOR_MAX:
        tally.objected(rule, "denied", "velocity_overflow", answered=False)
    elif limits is None:
        tally.passed(rule)
    else:
        outcome = _OUTCOMES.get(limits.outcome, "denied")
        if limits.count_max is not None and held.count + 1 > limits.count_max:
            tally.objected(rule, outcome, "window_count_exceeded")
        elif limits.minor_max is not None and held.minor + minor > limits.minor_max:
            tally.objected(rule, outcome, "window_amount_exceeded")
        else:
            tally.passed(rule)


def _weigh_risk(tally: _Tally, risk: Risk, score: int | None) -> None:
    if score is None:
        tally.objected("risk", _OUTCOMES.get(risk.on_error, "denied"), "risk_unanswerable", answered=False)
    elif risk.deny_min is not None and score >= risk.deny_min:
        tally.objected("risk", "denied", "risk_too_high")
    elif risk.review_min is not None and score >= risk.review_min:
        tally.objected("risk", "review", "risk_high")
    else:
        tally.passed("risk")


def _score(
    risk: Risk, inputs: Inputs, usage: Mapping[str, Usage | None], scorers: Mapping[str, Scorer], believe: bool
) -> int | None:
    """Return the score, or None where there is none. Money that stays in the tenant's books is no risk."""
    if inputs.command.kind == "book_transfer":
        return 0
    scorer = default_score if risk.scorer == DEFAULT_SCORER else scorers.get(risk.scorer)
    if scorer is None:
        known = inputs.seen.fields.get(RISK_SCORE) if believe else None
        return known if type(known) is int else None
    hour, month, pair = (usage.get(f"risk.{name}") for name in ("hour", "month", "pair"))
    if hour is None or month is None or pair is None:
        return None
    facts = RiskFacts(
        inputs.command, inputs.tenant, inputs.role, inputs.principal, hour.count, month.count, month.minor, pair.count,
        risk,
    )  # fmt: skip
    try:
        return score_of(scorer, facts)
    except Exception:  # it has no answer: the caller objects
        return None


def _values(
    program: Program, inputs: Inputs, usage: Mapping[str, Usage | None]
) -> dict[str, str | int | bool | None]:
    """Return the value of each field that the rules look at, from the inputs alone."""
    subject = Subject(inputs.command, inputs.role, inputs.principal, None, None, _EPOCH, None)
    values: dict[str, str | int | bool | None] = {}
    for name, field in program.fields.items():
        values[name] = inputs.seen.fields.get(name) if field.kept else _read(field.read, subject)
    for name, window, place in program.figures:
        # what a window does not count it has not seen either
        held = usage.get(window) if counts(program.windows[window], inputs.command) else _NOTHING
        values[name] = None if held is None else (held.count, held.minor)[place]
    return values


def _usage_of(figures: tuple[str, str] | None) -> Usage | None:
    return None if figures is None else Usage(int(figures[0]), int(figures[1]))


def _failed(rules: PolicyRules, inputs: bytes, reason: str, seen: Seen | None = None) -> Judged:
    """Return the denial of an intent that cannot be decided on."""
    digest = hashlib.sha256(inputs).hexdigest()
    results = {"policy_usable": "denied"}
    if seen is None:
        return Judged("denied", rules.version, digest, _LANES["denied"], results, ("policy_unusable",))
    return Judged("denied", rules.version, digest, _LANES["denied"], results, ("policy_unusable",), (), seen)


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
