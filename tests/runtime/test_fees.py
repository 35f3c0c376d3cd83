"""Fees as arithmetic: a table of worked examples, schedules that are refused, and properties held against fractions."""

# ruff: noqa: E501

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zentra.runtime.fees.quoting import FeeFacts, FeeQuote, quote, refund_due
from zentra.runtime.fees.schedule import (
    RULES_MAX,
    FeeMatch,
    FeeRule,
    FeeSchedule,
    FeeTier,
    parse_schedule,
    scaled_rate,
    violations_of,
)
from zentra.runtime.intents.facts import FeeLine
from zentra.runtime.ledger.money import MINOR_MAX

NGN = FeeMatch(currencies=("NGN",))


def facts(minor: int = 10_000, **changes: Any) -> FeeFacts:
    return msgspec.structs.replace(
        FeeFacts("transfer", minor, "NGN", "NG", "ng-transfer", "customer", "merchant"), **changes
    )


def told(quoted: FeeQuote) -> list[tuple[str, str, int]]:
    return [(line.rule, line.payer, int(line.minor)) for line in quoted.lines]


def rule(model: Any, name: str = "fee", **fields: Any) -> FeeRule:
    return FeeRule(name=name, model=model, **{"applies": NGN, **fields})


GRADUATED = (FeeTier(10_000, "100"), FeeTier(50_000, "50", 25), FeeTier(None, "25.5"))
FLAT, RATE = rule("flat", flat_minor=50), rule("percentage", rate_bps="150")
SPLIT = rule("flat", flat_minor=101, payer="split", payee_share_bps=5_000)
VAT = rule("percentage", "vat", rate_bps="750", of=("fee",))

# fmt: off
EXAMPLES: list[tuple[str, tuple[FeeRule, ...], FeeFacts, list[tuple[str, str, int]]]] = [
    ("flat",                    (FLAT,),                                              facts(),        [("fee", "payer", 50)]),
    ("percentage",              (RATE,),                                              facts(),        [("fee", "payer", 150)]),
    ("a half, to the even",     (rule("percentage", rate_bps="50"),),                 facts(100),     []),
    ("a half, to the even one", (rule("percentage", rate_bps="50"),),                 facts(300),     [("fee", "payer", 2)]),
    ("a half, all counted",     (rule("percentage", rate_bps="50", flat_minor=1),),   facts(100),     [("fee", "payer", 2)]),
    ("a half, up",              (rule("percentage", rate_bps="50", rounding="up"),),  facts(100),     [("fee", "payer", 1)]),
    ("anything, up",            (rule("percentage", rate_bps="0.0001", rounding="up"),), facts(1),    [("fee", "payer", 1)]),
    ("nearly all, down",        (rule("percentage", rate_bps="9999", rounding="down"),), facts(1),    []),
    ("four decimals",           (rule("percentage", rate_bps="12.3456"),),            facts(10**8),   [("fee", "payer", 123_456)]),
    ("least",                   (rule("percentage", rate_bps="1", min_minor=30),),    facts(),        [("fee", "payer", 30)]),
    ("most",                    (rule("percentage", rate_bps="1000", max_minor=99),), facts(),        [("fee", "payer", 99)]),
    ("rate and flat",           (rule("percentage", rate_bps="150", flat_minor=100),), facts(),       [("fee", "payer", 250)]),
    ("graduated, one tier",     (rule("graduated", tiers=GRADUATED),),                facts(10_000),  [("fee", "payer", 100)]),
    ("graduated, two tiers",    (rule("graduated", tiers=GRADUATED),),                facts(10_001),  [("fee", "payer", 125)]),
    ("graduated, all tiers",    (rule("graduated", tiers=GRADUATED),),                facts(90_000),  [("fee", "payer", 427)]),
    ("volume, first tier",      (rule("volume", tiers=GRADUATED),),                   facts(10_000),  [("fee", "payer", 100)]),
    ("volume, second tier",     (rule("volume", tiers=GRADUATED),),                   facts(10_001),  [("fee", "payer", 75)]),
    ("volume, last tier",       (rule("volume", tiers=GRADUATED),),                   facts(90_000),  [("fee", "payer", 230)]),
    ("payee",                   (rule("flat", flat_minor=50, payer="payee"),),        facts(),        [("fee", "payee", 50)]),
    ("payee, all there is",     (rule("flat", flat_minor=50, payer="payee"),),        facts(20),      [("fee", "payee", 20)]),
    ("split, the odd one",      (SPLIT,),                                             facts(),        [("fee", "payer", 51), ("fee", "payee", 50)]),
    ("split, a fifth",          (rule("flat", flat_minor=99, payer="split", payee_share_bps=2_000),),
                                                                                      facts(),        [("fee", "payer", 80), ("fee", "payee", 19)]),
    ("fee and tax on it",       (RATE, VAT),                                          facts(),        [("fee", "payer", 150), ("vat", "payer", 11)]),
    ("tax on a split fee",      (SPLIT, VAT),                                         facts(),        [("fee", "payer", 51), ("fee", "payee", 50), ("vat", "payer", 8)]),
    ("tax on nothing",          (rule("flat", flat_minor=50, applies=FeeMatch(currencies=("USD",))), VAT), facts(), []),
    ("first of a group",        (rule("flat", "home", flat_minor=10, group="g", applies=FeeMatch(currencies=("NGN",), countries=("NG",))),
                                 rule("flat", "abroad", flat_minor=99, group="g")),   facts(),        [("home", "payer", 10)]),
    ("else the next",           (rule("flat", "home", flat_minor=10, group="g", applies=FeeMatch(currencies=("NGN",), countries=("NG",))),
                                 rule("flat", "abroad", flat_minor=99, group="g")),   facts(country="GH"), [("abroad", "payer", 99)]),
    ("the house's own money",   (FLAT,),                                              facts(source_type="fee"), []),
]
# fmt: on


