"""A tenant's rules made ready: conditions as functions, windows with their zone, and the list of what has to be read.

Rules are compiled once per version and process. What cannot be compiled (a zone that this machine does not have) lets
nothing pass."""

from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from zentra.runtime.policy.conditions import Test, compile_condition, fields_in
from zentra.runtime.policy.fields import VELOCITY, VELOCITY_FIGURES, Field, field_of
from zentra.runtime.policy.rules import PolicyRules, Rule, Window
from zentra.runtime.policy.scoring import RISK_WINDOWS

__all__ = ["CompiledRule", "Program", "program_of"]

PROGRAMS_MAX: Final = 4_096


class CompiledRule(Struct, frozen=True):
    """A rule, its condition as a function, and the fields that it looks at."""

    rule: Rule
    test: Test
    fields: tuple[str, ...]


class Program(Struct, frozen=True):
    """Rules, ready to be asked. `failure` says why they cannot be; then nothing else is there."""

    rules: PolicyRules
    zone: ZoneInfo | None = None
    windows: dict[str, Window] = {}
    tests: tuple[CompiledRule, ...] = ()
    fields: dict[str, Field] = {}
    figures: tuple[tuple[str, str, int], ...] = ()  # velocity fields: name, window, place in (count, minor)
    failure: str = ""


_programs: dict[int, Program] = {}


def program_of(rules: PolicyRules) -> Program:
    """Return the program of these very rules; it is kept as long as they may be asked for again."""
    known = _programs.get(id(rules))
    if known is not None and known.rules is rules:
        return known
    if len(_programs) >= PROGRAMS_MAX:
        _programs.clear()
    made = _programs[id(rules)] = _compiled(rules)
    return made


def _compiled(rules: PolicyRules) -> Program:
    if rules.unusable:
        return Program(rules, failure=rules.unusable)
    try:
        windows = {**rules.windows, **(RISK_WINDOWS if rules.risk is not None else {})}
        tests = tuple(
            CompiledRule(
                rule,
                compile_condition(rule.when, windows=rules.windows, lists=rules.lists),
                tuple(sorted(fields_in(rule.when))),
            )
            for rule in rules.rules
        )
        named = sorted({name for test in tests for name in test.fields})
        fields = {name: field for name in named if (field := field_of(name, rules.windows)) is not None}
        figures = tuple(_figure(name) for name in fields if name.startswith(VELOCITY))
        zone = None if rules.time_zone == "UTC" else ZoneInfo(rules.time_zone)
    except Exception as error:  # whatever is wrong with them, they let nothing pass
        return Program(rules, failure=f"{type(error).__name__}: {error}")
    return Program(rules, zone, windows, tests, fields, figures)


def _figure(name: str) -> tuple[str, str, int]:
    window, _, figure = name[len(VELOCITY) :].rpartition(".")
    return name, window, VELOCITY_FIGURES.index(figure)
