"""What the auditor knows by heart: how it objects, which moves an intent may make, which sign a posting carries.

The tables are written down from the domain's own description, not from the machine that is audited: two copies of one
table would share its mistakes."""

from typing import Final

__all__ = ["BOOKED", "HELD", "SETTLED", "SIGNS", "Violation", "is_move", "matches_filter"]


class Violation(Exception):
    """Raised where an invariant does not hold: `letter` names it, `detail` says where."""

    def __init__(self, letter: str, detail: str) -> None:
        super().__init__(f"{letter}: {detail}")
        self.letter, self.detail = letter, detail


ACCEPTED: Final = "ACCEPTED"
JUDGING: Final = "PROCESSING/judging"
RESERVING: Final = "PROCESSING/reserving"
ROUTING: Final = "PROCESSING/routing"
HELD: Final = "PROCESSING/held"
REVIEW: Final = "REVIEW"
SUBMITTED: Final = "AWAITING_PROVIDER/submitted"
CONFIRMED: Final = "AWAITING_PROVIDER/confirmed"
REFUSED: Final = "AWAITING_PROVIDER/refused"
SUCCESSFUL: Final = "SUCCESSFUL"
FAILED: Final = "FAILED"
RECONCILED: Final = "RECONCILED"
REVERSED: Final = "REVERSED"

BOOKED: Final = ("book_transfer", "journal", "conversion")  # what no rail carries
SETTLED: Final = frozenset({SUCCESSFUL, FAILED, RECONCILED, REVERSED})

# A table is read down its columns.
# fmt: off
_MOVES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (ACCEPTED,   "policy.started"):         (JUDGING,),
    (ACCEPTED,   "policy.accepted"):        (RESERVING,),
    (ACCEPTED,   "intent.cancelled"):       (FAILED,),
    (JUDGING,    "policy.accepted"):        (RESERVING,),
    (JUDGING,    "policy.review"):          (REVIEW,),
    (JUDGING,    "policy.denied"):          (FAILED,),
    (JUDGING,    "intent.cancelled"):       (FAILED,),
    (REVIEW,     "review.approved"):        (JUDGING,),
    (REVIEW,     "review.rejected"):        (FAILED,),
    (REVIEW,     "review.expired"):         (FAILED,),
    (REVIEW,     "intent.cancelled"):       (FAILED,),
    (REVIEW,     "review.endorsed"):        (REVIEW,),
    (REVIEW,     "review.assigned"):        (REVIEW,),
    (REVIEW,     "review.commented"):       (REVIEW,),
    (REVIEW,     "review.escalated"):       (REVIEW,),
    (RESERVING,  "ledger.reserved"):        (ROUTING, HELD),
    (RESERVING,  "ledger.posted"):          (SUCCESSFUL,),
    (RESERVING,  "ledger.refused"):         (FAILED,),
    (RESERVING,  "intent.cancelled"):       (FAILED,),
    (HELD,       "hold.captured"):          (HELD, SUCCESSFUL),
    (HELD,       "hold.voided"):            (FAILED, SUCCESSFUL),
    (HELD,       "hold.expired"):           (FAILED, SUCCESSFUL),
    (ROUTING,    "provider.routed"):        (SUBMITTED,),
    (ROUTING,    "provider.awaited"):       (ROUTING,),
    (ROUTING,    "ledger.released"):        (FAILED,),
    (SUBMITTED,  "provider.failover"):      (SUBMITTED,),
    (SUBMITTED,  "provider.callback"):      (SUBMITTED, CONFIRMED, REFUSED),
    (CONFIRMED,  "provider.callback"):      (CONFIRMED,),
    (CONFIRMED,  "ledger.posted"):          (SUCCESSFUL,),
    (CONFIRMED,  "ledger.refused"):         (CONFIRMED,),
    (REFUSED,    "provider.callback"):      (REFUSED,),
    (REFUSED,    "ledger.released"):        (FAILED,),
    (SUCCESSFUL, "provider.callback"):      (SUCCESSFUL,),
    (SUCCESSFUL, "ledger.reversal"):        (SUCCESSFUL, REVERSED),
    (SUCCESSFUL, "reconciliation.matched"): (RECONCILED,),
    (FAILED,     "provider.callback"):      (FAILED,),
    (FAILED,     "ledger.reversal"):        (REVERSED,),
    (RECONCILED, "provider.callback"):      (RECONCILED,),
    (RECONCILED, "ledger.reversal"):        (RECONCILED, REVERSED),
    (REVERSED,   "provider.callback"):      (REVERSED,),
}

# What a posting does to the pending and the posted layer: -1 takes away, 0 leaves alone, 1 adds.
SIGNS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "reserve":     ((1, 0),),
    "release":     ((-1, 0),),
    "post":        ((-1, 1),),
    "settle":      ((0, 1),),
    "book":        ((0, 1),),
    "reversal":    ((0, 1),),
    "fee_reserve": ((1, 0),),
    "fee_release": ((-1, 0),),
    "fee":         ((-1, 1), (0, 1)),
    "fee_refund":  ((0, 1),),
    "conversion_fee":  ((0, 1),),
    "spread":          ((0, 1),),
    "forced_reversal": ((0, 1),),
}
# fmt: on

_ANYWHERE: Final = frozenset(
    {"case.opened", "case.resolved", "balance.crossed", "webhook.delivered", "webhook.retrying", "webhook.exhausted",
     "webhook.endpoint_disabled", "webhook.endpoint_enabled"}
)  # fmt: skip
_ONCE_SETTLED: Final = frozenset({"money_runtime.synchronized", "review.closed", "evidence.amended"})


def is_move(before: str, event: str, after: str) -> bool:
    """Return whether an intent that stands at `before` may be at `after` when `event` has been told of it."""
    if event in _ANYWHERE:
        return before == after
    if event in _ONCE_SETTLED:
        return before == after and before in SETTLED
    return after in _MOVES.get((before, event), ())


def matches_filter(wanted: tuple[str, ...], event: str) -> bool:
    """Return whether an endpoint that wants these events is to hear of this one."""
    for pattern in wanted:
        if pattern in ("*", event):
            return True
        if pattern.endswith(".*") and event.startswith(pattern[:-1]):
            return True
    return False
