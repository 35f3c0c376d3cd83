"""The health of a rail: which calls are bad, what a window holds, and every move of a circuit."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from zentra.runtime.rails.health import MOVES, Circuit, CircuitState, Counts, Shift, Window, is_bad, trips
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, RailSettings

CLOSED, OPEN, HALF = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SETTINGS: Final = RailSettings("alpha", "sandbox", health_calls_min=10, bad_percent_max=50)

# fmt: off
GRID: list[tuple[CircuitState, Shift, CircuitState]] = [
    (CLOSED, Shift.TRIPPED, OPEN),
    (CLOSED, Shift.RESTED,  CLOSED),
    (CLOSED, Shift.FAILED,  CLOSED),
    (CLOSED, Shift.PROVED,  CLOSED),
    (OPEN,   Shift.TRIPPED, OPEN),
    (OPEN,   Shift.RESTED,  HALF),
    (OPEN,   Shift.FAILED,  OPEN),
    (OPEN,   Shift.PROVED,  OPEN),
    (HALF,   Shift.TRIPPED, HALF),
    (HALF,   Shift.RESTED,  HALF),
    (HALF,   Shift.FAILED,  OPEN),
    (HALF,   Shift.PROVED,  CLOSED),
]
BAD: list[tuple[str, str | None, bool]] = [
    ("succeeded",    None,             False),
    ("pending",      None,             False),
    ("declined",     "funds",          False),
    ("not_found",    None,             False),
    ("not_accepted", "rejected",       False),  # an answer: one tenant's mistakes close no rail to others
    ("not_accepted", "unavailable",    True),
    ("not_accepted", "connect_failed", True),
    ("not_accepted", "token_timeout",  True),
    ("not_accepted", "token_refused",  True),
    ("not_accepted", "invalid_token",  False),
    ("not_accepted", "adapter_missing", True),
    ("not_accepted", None,             False),
    ("unknown",      "timeout",        True),
    ("unknown",      "http_500",       True),
]
TRIPPING: list[tuple[Counts, int, bool]] = [
    # calls, failed, slow   percent   opens
    (Counts(9, 9, 0),          50,    False),  # too few to conclude anything
    (Counts(10, 5, 0),         50,    True),
    (Counts(10, 4, 0),         50,    False),
    (Counts(10, 0, 5),         50,    True),
    (Counts(10, 2, 3),         50,    True),
    (Counts(10, 10, 0),         0,    False),  # never
    (Counts(100, 1, 0),         1,    True),
]
# fmt: on


@pytest.mark.parametrize(("state", "shift", "after"), GRID)
def test_a_circuit_moves_as_the_table_says(state: CircuitState, shift: Shift, after: CircuitState) -> None:
    before = Circuit(state, 1.0, 2, 1)
    moved = before.move(shift, 5.0)
    assert moved.state is after
    if (state, shift) in MOVES:
        assert moved == Circuit(after, 5.0)
    else:
        assert moved is before


def test_the_table_is_the_whole_grid() -> None:
    assert {(state, shift) for state, shift, _ in GRID} == {(s, f) for s in CircuitState for f in Shift}


@pytest.mark.parametrize(("status", "reason", "bad"), BAD)
def test_what_speaks_against_a_rail_and_what_is_its_answer(status: str, reason: str | None, bad: bool) -> None:
    assert is_bad(RailOutcome("alpha", "r", OutcomeStatus(status), reason=reason)) is bad


@pytest.mark.parametrize(("counts", "percent", "opens"), TRIPPING)
def test_a_window_opens_a_circuit_by_the_share_of_its_bad_calls(counts: Counts, percent: int, opens: bool) -> None:
    assert trips(counts, structs.replace(SETTINGS, bad_percent_max=percent)) is opens


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60), st.floats(0, 200))
def test_a_window_holds_the_calls_of_its_time_and_no_older_ones(calls: list[tuple[float, bool]], now: float) -> None:
    window, width = Window(30.0), 3.0
    calls = sorted(call for call in calls if call[0] <= now)
    for at, failed in calls:
        window.add(at, 0.5, failed=failed, slow=False)
    counted = window.counts(now)
    surely = [failed for at, failed in calls if now - at < 30.0 - width]
    possibly = [failed for at, failed in calls if now - at <= 30.0 + width]
    assert len(surely) <= counted.calls <= len(possibly)
    assert sum(surely) <= counted.failed <= sum(possibly)
    assert counted.seconds == pytest.approx(0.5 * counted.calls)


Steps = st.lists(st.tuples(st.sampled_from(["good", "bad", "wait", "lend", "trip"]), st.floats(0, 20)), max_size=80)


@given(Steps, st.integers(1, 4))
def test_no_turn_has_more_probes_than_it_may_and_only_good_ones_close_a_circuit(
    steps: list[tuple[str, float]], probes: int
) -> None:
    circuit, now, good, lent = Circuit(), 0.0, 0, 0
    for step, seconds in steps:
        before, now = circuit, now + seconds
        if step == "trip":
            circuit = circuit.move(Shift.TRIPPED, now)
        elif step == "wait":
            circuit = circuit.wait(now, 15.0)
        elif step == "lend":
            if circuit.probes_left(probes):
                circuit, lent = circuit.lend(1), lent + 1
        else:
            circuit = circuit.hear(step == "bad", probes, now)
            good += step == "good" and before.state is HALF
        if (circuit.state, circuit.since) != (before.state, before.since):
            if circuit.state is CLOSED:
                assert (before.state, step, good) == (HALF, "good", probes)
            if circuit.state is HALF:
                assert now - before.since >= 15.0
            good = lent = 0
        assert lent <= probes
        assert circuit.probes_left(probes) == (probes - lent if circuit.state is HALF else 0)
