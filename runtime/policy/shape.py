"""The size and the shape of a policy document, before anything looks at what it says.

- What is too large is refused after one walk that ends at the bound, so that nothing behind it can be made expensive.
- What has another shape is named by its place, found by converting each member of an object at most once a level."""

import re
from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from zentra.runtime.intents.command import Violation
from zentra.runtime.pointers import escaped
from zentra.runtime.policy.rules import PolicyRules

__all__ = ["DEPTH_MAX", "MEMBERS_MAX", "NAME_CHARS_MAX", "misshaped", "oversized"]

MEMBERS_MAX: Final = 16_384  # values in all: ten thousand entries of lists, and a hundred rules at their largest
KEYS_MAX: Final = 4_096  # of these, the members of objects
DEPTH_MAX: Final = 32  # a condition that is eight deep, with a list in it, has 22
NAME_CHARS_MAX: Final = 128
_AT: Final = re.compile(r"(?P<detail>.*) - at `(?:key in )?\$(?P<path>[^`]*)`\Z", re.DOTALL)
_STEP: Final = re.compile(r"\.([a-z_]+)|\[(\.\.\.|\d+)\]")
_UNKNOWN: Final = re.compile(r"unknown field `(.*)`\Z", re.DOTALL)


def oversized(document: Any) -> Violation | None:
    """Return what is too much of a JSON value: its depth, its values, or the length of a name; None where it fits."""
    waiting: list[tuple[Any, int]] = [(document, 1)]
    members = keys = 0
    while waiting:
        value, depth = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        if depth > DEPTH_MAX:
            return Violation("", "policy_too_large", f"at most {DEPTH_MAX} deep")
        members += len(value)
        keys += len(value) if isinstance(value, dict) else 0
        if members > MEMBERS_MAX or keys > KEYS_MAX:
            limit = f"at most {KEYS_MAX} members of objects, {MEMBERS_MAX} with what lists hold"
            return Violation("", "policy_too_large", limit)
        if isinstance(value, dict) and any(len(name) > NAME_CHARS_MAX for name in value):
            return Violation("", "policy_too_large", f"a name has at most {NAME_CHARS_MAX} characters")
        waiting += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]
    return None


def misshaped(document: Mapping[str, Any], sentence: str) -> Violation:
    """Return what the shape of a document breaks: msgspec's sentence, with its path as a JSON pointer."""
    found = _AT.match(sentence)
    detail, path = (sentence, "") if found is None else (found["detail"], found["path"])
    steps = _named(document, [name or place for name, place in _STEP.findall(path)])
    unknown = _UNKNOWN.search(detail)
    if unknown is not None:
        return Violation(_pointer([*steps, unknown[1]]), "field_unknown", "no such field")
    return Violation(_pointer(steps), "field_missing" if "missing" in detail else "field_type", detail.lower())


def _named(document: Mapping[str, Any], steps: list[str]) -> list[str]:
    """Return the steps with names in the places of `...`, which is how msgspec calls the members of an object."""
    named: list[str] = []
    place: Any = document
    kind: Any = PolicyRules
    for step in steps:
        if isinstance(place, list):
            kind, place = get_args(kind)[0], place[int(step)]
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
            step = next(name for name, one in place.items() if not _converts(one, kind))
            place = place[step]
        else:
            kind, place = _bare(get_type_hints(kind)[step]), place[step]
        named.append(step)
    return named


def _bare(kind: Any) -> Any:
    """Return a type without the None beside it."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return kinds[0] if type(None) in get_args(kind) else kind


def _converts(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _pointer(steps: list[str]) -> str:
    return "".join(f"/{escaped(step)}" for step in steps)
