"""What a report of a rail does to an attempt: one rule, read from what was said and from what is known.

The invariants kept here:

- Money follows only what the rail has said in person (`DECIDES`): its answer to us, or a callback that only it could
  have signed. What anybody could have sent who knows a shared secret, or nothing at all, is a claim: it is kept, the
  rail is asked at once, and its answer decides.
- The first outcome that decides is final. Whatever says otherwise, before or after, trusted or not, is a contradiction
  and moves nothing. "Declined" and "not accepted" say the same of the money: it was not paid.
- Another rail is tried only where nobody has ever said that this one took the payment: with an outcome, or "pending".
- A word that is no outcome moves nothing. It is a contradiction where it names another amount, or where it comes after
  the end and is none that we know: the payment may have been returned.
- An attempt that nobody knows the end of although another one has settled the intent may still end as not paid; that it
  was paid is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from zentra.runtime.rails.port import OutcomeStatus

__all__ = ["DECIDES", "ENDS", "KNOWN", "Known", "Ruling", "Said", "asks_the_rail", "belied", "decides", "rule"]

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
    NOTES = "notes"  # nothing that decides: recorded where it is new
    WAITS = "waits"  # it was not paid: recorded, and done when a rail that was left has answered what is said of it
    CLEARS = "clears"  # it was not paid, and the money is where another attempt has put it


class Said(NamedTuple):
    """A report. `differs`: it names another amount or currency than the intent. `second`: it may be about a second
    submission of the same reference, so it is a claim, whoever has said it. `strange`: it is a word of a callback that
    its adapter does not know."""

    status: str
    trust: str
    differs: bool
    second: bool = False
    strange: bool = False


class Known(NamedTuple):
    """An attempt before the report."""

    status: str  # "started" while nothing is known
    open: bool  # it is the latest attempt of an intent that waits for its rail
    paid_otherwise: bool = False  # the rail has said that it paid another amount
    doubted: bool = False  # some rail of this intent that had not accepted has said itself that it paid
    claimed: frozenset[str] = frozenset()  # what was only claimed
    taken: bool = False  # the rail has said that it took the payment
    unanswered: bool = False  # somebody says that a rail which was left has paid, and it has not answered that


KNOWN: Final = frozenset({Ruling.REPEATS, Ruling.CONTRADICTS, Ruling.CLAIMS, Ruling.NOTES, Ruling.WAITS})
"""Rulings that leave the attempt as it was."""

_STARTED: Final = "started"
_PAID: Final = OutcomeStatus.SUCCEEDED
_DECLINED: Final = OutcomeStatus.DECLINED
_REFUSED: Final = OutcomeStatus.NOT_ACCEPTED
_UNPAID: Final[frozenset[str]] = frozenset({_DECLINED, _REFUSED})
ENDS: Final[frozenset[str]] = frozenset({_PAID, _DECLINED, _REFUSED})
"""The outcomes."""
_TOOK: Final[frozenset[str]] = frozenset({_PAID, _DECLINED, OutcomeStatus.PENDING})


def decides(trust: str) -> bool:
    """Return whether a report of this trust may move money."""
    return trust in DECIDES


def rule(said: Said, known: Known) -> Ruling:
    """Return what a report does; the first line that fits is the answer."""
    status = said.status
    if said.differs and status != _REFUSED:
        return Ruling.CONTRADICTS
    if status not in ENDS:
        return Ruling.CONTRADICTS if said.strange and not known.open else Ruling.NOTES
    if status == known.status or (status in _UNPAID and known.status in _UNPAID):
        return Ruling.REPEATS
    if not known.open and known.status == _STARTED and status in _UNPAID:
        return Ruling.CLEARS if said.trust in DECIDES else Ruling.NOTES
    if not known.open:
        return Ruling.CONTRADICTS
    if said.trust not in DECIDES or said.second:
        return Ruling.CLAIMS
    if status == _PAID:
        return Ruling.CONFIRMS
    if known.doubted:
        return Ruling.CONTRADICTS  # another rail may have paid: a person decides whether the hold is released
    if known.unanswered:
        return Ruling.WAITS
    if status == _DECLINED:
        return Ruling.DECLINES
    if known.paid_otherwise:
        return Ruling.CONTRADICTS  # no other rail is asked, and nothing released
    return Ruling.DECLINES if known.taken or known.claimed & _TOOK else Ruling.FAILS_OVER


def belied(status: str, claimed: Iterable[str]) -> bool:
    """Return whether an outcome that decides gives the lie to what was claimed before."""
    return any((claim == _PAID) != (status == _PAID) for claim in claimed if claim in ENDS)


def asks_the_rail(said: Said, ruling: Ruling) -> bool:
    """Return whether the rail is asked at once: where somebody said in its name what is not known."""
    return (said.trust not in DECIDES or said.second) and ruling in (Ruling.CLAIMS, Ruling.CONTRADICTS)
