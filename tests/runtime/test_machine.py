"""The transaction machine: the whole grid against expectations written by hand, and where its paths can end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from zentra.runtime.errors import IllegalFact
from zentra.runtime.intents.diagram import render
from zentra.runtime.intents.machine import ENTER, INITIAL, MOVES, TIMEOUTS, entering, step
from zentra.runtime.intents.vocabulary import SETTLED, Effect, Fact, Lifecycle, State, Topic

GRID = [(state, fact) for state in State for fact in Fact]

# Where the domain lets a lifecycle go, apart from staying where it is.
LEAVES_TO: dict[str, set[str]] = {
    "ACCEPTED": {"PROCESSING", "FAILED"},
    "PROCESSING": {"REVIEW", "AWAITING_PROVIDER", "SUCCESSFUL", "FAILED"},
    "REVIEW": {"PROCESSING", "FAILED"},
    "AWAITING_PROVIDER": {"SUCCESSFUL", "FAILED"},
    "SUCCESSFUL": {"RECONCILED", "REVERSED"},
    "FAILED": {"REVERSED"},
    "RECONCILED": {"REVERSED"},
    "REVERSED": set(),
}

# fmt: off
CHANGES = {
    ("ACCEPTED",                    "policy_accepted"):   "PROCESSING/reserving",
    ("ACCEPTED",                    "judging_begun"):     "PROCESSING/judging",
    ("ACCEPTED",                    "cancelled"):         "FAILED",
    ("PROCESSING/judging",          "policy_accepted"):   "PROCESSING/reserving",
    ("PROCESSING/judging",          "policy_referred"):   "REVIEW",
    ("PROCESSING/judging",          "policy_denied"):     "FAILED",
    ("PROCESSING/judging",          "cancelled"):         "FAILED",
    ("REVIEW",                      "approved"):          "PROCESSING/judging",
    ("REVIEW",                      "rejected"):          "FAILED",
    ("REVIEW",                      "expired"):           "FAILED",
    ("REVIEW",                      "cancelled"):         "FAILED",
    ("PROCESSING/reserving",        "reserved"):          "PROCESSING/routing",
    ("PROCESSING/reserving",        "booked"):            "SUCCESSFUL",
    ("PROCESSING/reserving",        "ledger_refused"):    "FAILED",
    ("PROCESSING/reserving",        "cancelled"):         "FAILED",
    ("PROCESSING/routing",          "routed"):            "AWAITING_PROVIDER/submitted",
    ("PROCESSING/routing",          "route_awaited"):     "PROCESSING/routing",
    ("PROCESSING/routing",          "unroutable"):        "FAILED",
    ("PROCESSING/routing",          "cancelled"):         "FAILED",
    ("PROCESSING/reserving",        "held"):              "PROCESSING/held",
    ("PROCESSING/held",             "captured_last"):     "SUCCESSFUL",
    ("PROCESSING/held",             "voided"):            "FAILED",
    ("PROCESSING/held",             "voided_rest"):       "SUCCESSFUL",
    ("PROCESSING/held",             "lapsed"):            "FAILED",
    ("PROCESSING/held",             "lapsed_rest"):       "SUCCESSFUL",
    ("AWAITING_PROVIDER/submitted", "rail_confirmed"):    "AWAITING_PROVIDER/confirmed",
    ("AWAITING_PROVIDER/submitted", "rail_declined"):     "AWAITING_PROVIDER/refused",
    ("AWAITING_PROVIDER/confirmed", "posted"):            "SUCCESSFUL",
    ("AWAITING_PROVIDER/refused",   "released"):          "FAILED",
    ("SUCCESSFUL",                  "statement_matched"): "RECONCILED",
    ("SUCCESSFUL",                  "reversed_in_full"):  "REVERSED",
    ("RECONCILED",                  "reversed_in_full"):  "REVERSED",
    ("FAILED",                      "reversed_in_full"):  "REVERSED",
}
# fmt: on

_SETTLED = {"SUCCESSFUL", "FAILED", "RECONCILED", "REVERSED"}
_AT_RAIL = {"AWAITING_PROVIDER/submitted", "AWAITING_PROVIDER/confirmed", "AWAITING_PROVIDER/refused", *_SETTLED}
_ANYWHERE = {str(state) for state in State}

# Facts that leave a record and the state as it was, and where that is allowed.
STAYS: dict[str, set[str]] = {
    "failed_over": {"AWAITING_PROVIDER/submitted"},
    "captured": {"PROCESSING/held"},
    "rail_claimed": {"AWAITING_PROVIDER/submitted"},
    "rail_repeated": _AT_RAIL,
    "rail_noted": _AT_RAIL,
    "rail_contradicted": _AT_RAIL,
    "ledger_refused": {"AWAITING_PROVIDER/confirmed"},
    "reversed_in_part": {"SUCCESSFUL", "RECONCILED"},
    "endorsed": {"REVIEW"},
    "review_assigned": {"REVIEW"},
    "review_commented": {"REVIEW"},
    "review_escalated": {"REVIEW"},
    "case_opened": _ANYWHERE,
    "case_resolved": _ANYWHERE,
    "monitor_tripped": _ANYWHERE,
    "delivered": _ANYWHERE,
    "delivery_retrying": _ANYWHERE,
    "delivery_exhausted": _ANYWHERE,
    "endpoint_disabled": _ANYWHERE,
    "endpoint_enabled": _ANYWHERE,
    "synchronized": _SETTLED,
    "sealed": _SETTLED,
    "amended": _SETTLED,
}

RAIL_FACTS = {
    Fact.RAIL_CONFIRMED, Fact.RAIL_DECLINED, Fact.RAIL_REPEATED, Fact.RAIL_CONTRADICTED, Fact.RAIL_CLAIMED,
    Fact.RAIL_NOTED, Fact.FAILED_OVER,
}  # fmt: skip
HOLDS = {State.ROUTING, State.SUBMITTED, State.CONFIRMED, State.REFUSED, State.HELD}


def _expected(state: State, fact: Fact) -> str | None:
    if (state, fact) in CHANGES:
        return CHANGES[state, fact]
    return str(state) if state in STAYS.get(fact, set()) else None


def _paths(length: int, state: State = State.ACCEPTED) -> Iterator[tuple[tuple[State, Fact], ...]]:
    """Every path of up to `length` facts that change the state, as the pairs it passes."""
    yield ()
    if length == 0:
        return
    for (start, fact), move in MOVES.items():
        if start is state and move.to is not state:
            for rest in _paths(length - 1, move.to):
                yield ((state, fact), *rest)


@pytest.mark.parametrize(("state", "fact"), GRID)
def test_every_pair_moves_as_written_or_is_refused(state: State, fact: Fact) -> None:
    expected = _expected(state, fact)
    if expected is None:
        with pytest.raises(IllegalFact) as caught:
            step(state, fact)
        assert (caught.value.state, caught.value.fact) == (state, fact)
    else:
        assert step(state, fact).to == expected


def test_the_grid_is_whole_and_no_row_is_written_twice() -> None:
    assert len(GRID) == len(State) * len(Fact)
    assert len(MOVES) == len(CHANGES) + sum(len(states) for states in STAYS.values())
    assert {fact for _, fact in MOVES} == set(Fact)


def test_a_lifecycle_leaves_only_to_where_the_domain_says() -> None:
    found: dict[str, set[str]] = {lifecycle: set() for lifecycle in Lifecycle}
    for (state, _), move in MOVES.items():
        if move.to.lifecycle is not state.lifecycle:
            found[state.lifecycle].add(move.to.lifecycle)
    assert found == LEAVES_TO


def test_every_state_can_be_reached_and_every_open_one_can_settle() -> None:
    reached = {step(*path[-1]).to for path in _paths(8) if path} | {State.ACCEPTED}
    assert reached == set(State)
    for start in set(State) - SETTLED:
        assert any(step(*path[-1]).to in SETTLED for path in _paths(8, start) if path), start


def test_money_is_held_exactly_between_a_reserve_and_what_ends_it() -> None:
    opens = {Fact.RESERVED, Fact.HELD}
    ends = {Fact.POSTED, Fact.RELEASED}
    walked = 0
    for path in _paths(10):
        held = False
        for state, fact in path:
            after = step(state, fact)
            if fact in opens:
                assert not held
                held = True
            elif (
                fact in ends or after.topic is Topic.LEDGER_RELEASED or (state is State.HELD and after.to is not state)
            ):
                assert held, (state, fact)
                held = False
            assert held == (after.to in HOLDS), path
            assert not (held and after.to in SETTLED), path
            walked += 1
    assert walked > 500


def test_nothing_is_reserved_or_sent_before_the_policy_accepted_the_latest_judgement() -> None:
    for path in _paths(10):
        accepted = False
        for state, fact in path:
            if fact is Fact.POLICY_ACCEPTED:
                accepted = True
            elif fact in (Fact.POLICY_REFERRED, Fact.APPROVED):
                assert not accepted
            elif fact in (Fact.RESERVED, Fact.BOOKED, Fact.ROUTED, Fact.HELD):
                assert accepted, (state, fact)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.CONFIRMED, State.REFUSED, State.HELD, *SETTLED])
def test_nothing_is_cancelled_once_a_rail_was_asked(state: State) -> None:
    with pytest.raises(IllegalFact):
        step(state, Fact.CANCELLED)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.JUDGING, State.REVIEW, State.RESERVING, State.ROUTING])
def test_no_rail_speaks_before_it_was_asked(state: State) -> None:
    for fact in RAIL_FACTS:
        with pytest.raises(IllegalFact):
            step(state, fact)


@pytest.mark.parametrize("fact", [Fact.RAIL_CONTRADICTED, Fact.LEDGER_REFUSED])
def test_what_contradicts_opens_a_case_and_moves_nothing(fact: Fact) -> None:
    rows = {state: move for (state, known), move in MOVES.items() if known is fact and state is not State.RESERVING}
    assert rows
    for state, move in rows.items():
        assert move.to is state
        assert move.effects == (Effect.OPEN_CASE,)


def test_velocity_is_given_back_exactly_where_an_accepted_intent_fails_or_a_hold_ends() -> None:
    """How much is for the tick to say: of a hold that ends, what was not captured."""
    for (state, fact), move in MOVES.items():
        counted = state in (State.RESERVING, State.ROUTING, State.REFUSED)
        ends = state is State.HELD and move.to in SETTLED
        assert (Effect.GIVE_BACK in move.effects) == (ends or (counted and move.to is State.FAILED)), (state, fact)


def test_a_review_is_opened_on_the_way_in_and_closed_on_every_way_out() -> None:
    for (state, _), move in MOVES.items():
        assert (Effect.OPEN_REVIEW in move.effects) == (move.to is State.REVIEW and state is not State.REVIEW)
        assert (Effect.CLOSE_REVIEW in move.effects) == (state is State.REVIEW and move.to is not State.REVIEW)


def test_an_attempt_is_sent_exactly_where_it_is_started() -> None:
    assert {fact for (_, fact), move in MOVES.items() if Effect.SUBMIT in move.effects} == {
        Fact.ROUTED,
        Fact.FAILED_OVER,
    }


@pytest.mark.parametrize("state", list(State))
def test_every_open_state_has_a_deadline_and_a_settled_one_has_none(state: State) -> None:
    own_deadline = state in (State.SUBMITTED, State.REVIEW, State.HELD)
    assert (state in TIMEOUTS) == (state not in SETTLED and not own_deadline)


@pytest.mark.parametrize("state", list(TIMEOUTS))
def test_a_timeout_asks_again_for_what_brought_the_state_forward(state: State) -> None:
    timeout = TIMEOUTS[state]
    assert timeout.seconds > 0
    if state is State.JUDGING:  # entered either in the middle of a judgement or by an approval that asks for one
        assert ENTER.get(state) is None
        assert Effect.JUDGE in step(State.REVIEW, Fact.APPROVED).effects
        assert timeout.effect is Effect.JUDGE
    else:
        assert timeout.effect is ENTER[state]


def test_entering_asks_only_when_the_state_has_changed() -> None:
    assert entering(State.RESERVING, State.ROUTING) is Effect.ROUTE
    assert entering(State.ROUTING, State.ROUTING) is None
    assert entering(State.ROUTING, State.SUBMITTED) is None


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_a_settled_state_is_entered_with_settling(state: State) -> None:
    assert ENTER[state] is Effect.SETTLE


def test_every_topic_is_told_by_some_move_and_a_fact_has_one_topic_but_for_cancelling() -> None:
    assert {move.topic for move in MOVES.values()} | {INITIAL.topic} == set(Topic)
    assert INITIAL.to is State.ACCEPTED
    assert INITIAL.topic not in {move.topic for move in MOVES.values()}
    for fact in Fact:
        topics = {move.topic for (_, known), move in MOVES.items() if known is fact}
        # A cancelled intent that held money says that it was released: the entry is what people look for.
        assert len(topics) == (2 if fact is Fact.CANCELLED else 1), fact


def test_a_state_is_its_lifecycle_and_its_step() -> None:
    for state in State:
        assert str(state) == (state.lifecycle if state.step is None else f"{state.lifecycle}/{state.step}")
    assert {state.lifecycle for state in State} == set(Lifecycle)


def test_the_page_about_the_machine_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "machine.md"
    assert page.read_text() == render(), "docs/machine.md is stale; the command that rewrites it stands at its top"
