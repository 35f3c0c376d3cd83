"""What a report of a rail does to an attempt: one rule, read from what was said and from what is known.

The invariants kept here:

- Money follows only what the rail has said in person (`DECIDES`): its answer to us, or a callback that only it could
  have signed. What anybody could have sent who knows a shared secret, or nothing at all, is a claim: it is kept, the
  rail is asked at once, and its answer decides.
- The first outcome that decides is final. Whatever says otherwise, before or after, trusted or not, is a contradiction
  and moves nothing. "Declined" and "not accepted" say the same of the money: it was not paid.
- Another rail is tried only where nobody has ever said that this one took the payment.
- An attempt that nobody knows the end of although another one has settled the intent may still end as not paid; that it
  was paid is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from zentra.runtime.rails.port import OutcomeStatus

__all__ = ["DECIDES", "KNOWN", "Known", "Ruling", "Said", "asks_the_rail", "belied", "decides", "rule"]

DECIDES: Final = frozenset({"direct", "polled", "body_signed", "operator"})
"""Whose word moves money. Any other, and one that is not known here, is a claim."""


class Ruling(StrEnum):
    """What becomes of a report."""

    CONFIRMS = "confirms"  # the payment was made: the hold is posted
    DECLINES = "declines"  # it was not: the hold is released
    FAILS_OVER = "fails_over"  # it was not accepted: the next rail is tried, or the hold is released
    CLAIMS = "claims"  # recorded, and the rail is asked
    REPEATS = "repeats"  # what is known already
    CONTRADICTS = "contradicts"  # recorded beside what is known; a case
    CLEARS = "clears"  # it was not paid, and the money is where another attempt has put it


class Said(NamedTuple):
    """A final report. `differs` says that it names another amount or currency than the intent."""

    status: str
    trust: str
    differs: bool


class Known(NamedTuple):
    """An attempt before the report."""

    status: str  # "started" while nothing is known
    open: bool  # it is the latest attempt of an intent that waits for its rail
    paid_otherwise: bool = False  # the rail has said that it paid another amount
    doubted: bool = False  # some rail of this intent that had not accepted has said itself that it paid
    claimed: frozenset[str] = frozenset()  # outcomes that were only claimed


KNOWN: Final = frozenset({Ruling.REPEATS, Ruling.CONTRADICTS, Ruling.CLAIMS})
"""Rulings that leave the attempt as it was."""

_STARTED: Final = "started"
_PAID: Final = OutcomeStatus.SUCCEEDED
_DECLINED: Final = OutcomeStatus.DECLINED
_REFUSED: Final = OutcomeStatus.NOT_ACCEPTED
_UNPAID: Final[frozenset[str]] = frozenset({_DECLINED, _REFUSED})


def decides(trust: str) -> bool:
    """Return whether a report of this trust may move money."""
    return trust in DECIDES


def rule(said: Said, known: Known) -> Ruling:
    """Return what a final report does; the first line that fits is the answer."""
    status = said.status
    if said.differs and status != _REFUSED:
        return Ruling.CONTRADICTS
    if status == known.status or (status in _UNPAID and known.status in _UNPAID):
        return Ruling.REPEATS
    if not known.open and known.status == _STARTED and status in _UNPAID:
        return Ruling.CLEARS if said.trust in DECIDES else Ruling.CLAIMS
    if not known.open or known.status != _STARTED:
        return Ruling.CONTRADICTS
    if said.trust not in DECIDES:
        return Ruling.CLAIMS
    if status == _PAID:
        return Ruling.CONFIRMS
    if known.doubted:
        return Ruling.CONTRADICTS  # another rail may have paid: a person decides whether the hold is released
    if status == _DECLINED:
        return Ruling.DECLINES
    if known.paid_otherwise:
        return Ruling.CONTRADICTS  # no other rail is asked, and nothing released
    return Ruling.DECLINES if known.claimed - {_REFUSED} else Ruling.FAILS_OVER


def belied(status: str, claimed: Iterable[str]) -> bool:
    """Return whether an outcome that decides gives the lie to what was claimed before."""
    return any((claim == _PAID) != (status == _PAID) for claim in claimed)


def asks_the_rail(said: Said, ruling: Ruling) -> bool:
    """Return whether the rail is asked at once: where somebody said in its name what is not known."""
    return said.trust not in DECIDES and ruling is not Ruling.REPEATS