@pytest.mark.parametrize(("rules", "given_", "expected"), [row[1:] for row in EXAMPLES], ids=[r[0] for r in EXAMPLES])
def test_what_a_schedule_charges(
    rules: tuple[FeeRule, ...], given_: FeeFacts, expected: list[tuple[str, str, int]]
) -> None:
    schedule = FeeSchedule(rules, 3)
    assert violations_of(schedule) == []
    quoted = quote(schedule, given_)
    assert told(quoted) == expected
    assert quoted.total_payer == sum(minor for _, payer, minor in expected if payer == "payer")
    assert quoted.total_payee == sum(minor for _, payer, minor in expected if payer == "payee")
    assert quoted.version == 3


# fmt: off
FITS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"kinds": ("payment",)},                {"kind": "payment"},                True),
    ({"kinds": ("payment",)},                {"kind": "transfer"},               False),
    ({"countries": ("NG", "GH")},            {"country": "GH"},                  True),
    ({"countries": ("NG",)},                 {"country": None},                  False),
    ({"corridors": ("ng-transfer",)},        {},                                 True),
    ({"corridors": ("ng-transfer",)},        {"corridor": ""},                   False),
    ({"source_types": ("customer",)},        {"source_type": "operating"},       False),
    ({"destination_types": ("merchant",)},   {"destination_type": "merchant"},   True),
    ({"destination_types": ("merchant",)},   {"destination_type": "payout"},     False),
    ({"minor_min": 10_000},                  {},                                 True),
    ({"minor_min": 10_001},                  {},                                 False),
    ({"minor_max": 10_000},                  {},                                 True),
    ({"minor_max": 9_999},                   {},                                 False),
    ({"currencies": ("USD",)},               {},                                 False),
]
# fmt: on


@pytest.mark.parametrize(("match", "changes", "fits"), FITS)
def test_all_that_a_rule_names_has_to_fit(match: dict[str, Any], changes: dict[str, Any], fits: bool) -> None:
    one = rule("flat", flat_minor=1, applies=FeeMatch(**{"currencies": ("NGN",), **match}))
    assert bool(quote(FeeSchedule((one,)), facts(**changes)).lines) is fits


