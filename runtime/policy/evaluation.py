"""Evaluation: windows, conditions and risk over inputs that are given by value, and the worst answer of all rules.

    standard rules   scopes, source, limits
    windows          what a velocity window may hold
    rules            the tenant's own conditions, in the order of the document
    risk             the score, against its thresholds

Nothing is looked at but the inputs, so the same inputs under the same version give the same decision at any time. What
cannot be evaluated never helps an intent: a rule without an answer counts as if it had matched, an allow without one
allows nothing, a figure that nobody knows denies, and rules that cannot be read deny everything."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import UNSET, Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, Seen
from zentra.runtime.intents.vocabulary import BOOKED
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy.fields import RISK_SCORE, Subject
from zentra.runtime.policy.movements import answers, asked_values
from zentra.runtime.policy.program import Program
from zentra.runtime.policy.rules import PolicyRules, Risk, Rule, WindowLimits
from zentra.runtime.policy.scoring import DEFAULT_SCORER, RISK_WINDOWS, RiskFacts, Scorer, default_score, score_of
from zentra.runtime.policy.standard import standard
from zentra.runtime.policy.windows import Usage, counts

__all__ = ["DAILY", "LANES", "SOURCE_TYPE", "Inputs", "Scalar", "evaluated", "failed", "read_field", "usage_of"]

Scalar = str | int | bool | None
DAILY: Final = "limits.daily"  # what the daily limits count is called where figures are named
SOURCE_TYPE: Final = "source.type"
LANES: Final = {"accepted": "straight_through", "review": "manual", "denied": "blocked"}
_OUTCOMES: Final = {"deny": "denied", "review": "review"}
_NOTHING: Final = Usage()
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Inputs(Struct, frozen=True, gc=False):
    """Everything that a decision under conditions rests on, by value: the digest covers its canonical bytes."""

    command: IntentCommand
    principal: str
    role: str
    seen: Seen
    tenant: str
    version: int
    waives: tuple[str, ...]


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

    def taken_back(self, name: str) -> None:
        """A rule asks for a review, which an allow rule takes back wherever it does."""
        self.results[name] = "waived" if name in self._waives else "allowed"

    def allowed(self, name: str, waives: tuple[str, ...]) -> None:
        """A rule allows it: the reviews it names are taken back, but for those of rules without an answer."""
        self.results[name] = "allows"
        for other in waives:
            objection = self._objections.get(other)
            if objection is not None and objection[0] == "review" and objection[3]:
                del self._objections[other]
                self.results[other] = "allowed"

    def judged(self, version: int, digest: str, seen: Seen) -> Judged:
        """Return the decision: the worst answer, in the lane of the first rule that gave it."""
        objections = list(self._objections.values())
        for outcome in ("denied", "review"):
            worst = [objection for objection in objections if objection[0] == outcome]
            if worst:
                lane = worst[0][2] or LANES[outcome]
                reasons = tuple([reason for _, reason, _, _ in objections])
                return Judged(outcome, version, digest, lane, self.results, reasons, (), seen)
        return Judged("accepted", version, digest, LANES["accepted"], self.results, (), (), seen)


def evaluated(program: Program, inputs: Inputs, scorers: Mapping[str, Scorer], *, believe: bool) -> Judged:
    """Return the decision on these inputs, without what it takes from counters; whatever goes wrong beyond a single
    rule denies. A score of a scorer that is not there is taken from the inputs where one may `believe` them."""
    try:
        if program.failure:
            return failed(program.rules, canonical.encode(inputs), inputs.seen)
        return _tallied(program, inputs, scorers, believe)
    except Exception:  # nobody knows of what: it is denied, and replaying it shows where
        return failed(program.rules, b"", inputs.seen)


def _tallied(program: Program, inputs: Inputs, scorers: Mapping[str, Scorer], believe: bool) -> Judged:
    rules, command, seen = program.rules, inputs.command, inputs.seen
    tally = _Tally(inputs.waives)
    daily = [usage_of(seen.usage[DAILY])] if DAILY in seen.usage else []
    source_type = seen.fields.get(SOURCE_TYPE)
    kind = None if source_type is None else str(source_type)
    tally.take(*standard(rules, command, inputs.role, kind, daily, inputs.waives))
    usage = {name: usage_of(figures) for name, figures in seen.usage.items()}
    minor = command.amount
    for name, window in program.windows.items():
        if counts(window, command):
            _weigh(tally, name, usage.get(name), minor, window.limits.get(command.currency) or window.limits.get("*"))
    values = _values(program, inputs, usage)
    score: int | None = None
    if rules.risk is not None:
        score = _score(rules.risk, inputs, usage, scorers, believe)
        values[RISK_SCORE] = score
        seen = Seen(seen.at, seen.usage, {**seen.fields, RISK_SCORE: score}, seen.accounts)
        inputs = Inputs(command, inputs.principal, inputs.role, seen, inputs.tenant, inputs.version, inputs.waives)
    allowing: list[Rule] = []
    movements = () if command.legs is UNSET else asked_values(program, command, seen, values)
    if movements:
        _ask_movements(tally, program, movements, allowing)
    for compiled in () if movements else program.tests:
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


def _ask_movements(
    tally: _Tally, program: Program, movements: Sequence[Mapping[str, Scalar]], allowing: list[Rule]
) -> None:
    """Ask the rules about each movement of a journal; an allow rule takes back what is against its own movements."""
    for rule, said, answered in answers(program.tests, movements):
        if said == "against":
            reason = rule.reason if answered else "rule_unanswerable"
            tally.objected(rule.name, _OUTCOMES.get(rule.outcome, "denied"), reason, rule.lane, answered=False)
        elif said == "taken_back":
            tally.taken_back(rule.name)
        elif said == "allows":
            tally.allowed(rule.name, ())
        else:
            tally.passed(rule.name)
            if said == "allows_all":
                allowing.append(rule)


def _weigh(tally: _Tally, name: str, held: Usage | None, minor: int, limits: WindowLimits | None) -> None:
    """Let a window answer: it has to be known, to fit into 64 bits, and to stay within its limits."""
    rule = f"window.{name}"
    if held is None:
        tally.objected(rule, "denied", "velocity_unknown", answered=False)
    elif held.minor + minor > MINOR_MAX:
        tally.objected(rule, "denied", "velocity_overflow", answered=False)
    elif limits is None:
        if name not in RISK_WINDOWS:
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
    if inputs.command.kind in BOOKED:
        return 0
    scorer = default_score if risk.scorer == DEFAULT_SCORER else scorers.get(risk.scorer)
    if scorer is None:
        known = inputs.seen.fields.get(RISK_SCORE) if believe else None
        return known if type(known) is int else None
    hour, month, pair = (
        usage.get(name) if counts(window, inputs.command) else _NOTHING for name, window in RISK_WINDOWS.items()
    )
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


def _values(program: Program, inputs: Inputs, usage: Mapping[str, Usage | None]) -> dict[str, Scalar]:
    """Return the value of each field that the rules look at, from the inputs alone."""
    subject = Subject(inputs.command, inputs.role, inputs.principal, None, None, _EPOCH, None)
    values: dict[str, Scalar] = {}
    for name, field in program.fields.items():
        values[name] = inputs.seen.fields.get(name) if field.kept else read_field(field.read, subject)
    for name, window, place in program.figures:
        # what a window does not count it has not seen either
        held = usage.get(window) if counts(program.windows[window], inputs.command) else _NOTHING
        values[name] = None if held is None else (held.count, held.minor)[place]
    return values


def usage_of(figures: tuple[str, str] | None) -> Usage | None:
    """Return figures as they stand in a record as usage."""
    return None if figures is None else Usage(int(figures[0]), int(figures[1]))


def failed(rules: PolicyRules, inputs: bytes, seen: Seen | None = None) -> Judged:
    """Return the denial of an intent that cannot be decided on."""
    digest = hashlib.sha256(inputs).hexdigest()
    results = {"policy_usable": "denied"}
    if seen is None:
        return Judged("denied", rules.version, digest, LANES["denied"], results, ("policy_unusable",))
    return Judged("denied", rules.version, digest, LANES["denied"], results, ("policy_unusable",), (), seen)


def read_field(read: Callable[[Subject], Scalar], subject: Subject) -> Scalar:
    """Return the value of a field; None where there is none."""
    try:
        return read(subject)
    except Exception:  # a value that cannot be had is a value that is not there: the rule says what follows
        return None
