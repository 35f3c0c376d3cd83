"""Typed conditions over the fields of a decision: JSON in, one plain function out.

    {"all": [...]}   {"any": [...]}   {"not": {...}}
    {"field": "amount", "op": ">=", "value": 100000}
    {"field": "country", "op": "in", "list": "embargoed", "default": ""}

Everything that can be known to be wrong is refused when a condition is read: unknown fields and operators, values of
another type, lists that are not there. What is left can fail only for want of a value, and then the condition has no
answer: it raises, and `not` cannot turn that into one. A `default` stands for a value that is missing; `present` and
`absent` ask whether there is one. Parts are asked in order, and no further than the answer needs."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from zentra.runtime.intents.command import Violation
from zentra.runtime.policy.fields import FieldType, field_of

__all__ = [
    "DEPTH_MAX", "OPERATORS", "PARTS_MAX", "Test", "Unanswerable", "compile_condition", "fields_in", "violations_in",
]  # fmt: skip

DEPTH_MAX: Final = 8
PARTS_MAX: Final = 256  # comparisons in one policy: some 30 microseconds

Values = Mapping[str, int | str | bool | None]
Test = Callable[[Values], bool]


class Unanswerable(Exception):
    """Raised by a condition that has no answer: a value is missing, or is not of its field's type."""


# fmt: off
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">=": lambda value, given: value >= given,
    "<=": lambda value, given: value <= given,
    ">":  lambda value, given: value > given,
    "<":  lambda value, given: value < given,
}
_EQUAL: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": lambda value, given: value == given,
    "!=": lambda value, given: value != given,
}
_TEXTUAL: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "starts_with": lambda value, given: value.startswith(given),
    "ends_with":   lambda value, given: value.endswith(given),
}
_MEMBER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "in":     lambda value, given: value in given,
    "not_in": lambda value, given: value not in given,
}
# fmt: on
_PRESENCE: Final = ("present", "absent")
_OPERATORS: Final[Mapping[FieldType, Mapping[str, Callable[[Any, Any], bool]]]] = {
    "integer": {**_EQUAL, **_ORDER, **_MEMBER},
    "text": {**_EQUAL, **_TEXTUAL, **_MEMBER},
    "flag": _EQUAL,
}
OPERATORS: Final = (*_EQUAL, *_ORDER, *_MEMBER, *_TEXTUAL, *_PRESENCE)
_TYPES: Final[Mapping[FieldType, type]] = {"integer": int, "text": str, "flag": bool}
_GROUPS: Final = ("all", "any")
_MEMBERS: Final = frozenset({"field", "op", "value", "list", "default"})


def violations_in(
    condition: Any, pointer: str, *, windows: Mapping[str, object], lists: Mapping[str, Collection[str]]
) -> list[Violation]:
    """Return everything that is wrong with a condition."""
    found: list[Violation] = []
    waiting: list[tuple[Any, str, int]] = [(condition, pointer, 1)]
    parts = 0
    while waiting:
        part, at, depth = waiting.pop()
        parts += 1
        if parts > PARTS_MAX or depth > DEPTH_MAX:
            limit = f"at most {PARTS_MAX} parts, {DEPTH_MAX} deep"
            return [*found, Violation(pointer, "condition_too_large", limit)]
        if not isinstance(part, dict):
            found.append(Violation(at, "condition_malformed", "a condition is an object"))
        elif len(part) == 1 and (group := next(iter(part))) in _GROUPS:
            members = part[group]
            if not isinstance(members, list) or not members:
                found.append(Violation(f"{at}/{group}", "condition_malformed", "a list of one condition or more"))
            else:
                waiting += [(one, f"{at}/{group}/{place}", depth + 1) for place, one in enumerate(members)]
        elif part.keys() == {"not"}:
            waiting.append((part["not"], f"{at}/not", depth + 1))
        else:
            found += _violations_of(part, at, windows, lists)
    return found