# fmt: off
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "Big"},                                            "/rules/0/name",               "fee_name_malformed"),
    ({"group": "?"},                                             "/rules/0/group",              "fee_name_malformed"),
    ({"of": ("later",)},                                         "/rules/0/of/0",               "fee_base_unknown"),
    ({"applies": FeeMatch()},                                    "/rules/0/applies/currencies", "fee_currency_missing"),
    ({"applies": FeeMatch(currencies=("NGX",))},                 "/rules/0/applies/currencies/0", "fee_match_unknown"),
    ({"applies": FeeMatch(currencies=("NGN",), kinds=("hold",))}, "/rules/0/applies/kinds/0",   "fee_match_unknown"),
    ({"applies": FeeMatch(currencies=("NGN",), countries=("ng",))}, "/rules/0/applies/countries/0", "fee_match_unknown"),
    ({"applies": FeeMatch(currencies=("NGN",), source_types=("x",))}, "/rules/0/applies/source_types/0", "fee_match_unknown"),
    ({"applies": FeeMatch(currencies=("NGN",), minor_min=9, minor_max=8)}, "/rules/0/applies/minor_max", "fee_band_empty"),
    ({"applies": FeeMatch(currencies=("NGN",), minor_min=0)},    "/rules/0/applies/minor_max",  "fee_band_empty"),
    ({"flat_minor": 0},                                          "/rules/0/flat_minor",         "fee_amount_malformed"),
    ({"flat_minor": -1},                                         "/rules/0/flat_minor",         "fee_amount_malformed"),
    ({"flat_minor": MINOR_MAX + 1},                              "/rules/0/flat_minor",         "fee_amount_malformed"),
    ({"rate_bps": "1"},                                          "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "percentage", "rate_bps": "10001"},               "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "percentage", "rate_bps": "1e3"},                 "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "percentage", "rate_bps": "-1"},                  "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "percentage", "rate_bps": "1.23456"},             "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "percentage"},                                    "/rules/0/rate_bps",           "fee_rate_malformed"),
    ({"model": "graduated"},                                     "/rules/0/tiers",              "fee_tiers_malformed"),
    ({"tiers": (FeeTier(),)},                                    "/rules/0/tiers",              "fee_tiers_malformed"),
    ({"model": "volume", "tiers": (FeeTier(5),)},                "/rules/0/tiers/0/up_to",      "fee_tiers_malformed"),
    ({"model": "volume", "tiers": (FeeTier(5), FeeTier(5), FeeTier())}, "/rules/0/tiers/1/up_to", "fee_tiers_malformed"),
    ({"model": "volume", "tiers": (FeeTier(), FeeTier())},       "/rules/0/tiers/0/up_to",      "fee_tiers_malformed"),
    ({"model": "volume", "tiers": (FeeTier(None, "20000"),)},    "/rules/0/tiers/0/rate_bps",   "fee_rate_malformed"),
    ({"min_minor": 60, "max_minor": 59},                         "/rules/0/max_minor",          "fee_band_empty"),
    ({"payee_share_bps": 10_001},                                "/rules/0/payee_share_bps",    "fee_rate_malformed"),
    ({"charged": "on_submission", "payer": "payee"},             "/rules/0/charged",            "fee_charged_unknown"),
]
# fmt: on


@pytest.mark.parametrize(("changes", "pointer", "code"), WRONG)
def test_a_schedule_that_makes_no_sense_is_refused(changes: dict[str, Any], pointer: str, code: str) -> None:
    found = violations_of(FeeSchedule((msgspec.structs.replace(FLAT, **changes),)))
    assert [(one.pointer, one.code) for one in found] == [(pointer, code)]


def test_names_are_unique_and_rules_are_counted() -> None:
    assert [one.code for one in violations_of(FeeSchedule((FLAT, RATE)))] == ["fee_name_repeated"]
    many = tuple(msgspec.structs.replace(FLAT, name=f"f{number}") for number in range(RULES_MAX + 1))
    assert [one.pointer for one in violations_of(FeeSchedule(many))] == ["/rules"]


