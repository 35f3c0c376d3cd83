"""Policy documents: everything that is wrong with one is named, and what is right says the same after a round trip."""

from time import process_time
from typing import Any, Final

import pytest
from msgspec import json, structs

from zentra.runtime.policy.document import (
    DOCUMENT_BYTES_MAX,
    digest_of_document,
    document_of,
    parse_policy,
    policy_schema,
    rules_of,
    unknown_names,
)
from zentra.runtime.policy.rules import DEFAULT_RULES, Limits, PolicyRules, is_plain

WHEN: Final = {"field": "amount", "op": ">", "value": 1}
RULE: Final = {"name": "large", "when": WHEN, "outcome": "review", "reason": "large"}
ALLOW: Final = {"name": "known", "when": WHEN, "outcome": "allow", "waives": ["large"]}
HOUR: Final = {"by": "account", "rolling_seconds": 3600}
FULL: Final[dict[str, Any]] = {
    "scopes": ["default"],
    "limits": {"NGN": {"transaction_minor_max": 5}, "*": {"daily_count_max": 9}},
    "time_zone": "Africa/Lagos",
    "windows": {"hour": {**HOUR, "limits": {"NGN": {"count_max": 3, "outcome": "review"}}},
                "month": {"by": "corridor", "calendar": "month", "kinds": ["payment"]}},
    "lists": {"blocked": ["a"]},
    "rules": [RULE, ALLOW, {**RULE, "name": "listed", "when": {"field": "source.id", "op": "in", "list": "blocked"}}],
    "risk": {"deny_min": 90},
}  # fmt: skip


def _of(**window: Any) -> dict[str, Any]:
    return {"windows": {"w": {"by": "account", "calendar": "day", **window}}}


def _nested(depth: int) -> dict[str, Any]:
    when: dict[str, Any] = {}
    for _ in range(depth - 4):
        when = {"not": when}
    return {"rules": [{**RULE, "when": when}]}


