"""Typed conditions: what is wrong is refused when they are read, and what has no answer raises instead of passing."""

from typing import Any, Final

import pytest

from zentra.runtime.policy.conditions import PARTS_MAX, Unanswerable, compile_condition, fields_in, violations_in
from zentra.runtime.policy.rules import Window

WINDOWS: Final = {"hour": Window(by="account", rolling_seconds=3600)}
LISTS: Final = {"blocked": ("a", "b"), "none": ()}
VALUES: Final[dict[str, Any]] = {
    "amount": 100, "currency": "NGN", "country": None, "metadata.purpose": "rent", "velocity.hour.count": 3, "hour": 9,
}  # fmt: skip


def _is(field: str, op: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "op": op, **more}


YES: Final = _is("amount", "==", value=100)
NO: Final = _is("amount", "==", value=1)
UNKNOWN: Final = _is("country", "==", value="NG")

# fmt: off
ANSWERS: list[tuple[dict[str, Any], bool]] = [
    (_is("amount", ">=", value=100),                          True),
    (_is("amount", ">", value=100),                           False),
    (_is("amount", "<=", value=100),                          True),
    (_is("amount", "<", value=100),                           False),
    (_is("amount", "!=", value=99),                           True),
    (_is("amount", "in", value=[1, 100]),                     True),
    (_is("amount", "not_in", value=[1, 100]),                 False),
    (_is("currency", "==", value="NGN"),                      True),
    (_is("currency", "starts_with", value="NG"),              True),
    (_is("currency", "ends_with", value="NG"),                False),
    (_is("currency", "in", list="blocked"),                   False),
    (_is("currency", "not_in", list="none"),                  True),
    (_is("country", "present"),                               False),
    (_is("country", "absent"),                                True),
    (_is("country", "==", value="NG", default="NG"),          True),
    (_is("country", "!=", value="NG", default="NG"),          False),
    (_is("metadata.purpose", "==", value="rent"),             True),
    (_is("velocity.hour.count", ">=", value=3),               True),
    ({"all": [YES, YES]},                                     True),
    ({"all": [YES, NO]},                                      False),
    ({"all": [NO, UNKNOWN]},                                  False),
    ({"any": [NO, YES]},                                      True),
    ({"any": [NO, NO]},                                       False),
    ({"any": [YES, UNKNOWN]},                                 True),
    ({"not": NO},                                             True),
    ({"not": {"any": [NO, {"all": [YES, {"not": YES}]}]}},    True),
]
UNANSWERABLE: list[dict[str, Any]] = [
    UNKNOWN,
    {"not": UNKNOWN},
    {"not": {"not": UNKNOWN}},
    {"any": [UNKNOWN, YES]},
    {"any": [NO, UNKNOWN]},
    {"all": [UNKNOWN, NO]},
    _is("country", "not_in", list="blocked"),
    _is("country", "!=", value="NG"),
    _is("country", "starts_with", value=""),
]
REFUSED: list[tuple[Any, str, str]] = [
    # condition                                        where              code
    ("amount > 1",                                     "",                "condition_malformed"),
    ({},                                               "",                "condition_malformed"),
    ({"all": []},                                      "/all",            "condition_malformed"),
    ({"all": YES},                                     "/all",            "condition_malformed"),
    ({"all": [YES], "any": [YES]},                     "",                "condition_malformed"),
    ({"not": []},                                      "/not",            "condition_malformed"),
    ({"all": [YES, {"field": "amount"}]},              "/all/1",          "condition_malformed"),
    ({**YES, "extra": 1},                              "",                "condition_malformed"),
    (_is("amout", "==", value=1),                      "/field",          "condition_field_unknown"),
    (_is("metadata.", "==", value=""),                 "/field",          "condition_field_unknown"),
    (_is("velocity.day.count", ">", value=1),          "/field",          "condition_field_unknown"),
    (_is("velocity.hour.mean", ">", value=1),          "/field",          "condition_field_unknown"),
    (_is("currency", ">", value="A"),                  "/op",             "condition_operator_unknown"),
    (_is("amount", "starts_with", value=1),            "/op",             "condition_operator_unknown"),
    (_is("amount", "matches", value=1),                "/op",             "condition_operator_unknown"),
    (_is("amount", ">"),                               "/value",          "condition_value_type"),
    (_is("amount", ">", value="100"),                  "/value",          "condition_value_type"),
    (_is("amount", ">", value=1.5),                    "/value",          "condition_value_type"),
    (_is("amount", ">", value=True),                   "/value",          "condition_value_type"),
    (_is("amount", ">", value=2**63),                  "/value",          "condition_value_type"),
    (_is("amount", ">", value=None),                   "/value",          "condition_value_type"),
    (_is("currency", "==", value=1),                   "/value",          "condition_value_type"),
    (_is("currency", "==", value="NGN", default=1),    "/default",        "condition_value_type"),
    (_is("currency", "==", list="blocked"),            "/value",          "condition_value_type"),
    (_is("amount", "in", value=100),                   "/value",          "condition_value_type"),
    (_is("amount", "in", value=[1, "2"]),              "/value",          "condition_value_type"),
    (_is("amount", "in", list="blocked"),              "/list",           "condition_list_unknown"),
    (_is("currency", "in", list="nowhere"),            "/list",           "condition_list_unknown"),
    (_is("currency", "in"),                            "",                "condition_malformed"),
    (_is("currency", "in", list="none", value=[]),     "",                "condition_malformed"),
    (_is("country", "present", value="NG"),            "",                "condition_malformed"),
]
# fmt: on


@pytest.mark.parametrize(("condition", "answer"), ANSWERS)
def test_a_condition_answers(condition: dict[str, Any], answer: bool) -> None:
    assert violations_in(condition, "", windows=WINDOWS, lists=LISTS) == []
    assert compile_condition(condition, windows=WINDOWS, lists=LISTS)(VALUES) is answer


@pytest.mark.parametrize("condition", UNANSWERABLE)
def test_what_has_no_answer_raises_and_not_cannot_make_it_one(condition: dict[str, Any]) -> None:
    assert violations_in(condition, "", windows=WINDOWS, lists=LISTS) == []
    with pytest.raises(Unanswerable):
        compile_condition(condition, windows=WINDOWS, lists=LISTS)(VALUES)


@pytest.mark.parametrize(("condition", "where", "code"), REFUSED)
def test_what_can_be_known_to_be_wrong_is_refused_when_it_is_read(condition: Any, where: str, code: str) -> None:
    found = violations_in(condition, "/when", windows=WINDOWS, lists=LISTS)
    assert [(one.pointer, one.code) for one in found] == [(f"/when{where}", code)]


@pytest.mark.parametrize("value", ["100", 100.0, True, b"100", [100]])
def test_a_value_of_another_type_is_no_value(value: Any) -> None:
    with pytest.raises(Unanswerable):
        compile_condition(NO, windows=WINDOWS, lists=LISTS)({"amount": value})


def test_a_condition_is_bounded_in_depth_and_in_parts() -> None:
    deep: Any = YES
    for _ in range(8):
        deep = {"not": deep}
    for condition in (deep, {"all": [YES] * PARTS_MAX}):
        found = violations_in(condition, "", windows=WINDOWS, lists=LISTS)
        assert [one.code for one in found] == ["condition_too_large"]


def test_every_field_of_a_condition_is_found() -> None:
    assert fields_in({"any": [{"not": UNKNOWN}, {"all": [YES, _is("hour", ">", value=1)]}]}) == {
        "country", "amount", "hour",
    }  # fmt: skip