# fmt: off
BODIES: list[tuple[Any, str, str]] = [
    ([],                                                          "",                   "field_type"),
    ({},                                                          "/rules",             "field_missing"),
    ({"rules": [], "a/b": 1},                                     "/a~1b",              "field_unknown"),
    ({"rules": [{"model": "flat"}]},                              "/rules/0/name",      "field_missing"),
    ({"rules": [{"name": "a", "model": "dear"}]},                 "/rules/0/model",     "field_type"),
    ({"rules": [{"name": "a", "model": "flat", "flat": 1}]},      "/rules/0/flat",      "field_unknown"),
    ({"rules": [{"name": "a", "model": "flat", "flat_minor": 1.5}]}, "/rules/0/flat_minor", "field_type"),
    ({"rules": [{"name": "a", "model": "flat", "flat_minor": True}]}, "/rules/0/flat_minor", "field_type"),
    ({"rules": [{"name": "a", "model": "percentage", "rate_bps": 1.5}]}, "/rules/0/rate_bps", "field_type"),
]
# fmt: on


@pytest.mark.parametrize(("body", "pointer", "code"), BODIES)
def test_what_is_no_schedule_is_refused_with_its_place(body: Any, pointer: str, code: str) -> None:
    schedule, found = parse_schedule(body)
    assert schedule is None
    assert [(one.pointer, one.code) for one in found] == [(pointer, code)]


def test_the_version_in_a_body_is_not_looked_at() -> None:
    schedule, found = parse_schedule({"version": 9, "rules": []})
    assert (schedule, found) == (FeeSchedule(()), [])


def test_a_quote_is_the_same_by_what_it_charges_and_not_by_its_version() -> None:
    first, second = quote(FeeSchedule((FLAT,), 1), facts()), quote(FeeSchedule((FLAT,), 2), facts())
    assert first.digest == second.digest
    dearer = quote(FeeSchedule((msgspec.structs.replace(FLAT, flat_minor=51),), 1), facts())
    other_amount = quote(FeeSchedule((FLAT,), 1), facts(10_001))
    kept = quote(FeeSchedule((msgspec.structs.replace(FLAT, on_reversal="keep"),), 1), facts())
    assert len({first.digest, dearer.digest, other_amount.digest, kept.digest}) == 4


BUSY = (HealthCheck.too_slow,)  # a machine that does something else too

# Properties -----------------------------------------------------------------------------------------------------------

MINOR = st.one_of(st.integers(1, 2_000), st.integers(1, 10**9), st.just(MINOR_MAX), st.integers(1, MINOR_MAX))
RATES = st.one_of(st.integers(1, 10_000).map(str), st.decimals("0.0001", "10000", places=4).map(str))
FLATS = st.one_of(st.just(0), st.integers(0, 5_000))


@st.composite
def tiers(draw: st.DrawFn) -> tuple[FeeTier, ...]:
    ends = sorted(draw(st.sets(st.integers(1, 100_000), max_size=4)))
    return tuple(FeeTier(end, draw(RATES), draw(FLATS)) for end in [*ends, None])


@st.composite
def rules(draw: st.DrawFn, /, name: str = "fee", base: str = "", **fixed: Any) -> FeeRule:
    model = fixed.pop("model", None) or draw(st.sampled_from(("flat", "percentage", "graduated", "volume")))
    least = draw(FLATS)
    fields: dict[str, Any] = {
        "flat_minor": draw(st.integers(1, 5_000)) if model == "flat" else draw(FLATS),
        "rate_bps": draw(RATES) if model == "percentage" else "0",
        "tiers": draw(tiers()) if model in ("graduated", "volume") else (),
        "min_minor": least,
        "max_minor": draw(st.one_of(st.none(), st.integers(least, 1_000_000))),
        "payer": draw(st.sampled_from(("payer", "payee", "split"))),
        "payee_share_bps": draw(st.integers(0, 10_000)),
        "rounding": draw(st.sampled_from(("half_even", "up", "down"))),
        "on_reversal": draw(st.sampled_from(("full", "pro_rata", "keep"))),
        "of": (base,) if base else (),
    }
    return rule(model, name, **{**fields, **fixed})


