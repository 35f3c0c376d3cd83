"""Amounts as banks write them: decimal strings in major units, turned into minor units exactly or not at all.

No float is ever made: digits are moved by the currency's ISO 4217 exponent. What a currency cannot hold (a third of a
kobo), and every other spelling of a number (a sign, an exponent, a blank, a group separator), is not an amount."""

import re
from typing import Final

from zentra.runtime.ledger.money import MINOR_MAX, exponent, is_currency

__all__ = ["major_from_minor", "minor_from_major"]

_DECIMAL: Final = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?", re.ASCII)


def minor_from_major(text: object, currency: object) -> int | None:
    """Return the minor units that a decimal string in major units says; None for anything else.

    Fewer digits behind the point than the currency has are fine ("12.5" of NGN is 1250); more only where they are 0."""
    if not isinstance(text, str) or not isinstance(currency, str) or not is_currency(currency):
        return None
    read = _DECIMAL.fullmatch(text)
    if read is None:
        return None
    whole, fraction, digits = read[1], read[2] or "", exponent(currency)
    if fraction[digits:].strip("0"):
        return None
    minor = int(whole + fraction[:digits].ljust(digits, "0"))
    return minor if minor <= MINOR_MAX else None


def major_from_minor(minor: int, currency: str) -> str:
    """Return minor units as a decimal string in major units, with all the digits that the currency has.

    Raises KeyError where `currency` is none, and ValueError for a negative amount."""
    if minor < 0:
        raise ValueError("an amount on the wire is never negative")
    digits = exponent(currency)
    text = str(minor).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text