def _violations_of(
    part: dict[str, Any], at: str, windows: Mapping[str, object], lists: Mapping[str, Collection[str]]
) -> list[Violation]:
    """Return what is wrong with one comparison."""
    name, op = part.get("field"), part.get("op")
    if not part.keys() <= _MEMBERS or not isinstance(name, str) or not isinstance(op, str):
        detail = "all, any, not, or field and op with value or list"
        return [Violation(at, "condition_malformed", detail)]
    field = field_of(name, windows)
    if field is None:
        return [Violation(f"{at}/field", "condition_field_unknown", f"there is no field {name!r}")]
    if op in _PRESENCE:
        alone = part.keys() == {"field", "op"}
        return [] if alone else [Violation(at, "condition_malformed", f"{op} takes nothing but a field")]
    operators = _OPERATORS[field.type]
    if op not in operators:
        detail = f"{field.type} takes {', '.join((*operators, *_PRESENCE))}"
        return [Violation(f"{at}/op", "condition_operator_unknown", detail)]
    found = []
    if "default" in part and not _fits(part["default"], field.type):
        found.append(Violation(f"{at}/default", "condition_value_type", f"{name} is {field.type}"))
    if op not in _MEMBER:
        if "list" in part or "value" not in part or not _fits(part["value"], field.type):
            found.append(Violation(f"{at}/value", "condition_value_type", f"{name} is {field.type}"))
    elif ("list" in part) == ("value" in part):
        found.append(Violation(at, "condition_malformed", f"{op} takes either value or list"))
    elif "list" in part:
        if part["list"] not in lists or field.type != "text":
            detail = "names one of the policy's lists, which hold texts"
            found.append(Violation(f"{at}/list", "condition_list_unknown", detail))
    elif not isinstance(part["value"], list) or not all(_fits(one, field.type) for one in part["value"]):
        found.append(Violation(f"{at}/value", "condition_value_type", f"a list of {field.type}"))
    return found


def _fits(value: object, kind: FieldType) -> bool:
    return type(value) is _TYPES[kind] and (kind != "integer" or -(2**63) <= value < 2**63)  # type: ignore[operator]


def fields_in(condition: Any) -> set[str]:
    """Return the names of all fields that a valid condition looks at."""
    found: set[str] = set()
    waiting = [condition]
    while waiting:
        part = waiting.pop()
        if "field" in part:
            found.add(part["field"])
        elif "not" in part:
            waiting.append(part["not"])
        else:
            waiting += part["all" if "all" in part else "any"]
    return found


def compile_condition(condition: Any, *, windows: Mapping[str, object], lists: Mapping[str, Collection[str]]) -> Test:
    """Return a valid condition as a function of the values of its fields, which raises Unanswerable.

    Raises KeyError for what `violations_in` would have named."""
    if "all" in condition:
        return _all([compile_condition(one, windows=windows, lists=lists) for one in condition["all"]])
    if "any" in condition:
        return _any([compile_condition(one, windows=windows, lists=lists) for one in condition["any"]])
    if "not" in condition:
        inner = compile_condition(condition["not"], windows=windows, lists=lists)
        return lambda values: not inner(values)
    name, op = condition["field"], condition["op"]
    if op in _PRESENCE:
        wanted = op == "present"
        return lambda values: (values[name] is not None) is wanted
    field = field_of(name, windows)
    if field is None:
        raise KeyError(name)
    given = condition.get("value")
    if op in _MEMBER:
        given = frozenset(lists[condition["list"]] if "list" in condition else condition["value"])
    return _comparison(name, _TYPES[field.type], _OPERATORS[field.type][op], given, condition.get("default"))


def _comparison(name: str, kind: type, holds: Callable[[Any, Any], bool], given: Any, default: Any) -> Test:
    def test(values: Values) -> bool:
        value = values[name]
        if value is None:
            value = default
        if type(value) is not kind:
            raise Unanswerable(f"{name} has no value" if value is None else f"{name} is {type(value).__name__}")
        return holds(value, given)

    return test


def _all(tests: list[Test]) -> Test:
    return lambda values: all(one(values) for one in tests)


def _any(tests: list[Test]) -> Test:
    return lambda values: any(one(values) for one in tests)
