"""Our own adapters keep every rule of the conformance suite, and every rule finds an adapter that does not keep it."""

from __future__ import annotations

import pytest

from tests.contracts.rail_specimens import SPECIMENS
from zentra.bench.conformance.suite import Rule, Specimen, check, rules_for

CASES = [(specimen, rule) for specimen in SPECIMENS for rule in rules_for(specimen)]


@pytest.mark.parametrize(("specimen", "rule"), CASES, ids=lambda one: getattr(one, "name", type(one).__name__))
async def test_our_adapters_keep_the_rule(specimen: Specimen, rule: Rule) -> None:
    await check(rule, specimen)
