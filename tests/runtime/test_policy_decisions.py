"""Decisions under conditions, windows, lists and risk: the worst answer wins, and no error lets anything pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import pytest
from msgspec import structs

from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, Seen
from zentra.runtime.intents.terms import Counterparty
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import Judging, Limits, PolicyRules, Usage, VelocityKey, decide, fields, velocity_keys
from zentra.runtime.policy.conditions import OPERATORS
from zentra.runtime.policy.decision import decide_again
from zentra.runtime.policy.document import parse_policy, rules_of
from zentra.runtime.policy.evaluation import Inputs
from zentra.runtime.policy.fields import FIELDS, Field
from zentra.runtime.policy.rules import Rule
from zentra.runtime.policy.scoring import RiskFacts, Scorer, default_score

NOW: Final = datetime(2026, 4, 3, 22, 30, tzinfo=UTC)  # a Friday; in Lagos it is half past eleven at night
DAY: Final = "2026-04-03"
SOURCE: Final = AccountRef(
    1, "acme", "customer", "customer", "NGN", "credit", guarded=True, party=PartyRef("p-1", "approved", "clear")
)
DESTINATION: Final = AccountRef(2, "acme", "shop", "merchant", "NGN", "credit", guarded=True)


def _command(minor: int = 100, **changes: Any) -> IntentCommand:
    base = IntentCommand(
        kind=IntentKind.TRANSFER, minor=str(minor), currency="NGN", source="customer", destination="shop", country="NG",
        metadata={"purpose": "rent"}, counterparty=Counterparty("Ann Onym", "KP"),
    )  # fmt: skip
    return structs.replace(base, **changes)


def _rules(**document: Any) -> PolicyRules:
    rules, violations = parse_policy(document)
    assert rules is not None, violations
    return structs.replace(rules, version=3)


def _decide(
    rules: PolicyRules,
    command: IntentCommand | None = None,
    *,
    usage: Mapping[str, Usage] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    waives: tuple[str, ...] = (),
    role: str = "developer",
    missing: bool = False,
) -> Judged:
    """Decide with counters by the name of what they count, nothing in the others."""
    command = command or _command()
    keys = velocity_keys(rules, "acme", command, DAY, NOW)
    held = {key: (usage or {}).get(key.counter, Usage()) for key in keys}
    return decide(
        rules, command, tenant="acme", role=role, source=SOURCE, usage={} if missing else held, day=DAY, waives=waives,
        judging=Judging(NOW, "ada", DESTINATION, scorers or {}),
    )  # fmt: skip


def _when(field: str, op: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "op": op, **more}


def _rule(name: str, when: dict[str, Any], outcome: str = "deny", **more: Any) -> dict[str, Any]:
    reason = {} if outcome == "allow" else {"reason": f"{name}_said_so"}
    return {"name": name, "when": when, "outcome": outcome, **reason, **more}


LARGE: Final = _when("amount", ">=", value=100)
SMALL: Final = _when("amount", "<", value=100)
HOUR: Final = {"by": "account", "rolling_seconds": 3600, "buckets": 12}
HOURLY: Final = "rolling-3600-12/account/customer"


def _limited(**limits: Any) -> dict[str, Any]:
    return {"windows": {"hour": {**HOUR, "limits": {"NGN": limits}}}}


def _held(count: int, minor: int) -> dict[str, Any]:
    bucket = int(NOW.timestamp()) // 300
    return {"usage": {HOURLY: Usage(count, minor, ((bucket, count, minor),))}}


DENY, REVIEW = _rule("no", LARGE), _rule("look", LARGE, "review", lane="fraud_desk")
ALLOW: Final = _rule("known", _when("destination.id", "in", list="payees"), "allow", waives=["look"])
PAYEES: Final = {"lists": {"payees": ["shop"]}}

# A table is read down its columns.
# ruff: noqa: E501
# fmt: off
CASES: list[tuple[dict[str, Any], dict[str, Any], str, str, str]] = [
    # document                                              inputs               outcome     lane                reasons
    ({"rules": [_rule("no", SMALL)]},                       {},                  "accepted", "straight_through", ""),
    ({"rules": [DENY]},                                     {},                  "denied",   "blocked",          "no_said_so"),
    ({"rules": [REVIEW]},                                   {},                  "review",   "fraud_desk",       "look_said_so"),
    ({"rules": [REVIEW, DENY]},                             {},                  "denied",   "blocked",          "look_said_so no_said_so"),
    ({"rules": [REVIEW]},                                   {"waives": ("look",)}, "accepted", "straight_through", ""),
    ({"rules": [DENY]},                                     {"waives": ("no",)}, "denied",   "blocked",          "no_said_so"),
    ({"rules": [REVIEW, ALLOW], **PAYEES},                  {},                  "accepted", "straight_through", ""),
    ({"rules": [ALLOW, REVIEW], **PAYEES},                  {},                  "accepted", "straight_through", ""),
    ({"rules": [REVIEW, ALLOW], "lists": {"payees": []}},   {},                  "review",   "fraud_desk",       "look_said_so"),
    ({"rules": [REVIEW, DENY, ALLOW], **PAYEES},            {},                  "denied",   "blocked",          "no_said_so"),
    (_limited(count_max=3),                                 _held(2, 0),         "accepted", "straight_through", ""),
    (_limited(count_max=3),                                 _held(3, 0),         "denied",   "blocked",          "window_count_exceeded"),
    (_limited(minor_max=500),                               _held(9, 400),       "accepted", "straight_through", ""),
    (_limited(minor_max=500),                               _held(9, 401),       "denied",   "blocked",          "window_amount_exceeded"),
    (_limited(minor_max=500, outcome="review"),             _held(9, 401),       "review",   "manual",           "window_amount_exceeded"),
    (_limited(minor_max=2**63 - 1),                         _held(9, 2**63 - 1), "denied",   "blocked",          "velocity_overflow"),
    ({"windows": {"hour": HOUR}},                           _held(9, 2**63 - 1), "denied",   "blocked",          "velocity_overflow"),
    (_limited(count_max=3),                                 {"missing": True},   "denied",   "blocked",          "velocity_unknown"),
    ({"windows": {"hour": HOUR}},                           {"missing": True},   "denied",   "blocked",          "velocity_unknown"),
    ({"rules": [DENY], "limits": {"NGN": {"daily_count_max": 3}}}, {"missing": True}, "denied", "blocked",  "velocity_unknown no_said_so"),
    ({"windows": {"hour": HOUR}, "rules": [_rule("fast", _when("velocity.hour.count", ">=", value=3))]}, _held(3, 0), "denied", "blocked", "fast_said_so"),
    ({"rules": [_rule("late", _when("hour", ">=", value=23))]},                          {}, "accepted", "straight_through", ""),
    ({"rules": [_rule("late", _when("hour", ">=", value=23))], "time_zone": "Africa/Lagos"}, {}, "denied", "blocked", "late_said_so"),
    ({"rules": [_rule("weekend", _when("weekday", ">=", value=6))]},                     {}, "accepted", "straight_through", ""),
    ({"rules": [_rule("road", _when("corridor", "in", value=["NG/NGN/transfer"]))]},     {}, "denied", "blocked", "road_said_so"),
    ({"rules": [_rule("shop", _when("destination.type", "==", value="merchant"))]},      {}, "denied", "blocked", "shop_said_so"),
    ({"rules": [_rule("ada", _when("principal", "==", value="ada"))]},                   {}, "denied", "blocked", "ada_said_so"),
    ({"rules": [_rule("kyc", _when("source.kyc", "!=", value="approved"))]},             {}, "accepted", "straight_through", ""),
    ({"rules": [_rule("kyc", _when("destination.kyc", "!=", value="approved"))]},        {}, "denied", "blocked", "rule_unanswerable"),
    ({"rules": [_rule("land", _when("counterparty.country", "in", value=["KP"]))]},      {}, "denied", "blocked", "land_said_so"),
    ({"risk": {"review_min": 50, "deny_min": 90}},          {},                  "review",   "manual",           "risk_high"),
    ({"risk": {"review_min": 51, "deny_min": 90}},          {},                  "accepted", "straight_through", ""),
    ({"risk": {"review_min": 10, "deny_min": 50}},          {},                  "denied",   "blocked",          "risk_too_high"),
    ({"risk": {"review_min": None}},                        {},                  "accepted", "straight_through", ""),
    ({"risk": {"review_min": None}, "rules": [_rule("risky", _when("risk.score", "==", value=50))]}, {}, "denied", "blocked", "risky_said_so"),
    ({"rules": [_rule("known", LARGE, "allow", waives=["risk"])], "risk": {"review_min": 1}}, {}, "accepted", "straight_through", ""),
]
# fmt: on


@pytest.mark.parametrize(("document", "inputs", "outcome", "lane", "reasons"), CASES)
def test_the_worst_answer_wins_and_an_allow_takes_back_only_the_reviews_that_it_names(
    document: dict[str, Any], inputs: dict[str, Any], outcome: str, lane: str, reasons: str
) -> None:
    decision = _decide(_rules(**document), **inputs)
    assert (decision.outcome, decision.lane, " ".join(decision.reasons)) == (outcome, lane, reasons)


@pytest.mark.parametrize("document", [case[0] for case in CASES])
def test_a_decision_is_made_again_from_what_it_has_seen(document: dict[str, Any]) -> None:
    rules, command = _rules(**document), _command()
    made = _decide(rules, command)
    assert isinstance(made.seen, Seen)
    inputs = Inputs(command, "ada", "developer", made.seen, "acme", rules.version, ())
    assert decide_again(rules, inputs) == structs.replace(made, velocity=())


def test_an_accepted_intent_is_counted_once_in_each_window_and_a_refused_one_in_none() -> None:
    windows = {"hour": HOUR, "again": HOUR, "month": {"by": "tenant", "calendar": "month"}}
    taken = _decide(_rules(windows=windows)).velocity
    bucket = int(NOW.timestamp()) // 300
    assert [(use.counter, use.day, use.bucket) for use in taken] == [
        (HOURLY, "1970-01-01", bucket), ("month/tenant", "2026-04-01", taken[1].bucket),
    ]  # fmt: skip
    assert _decide(_rules(windows=windows, rules=[DENY])).velocity == ()


def test_windows_without_conditions_on_them_leave_book_transfers_alone() -> None:
    rules = _rules(**_limited(count_max=0), risk={"review_min": 1})
    booked = _command(kind=IntentKind.BOOK_TRANSFER)
    assert velocity_keys(rules, "acme", booked, DAY, NOW) == ()
    decision = _decide(rules, booked)
    assert (decision.outcome, decision.velocity) == ("accepted", ())


# What cannot be evaluated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["deny", "review"])
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_rule_whose_field_is_missing_never_accepts(name: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field in turn has no value, then raises: the rule answers as if it had matched."""
    field = FIELDS[name]
    literal: Any = {"integer": -1, "text": "x", "flag": True}[field.type]
    rules_ = {"rules": [_rule("it", _when(name, "==", value=literal), outcome)], "risk": {"review_min": None}}
    for read in (lambda subject: None, lambda subject: 1 / 0, lambda subject: object(), lambda subject: 1.5):
        row = Field(field.type, cast(Any, read), field.kept)
        monkeypatch.setitem(FIELDS, name, row)  # a table that errors are planted in
        scorers: Mapping[str, Scorer] = {}
        if name == "risk.score":
            rules_ = {**rules_, "risk": {"scorer": "mine", "review_min": None}}
            scorers = {"mine": lambda facts: 1 // 0}
        decision = _decide(_rules(**rules_), scorers=scorers)
        assert decision.outcome in ("denied", "review"), (name, read)


@pytest.mark.parametrize("outcome", ["deny", "review"])
@pytest.mark.parametrize("op", OPERATORS)
def test_a_rule_whose_operator_raises_never_accepts(op: str, outcome: str) -> None:
    class Explosive(int):
        def __eq__(self, other: object) -> bool:
            raise ArithmeticError

        __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
        __hash__ = None  # type: ignore[assignment]

    from zentra.runtime.policy import program

    rules = _rules(rules=[_rule("it", SMALL, outcome)])
    made = program.program_of(rules)

    def test(values: object) -> bool:
        return bool(Explosive(1) == 2)

    broken = structs.replace(made, tests=(structs.replace(made.tests[0], test=test),))
    program._programs[id(rules)] = broken
    decision = _decide(rules)
    assert decision.outcome == ("denied" if outcome == "deny" else "review")
    assert decision.reasons == ("rule_unanswerable",)


def _raises(facts: RiskFacts) -> int:
    raise RuntimeError("no score today")


# fmt: off
SCORERS: list[Callable[[RiskFacts], Any]] = [
    _raises, lambda facts: None, lambda facts: "50", lambda facts: 50.0, lambda facts: True, lambda facts: -1,
    lambda facts: 101, lambda facts: 2**70, lambda facts: [0], lambda facts: float("nan"),
]
# fmt: on


@pytest.mark.parametrize(("on_error", "outcome"), [("review", "review"), ("deny", "denied")])
@pytest.mark.parametrize("scorer", SCORERS)
def test_a_scorer_that_raises_or_returns_nonsense_never_accepts(
    scorer: Callable[[RiskFacts], Any], on_error: str, outcome: str
) -> None:
    rules = _rules(risk={"scorer": "mine", "review_min": None, "on_error": on_error})
    decision = _decide(rules, scorers={"mine": scorer})
    assert (decision.outcome, decision.reasons) == (outcome, ("risk_unanswerable",))
    assert _decide(rules, scorers={}).outcome == outcome  # nor does one that this process does not have


def test_an_allow_takes_back_no_denial_even_where_nobody_has_checked_the_document() -> None:
    allow = Rule("known", LARGE, "allow", waives=("no", "transaction_limit"))
    deny = Rule("no", LARGE, "deny", "no_said_so")
    rules = PolicyRules(version=3, rules=(deny, allow), limits={"NGN": Limits(transaction_minor_max=1)})
    assert _decide(rules).reasons == ("transaction_limit_exceeded", "no_said_so")


def test_an_allow_without_an_answer_allows_nothing_and_none_takes_back_a_review_for_want_of_one() -> None:
    nowhere = _when("metadata.nothing", "==", value="x")
    unclear = _rules(rules=[REVIEW, _rule("known", nowhere, "allow", waives=["look"])])
    assert _decide(unclear).outcome == "review"
    failing = _rules(rules=[_rule("look", nowhere, "review"), _rule("known", LARGE, "allow", waives=["look"])])
    assert (_decide(failing).outcome, _decide(failing).reasons) == ("review", ("rule_unanswerable",))


@pytest.mark.parametrize(
    "broken",
    [
        {"rules": [_rule("it", _when("currency", "in", list="gone"))]},
        {"rules": [_rule("it", _when("velocity.gone.count", ">", value=1))]},
        {"rules": [_rule("it", {"field": "amount"})]},
        {"rules": "none"},
        {"time_zone": "Mars/Olympus"},
        {"unheard_of": 1},
        ["not", "an", "object"],
        None,
    ],
)
def test_a_version_that_cannot_be_read_lets_nothing_pass(broken: Any) -> None:
    rules = rules_of(broken, 7)
    decision = _decide(rules)
    assert (decision.outcome, decision.reasons, decision.version) == ("denied", ("policy_unusable",), 7)


def test_rules_that_break_when_they_are_compiled_let_nothing_pass() -> None:
    """They were valid where they were written: a list is gone, a zone is not on this machine."""
    rules = _rules(rules=[_rule("it", _when("currency", "in", list="blocked"), "review")], lists={"blocked": []})
    for broken in (structs.replace(rules, lists={}), structs.replace(rules, time_zone="Mars/Olympus")):
        assert _decide(broken).reasons == ("policy_unusable",)


def test_whatever_else_goes_wrong_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    from zentra.runtime.policy import evaluation

    monkeypatch.setattr(evaluation, "_tallied", lambda *_: 1 / 0)
    decision = _decide(_rules(rules=[REVIEW]))
    assert (decision.outcome, decision.reasons) == ("denied", ("policy_unusable",))


def test_conditions_without_what_they_need_deny() -> None:
    rules = _rules(rules=[REVIEW])
    judged = decide(rules, _command(), tenant="acme", role="developer", source=SOURCE, usage={}, day=DAY)
    assert (judged.outcome, judged.reasons) == ("denied", ("policy_unusable",))


# The default score ------------------------------------------------------------------------------------------------

# fmt: off
SCORES: list[tuple[int, int, int, int, int, int]] = [
    # amount  hour  month  month minor  pair  score
    (100,     0,    0,     0,           0,    50),   # new counterparty 30, no history 20
    (100,     0,    0,     0,           1,    20),
    (100,     0,    5,     500,         1,    0),
    (550,     0,    5,     500,         1,    20),   # 550 % of the mean: half of the way to ten times
    (1000,    0,    5,     500,         1,    40),
    (10**15,  0,    5,     500,         1,    40),
    (50,      0,    5,     500,         1,    0),
    (100,     10,   10,    1000,        1,    15),
    (100,     20,   20,    2000,        1,    30),
    (100,     99,   99,    9900,        1,    30),
    (1000,    20,   20,    2000,        0,    100),
    (100,     0,    5,     0,           1,    40),   # a mean of nothing
]
# fmt: on


@pytest.mark.parametrize(("amount", "hour", "month", "month_minor", "pair", "score"), SCORES)
def test_the_default_score(amount: int, hour: int, month: int, month_minor: int, pair: int, score: int) -> None:
    risk = _rules(risk={}).risk
    assert risk is not None
    facts = RiskFacts(_command(amount), "acme", "developer", "ada", hour, month, month_minor, pair, risk)
    assert default_score(facts) == score


def test_the_key_of_a_tenant_names_the_tenant() -> None:
    keys = velocity_keys(_rules(windows={"all": {"by": "tenant", "calendar": "ever"}}), "acme", _command(), DAY, NOW)
    assert keys == (VelocityKey("acme", "ever/tenant", "1970-01-01", "NGN"),)
    assert fields.field_of("metadata.x", {}) is not None
