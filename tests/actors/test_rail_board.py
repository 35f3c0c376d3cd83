"""What a worker knows of rails: its circuits, what other workers tell, and how probes bring a rail back."""

from __future__ import annotations

import pytest

from tests.actors.test_supervisor import in_virtual_time
from zentra.actors.health import EXCHANGE_SECONDS, HealthExchange, RailBoard
from zentra.bench.twins.fleet import START
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Silence
from zentra.runtime.ports import Configuration, RailCounts
from zentra.runtime.rails.health import CircuitState, Counts
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, RailSettings

ALPHA = RailSettings(
    "alpha", "sandbox", health_window_seconds=30, health_calls_min=4, slow_seconds=2, open_seconds=10, probes_max=2,
    waiting_max=3,
)  # fmt: skip
GOOD = RailOutcome("alpha", "r", OutcomeStatus.SUCCEEDED)
BAD = RailOutcome("alpha", "r", OutcomeStatus.UNKNOWN, reason="timeout")
REFUSED = RailOutcome("alpha", "r", OutcomeStatus.NOT_ACCEPTED, reason="rejected")


def board() -> RailBoard:
    return RailBoard(lambda: {"alpha": ALPHA})


def hear(
    known: RailBoard, *outcomes: RailOutcome, now: float = 100.0, how: str = "submit", seconds: float = 0.1
) -> None:
    for outcome in outcomes:
        known.heard(outcome, how, seconds, now)


def test_a_rail_that_does_well_stands_nowhere() -> None:
    known = board()
    hear(known, *[GOOD] * 50, REFUSED)
    assert (dict(known.standings), known.circuit("alpha")) == ({}, CircuitState.CLOSED)


def test_a_circuit_opens_by_failed_or_slow_calls_rests_is_probed_and_closes() -> None:
    known = board()
    hear(known, GOOD, GOOD, BAD)
    assert known.circuit("alpha") is CircuitState.CLOSED
    hear(known, GOOD, seconds=3.0)
    standing = known.standings["alpha"]
    assert (standing.circuit, standing.counts, standing.probes) == (CircuitState.OPEN, Counts(4, 1, 1, 3.3), 0)
    known.look(109.9)
    assert known.circuit("alpha") is CircuitState.OPEN
    known.look(110.0)
    assert (known.circuit("alpha"), known.standings["alpha"].probes) == (CircuitState.HALF_OPEN, 2)
    known.probed({"alpha": 1})
    assert known.standings["alpha"].probes == 1
    hear(known, GOOD, now=111.0, how="poll")
    hear(known, GOOD, now=111.0)
    assert known.circuit("alpha") is CircuitState.HALF_OPEN
    hear(known, GOOD, now=112.0)
    assert (known.circuit("alpha"), dict(known.standings)) == (CircuitState.CLOSED, {})


def test_the_first_bad_probe_opens_it_again_and_a_turn_that_nobody_tells_of_is_over_after_a_rest() -> None:
    known = board()
    hear(known, *[BAD] * 4)
    known.look(110.0)
    known.probed({"alpha": 2})
    known.look(115.0)
    assert known.standings["alpha"].probes == 0
    known.look(120.0)
    assert (known.circuit("alpha"), known.standings["alpha"].probes) == (CircuitState.HALF_OPEN, 2)
    hear(known, BAD, now=121.0)
    assert known.circuit("alpha") is CircuitState.OPEN


def test_a_rail_that_answers_polls_and_hangs_on_submissions_is_left() -> None:
    known = board()
    hear(known, BAD, BAD, BAD)
    hear(known, *[GOOD] * 20, how="poll")
    hear(known, BAD)
    assert known.circuit("alpha") is CircuitState.OPEN


def test_polls_that_fail_open_a_circuit_by_themselves() -> None:
    known = board()
    hear(known, *[BAD] * 4, how="poll")
    assert known.circuit("alpha") is CircuitState.OPEN


def test_what_is_older_than_the_window_opens_nothing() -> None:
    known = board()
    hear(known, BAD, BAD, BAD, now=100.0)
    hear(known, BAD, now=140.0)
    assert known.circuit("alpha") is CircuitState.CLOSED


def test_what_others_have_counted_opens_a_circuit_and_who_has_proved_it_well_goes_by_its_own() -> None:
    known = board()
    hear(known, BAD)
    told = [RailCounts("w2", "alpha", Counts(9, 8), "open", 0)]
    known.learn(2, told)
    known.look(101.0)
    assert (known.circuit("alpha"), known.workers) == (CircuitState.OPEN, 2)
    known.look(111.0)
    hear(known, GOOD, GOOD, now=112.0)
    assert known.circuit("alpha") is CircuitState.CLOSED
    known.learn(2, told)
    known.look(113.0)
    assert known.circuit("alpha") is CircuitState.CLOSED
    known.look(112.0 + ALPHA.health_window_seconds)
    assert known.circuit("alpha") is CircuitState.OPEN


def test_a_rail_that_many_calls_wait_for_has_no_capacity() -> None:
    known = board()
    for _ in range(3):
        known.waits("alpha", "submit", 1, 100.0)
    assert known.standings["alpha"].blocked == "no_capacity"
    known.waits("alpha", "submit", -1, 100.5)
    assert dict(known.standings) == {}


def test_a_rail_that_is_gone_is_forgotten() -> None:
    rails = {"alpha": ALPHA}
    known = RailBoard(lambda: rails)
    hear(known, *[BAD] * 4)
    rails.clear()
    known.look(101.0)
    assert dict(known.standings) == {}
    hear(known, BAD)


class Gauges(Silence):
    """Instruments that keep gauges of rails."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}

    def gauge(self, name: str, value: float, labels: object = None) -> None:
        assert isinstance(labels, dict)
        self.seen[name, labels["rail"]] = value


@in_virtual_time
async def test_workers_tell_each_other_what_they_count_now_and_then() -> None:
    store = StoreTwin(lambda: START, Configuration(1, {}, {}, {}, {"alpha": ALPHA}), 8)
    boards, gauges = [board(), board()], Gauges()
    exchanges = [HealthExchange(one, store, f"w{n}", 10, gauges) for n, one in enumerate(boards)]
    for n in range(2):
        await store.claim(f"w{n}", 10)
    hear(boards[0], *[BAD] * 4)
    for exchange in exchanges:
        await exchange.once(100.5)
    assert gauges.seen == {("rail_circuit", "alpha"): 2, ("rail_waiting", "alpha"): 0}
    assert (boards[1].workers, boards[1].circuit("alpha")) == (2, CircuitState.CLOSED)
    await exchanges[1].once(101.0)
    assert boards[1].circuit("alpha") is CircuitState.OPEN
    store.fail_next(Unavailable("away"), method="exchange_health")
    await exchanges[1].once(100.5 + EXCHANGE_SECONDS / 2)  # nothing is exchanged yet
    with pytest.raises(Unavailable):
        await exchanges[1].once(100.5 + EXCHANGE_SECONDS)
    assert boards[1].circuit("alpha") is CircuitState.OPEN
