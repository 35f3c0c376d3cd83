"""What a party is known to be: its KYC state, its screening state, and the moves between them.

    kyc         not_started -> awaiting_documents -> pending_review -> approved | denied; approved -> expired
    screening   not_screened -> clear | possible_match; possible_match -> true_match | false_positive, by a person

Invariants. A state changes by a row of `KYC_MOVES` or by what screening finds, and by nothing else; every change is
kept with actor and reason. A true match stays one whatever lists say later: only a person's word ends it.

In a tenant of the test world some names force states (`SANDBOX_NAMES`); in a live one they are names like any other."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["BLOCKED", "KYC_MOVES", "SANDBOX_NAMES", "Kyc", "PartyRef", "Screening", "sandbox_states"]


class Kyc(StrEnum):
    """How far the identity of a party is known."""

    NOT_STARTED = "not_started"
    AWAITING_DOCUMENTS = "awaiting_documents"
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class Screening(StrEnum):
    """What the lists say of a party."""

    NOT_SCREENED = "not_screened"
    CLEAR = "clear"
    POSSIBLE_MATCH = "possible_match"
    TRUE_MATCH = "true_match"
    FALSE_POSITIVE = "false_positive"


class PartyRef(Struct, frozen=True, gc=False):
    """What a decision has to know of the party behind an account: its states, and until when an approval is one."""

    id: str
    kyc: str = Kyc.NOT_STARTED
    screening: str = Screening.NOT_SCREENED
    kyc_expires_at: datetime | None = None

    def as_of(self, now: datetime) -> "PartyRef":
        """Return the party as it is at a time: an approval that has run out is none, whether that was noted or not."""
        over = self.kyc_expires_at is not None and self.kyc_expires_at <= now and self.kyc == Kyc.APPROVED
        return replace(self, kyc=str(Kyc.EXPIRED)) if over else self


KYC_MOVES: Final[Mapping[Kyc, frozenset[Kyc]]] = {
    Kyc.NOT_STARTED: frozenset({Kyc.AWAITING_DOCUMENTS, Kyc.PENDING_REVIEW, Kyc.APPROVED, Kyc.DENIED}),
    Kyc.AWAITING_DOCUMENTS: frozenset({Kyc.PENDING_REVIEW, Kyc.APPROVED, Kyc.DENIED}),
    Kyc.PENDING_REVIEW: frozenset({Kyc.AWAITING_DOCUMENTS, Kyc.APPROVED, Kyc.DENIED}),
    Kyc.APPROVED: frozenset({Kyc.PENDING_REVIEW, Kyc.DENIED, Kyc.EXPIRED}),
    Kyc.DENIED: frozenset({Kyc.PENDING_REVIEW}),
    Kyc.EXPIRED: frozenset({Kyc.AWAITING_DOCUMENTS, Kyc.PENDING_REVIEW, Kyc.APPROVED, Kyc.DENIED}),
}
"""Where an operator may move a party; `approved` and `denied` by nobody who created it."""

BLOCKED: Final = frozenset({Screening.POSSIBLE_MATCH, Screening.TRUE_MATCH})
"""With these no intent of the party passes by itself."""

_APPROVED: Final = Kyc.APPROVED
SANDBOX_NAMES: Final[Mapping[str, tuple[Kyc, Screening]]] = {
    "sandbox approved": (_APPROVED, Screening.CLEAR),
    "sandbox denied": (Kyc.DENIED, Screening.CLEAR),
    "sandbox pending review": (Kyc.PENDING_REVIEW, Screening.CLEAR),
    "sandbox awaiting documents": (Kyc.AWAITING_DOCUMENTS, Screening.CLEAR),
    "sandbox expired": (Kyc.EXPIRED, Screening.CLEAR),
    "sandbox possible match": (_APPROVED, Screening.POSSIBLE_MATCH),
    "sandbox true match": (_APPROVED, Screening.TRUE_MATCH),
    "sandbox false positive": (_APPROVED, Screening.FALSE_POSITIVE),
}
"""Legal names that force states in test tenants; case and spaces around them do not matter."""


def sandbox_states(mode: str, legal_name: str) -> tuple[Kyc, Screening] | None:
    """Return the states that a name forces in a tenant of this mode, or None where it forces none."""
    return SANDBOX_NAMES.get(" ".join(legal_name.casefold().split())) if mode == "test" else None
