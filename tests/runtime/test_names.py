"""Numbers in their one spelling, check digits by hand, and the names that the engine has for system accounts."""

from __future__ import annotations

import pytest

from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.names import (
    account_number,
    is_number,
    nuban_check_digit,
    parse_number,
    parse_system_name,
    settlement_name,
    system_account_id,
    system_name,
    virtual_number,
)

# fmt: off
NUMBERS = [
    ("iban",    "GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432"),
    ("iban",    "de89370400440532013000",      "DE89370400440532013000"),
    ("iban",    "GB82WEST12345698765431",      None),   # check digits
    ("iban",    "GB82WEST1234569876543é",      None),
    ("iban",    "82GBWEST12345698765432",      None),
    ("iban",    "",                            None),
    ("nuban",   "011-0000014579",              "011-0000014579"),  # the examples of the central bank
    ("nuban",   "011-0000000220",              "011-0000000220"),
    ("nuban",   "011-0000014570",              None),
    ("nuban",   "012-0000014579",              None),   # another bank, another check digit
    ("nuban",   "50211-2000000006",            "50211-2000000006"),
    ("nuban",   "950211-2000000006",           "50211-2000000006"),  # the code with its leading 9
    ("nuban",   "850211-2000000006",           None),
    ("nuban",   "11-0000014579",               None),
    ("nuban",   "0011-0000014579",             None),
    ("nuban",   "011-000001457",               None),
    ("nuban",   "011-00000145790",             None),
    ("nuban",   "0110000014579",               None),
    ("nuban",   "٠11-0000014579",              None),   # digits of another script are no digits
    ("virtual", "799273987103",                None),
    ("virtual", "123456789015",                "123456789015"),
    ("virtual", "12345678901",                 None),
]
# fmt: on


@pytest.mark.parametrize(("scheme", "text", "spelled"), NUMBERS)
def test_a_number_has_one_spelling_or_is_none(scheme: str, text: str, spelled: str | None) -> None:
    if spelled is None:
        with pytest.raises(Refusal, match="number_malformed"):
            account_number(scheme, text)
    else:
        assert account_number(scheme, text) == spelled
        assert account_number(scheme, spelled) == spelled


def test_a_scheme_is_one_of_ours() -> None:
    with pytest.raises(Refusal, match="scheme_unknown"):
        account_number("bban", "1")


# fmt: off
NUBANS = [  # code, serial, sum of the weighted digits by hand, check digit
    ("011",   "000001457", 0 * 3 + 1 * 7 + 1 * 3 + 1 * 3 + 4 * 3 + 5 * 7 + 7 * 3),
    ("011",   "000000022", 1 * 7 + 1 * 3 + 2 * 7 + 2 * 3),
    ("50211", "200000000", 9 * 3 + 5 * 7 + 0 * 3 + 2 * 3 + 1 * 7 + 1 * 3 + 2 * 3),
    ("90115", "987654321", 9 * 3 + 9 * 7 + 0 * 3 + 1 * 3 + 1 * 7 + 5 * 3
                           + 9 * 3 + 8 * 7 + 7 * 3 + 6 * 3 + 5 * 7 + 4 * 3 + 3 * 3 + 2 * 7 + 1 * 3),
]
# fmt: on


@pytest.mark.parametrize(("code", "serial", "total"), NUBANS)
def test_the_check_digit_of_a_nuban_is_what_is_missing_to_the_next_ten(code: str, serial: str, total: int) -> None:
    assert nuban_check_digit(code, serial) == str((10 - total % 10) % 10)


@pytest.mark.parametrize(("code", "serial"), [("11", "000001457"), ("011", "00000145"), ("0x1", "000001457"), ("", "")])
def test_a_nuban_is_made_of_a_code_and_a_serial_number(code: str, serial: str) -> None:
    with pytest.raises(ValueError, match="code"):
        nuban_check_digit(code, serial)


def test_a_slip_of_one_digit_or_of_two_neighbours_is_found_in_a_virtual_number() -> None:
    number = virtual_number("79927398710")
    for place, digit in enumerate(number):
        for other in "0123456789".replace(digit, ""):
            slipped = number[:place] + other + number[place + 1 :]
            assert virtual_number(slipped[:-1]) != slipped


def test_the_luhn_digit_is_that_of_the_standard() -> None:
    assert virtual_number("7992739871") == "79927398713"  # ISO/IEC 7812-1, annex B


# fmt: off
NAMES = [
    ("customer-1",        False, None),
    ("iban:gb82west",     True,  ("iban", "GB82WEST")),
    ("nuban:011-1",       True,  ("nuban", "011-1")),
    ("virtual:1",         True,  ("virtual", "1")),
    ("virtual",           False, None),
    ("Virtual:1",         False, None),
    ("assets:virtual:1",  False, None),
]
# fmt: on


@pytest.mark.parametrize(("name", "number", "parsed"), NAMES)
def test_what_begins_with_a_scheme_is_a_number(name: str, number: bool, parsed: tuple[str, str] | None) -> None:
    assert (is_number(name), parse_number(name)) == (number, parsed)


@pytest.mark.parametrize(
    ("type_", "book", "name", "account_id"),
    [
        ("settlement", "default", "@settlement/NGN", "settlement-ngn"),
        ("suspense", "eu", "@suspense/NGN/eu", "eu:suspense-ngn"),
    ],
)
def test_a_system_account_has_a_name_and_an_id_in_its_book(type_: str, book: str, name: str, account_id: str) -> None:
    assert system_name(type_, "NGN", book) == name
    assert parse_system_name(name) == (type_, "NGN", book)
    assert system_account_id(type_, "NGN", book) == account_id


@pytest.mark.parametrize("name", ["settlement/NGN", "@customer/NGN", "@", ""])
def test_no_other_name_is_that_of_a_system_account(name: str) -> None:
    assert parse_system_name(name) is None


def test_money_goes_through_the_settlement_account_of_its_own_book() -> None:
    ref = AccountRef(1, "acme", "a", "customer", "NGN", "credit", True)
    assert settlement_name("NGN", None) == settlement_name("NGN", ref) == "@settlement/NGN"
    abroad = AccountRef(1, "acme", "a", "customer", "NGN", "credit", True, book="eu")
    assert settlement_name("NGN", abroad) == system_name("settlement", "NGN", "eu")