# fmt: off
WRONG: list[tuple[Any, str, str]] = [
    ([],                                                    "",                                 "body_not_object"),
    ({"version": 1},                                        "/version",                         "field_unknown"),
    ({"unusable": ""},                                      "/unusable",                        "field_unknown"),
    ({"rule": []},                                          "/rule",                            "field_unknown"),
    ({"a/b - at `$.rules[5]`": 1},                          "/a~1b - at `$.rules[5]`",           "field_unknown"),
    ({"limits": {"NGN": {"x` - at `$.rules[5]": 1}}},       "/limits/NGN/x` - at `$.rules[5]",  "field_unknown"),
    ({"limits": {"...": 1}},                                "/limits/...",                      "field_type"),
    (_of(limits={"USD": {}, "NGN": {"count_max": "1"}}),    "/windows/w/limits/NGN/count_max",  "field_type"),
    ({"risk": {"review_min": "x"}},                         "/risk/review_min",                 "field_type"),
    ({"compliance": {"lists": ["a", 1]}},                   "/compliance/lists/1",              "field_type"),
    ({"limits": {f"{n:03}": {} for n in range(4097)}},      "",                                 "policy_too_large"),
    ({"lists": {"a": ["x"] * 16_384}},                      "",                                 "policy_too_large"),
    ({"limits": {"N" * 129: {}}},                           "",                                 "policy_too_large"),
    (_nested(33),                                           "",                                 "policy_too_large"),
    (_nested(900),                                          "",                                 "policy_too_large"),
    ({"rules": {}},                                         "/rules",                           "field_type"),
    ({"rules": [{"name": "a"}]},                            "/rules/0",                         "field_missing"),
    ({"limits": {"USD": {}, "NGN": {"daily_max": 1}}},      "/limits/NGN/daily_max",            "field_unknown"),
    ({"limits": {"NGN": {"daily_minor_max": 1.5}}},         "/limits/NGN/daily_minor_max",      "field_type"),
    ({"limits": {"NGN": {"daily_minor_max": -1}}},          "/limits/NGN/daily_minor_max",      "limit_malformed"),
    ({"limits": {"NGN": {"daily_minor_max": 2**63}}},       "/limits/NGN/daily_minor_max",      "limit_malformed"),
    ({"limits": {"ngn": {}}},                               "/limits/ngn",                      "currency_unknown"),
    ({"time_zone": "Mars"},                                 "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "localtime"},                            "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "posixrules"},                           "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "US/Eastern"},                           "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "right/Africa/Lagos"},                   "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "Africa"},                               "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "Africa/../Africa/Lagos"},               "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "Africa/Nowhere"},                       "/time_zone",                       "time_zone_unknown"),
    ({"time_zone": "../etc"},                               "/time_zone",                       "time_zone_unknown"),
    (_of(by="owner"),                                       "/windows/w/by",                    "window_malformed"),
    (_of(rolling_seconds=60),                               "/windows/w",                       "window_malformed"),
    (_of(calendar=None),                                    "/windows/w",                       "window_malformed"),
    (_of(calendar="year"),                                  "/windows/w/calendar",              "window_malformed"),
    (_of(calendar=None, rolling_seconds=9, buckets=1),      "/windows/w/rolling_seconds",       "window_malformed"),
    (_of(calendar=None, rolling_seconds=2_678_401),         "/windows/w/rolling_seconds",       "window_malformed"),
    (_of(calendar=None, rolling_seconds=10, buckets=11),    "/windows/w/buckets",               "window_malformed"),
    (_of(buckets=0),                                        "/windows/w/buckets",               "window_malformed"),
    (_of(buckets=61),                                       "/windows/w/buckets",               "window_malformed"),
    (_of(kinds=[]),                                         "/windows/w/kinds",                 "window_malformed"),
    (_of(kinds=["gift"]),                                   "/windows/w/kinds",                 "kind_unknown"),
    (_of(limits={"NGN": {"outcome": "allow"}}),             "/windows/w/limits/NGN/outcome",    "outcome_unknown"),
    (_of(limits={"NGN": {"count_max": -1}}),                "/windows/w/limits/NGN/count_max",  "limit_malformed"),
    ({"windows": {"W": HOUR}},                              "/windows/W",                       "name_malformed"),
    ({"windows": {f"w{n}": HOUR for n in range(17)}},       "/windows",                         "policy_too_large"),
    ({"lists": {"A": []}},                                  "/lists/A",                         "name_malformed"),
    ({"lists": {"a": [1]}},                                 "/lists/a/0",                       "field_type"),
    ({"lists": {"a": ["x"] * 10_001}},                      "/lists",                           "policy_too_large"),
    ({"rules": [RULE, RULE]},                               "/rules/1/name",                    "rule_name_taken"),
    ({"rules": [{**RULE, "name": "daily_count"}]},          "/rules/0/name",                    "rule_name_taken"),
    ({"rules": [{**RULE, "name": "Large"}]},                "/rules/0/name",                    "name_malformed"),
    ({"rules": [{**RULE, "outcome": "accept"}]},            "/rules/0/outcome",                 "outcome_unknown"),
    ({"rules": [{**RULE, "reason": ""}]},                   "/rules/0/reason",                  "name_malformed"),
    ({"rules": [{**RULE, "lane": "a b"}]},                  "/rules/0/lane",                    "name_malformed"),
    ({"rules": [{**RULE, "waives": ["risk"]}]},             "/rules/0/waives",                  "rule_malformed"),
    ({"rules": [RULE, {**ALLOW, "waives": []}]},            "/rules/1/waives",                  "field_missing"),
    ({"rules": [RULE, {**ALLOW, "reason": "x"}]},           "/rules/1",                         "rule_malformed"),
    ({"rules": [ALLOW]},                                    "/rules/0/waives",                  "rule_not_waivable"),
    ({"rules": [{**RULE, "outcome": "deny"}, ALLOW]},       "/rules/1/waives",                  "rule_not_waivable"),
    ({"rules": [{**ALLOW, "waives": ["daily_count"]}]},     "/rules/0/waives",                  "rule_not_waivable"),
    ({"rules": [{**RULE, "when": {"field": "x"}}]},         "/rules/0/when",                    "condition_malformed"),
    ({"rules": [{**RULE, "when": {"field": "risk.score", "op": ">", "value": 1}}]}, "/rules/0/when",
                                                                                                "condition_field_unknown"),
    ({"risk": {"review_min": 101}},                         "/risk/review_min",                 "risk_malformed"),
    ({"risk": {"on_error": "accept"}},                      "/risk/on_error",                   "outcome_unknown"),
    ({"risk": {"velocity_full": 0}},                        "/risk/velocity_full",              "risk_malformed"),
    ({"risk": {"amount_full_percent": 100}},                "/risk/amount_full_percent",        "risk_malformed"),
]
# fmt: on


@pytest.mark.parametrize(("document", "pointer", "code"), WRONG)
def test_what_is_wrong_with_a_document_is_named(document: Any, pointer: str, code: str) -> None:
    rules, violations = parse_policy(document)
    assert rules is None
    assert [(one.pointer, one.code) for one in violations] == [(pointer, code)]


