"""The policy engine: each rule at its boundary, the worst answer wins, and a decision is a function of its inputs."""

from typing import Any, Final

import pytest
from msgspec import structs

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, VelocityUse
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import DEFAULT_RULES, Limits, PolicyRules, Usage, VelocityKey, decide, velocity_keys

DAY: Final = "2026-04-01"
CUSTOMER: Final = AccountRef(1, "acme", "customer", "customer", "NGN", "credit", guarded=True)
SETTLEMENT: Final = AccountRef(2, "acme", "pool", "settlement", "NGN", "credit", guarded=False)
KEY: Final = VelocityKey("acme", "account/customer", DAY, "NGN")


def _command(minor: int = 100, **changes: Any) -> IntentCommand:
    base = IntentCommand(
        kind=IntentKind.TRANSFER, minor=str(minor), currency="NGN", source="customer", destination="merchant"
    )
    return structs.replace(base, **changes)


def _rules(scopes: tuple[str, ...] | None = None, currency: str = "NGN", **limits: int) -> PolicyRules:
    return PolicyRules(version=3, scopes=scopes, limits={currency: Limits(**limits)})


def _decide(rules: PolicyRules, command: IntentCommand, **changes: Any) -> Judged:
    inputs: dict[str, Any] = {"tenant": "acme", "role": "developer", "source": CUSTOMER, "day": DAY}
    inputs["usage"] = {KEY: Usage()}
    return decide(rules, command, **{**inputs, **changes})


TX: Final[dict[str, Any]] = {"transaction_minor_max": 100}
DAILY: Final[dict[str, Any]] = {"daily_minor_max": 1000}
COUNT: Final[dict[str, Any]] = {"daily_count_max": 3}
REVIEW: Final[dict[str, Any]] = {"review_minor_min": 100}
BOOK: Final[dict[str, Any]] = {"kind": IntentKind.BOOK_TRANSFER}
ALL: Final = DEFAULT_RULES


def _used(count: int, minor: int) -> dict[str, Any]:
    return {"usage": {KEY: Usage(count, minor)}}


def _waives(rule: str) -> dict[str, Any]:
    return {"waives": (rule,)}


NONE_COUNTED: Final[dict[str, Any]] = {"usage": {}}
BY_OPERATOR: Final[dict[str, Any]] = {"source": SETTLEMENT, "role": "operator"}

OVER, LARGE = "transaction_limit_exceeded", "review_threshold_reached"
BOTH = f"{OVER} {LARGE}"

# fmt: off
CASES: list[tuple[PolicyRules, IntentCommand, dict[str, Any], str, str]] = [
    # rules                        command                  inputs                        outcome     reasons
    (ALL,                          _command(2**63 - 1),     {},                           "accepted", ""),
    (_rules(scopes=("default",)),  _command(),              {},                           "accepted", ""),
    (_rules(scopes=("lagos",)), _command(), {}, "denied", "scope_not_allowed"),
    (_rules(scopes=("lagos",)),    _command(scope="lagos"), {},                           "accepted", ""),
    (_rules(scopes=()), _command(), {}, "denied", "scope_not_allowed"),
    (ALL, _command(), {"source": SETTLEMENT}, "denied", "source_not_permitted"),
    (ALL,                          _command(),              BY_OPERATOR,                  "accepted", ""),
    (ALL,                          _command(),              {"source": None},             "accepted", ""),
    (_rules(**TX),                 _command(100),           {},                           "accepted", ""),
    (_rules(**TX),                 _command(101),           {},                           "denied",   OVER),
    (_rules(**TX),                 _command(101, **BOOK),   {},                           "accepted", ""),
    (_rules(currency="USD", **TX), _command(101),           {},                           "accepted", ""),
    (_rules(currency="*", **TX),   _command(101),           {},                           "denied",   OVER),
    (_rules(**DAILY),              _command(100),           _used(1, 900),                "accepted", ""),
    (_rules(**DAILY), _command(101), _used(1, 900), "denied", "daily_amount_exceeded"),
    (_rules(**DAILY),              _command(101, **BOOK),   _used(1, 900),                "accepted", ""),
    (_rules(**COUNT),              _command(),              _used(2, 0),                  "accepted", ""),
    (_rules(**COUNT), _command(), _used(3, 0), "denied", "daily_count_exceeded"),
    (_rules(**REVIEW),             _command(99),            {},                           "accepted", ""),
    (_rules(**REVIEW),             _command(100),           {},                           "review",   LARGE),
    (_rules(**REVIEW),             _command(100, **BOOK),   {},                           "accepted", ""),
    (_rules(**REVIEW),             _command(100),           _waives("review_threshold"),  "accepted", ""),
    (_rules(**REVIEW),             _command(100),           _waives("daily_amount"),      "review",   LARGE),
    (_rules(**TX, **REVIEW),       _command(101),           {},                           "denied",   BOTH),
    (_rules(**TX),                 _command(101),           _waives("transaction_limit"), "denied",   OVER),
    (_rules(**DAILY), _command(1), NONE_COUNTED, "denied", "velocity_unknown"),
    (_rules(**COUNT), _command(1), NONE_COUNTED, "denied", "velocity_unknown"),
    (_rules(**TX),                 _command(1),             NONE_COUNTED,                 "accepted", ""),
]
# fmt: on


