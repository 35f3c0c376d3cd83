"""Routing: which corridor fits, which rail is next, and that nothing is tried while an outcome is unknown."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Attempt
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.rails.operating import Maintenance, RailOperation
from zentra.runtime.rails.routing import (
    NOT_NOW,
    Corridor,
    RailRoute,
    choose,
    cost_of,
    find_corridor,
    parse_reference,
    reference_of,
)

AT: Final = datetime(2026, 4, 1, tzinfo=UTC)
INTENT: Final = "0190a0b0c0d070008000000000000001"
ANYWHERE: Final = Corridor("acme", "anywhere", "NGN", "transfer", ("one", "two", "three"))
NIGERIA: Final = structs.replace(ANYWHERE, name="nigeria", country="NG")
LARGE: Final = structs.replace(ANYWHERE, name="large", minor_min=101, minor_max=200)
ALL: Final = frozenset({"one", "two", "three"})


def _command(minor: int = 100, **changes: Any) -> IntentCommand:
    base = IntentCommand(kind=IntentKind.TRANSFER, minor=str(minor), currency="NGN", source="a", destination="b")
    return structs.replace(base, **changes)


def _attempts(*statuses: str) -> list[Attempt]:
    rails = ("one", "two", "three")
    return [Attempt(n + 1, rails[n], reference_of(INTENT, n + 1), AT, status) for n, status in enumerate(statuses)]


# fmt: off
FITTING: list[tuple[list[Corridor], IntentCommand, str | None]] = [
    ([],                  _command(),                          None),
    ([ANYWHERE],          _command(),                          "anywhere"),
    ([ANYWHERE, NIGERIA], _command(),                          "anywhere"),
    ([ANYWHERE, NIGERIA], _command(country="NG"),              "nigeria"),
    ([NIGERIA],           _command(),                          None),
    ([NIGERIA],           _command(country="GH"),              None),
    ([ANYWHERE],          _command(currency="USD"),            None),
    ([ANYWHERE],          _command(kind=IntentKind.PAYMENT),   None),
    ([LARGE],             _command(100),                       None),
    ([LARGE],             _command(101),                       "large"),
    ([LARGE],             _command(200),                       "large"),
    ([LARGE],             _command(201),                       None),
]

FIRST, NEXT = "first rail", "the rail before it did not accept"
LEFT, UNKNOWN = "no_rail_left", "outcome_unknown"
NOT: Final = "not_accepted"
CHOICES: list[tuple[tuple[str, ...], frozenset[str], str | None, str, str]] = [
    # attempts              available           rail     reason   considered
    ((),                    ALL,                "one",   FIRST,   "chosen not_needed not_needed"),
    ((),                    ALL - {"one"},      "two",   FIRST,   "unavailable chosen not_needed"),
    ((),                    frozenset(),        None,    LEFT,    "unavailable unavailable unavailable"),
    ((NOT,),                ALL,                "two",   NEXT,    "not_accepted chosen not_needed"),
    ((NOT,),                frozenset({"one"}), None,    LEFT,    "not_accepted unavailable unavailable"),
    ((NOT, NOT),            ALL,                "three", NEXT,    "not_accepted not_accepted chosen"),
    ((NOT, NOT, NOT),       ALL,                None,    LEFT,    "not_accepted not_accepted not_accepted"),
    (("started",),          ALL,                None,    UNKNOWN, "started not_needed not_needed"),
    (("contradicted", NOT), ALL,                None,    UNKNOWN, "contradicted not_accepted not_needed"),
    (("succeeded",),        ALL,                None,    UNKNOWN, "succeeded not_needed not_needed"),
    (("declined",),         ALL,                None,    UNKNOWN, "declined not_needed not_needed"),
]
# fmt: on


@pytest.mark.parametrize(("corridors", "command", "name"), FITTING)
def test_the_most_specific_corridor_that_fits_is_found_in_any_order(
    corridors: list[Corridor], command: IntentCommand, name: str | None
) -> None:
    for order in (corridors, corridors[::-1]):
        found = find_corridor(order, command)
        assert (found.name if found else None) == name


@pytest.mark.parametrize(("statuses", "available", "rail", "reason", "considered"), CHOICES)
def test_the_next_rail_is_tried_only_after_one_that_did_not_accept(
    statuses: tuple[str, ...], available: frozenset[str], rail: str | None, reason: str, considered: str
) -> None:
    choice = choose(ANYWHERE, _attempts(*statuses), available)
    assert (choice.rail, choice.reason) == (rail, reason)
    assert choice.considered == dict(zip(ANYWHERE.rails, considered.split(), strict=True))


# fmt: off
A, B, C = RailRoute("one", 1, 1), RailRoute("two", 1, 3), RailRoute("three", 2)
SOME: Final = structs.replace(A, minor_max=99)
JUST: Final = structs.replace(A, minor_max=100)
HEAVY: Final = structs.replace(C, weight=10**6)
THERE: Final = structs.replace(A, countries=("GH",))
ASKED: list[tuple[tuple[RailRoute, ...], dict[str, str], str | None, str, str]] = [
    # rails      not asked now                 rail     reason          considered
    ((SOME, C),  {},                           "three", FIRST,          "amount_mismatch chosen"),
    ((THERE, C), {},                           "three", FIRST,          "country_mismatch chosen"),
    ((A, C),     {"one": "circuit_open"},      "three", FIRST,          "circuit_open chosen"),
    ((A, C),     {"one": "maintenance"},       "three", FIRST,          "maintenance chosen"),
    ((A, C),     {"three": "draining"},        "one",   FIRST,          "chosen draining"),
    ((A,),       {"one": "no_capacity"},       None,    "no_rail_now",  "no_capacity"),
    ((A, C),     {"one": "circuit_open", "three": "draining"}, None, "no_rail_now", "circuit_open draining"),
    ((SOME,),    {},                           None,    LEFT,           "amount_mismatch"),
    ((SOME, C),  {"three": "maintenance"},     None,    "no_rail_now",  "amount_mismatch maintenance"),
    ((SOME,),    {"one": "maintenance"},       None,    LEFT,           "amount_mismatch"),
    ((JUST, C),  {},                           "one",   FIRST,          "chosen not_needed"),
    ((A, HEAVY), {},                           "one",   FIRST,          "chosen not_needed"),
]
# fmt: on


@pytest.mark.parametrize(("routes", "blocked", "rail", "reason", "considered"), ASKED)
def test_a_rail_is_asked_where_it_takes_the_intent_and_can_be_asked_now(
    routes: tuple[RailRoute, ...], blocked: dict[str, str], rail: str | None, reason: str, considered: str
) -> None:
    names = tuple(route.rail for route in routes)
    corridor = structs.replace(ANYWHERE, rails=names, routes=routes)
    choice = choose(corridor, (), ALL, intent=INTENT, minor=100, country="NG", blocked=blocked)
    assert (choice.rail, choice.reason) == (rail, reason)
    assert choice.considered == dict(zip(names, considered.split(), strict=True))


def test_rails_of_one_priority_share_intents_by_their_weights_and_an_intent_keeps_its_lot() -> None:
    corridor = structs.replace(ANYWHERE, routes=(A, B, C))
    drawn = Counter(choose(corridor, (), ALL, intent=f"{n:032x}").rail for n in range(4_000))
    assert drawn["three"] == 0
    assert drawn["two"] == pytest.approx(3_000, abs=150)
    assert {choose(corridor, (), ALL, intent=INTENT).rail for _ in range(3)} == {
        choose(corridor, (), ALL, intent=INTENT, minor=77).rail
    }


def test_a_weight_of_nothing_is_for_when_no_other_can() -> None:
    spare = structs.replace(ANYWHERE, routes=(structs.replace(A, weight=0), B))
    assert {choose(spare, (), ALL, intent=f"{n:032x}").rail for n in range(50)} == {"two"}
    assert choose(spare, (), ALL, blocked={"two": "circuit_open"}).rail == "one"


@pytest.mark.parametrize(("minor", "rail"), [(1_000, "one"), (10_000, "two")])
def test_the_cheapest_for_the_amount_is_asked_where_a_corridor_prefers_that(minor: int, rail: str) -> None:
    dear, flat = structs.replace(A, cost_bps=100), structs.replace(B, cost_minor=50)
    corridor = structs.replace(ANYWHERE, routes=(dear, flat), prefer="cost")
    assert choose(corridor, (), ALL, intent=INTENT, minor=minor).rail == rail
    assert (cost_of(dear, 1_099), cost_of(flat, 1_099)) == (10, 50)


@given(
    st.permutations([A, B, C]),
    st.dictionaries(st.sampled_from(["one", "two", "three"]), st.sampled_from(sorted(NOT_NOW))),
    st.lists(st.sampled_from(["started", "not_accepted", "declined"]), max_size=2),
)
def test_the_same_inputs_choose_the_same_rail_in_any_order_and_never_one_that_is_blocked_or_tried(
    routes: list[RailRoute], blocked: dict[str, str], statuses: list[str]
) -> None:
    attempts = _attempts(*statuses)
    choices = []
    for order in (routes, sorted(routes, key=lambda route: route.priority)):
        corridor = structs.replace(ANYWHERE, rails=tuple(r.rail for r in order), routes=tuple(order), prefer="cost")
        choices.append(choose(corridor, attempts, ALL, intent=INTENT, minor=100, blocked=blocked))
    rail = choices[0].rail
    assert (rail is None) == (choices[1].rail is None)
    assert choices[0] == choose(corridor, attempts, ALL, intent=INTENT, minor=100, blocked=blocked) or rail is not None
    assert rail not in blocked
    assert rail not in {attempt.rail for attempt in attempts}
    assert rail is None or set(statuses) <= {"not_accepted"}


@given(st.lists(st.sampled_from(["started", "succeeded", "declined", "contradicted", "not_accepted"]), max_size=3))
def test_no_rail_is_chosen_while_any_attempt_may_have_paid(statuses: list[str]) -> None:
    rail = choose(ANYWHERE, _attempts(*statuses), ALL).rail
    assert (rail is not None) == (set(statuses) <= {"not_accepted"} and len(statuses) < 3)


def test_an_unknown_attempt_on_a_rail_that_left_the_corridor_still_forbids_another() -> None:
    narrowed = structs.replace(ANYWHERE, rails=("two", "three"))
    assert choose(narrowed, _attempts("started"), ALL).reason == "outcome_unknown"


@given(st.integers(1, 99))
def test_a_reference_finds_its_way_back(attempt: int) -> None:
    assert parse_reference(reference_of(INTENT, attempt)) == (INTENT, attempt)


@pytest.mark.parametrize(
    "reference",
    ["", INTENT, INTENT + "1", INTENT + "001", INTENT + "x1", INTENT + "-1", INTENT.upper() + "01",
     "g" * 32 + "01", INTENT + "\u0661\u0661", INTENT + "\u00b2\u00b2", " " + INTENT + "1"],
)  # fmt: skip
def test_a_reference_that_is_not_ours_is_nothing(reference: str) -> None:
    assert parse_reference(reference) is None


def test_a_rail_that_was_tried_stands_in_the_decision_also_where_its_corridor_has_lost_it() -> None:
    narrowed = structs.replace(ANYWHERE, rails=("two", "three"))
    choice = choose(narrowed, _attempts("not_accepted"), ALL)
    assert choice.considered == {"one": "not_accepted", "two": "chosen", "three": "not_needed"}


HOUR: Final = timedelta(hours=1)
FROM: Final = datetime(2026, 12, 1, 1, tzinfo=UTC)
OPERATED: list[tuple[RailOperation, datetime, str]] = [
    (RailOperation(), FROM, ""),
    (RailOperation(maintenance=(Maintenance(FROM, FROM + HOUR),)), FROM - timedelta.resolution, ""),
    (RailOperation(maintenance=(Maintenance(FROM, FROM + HOUR),)), FROM, "maintenance"),
    (RailOperation(maintenance=(Maintenance(FROM, FROM + HOUR),)), FROM + HOUR - timedelta.resolution, "maintenance"),
    (RailOperation(maintenance=(Maintenance(FROM, FROM + HOUR),)), FROM + HOUR, ""),
    (RailOperation(draining=True), FROM, "draining"),
]


@pytest.mark.parametrize(("operation", "now", "word"), OPERATED)
def test_a_rail_rests_from_the_first_instant_of_its_maintenance_to_before_the_last(
    operation: RailOperation, now: datetime, word: str
) -> None:
    assert operation.resting(now) == word
