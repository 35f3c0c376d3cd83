"""The terms of an intent beyond an amount between two accounts: values that stand in its canonical command.

They are digested and sealed with the command: a field that is not used is left out, so commands that do not use it keep
their bytes. Amounts are strings of digits, times RFC 3339 in UTC."""

from msgspec import UNSET, Struct, UnsetType

__all__ = ["Condition", "Conversion", "Leg"]


class Leg(Struct, frozen=True, kw_only=True, gc=False):
    """One movement of a journal."""

    source: str
    destination: str
    minor: str
    currency: str
    reference: str | UnsetType = UNSET


class Condition(Struct, frozen=True, kw_only=True, gc=False):
    """What a balance has to be once the intent is in the books; `of` is available, posted or pending."""

    account: str
    of: str
    min: str | UnsetType = UNSET
    max: str | UnsetType = UNSET


class Conversion(Struct, frozen=True, kw_only=True, gc=False):
    """What is bought for the amount of an intent, and the quote whose price it takes where there is one."""

    buy: str
    quote: str | UnsetType = UNSET
