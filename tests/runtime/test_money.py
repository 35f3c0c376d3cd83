"""What is an amount and what is a currency, at their boundaries."""

from typing import Any

import pytest

from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.money import MINOR_MAX, exponent, is_currency, parse_minor

# fmt: off
GOOD: list[tuple[Any, int]] = [
    (1,                       1),
    ("1",                     1),
    (MINOR_MAX,               2**63 - 1),
    ("9223372036854775807",   2**63 - 1),
    ("0009223372036854775807", 2**63 - 1),
    ("007",                   7),
]
BAD: list[tuple[Any, str]] = [
    (0,                       "amount_zero"),
    ("0",                     "amount_zero"),
    ("000",                   "amount_zero"),
    ("-0",                    "amount_zero"),
    (-1,                      "amount_negative"),
    ("-1",                    "amount_negative"),
    (-(2**70),                "amount_negative"),
    ("-" + "9" * 400,         "amount_negative"),
    (2**63,                   "amount_overflow"),
    ("9223372036854775808",   "amount_overflow"),
    ("10000000000000000000",  "amount_overflow"),
    ("9" * 5000,              "amount_overflow"),
    (True,                    "amount_invalid"),
    (False,                   "amount_invalid"),
    (1.0,                     "amount_invalid"),
    (float("nan"),            "amount_invalid"),
    (float("inf"),            "amount_invalid"),
    (None,                    "amount_invalid"),
    ([1],                     "amount_invalid"),
    (b"1",                    "amount_invalid"),
    ("",                      "amount_invalid"),
    ("-",                     "amount_invalid"),
    ("+1",                    "amount_invalid"),
    (" 1",                    "amount_invalid"),
    ("1\n",                   "amount_invalid"),
    ("1.0",                   "amount_invalid"),
    ("1e3",                   "amount_invalid"),
    ("1_000",                 "amount_invalid"),
    ("0x10",                  "amount_invalid"),
    ("NaN",                   "amount_invalid"),
    ("full",                  "amount_invalid"),
    ("\u0661",                "amount_invalid"),  # a digit, but not one of ours
]
# fmt: on


@pytest.mark.parametrize(("value", "minor"), GOOD)
def test_an_amount_is_an_integer_or_its_digits(value: Any, minor: int) -> None:
    assert parse_minor(value) == minor


@pytest.mark.parametrize(("value", "code"), BAD)
def test_anything_else_is_refused_by_name(value: Any, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_minor(value)
    assert caught.value.reason == code


@pytest.mark.parametrize(("code", "digits"), [("NGN", 2), ("USD", 2), ("JPY", 0), ("KWD", 3)])
def test_a_currency_has_its_minor_digits(code: str, digits: int) -> None:
    assert is_currency(code)
    assert exponent(code) == digits


@pytest.mark.parametrize("code", ["", "ngn", "NG", "NGNN", "XXX", "XAU", "QQQ"])
def test_what_money_cannot_be_held_in_is_no_currency(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(KeyError):
        exponent(code)
