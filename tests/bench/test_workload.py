"""An intent is a function of its number: the same in every process, and a repeated key repeats what it had before."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.bench.measuring.workload import Mix, Workload, uniform

SOURCES = tuple(f"customer-{n}" for n in range(50))
DESTINATIONS = tuple(f"merchant-{n}" for n in range(50))
SENT = 4_000


def bodies(mix: Mix, **more: object) -> list[dict[str, object]]:
    workload = Workload(SOURCES, DESTINATIONS, mix=mix, **more)  # type: ignore[arg-type]
    return [workload.draw(number).body for number in range(SENT)]


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 7))
def test_a_draw_is_a_fraction_and_always_the_same(seed: int, number: int, salt: int) -> None:
    assert 0 <= uniform(seed, number, salt) < 1
    assert uniform(seed, number, salt) == uniform(seed, number, salt)


@pytest.mark.parametrize(("mix", "low", "high"), [
    (Mix(),           0.015, 0.03),    # one of fifty
    (Mix(zipf=1.2),   0.25,  0.40),    # a third of everything goes to the first
])  # fmt: skip
def test_the_most_wanted_account_gets_its_share(mix: Mix, low: float, high: float) -> None:
    counts = Counter(body["destination"] for body in bodies(mix))
    assert low <= max(counts.values()) / SENT <= high


def test_repeats_have_the_key_and_the_body_of_before() -> None:
    workload = Workload(SOURCES, DESTINATIONS, mix=Mix(repeats=0.25))
    drawn = [workload.draw(number) for number in range(SENT)]
    first: dict[int, dict[str, object]] = {}
    for number, each in enumerate(drawn):
        if each.repeated:
            assert each.body == first[each.number], "what is repeated was sent before, byte for byte"
        else:
            first[number] = each.body
    assert 0.22 < sum(each.repeated for each in drawn) / SENT < 0.28
    assert len({str(each.body["idempotency_key"]) for each in drawn}) == len(first)


def test_reviews_have_the_amount_that_the_rules_refer() -> None:
    large = sum(body["amount"] == Mix().review_minor for body in bodies(Mix(reviews=0.05)))
    assert 0.035 < large / SENT < 0.065


def test_a_repeat_belongs_to_the_tenant_of_its_first() -> None:
    workload = Workload(SOURCES, DESTINATIONS, mix=Mix(repeats=0.3, second_tenant=0.2))
    tenant: dict[int, int] = {}
    for each in (workload.draw(number) for number in range(SENT)):
        assert tenant.setdefault(each.number, each.tenant) == each.tenant
    assert 0.15 < sum(tenant.values()) / len(tenant) < 0.25


def test_accounts_in_turn_and_a_fixed_amount_fund_everyone_alike() -> None:
    workload = Workload(("liquidity",), DESTINATIONS, minor_fixed=5, each_destination=True)
    drawn = [workload.draw(number).body for number in range(len(DESTINATIONS))]
    assert tuple(body["destination"] for body in drawn) == DESTINATIONS
    assert {body["amount"] for body in drawn} == {5}
