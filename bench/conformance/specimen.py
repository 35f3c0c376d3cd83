"""How an adapter is put under test: its partner's words, given by whoever wrote the adapter, apart from the adapter.

A specimen says how the partner writes an answer and a callback, and reads what the adapter sends. It holds no state and
no rule: the suite decides what is said when, and what has to come of it. Write it from the partner's manual and not
from the adapter, or both share their mistakes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

from zentra.runtime.rails.port import Ack, Rail, RailSettings

__all__ = ["REFERENCE", "Asked", "Reply", "Request", "Said", "Specimen", "Word"]

Word = Literal["pending", "succeeded", "declined", "refused", "not_found", "nonsense"]
REFERENCE = "0190f0c2a5b47c1e8d3f6a7b8c9d0e1f01"


class Said(NamedTuple):
    """One statement of the partner in neutral words; `nonsense` is a status that its manual does not have.

    Where answers are JSON the suite writes its remarks into them itself, so `remark` is for every other format."""

    word: Word
    reference: str = REFERENCE
    minor: int = 125_050
    currency: str = "NGN"
    event_id: str = "evt-1"
    misspelt: str | None = None  # what stands where the amount should
    remark: str = "said"  # what the partner writes for people, where its words have room for that

    def amount(self, spell: Callable[[int, str], str]) -> str:
        """Return the amount as the partner writes it: by `spell(minor, currency)`, unless it is to be misspelt."""
        return spell(self.minor, self.currency) if self.misspelt is None else self.misspelt


class Request(NamedTuple):
    """What the adapter sent; `path` is as it stood on the wire, query included, and header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Asked(NamedTuple):
    """What a request is about; a poll names no amount."""

    what: Literal["submit", "poll"]
    reference: str
    minor: int | None = None
    currency: str | None = None


class Reply(NamedTuple):
    """What the partner answers."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


class Specimen(ABC):
    """One adapter and its partner's words; what an adapter does not have is switched off here."""

    calls_out: ClassVar[bool] = True  # it asks over HTTP below `settings.base_url`
    calls_back: ClassVar[bool] = True
    names_amounts: ClassVar[bool] = True  # the partner's statements name amount and currency
    names_currency: ClassVar[bool] = True  # without it the account has one currency, and the adapter refuses others
    echoes_reference: ClassVar[bool] = True  # the partner's statements name our reference
    plays_scenarios: ClassVar[bool] = False  # only a sandbox is told what to play
    currencies: ClassVar[tuple[str, ...]] = ("NGN", "JPY", "KWD")  # with two, no and three digits behind the point
    proof_headers: ClassVar[tuple[str, ...]] = ()  # without any of these a callback is not authentic

    @abstractmethod
    def settings(self, base_url: str) -> RailSettings:
        """Return settings with which the adapter works, secrets included."""

    @abstractmethod
    def make(self, settings: RailSettings) -> Rail:
        """Return the adapter."""

    def asked(self, request: Request) -> Asked | None:
        """Return what a request asks of a payment; None where it is about something else, such as a token.

        It must not raise: what it raises is reported as the specimen's own fault."""
        raise NotImplementedError

    def beside(self, request: Request) -> Reply:
        """Return the answer to a request that is not about a payment."""
        return Reply(404, b"{}")

    def submitted(self, said: Said) -> Reply | None:
        """Return the answer to a submit; None where the partner has no such word there."""
        raise NotImplementedError

    def polled(self, said: Said) -> Reply | None:
        """Return the answer to a poll; None where the partner has no such word there."""
        raise NotImplementedError

    def callback(self, said: Said) -> bytes | None:
        """Return the body of a callback; None where the partner has no such word there."""
        raise NotImplementedError

    def prove(self, settings: RailSettings, raw: bytes, now: float) -> Mapping[str, str]:
        """Return the headers that prove a callback under these settings, names in lower case."""
        raise NotImplementedError

    def rests(self, ack: Ack) -> bool:
        """Return whether the partner, told this, does not send the callback again."""
        return 200 <= ack.status < 300
