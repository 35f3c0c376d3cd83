"""A routing document: it becomes corridors, or everything that is wrong with it is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from zentra.runtime.codes import FIELD_CODES
from zentra.runtime.rails.document import (
    corridors_of,
    digest_of_routes,
    parse_routes,
    routes_schema,
    spelled,
    unknown_rails,
)
from zentra.runtime.rails.routing import Corridor, RailRoute

SOUND: Final[dict[str, Any]] = {
    "corridors": [
        {"name": "ng", "currency": "NGN", "kind": "transfer", "country": "NG", "minor_max": 500,
         "rails": [{"rail": "backup", "priority": 2}, {"rail": "first", "weight": 3, "cost_minor": 10, "cost_bps": 5}],
         "prefer": "cost", "wait_seconds": 30},
        {"name": "any", "currency": "NGN", "kind": "transfer", "rails": [{"rail": "first"}]},
    ]
}  # fmt: skip


def corridor(place: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["corridors"][place] |= changes

    return change


def rail(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["corridors"][0]["rails"][0] |= changes

    return change


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        del document["corridors"][0][name]

    return change


FIRST, RAIL = "/corridors/0", "/corridors/0/rails/0"
# fmt: off
BROKEN = [
    (lambda d: d.pop("corridors"),                   "/corridors",           "field_missing"),
    (lambda d: d.update(more=1),                     "/more",                "field_unknown"),
    (without("name"),                                f"{FIRST}/name",        "field_missing"),
    (corridor(0, colour="red"),                      f"{FIRST}/colour",      "field_unknown"),
    (corridor(0, minor_max="500"),                   f"{FIRST}/minor_max",   "field_type"),
    (corridor(0, prefer="luck"),                     f"{FIRST}/prefer",      "field_type"),
    (corridor(0, name="N G"),                        f"{FIRST}/name",        "corridor_malformed"),
    (corridor(0, currency="NGX"),                    f"{FIRST}/currency",    "currency_unknown"),
    (corridor(0, kind="gift"),                       f"{FIRST}/kind",        "kind_unknown"),
    (corridor(0, country="Nigeria"),                 f"{FIRST}/country",     "country_malformed"),
    (corridor(0, minor_min=501),                     f"{FIRST}/minor_max",   "band_empty"),
    (corridor(0, minor_min=0),                       f"{FIRST}/minor_max",   "band_empty"),
    (corridor(0, wait_seconds=86_401),               f"{FIRST}/wait_seconds", "duration_out_of_range"),
    (corridor(0, rails=[]),                          f"{FIRST}/rails",       "rails_missing"),
    (rail(rail="first"),                             f"{FIRST}/rails/1/rail", "rail_repeated"),
    (rail(priority=0),                               f"{RAIL}/priority",     "route_malformed"),
    (rail(weight=-1),                                f"{RAIL}/weight",       "route_malformed"),
    (rail(cost_minor=-1),                            f"{RAIL}/cost_minor",   "route_malformed"),
    (rail(cost_bps=10_001),                          f"{RAIL}/cost_bps",     "route_malformed"),
    (rail(minor_min=5, minor_max=4),                 f"{RAIL}/minor_max",    "band_empty"),
    (rail(countries=["ng"]),                         f"{RAIL}/countries",    "country_malformed"),
    (corridor(1, name="ng"),                         "/corridors/1/name",    "corridor_repeated"),
    (corridor(1, country="NG"),                      "/corridors/1",         "corridors_overlap"),
    (lambda d: d.update(corridors=d["corridors"][:1] * 201), "/corridors",   "routes_too_large"),
]
# fmt: on


def test_a_sound_document_becomes_corridors_with_their_rails_in_order() -> None:
    made, violations = parse_routes(SOUND, "acme", 7)
    first, backup = RailRoute("first", 1, 3, 10, 5), RailRoute("backup", 2)
    assert violations == []
    assert made == (
        Corridor("acme", "any", "NGN", "transfer", ("first",), routes=(RailRoute("first"),), version=7),
        Corridor(
            "acme", "ng", "NGN", "transfer", ("first", "backup"), "NG", 1, 500, (first, backup), 7, "cost", 30
        ),
    )  # fmt: skip
    assert corridors_of(SOUND, "acme", 7) == made


@pytest.mark.parametrize(("change", "pointer", "code"), BROKEN)
def test_what_is_wrong_is_named_by_its_place(change: Callable[[dict[str, Any]], None], pointer: str, code: str) -> None:
    document = copy.deepcopy(SOUND)
    change(document)
    made, violations = parse_routes(document)
    assert made == ()
    assert [(one.pointer, one.code) for one in violations] == [(pointer, code)]
    assert code in FIELD_CODES


def test_what_is_no_document_or_too_deep_is_refused() -> None:
    assert parse_routes([])[1][0].code == "body_not_object"
    deep: Any = {}
    for _ in range(40):
        deep = {"corridors": [deep]}
    assert parse_routes(deep)[1][0].code == "routes_too_large"


def test_bands_that_only_touch_do_not_overlap() -> None:
    document = copy.deepcopy(SOUND)
    document["corridors"][1] |= {"country": "NG", "minor_min": 501}
    assert parse_routes(document)[1] == []


def test_corridors_are_spelled_as_the_document_that_makes_them() -> None:
    for corridors in (corridors_of(SOUND, "acme", 1), (Corridor("acme", "x", "NGN", "payment", ("b", "a")),)):
        again = corridors_of(spelled(corridors), "acme", 1)
        assert digest_of_routes(spelled(again)) == digest_of_routes(spelled(corridors))
        assert [one.rails for one in again] == [one.rails for one in corridors]


def test_rails_that_a_tenant_cannot_reach_are_named() -> None:
    found = unknown_rails(corridors_of(SOUND, "acme", 1), {"first"})
    assert [(one.pointer, one.code) for one in found] == [("/corridors/ng/rails/1/rail", "rail_unknown")]


def test_the_schema_is_complete_in_itself() -> None:
    schema = routes_schema()
    assert "$ref" not in msgspec.json.encode(schema).decode()
    corridor = schema["properties"]["corridors"]["items"]
    assert set(corridor["required"]) == {"name", "currency", "kind", "rails"}
    assert corridor["properties"]["rails"]["items"]["required"] == ["rail"]
