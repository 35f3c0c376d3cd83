"""Names of accounts that are not their ids: system accounts by what they are for, and numbers that others know.

- A name with an `@` is ours alone: no id may hold that sign, so no request can name one.
- A name that begins with a scheme and a colon is an account number. It means the account that the number was given to,
  and entries name that account.
- Numbers have one spelling: an IBAN in capitals without blanks, a NUBAN as `bank-number`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from zentra.runtime.errors import Refusal
from zentra.runtime.intents.vocabulary import SYSTEM_ACCOUNT_TYPES

if TYPE_CHECKING:
    from zentra.runtime.ledger.book import AccountRef

__all__ = [
    "BOOK_PATTERN",
    "DEFAULT_BOOK",
    "SCHEMES",
    "VIRTUAL_DIGITS",
    "SystemName",
    "account_number",
    "book_of",
    "iban",
    "is_number",
    "nuban",
    "nuban_check_digit",
    "parse_number",
    "parse_system_name",
    "settlement_name",
    "system_account_id",
    "system_name",
    "virtual",
    "virtual_number",
]

DEFAULT_BOOK: Final = "default"
BOOK_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,30}\Z", re.ASCII)
SCHEMES: Final = ("iban", "nuban", "virtual")
VIRTUAL_DIGITS: Final = 12
_PREFIXES: Final = tuple(f"{scheme}:" for scheme in SCHEMES)
_NUBAN: Final = re.compile(r"([0-9]{3}|[0-9]{5,6})-([0-9]{10})\Z", re.ASCII)
_VIRTUAL: Final = re.compile(rf"[0-9]{{{VIRTUAL_DIGITS}}}\Z", re.ASCII)
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\Z", re.ASCII)


class SystemName(NamedTuple):
    """What a system account is for, in which currency and book."""

    type: str
    currency: str
    book: str


def system_name(type_: str, currency: str, book: str = DEFAULT_BOOK) -> str:
    """Return the name under which the engine asks for a system account."""
    return f"@{type_}/{currency}" if book == DEFAULT_BOOK else f"@{type_}/{currency}/{book}"


def book_of(source: AccountRef | None) -> str:
    """Return the book that money of `source` is in."""
    return DEFAULT_BOOK if source is None else source.book


def settlement_name(currency: str, source: AccountRef | None) -> str:
    """Return the name of the settlement account that money of `source` goes through: the one of its book."""
    if source is None or source.book == DEFAULT_BOOK:
        return f"@settlement/{currency}"
    return f"@settlement/{currency}/{source.book}"


def parse_system_name(name: str) -> SystemName | None:
    """Return what a name of `system_name` says, or None for any other."""
    if not name.startswith("@"):
        return None
    type_, _, rest = name[1:].partition("/")
    currency, _, book = rest.partition("/")
    return SystemName(type_, currency, book or DEFAULT_BOOK) if type_ in SYSTEM_ACCOUNT_TYPES else None


def system_account_id(type_: str, currency: str, book: str = DEFAULT_BOOK) -> str:
    """Return the id that a system account is opened under."""
    plain = f"{type_}-{currency.lower()}"
    return plain if book == DEFAULT_BOOK else f"{book}:{plain}"


def is_number(name: str) -> bool:
    """Return whether an account is named by a number rather than by its id."""
    return name.startswith(_PREFIXES)


def parse_number(name: str) -> tuple[str, str] | None:
    """Return scheme and number that a name says, in their one spelling, or None where it is no number."""
    scheme, colon, number = name.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    return scheme, number.upper() if scheme == "iban" else number


def account_number(scheme: str, number: str) -> str:
    """Return a number in its one spelling.

    Raises Refusal `scheme_unknown` or `number_malformed`, with what is wrong with it."""
    check = _CHECKS.get(scheme)
    if check is None:
        raise Refusal("scheme_unknown", f"one of {', '.join(SCHEMES)}")
    return check(number)


def iban(text: str) -> str:
    """Return an IBAN in capitals without blanks, its check digits proved (ISO 13616 by ISO/IEC 7064, MOD 97-10).

    What each country asks for besides is looked at where a number is given to an account. Raises Refusal
    `number_malformed`."""
    compact = text.replace(" ", "").upper()
    if not _IBAN.match(compact):
        raise Refusal("number_malformed", "an IBAN has two letters, two digits and up to 30 letters and digits")
    if int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 != 1:
        raise Refusal("number_malformed", "the check digits of the IBAN do not fit")
    return compact


def nuban(text: str) -> str:
    """Return a Nigerian account number as `bank-number`, its check digit proved.

    `bank` is the code of a deposit money bank (3 digits) or of another financial institution (5 digits, or 6 with its
    leading 9). Raises Refusal `number_malformed`."""
    found = _NUBAN.match(text)
    if found is None:
        raise Refusal("number_malformed", "a NUBAN is a bank code of 3, 5 or 6 digits, a hyphen, and 10 digits")
    bank, number = found[1], found[2]
    if len(bank) == 6:
        if bank[0] != "9":
            raise Refusal("number_malformed", "a code of 6 digits begins with 9")
        bank = bank[1:]
    if number[9] != nuban_check_digit(bank, number[:9]):
        raise Refusal("number_malformed", "the check digit of the NUBAN does not fit")
    return f"{bank}-{number}"


def nuban_check_digit(bank: str, serial: str) -> str:
    """Return the last digit of a NUBAN, from a bank code of 3 or 5 digits and the serial number of 9.

    Central Bank of Nigeria, "Revised Standards on Nigeria Uniform Bank Account Number (NUBAN) Scheme for Banks and
    Other Financial Institutions in Nigeria" (2020): the code is filled up to six digits, of a bank by zeros in front,
    of another institution by a 9; the fifteen digits are weighted 3, 7, 3 and so on; what is missing to the next ten is
    the check digit. For banks that is the scheme of 2010. Raises ValueError for anything else than such digits."""
    code = {3: "000", 5: "9"}[len(bank)] + bank if len(bank) in (3, 5) else ""
    digits = code + serial
    if len(digits) != 15 or not (digits.isascii() and digits.isdigit()):
        raise ValueError("a code of 3 or 5 digits and a serial number of 9")
    return str(-sum(int(digit) * weight for digit, weight in zip(digits, (3, 7, 3) * 5, strict=True)) % 10)


def virtual(text: str) -> str:
    """Return a virtual account number, its check digit (Luhn, ISO/IEC 7812-1) proved.

    Raises Refusal `number_malformed`."""
    if not _VIRTUAL.match(text) or text != virtual_number(text[:-1]):
        raise Refusal("number_malformed", f"a virtual number has {VIRTUAL_DIGITS} digits, the last of them a check")
    return text


def virtual_number(digits: str) -> str:
    """Return the virtual account number that begins with these digits: one is added, their Luhn digit."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return digits + str(-sum(value // 10 + value % 10 for value in doubled) % 10)


_CHECKS: Final[Mapping[str, Callable[[str], str]]] = {"iban": iban, "nuban": nuban, "virtual": virtual}
