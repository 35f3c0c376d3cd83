"""A simulated bank: the sandbox's scenarios behind a bank's own words.

It shares no code with the adapters, so that a mistake in one is not repeated in the other: it has its own tables, its
own arithmetic and its own signatures. The invariants kept here:

- When money moves is decided by the sandbox's `PaymentBook` alone; a dialect only says it in other words.
- A scenario is chosen per request (`x-simulator-scenario`), else by the bank's control; two are the bank's own:
  `error_after_taking` answers 500 to what it took, `token_expired` refuses every token before it takes anything.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from zentra.gateway.outward.http import Answer
from zentra.gateway.sandbox.crew import Errand, Heard
from zentra.gateway.sandbox.scenarios import SCENARIOS, Order, PaymentBook, RailProfile, Reply, ReplyKind, Timings
from zentra.runtime.ledger.money import exponent, is_currency

__all__ = ["PARTNER_SCENARIOS", "Asked", "Partner", "PartnerProfile", "Told", "major", "minor"]

TWISTS: Final = {"error_after_taking": "success", "token_expired": "success"}
PARTNER_SCENARIOS: Final = frozenset({*SCENARIOS, *TWISTS})


class PartnerProfile(msgspec.Struct, frozen=True):
    """How one simulated bank is set up: its dialect, and what the adapter has to know to be let in."""

    kind: str
    client_id: str
    client_secret: str
    callback_secret: str = ""
    scenario: str = "success"
    token_seconds: int = 300
    not_found_seconds: float = 0.0
    timings: Timings = Timings()


class Asked(NamedTuple):
    """One request; `path` is below the bank's own root, decoded, and header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    now: float


class Told(NamedTuple):
    """The answer to one request, and what follows from it."""

    status: int
    body: Mapping[str, Any]
    hangs: bool = False
    planned: Errand | None = None


class Partner(ABC):
    """One simulated bank. Raises ValueError for a scenario that does not exist."""

    idempotent = True

    def __init__(self, name: str, profile: PartnerProfile) -> None:
        if profile.scenario not in PARTNER_SCENARIOS:
            raise ValueError(f"no scenario {profile.scenario!r}")
        self.name, self.profile = name, profile
        self.scenario = profile.scenario
        book = RailProfile(
            "", idempotent=self.idempotent, not_found_seconds=profile.not_found_seconds, timings=profile.timings
        )
        self.book = PaymentBook(name, book)

    @abstractmethod
    def answer(self, asked: Asked) -> Told | None:
        """Return the answer to a request; None where the bank has no such door."""

    @abstractmethod
    def callback(self, errand: Errand) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a callback, as this try sends it."""

    def heard(self, errand: Errand, answer: Answer) -> Heard:
        """Return what the bank makes of the answer to its callback."""
        if 200 <= answer.status < 300:
            return Heard.RESTS
        return Heard.GIVES_UP if answer.status in (400, 401, 403) else Heard.AGAIN

    def take(self, asked: Asked, order: Order) -> tuple[str, Reply]:
        """Return the scenario that is played, and what the book makes of an order."""
        word = asked.headers.get("x-simulator-scenario") or self.scenario
        played = msgspec.structs.replace(order, scenario=TWISTS.get(word, word))
        return word, self.book.submit(played, asked.now)

    def planned(self, reply: Reply) -> Errand | None:
        """Return the callbacks that a reply causes."""
        if reply.kind is not ReplyKind.TAKEN or reply.payment is None:
            return None
        return Errand(self.book, reply.payment, self.book.notices(reply.payment), 0, 0)


def minor(text: object, currency: object) -> str:
    """Return a decimal amount in minor units, in digits; "" for what the bank does not take as an amount."""
    if not isinstance(text, str) or not isinstance(currency, str) or not is_currency(currency):
        return ""
    with contextlib.suppress(InvalidOperation):
        scaled = Decimal(text).scaleb(exponent(currency))
        if scaled == scaled.to_integral_value() and scaled > 0:
            return str(int(scaled))
    return ""


def major(digits: str, currency: str) -> str:
    """Return minor units as the decimal amount that the bank writes."""
    return format(Decimal(digits).scaleb(-exponent(currency)), "f")
