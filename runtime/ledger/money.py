"""Money as integers in minor units of an ISO 4217 currency; nothing else is accepted anywhere.

Amounts fit signed 64 bits. A bool, a float, an exponent, a plus or a blank is not an amount; a minus is
refused by name."""

import re
from collections.abc import Mapping
from typing import Any, Final

from iso4217 import Currency

from zentra.runtime.errors import Refusal

__all__ = ["AMOUNT_SCHEMA", "MINOR_MAX", "currencies", "exponent", "is_currency", "parse_minor"]

MINOR_MAX: Final = 2**63 - 1
AMOUNT_SCHEMA: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MINOR_MAX},
        {"type": "string", "pattern": "^0*[1-9][0-9]{0,18}$"},
    ]
}
"""What `parse_minor` takes, as JSON Schema; that a string of nineteen digits may be too much is beyond it."""
_DIGITS: Final = re.compile(r"(-?)0*([0-9]+)\Z", re.ASCII)
_DIGITS_MAX: Final = len(str(MINOR_MAX))  # reading more would cost time and still overflow
# Codes without minor units of their own (metals, funds, XXX) cannot be held, so they are no currencies here.
_EXPONENTS: Final = {str(unit.code): unit.exponent for unit in Currency if unit.exponent is not None}


def is_currency(code: str) -> bool:
    """Return whether `code` is an ISO 4217 currency that money can be held in."""
    return code in _EXPONENTS


def currencies() -> list[str]:
    """Return the codes of all currencies that money can be held in, sorted."""
    return sorted(_EXPONENTS)


def exponent(code: str) -> int:
    """Return how many minor digits `code` has; raise KeyError where it is no currency."""
    return _EXPONENTS[code]


def parse_minor(value: object) -> int:
    """Return the minor units that `value` (an integer or a string of digits) says.

    Raises Refusal `amount_invalid`, `amount_zero`, `amount_negative` or `amount_overflow`."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Refusal("amount_invalid", "an amount is an integer or a string of digits")
    if isinstance(value, str):
        match = _DIGITS.match(value)
        if match is None:
            raise Refusal("amount_invalid", "an amount is an integer or a string of digits")
        value = int(match[1] + match[2][: _DIGITS_MAX + 1])  # one digit too many is already too much
    if value == 0:
        raise Refusal("amount_zero", "an amount is at least one minor unit")
    if value < 0:
        raise Refusal("amount_negative", "an amount is at least one minor unit")
    if value > MINOR_MAX:
        raise Refusal("amount_overflow", "an amount fits signed 64 bits")
    return value