def exact(one: FeeRule, base: int) -> Fraction:
    """The fee before rounding and bounds, as a reader of the documentation would work it out."""
    fee = Fraction(one.flat_minor)
    floor = 0
    if one.model == "percentage":
        fee += base * Fraction(one.rate_bps) / 10_000
    for tier in one.tiers:
        inside = base > floor and (tier.up_to is None or base <= tier.up_to)
        if one.model == "volume" and inside:
            fee += base * Fraction(tier.rate_bps) / 10_000 + tier.flat_minor
        if one.model == "graduated" and base > floor:
            part = (base if tier.up_to is None else min(base, tier.up_to)) - floor
            fee += part * Fraction(tier.rate_bps) / 10_000 + tier.flat_minor
        floor = tier.up_to or floor
    return fee


def rounded(fee: Fraction, rounding: str) -> int:
    return {"half_even": round(fee), "up": -(-fee // 1), "down": fee // 1}[rounding]


@settings(max_examples=500, suppress_health_check=BUSY)
@given(one=rules(), minor=MINOR)
def test_a_fee_is_exact_against_fractions_and_within_its_bounds(one: FeeRule, minor: int) -> None:
    assert violations_of(FeeSchedule((one,))) == []
    quoted = quote(FeeSchedule((one,)), facts(minor))
    bounded = max(rounded(exact(one, minor), one.rounding), one.min_minor)
    due = bounded if one.max_minor is None else min(bounded, one.max_minor)
    payee = {"payer": 0, "payee": due, "split": int(Fraction(due * one.payee_share_bps, 10_000))}[one.payer]
    assert (quoted.total_payer, quoted.total_payee) == (due - payee, min(payee, minor))
    assert all(int(line.minor) > 0 for line in quoted.lines)
    if one.payer != "payee" and payee <= minor:
        assert one.min_minor <= quoted.total_payer + quoted.total_payee
        assert one.max_minor is None or quoted.total_payer + quoted.total_payee <= one.max_minor


@settings(max_examples=200, suppress_health_check=BUSY)
@given(
    one=st.one_of(rules(model="percentage"), rules(model="graduated"), rules(model="flat")),
    minor=MINOR,
    more=st.integers(0, 10**6),
)
def test_more_never_costs_less_but_for_volume_tiers(one: FeeRule, minor: int, more: int) -> None:
    schedule, top = FeeSchedule((msgspec.structs.replace(one, payer="payer"),)), min(minor + more, MINOR_MAX)
    assert quote(schedule, facts(minor)).total_payer <= quote(schedule, facts(top)).total_payer


@settings(max_examples=200, suppress_health_check=BUSY)
@given(first=rules("fee"), second=rules("second"), tax=rules("tax", base="fee"), minor=MINOR)
def test_payees_are_never_charged_more_than_they_get(first: FeeRule, second: FeeRule, tax: FeeRule, minor: int) -> None:
    quoted = quote(FeeSchedule((first, second, tax)), facts(minor))
    assert 0 <= quoted.total_payee <= minor
    assert quoted.total_payer >= 0
    assert quoted.total_payer + quoted.total_payee == sum(int(line.minor) for line in quoted.lines)


@settings(max_examples=300, suppress_health_check=BUSY)
@given(
    fees=st.lists(st.tuples(st.integers(1, 10_000), st.sampled_from(("full", "pro_rata", "keep"))), max_size=4),
    parts=st.lists(st.integers(1, 1_000), min_size=1, max_size=8),
)
def test_partial_reversals_give_back_exactly_what_one_would(fees: list[tuple[int, str]], parts: list[int]) -> None:
    lines = [FeeLine(f"f{n}", "payer", str(minor), "on_success", "refund", how) for n, (minor, how) in enumerate(fees)]
    posted, given_back, steps = sum(parts), 0, []
    for part in parts:
        before = refund_due(lines, "payer", given_back, posted)
        given_back += part
        steps.append(refund_due(lines, "payer", given_back, posted) - before)
    assert all(step >= 0 for step in steps)
    assert sum(steps) == sum(minor for minor, how in fees if how != "keep")
    assert refund_due(lines, "payee", posted, posted) == 0


@given(rate=st.decimals("0", "10000", places=4))
def test_a_rate_is_read_exactly(rate: Any) -> None:
    assert Fraction(scaled_rate(str(rate)), 10_000) == Fraction(rate)