def _largest() -> dict[str, Any]:
    """Documents of about 64 KiB that are as much work as they can be, each in its own way."""
    limits: dict[str, Any] = {
        f"{chr(65 + n // 676)}{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}": {} for n in range(3_000)
    }
    condition = {"any": [{"field": "metadata.k", "op": "==", "value": "x"}] * 200}
    return {
        "unknown member last": {"limits": {**limits, "ZZZ": {"x": 1}}},
        "unknown member in a window": {"windows": {"w": {**HOUR, "limits": {**limits, "ZZZ": {"x": 1}}}}},
        "every key malformed": {"limits": {name.lower(): {"daily_minor_max": -1} for name in list(limits)[:1900]}},
        "windows of windows": {"windows": {f"w{n}": {**HOUR, "limits": {key: {} for key in list(limits)[:220]}}
                                           for n in range(16)}},
        "names that waive nothing": {"rules": [{**ALLOW, "waives": [""] * 16_000}]},
        "rules without end": {"rules": [{"name": "", "when": {}, "outcome": ""}] * 1_000},
        "large conditions": {"rules": [{**RULE, "name": f"r{n}", "when": condition} for n in range(6)]},
        "a wrong entry at the end": {"lists": {"a": [*(["x"] * 10_000), 1]}},
        "lists of one entry": {"lists": {f"l{n}": ["x"] for n in range(4_000)}},
        "flat and endless": {"lists": {"a": [[]] * 21_000}},
        "deep": _nested(900),
    }  # fmt: skip


@pytest.mark.parametrize("name", _largest())
def test_the_largest_document_is_judged_within_twenty_milliseconds(name: str) -> None:
    document = _largest()[name]
    assert len(json.encode(document)) <= DOCUMENT_BYTES_MAX
    taken = []
    for _ in range(3):
        before = process_time()
        _, violations = parse_policy(document)
        taken.append(process_time() - before)
    assert violations
    assert len(violations) <= 100
    assert min(taken) < 0.020


# fmt: off
NAMES: list[tuple[Any, str, str]] = [
    ({"risk": {"scorer": "mine"}},                          "",                                 ""),
    ({"risk": {}},                                          "",                                 ""),
    ({"risk": {"scorer": "theirs"}},                        "/risk/scorer",                     "scorer_unknown"),
    ({"compliance": {"lists": ["ofac.sdn"]}},               "",                                 ""),
    ({"compliance": {"lists": ["ofac.sdn", "un"]}},       "/compliance/lists/1",           "screening_list_unknown"),
]
# fmt: on


@pytest.mark.parametrize(("document", "pointer", "code"), NAMES)
def test_names_are_those_of_the_installation(document: Any, pointer: str, code: str) -> None:
    rules, violations = parse_policy(document)
    assert rules is not None, violations
    found = unknown_names(rules, scorers=("mine",), lists=("ofac.sdn",))
    assert [(one.pointer, one.code) for one in found] == ([(pointer, code)] if code else [])


@pytest.mark.parametrize("name", ["UTC", "Africa/Lagos", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+1"])
def test_a_zone_is_one_that_every_machine_has(name: str) -> None:
    assert parse_policy({"time_zone": name})[1] == []


def test_everything_that_is_wrong_is_named_at_once() -> None:
    document = {"time_zone": "Mars", "rules": [{**RULE, "outcome": "x"}], "windows": {"w": {"by": "x"}}}
    codes = [one.code for one in parse_policy(document)[1]]
    assert codes == ["time_zone_unknown", "window_malformed", "window_malformed", "outcome_unknown"]


def test_a_document_says_the_same_after_a_round_trip() -> None:
    rules, violations = parse_policy(FULL)
    assert violations == []
    assert rules is not None
    assert parse_policy(document_of(rules)) == (rules, [])
    assert rules_of(document_of(structs.replace(rules, version=7)), 7) == structs.replace(rules, version=7)


def test_only_scopes_and_limits_are_plain() -> None:
    assert is_plain(DEFAULT_RULES)
    assert is_plain(PolicyRules(scopes=("a",), limits={"NGN": Limits(daily_count_max=1)}, lists={"a": ()}))
    for name in ("windows", "rules", "risk"):
        part = {name: FULL[name], "lists": FULL["lists"]}
        rules = parse_policy(part)[0]
        assert rules is not None
        assert not is_plain(rules)
    assert not is_plain(PolicyRules(unusable="why"))


def test_what_was_stored_with_its_version_is_still_read() -> None:
    stored = {"version": 4, "scopes": None, "limits": {"NGN": {"transaction_minor_max": 5, "daily_minor_max": None}}}
    assert rules_of(stored, 4) == PolicyRules(version=4, limits={"NGN": Limits(transaction_minor_max=5)})


def test_a_digest_is_of_what_was_written_in_whatever_order() -> None:
    assert digest_of_document({"a": 1, "b": [2]}) == digest_of_document({"b": [2], "a": 1})
    assert digest_of_document({"a": 1}) != digest_of_document({"a": 2})


def test_the_schema_names_every_part_of_a_document() -> None:
    schema = policy_schema()
    assert set(schema["properties"]) == {field.name for field in structs.fields(PolicyRules)} - {"version", "unusable"}