@pytest.mark.parametrize(("rules", "command", "inputs", "outcome", "reasons"), CASES)
def test_each_rule_answers_at_its_boundary_and_the_worst_answer_wins(
    rules: PolicyRules, command: IntentCommand, inputs: dict[str, Any], outcome: str, reasons: str
) -> None:
    decision = _decide(rules, command, **inputs)
    assert (decision.outcome, " ".join(decision.reasons), decision.version) == (outcome, reasons, rules.version)
    assert decision.lane == {"accepted": "straight_through", "review": "manual", "denied": "blocked"}[outcome]


def test_a_waived_review_says_so() -> None:
    decision = _decide(_rules(**REVIEW), _command(100), waives=("review_threshold",))
    assert decision.results["review_threshold"] == "waived"


def test_every_rule_answers_even_when_one_has_denied() -> None:
    accepted = _decide(_rules(**TX), _command(1))
    denied = _decide(_rules(scopes=(), **TX), _command(101))
    assert set(denied.results) == set(accepted.results)


@pytest.mark.parametrize("outcome", ["accepted", "review", "denied"])
def test_velocity_is_taken_by_what_is_accepted_alone(outcome: str) -> None:
    extra: dict[str, Any] = {"accepted": {}, "review": REVIEW, "denied": {"transaction_minor_max": 1}}[outcome]
    decision = _decide(_rules(**DAILY, **extra), _command(100))
    assert decision.outcome == outcome
    assert decision.velocity == ((VelocityUse(KEY.counter, DAY),) if outcome == "accepted" else ())


# fmt: off
KEYS: list[tuple[PolicyRules, IntentCommand, tuple[VelocityKey, ...]]] = [
    (DEFAULT_RULES,    _command(),        ()),
    (_rules(**TX),     _command(),        ()),
    (_rules(**DAILY),  _command(),        (KEY,)),
    (_rules(**COUNT),  _command(),        (KEY,)),
    (_rules(**DAILY),  _command(**BOOK),  ()),
]
# fmt: on


@pytest.mark.parametrize(("rules", "command", "keys"), KEYS)
def test_only_counters_that_a_limit_needs_are_locked(
    rules: PolicyRules, command: IntentCommand, keys: tuple[VelocityKey, ...]
) -> None:
    assert velocity_keys(rules, "acme", command, DAY) == keys


def test_the_same_inputs_give_the_same_decision_whatever_else_is_counted() -> None:
    rules, command = _rules(**DAILY, **REVIEW), _command()
    other = structs.replace(KEY, counter="account/other")
    assert _decide(rules, command) == _decide(rules, command, usage={other: Usage(9, 9), KEY: Usage()})


# fmt: off
CHANGED: list[tuple[PolicyRules, IntentCommand, dict[str, Any]]] = [
    (_rules(**DAILY),                                _command(101),             {}),
    (_rules(**DAILY),                                _command(scope="lagos"),   {}),
    (_rules(**DAILY),                                _command(currency="USD"),  {}),
    (_rules(**DAILY),                                _command(),                {"tenant": "globex"}),
    (_rules(**DAILY),                                _command(),                {"role": "operator"}),
    (_rules(**DAILY),                                _command(),                {"source": SETTLEMENT}),
    (_rules(**DAILY),                                _command(),                {"source": None}),
    (_rules(**DAILY),                                _command(),                {"usage": {KEY: Usage(1, 0)}}),
    (_rules(**DAILY),                                _command(),                {"usage": {KEY: Usage(0, 1)}}),
    (_rules(**DAILY),                                _command(),                {"usage": {}}),
    (_rules(**DAILY),                                _command(),                {"waives": ("review_threshold",)}),
    (structs.replace(_rules(**DAILY), version=4),    _command(),                {}),
]
# fmt: on


def test_the_input_digest_changes_with_every_input() -> None:
    digests = [_decide(_rules(**DAILY), _command()).input_digest]
    digests += [_decide(rules, command, **inputs).input_digest for rules, command, inputs in CHANGED]
    usage = {structs.replace(KEY, day="2026-04-02"): Usage()}
    digests.append(_decide(_rules(**DAILY), _command(), day="2026-04-02", usage=usage).input_digest)
    assert len(set(digests)) == len(digests)
