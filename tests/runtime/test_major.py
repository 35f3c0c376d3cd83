"""Decimal strings become minor units exactly, or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.ledger.money import MINOR_MAX, currencies, exponent
from zentra.runtime.rails.major import major_from_minor, minor_from_major

# fmt: off
READ = [
    ("1250.50",                "NGN", 125_050),
    ("1250.5",                 "NGN", 125_050),
    ("1250",                   "NGN", 125_000),
    ("1250.500",               "NGN", 125_050),
    ("1250.505",               "NGN", None),
    ("0.01",                   "NGN", 1),
    ("0",                      "NGN", 0),
    ("007.00",                 "NGN", 700),
    ("1250",                   "JPY", 1250),
    ("1250.0",                 "JPY", 1250),
    ("1250.5",                 "JPY", None),
    ("1.234",                  "KWD", 1234),
    ("92233720368547758.07",   "NGN", MINOR_MAX),
    ("92233720368547758.08",   "NGN", None),
    ("9" * 19,                 "NGN", None),
    ("9" * 5000,               "NGN", None),
    ("1.0000000000",           "NGN", None),
    (".5",                     "NGN", None),
    ("5.",                     "NGN", None),
    ("-1.00",                  "NGN", None),
    ("+1.00",                  "NGN", None),
    (" 1.00",                  "NGN", None),
    ("1.00\n",                 "NGN", None),
    ("1,250.50",               "NGN", None),
    ("1e3",                    "NGN", None),
    ("NaN",                    "NGN", None),
    ("١٢",                     "NGN", None),
    ("",                       "NGN", None),
    (None,                     "NGN", None),
    (1250,                     "NGN", None),
    (1250.5,                   "NGN", None),
    ("1.00",                   "XXX", None),
    ("1.00",                   None,  None),
]
# fmt: on


@pytest.mark.parametrize(("text", "currency", "minor"), READ)
def test_an_amount_is_read_exactly_or_not_at_all(text: object, currency: object, minor: int | None) -> None:
    assert minor_from_major(text, currency) == minor


@given(st.integers(0, MINOR_MAX), st.sampled_from(currencies()))
def test_what_is_written_is_read_again_and_is_the_decimal_number(minor: int, currency: str) -> None:
    text = major_from_minor(minor, currency)
    assert minor_from_major(text, currency) == minor
    assert Decimal(text) == Decimal(minor).scaleb(-exponent(currency))


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(KeyError):
        major_from_minor(1, "XXX")
    with pytest.raises(ValueError, match="negative"):
        major_from_minor(-1, "NGN")
