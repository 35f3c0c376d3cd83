"""The worked examples of the page on fees are true: each table is worked out by the schedule above it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture import ROOT
from zentra.runtime.fees.quoting import FeeFacts, quote
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, parse_schedule

PAGE = (ROOT / "docs/fees.md").read_text(encoding="utf-8")
_BLOCK = re.compile(
    r"```json\n(?P<schedule>.*?)```\n\n(?P<head>\|[^\n]*\n)\|[-|]+\n(?P<rows>(?:\|[^\n]*\n)+)", re.DOTALL
)


def examples() -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield every row of every table with the schedule that stands above it."""
    for block in _BLOCK.finditer(PAGE):
        names = _cells(block["head"])
        for row in block["rows"].splitlines():
            yield json.loads(block["schedule"]), dict(zip(names, _cells(row), strict=True))


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


EXAMPLES = list(examples())


def test_the_page_has_examples_of_every_model_and_payer() -> None:
    rules = [rule for body, _ in EXAMPLES for rule in body["rules"]]
    assert {rule["model"] for rule in rules} | {"flat"} == {"flat", "percentage", "graduated", "volume"}
    assert {rule.get("payer", "payer") for rule in rules} == {"payer", "payee", "split"}
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize(("body", "row"), EXAMPLES)
def test_an_example_is_what_comes_out(body: dict[str, Any], row: dict[str, str]) -> None:
    schedule, violations = parse_schedule(body)
    assert schedule is not None, violations
    currency = next((name for rule in schedule.rules for name in rule.applies.currencies), "NGN")
    facts = FeeFacts(row["kind"], int(row["amount"]), currency, None, "", "customer", "merchant")
    quoted = quote(schedule, facts)
    assert ", ".join(f"{line.rule} {line.payer} {line.minor}" for line in quoted.lines) == row["lines"]
    assert quoted.minor + quoted.total_payer == int(row["payer pays"])
    assert quoted.minor - quoted.total_payee == int(row["payee gets"])


def test_every_field_of_a_rule_is_described() -> None:
    told = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert {*FeeRule.__struct_fields__, *FeeMatch.__struct_fields__} <= told
