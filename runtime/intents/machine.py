"""The life of a transaction as data: facts come in; the next state and its effects come out.

Theory of operation. A transaction is a gen_statem: a state, some data and one table. `MOVES` holds every pair of
state and fact that is allowed; a pair that is not there is refused, and nothing else in the runtime may change a state.
A move names the state that follows, the topic of the one event that tells of it, and effects. Entering a state has
effects of its own (`ENTER`), and a state timeout (`TIMEOUTS`) asks for them again: nothing depends on a message that
may never come.

A fact that does not move the state is still a transition with its own record. Facts about the surroundings (deliveries,
cases, sealing) are allowed in whole families of states; `_family` writes those rows.

Nothing here waits, reads a clock or knows of a socket."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from zentra.runtime.errors import IllegalFact
from zentra.runtime.intents.vocabulary import SETTLED, Effect, Fact, State, Topic

__all__ = ["ENTER", "INITIAL", "MOVES", "TIMEOUTS", "Move", "Timeout", "entering", "step"]


class Move(NamedTuple):
    """What one fact does in one state."""

    to: State
    topic: Topic
    effects: tuple[Effect, ...] = ()


class Timeout(NamedTuple):
    """How long a state may last before `effect` is asked for again."""

    seconds: float
    effect: Effect


def _family(states: Iterable[State], fact: Fact, topic: Topic, *effects: Effect) -> dict[tuple[State, Fact], Move]:
    """Return the rows of a fact that leaves each of `states` where it is."""
    return {(state, fact): Move(state, topic, effects) for state in states}


S, F, T, E = State, Fact, Topic, Effect
INITIAL: Final = Move(S.ACCEPTED, T.INGRESS_ACCEPTED)
_BEYOND_RAIL = [S.CONFIRMED, S.REFUSED, *(state for state in State if state in SETTLED)]

# A table is read down its columns.
# fmt: off
MOVES: Final[Mapping[tuple[State, Fact], Move]] = {
    (S.ACCEPTED,   F.POLICY_ACCEPTED):   Move(S.RESERVING,  T.POLICY_ACCEPTED),
    (S.ACCEPTED,   F.JUDGING_BEGUN):     Move(S.JUDGING,    T.POLICY_STARTED),
    (S.ACCEPTED,   F.CANCELLED):         Move(S.FAILED,     T.INTENT_CANCELLED),

    (S.JUDGING,    F.POLICY_ACCEPTED):   Move(S.RESERVING,  T.POLICY_ACCEPTED),
    (S.JUDGING,    F.POLICY_REFERRED):   Move(S.REVIEW,     T.POLICY_REVIEW,     (E.OPEN_REVIEW,)),
    (S.JUDGING,    F.POLICY_DENIED):     Move(S.FAILED,     T.POLICY_DENIED),
    (S.JUDGING,    F.CANCELLED):         Move(S.FAILED,     T.INTENT_CANCELLED),

    (S.REVIEW,     F.APPROVED):          Move(S.JUDGING,    T.REVIEW_APPROVED,   (E.CLOSE_REVIEW, E.JUDGE)),
    (S.REVIEW,     F.REJECTED):          Move(S.FAILED,     T.REVIEW_REJECTED,   (E.CLOSE_REVIEW,)),
    (S.REVIEW,     F.EXPIRED):           Move(S.FAILED,     T.REVIEW_EXPIRED,    (E.CLOSE_REVIEW,)),
    (S.REVIEW,     F.CANCELLED):         Move(S.FAILED,     T.INTENT_CANCELLED,  (E.CLOSE_REVIEW,)),
    (S.REVIEW,     F.ENDORSED):          Move(S.REVIEW,     T.REVIEW_ENDORSED),     # one of several approvals
    (S.REVIEW,     F.REVIEW_ASSIGNED):   Move(S.REVIEW,     T.REVIEW_ASSIGNED),
    (S.REVIEW,     F.REVIEW_COMMENTED):  Move(S.REVIEW,     T.REVIEW_COMMENTED),
    (S.REVIEW,     F.REVIEW_ESCALATED):  Move(S.REVIEW,     T.REVIEW_ESCALATED),

    (S.RESERVING,  F.RESERVED):          Move(S.ROUTING,    T.LEDGER_RESERVED),
    (S.RESERVING,  F.BOOKED):            Move(S.SUCCESSFUL, T.LEDGER_POSTED),
    (S.RESERVING,  F.LEDGER_REFUSED):    Move(S.FAILED,     T.LEDGER_REFUSED,    (E.GIVE_BACK,)),
    (S.RESERVING,  F.CANCELLED):         Move(S.FAILED,     T.INTENT_CANCELLED,  (E.GIVE_BACK,)),

    (S.ROUTING,    F.ROUTED):            Move(S.SUBMITTED,  T.PROVIDER_ROUTED,   (E.SUBMIT,)),
    (S.ROUTING,    F.ROUTE_AWAITED):     Move(S.ROUTING,    T.PROVIDER_AWAITED),    # every rail is away for now
    (S.ROUTING,    F.UNROUTABLE):        Move(S.FAILED,     T.LEDGER_RELEASED,   (E.GIVE_BACK,)),
    (S.ROUTING,    F.CANCELLED):         Move(S.FAILED,     T.LEDGER_RELEASED,   (E.GIVE_BACK,)),

    # A hold: captured in parts until nothing is left or the client says so; what was not captured is given back.
    (S.RESERVING,  F.HELD):              Move(S.HELD,       T.LEDGER_RESERVED),
    (S.HELD,       F.CAPTURED):          Move(S.HELD,       T.HOLD_CAPTURED),
    (S.HELD,       F.CAPTURED_LAST):     Move(S.SUCCESSFUL, T.HOLD_CAPTURED,     (E.GIVE_BACK,)),
    (S.HELD,       F.VOIDED):            Move(S.FAILED,     T.HOLD_VOIDED,       (E.GIVE_BACK,)),
    (S.HELD,       F.VOIDED_REST):       Move(S.SUCCESSFUL, T.HOLD_VOIDED,       (E.GIVE_BACK,)),
    (S.HELD,       F.LAPSED):            Move(S.FAILED,     T.HOLD_EXPIRED,      (E.GIVE_BACK,)),
    (S.HELD,       F.LAPSED_REST):       Move(S.SUCCESSFUL, T.HOLD_EXPIRED,      (E.GIVE_BACK,)),

    (S.SUBMITTED,  F.FAILED_OVER):       Move(S.SUBMITTED,  T.PROVIDER_FAILOVER, (E.SUBMIT,)),
    (S.SUBMITTED,  F.RAIL_CONFIRMED):    Move(S.CONFIRMED,  T.PROVIDER_CALLBACK),
    (S.SUBMITTED,  F.RAIL_DECLINED):     Move(S.REFUSED,    T.PROVIDER_CALLBACK),
    (S.SUBMITTED,  F.RAIL_CONTRADICTED): Move(S.SUBMITTED,  T.PROVIDER_CALLBACK, (E.OPEN_CASE,)),
    (S.SUBMITTED,  F.RAIL_CLAIMED):      Move(S.SUBMITTED,  T.PROVIDER_CALLBACK),   # in its name, by whoever it was

    (S.CONFIRMED,  F.POSTED):            Move(S.SUCCESSFUL, T.LEDGER_POSTED),
    (S.CONFIRMED,  F.LEDGER_REFUSED):    Move(S.CONFIRMED,  T.LEDGER_REFUSED,    (E.OPEN_CASE,)),
    (S.REFUSED,    F.RELEASED):          Move(S.FAILED,     T.LEDGER_RELEASED,   (E.GIVE_BACK,)),

    (S.SUCCESSFUL, F.REVERSED_IN_PART):  Move(S.SUCCESSFUL, T.LEDGER_REVERSAL),
    (S.SUCCESSFUL, F.REVERSED_IN_FULL):  Move(S.REVERSED,   T.LEDGER_REVERSAL),
    (S.SUCCESSFUL, F.STATEMENT_MATCHED): Move(S.RECONCILED, T.RECONCILIATION_MATCHED),
    (S.RECONCILED, F.REVERSED_IN_PART):  Move(S.RECONCILED, T.LEDGER_REVERSAL),
    (S.RECONCILED, F.REVERSED_IN_FULL):  Move(S.REVERSED,   T.LEDGER_REVERSAL),
    (S.FAILED,     F.REVERSED_IN_FULL):  Move(S.REVERSED,   T.LEDGER_REVERSAL),   # a partial debit is given back

    # A rail that repeats itself leaves a record and one state; one that contradicts itself opens a case.
    **_family([S.SUBMITTED, *_BEYOND_RAIL], F.RAIL_REPEATED, T.PROVIDER_CALLBACK),
    **_family([S.SUBMITTED, *_BEYOND_RAIL], F.RAIL_NOTED, T.PROVIDER_CALLBACK),  # it took the payment, works on it
    **_family(_BEYOND_RAIL, F.RAIL_CONTRADICTED,  T.PROVIDER_CALLBACK, E.OPEN_CASE),

    **_family(State,        F.CASE_OPENED,        T.CASE_OPENED),
    **_family(State,        F.CASE_RESOLVED,      T.CASE_RESOLVED),
    **_family(State,        F.MONITOR_TRIPPED,    T.BALANCE_CROSSED),
    **_family(State,        F.DELIVERED,          T.WEBHOOK_DELIVERED),
    **_family(State,        F.DELIVERY_RETRYING,  T.WEBHOOK_RETRYING),
    **_family(State,        F.DELIVERY_EXHAUSTED, T.WEBHOOK_EXHAUSTED),
    **_family(State,        F.ENDPOINT_DISABLED,  T.ENDPOINT_DISABLED),
    **_family(State,        F.ENDPOINT_ENABLED,   T.ENDPOINT_ENABLED),
    **_family(SETTLED,      F.SYNCHRONIZED,       T.SYNCHRONIZED),
    **_family(SETTLED,      F.SEALED,             T.REVIEW_CLOSED),
    **_family(SETTLED,      F.AMENDED,            T.EVIDENCE_AMENDED),
}

ENTER: Final[Mapping[State, Effect]] = {
    S.ACCEPTED:   E.JUDGE,
    S.RESERVING:  E.LEDGER,
    S.ROUTING:    E.ROUTE,
    S.CONFIRMED:  E.LEDGER,
    S.REFUSED:    E.LEDGER,
    S.SUCCESSFUL: E.SETTLE,
    S.FAILED:     E.SETTLE,
    S.RECONCILED: E.SETTLE,
    S.REVERSED:   E.SETTLE,
}

# SUBMITTED, REVIEW and HELD have deadlines of their own: the rail's settings, the review's expiry, the hold's terms.
TIMEOUTS: Final[Mapping[State, Timeout]] = {
    S.ACCEPTED:   Timeout(15, E.JUDGE),
    S.JUDGING:    Timeout(15, E.JUDGE),
    S.RESERVING:  Timeout(15, E.LEDGER),
    S.ROUTING:    Timeout(15, E.ROUTE),
    S.CONFIRMED:  Timeout(15, E.LEDGER),
    S.REFUSED:    Timeout(15, E.LEDGER),
}
# fmt: on


def step(state: State, fact: Fact) -> Move:
    """Return the move that `fact` causes in `state`.

    Raises IllegalFact for a pair that the table does not hold."""
    move = MOVES.get((state, fact))
    if move is None:
        raise IllegalFact(state, fact)
    return move


def entering(before: State, after: State) -> Effect | None:
    """Return the effect of having entered `after`, or None where the state did not change or has none."""
    return ENTER.get(after) if after is not before else None
