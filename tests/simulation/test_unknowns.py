"""A slice of the runs with unknown outcomes, and that their watcher would notice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation import unknowns
from tests.simulation.unknowns import WatchedSimulation, watched
from zentra.bench.simulation.simulation import Simulation
from zentra.runtime.stream_ports import Outgoing

SEEDS = range(1, 9)


def test_while_an_outcome_is_unknown_nothing_is_released_and_nothing_is_asked_again() -> None:
    found = [watched(seed) for seed in SEEDS]
    assert [sentence for one in found for sentence in one.violations] == []
    assert sum(one.unknown for one in found) >= len(found) / 2
    assert unknowns.FAULTS


def test_a_watcher_that_has_heard_nothing_of_rails_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(simulation: WatchedSimulation, message: Outgoing) -> Any:
        return Simulation.append(simulation, message)

    monkeypatch.setattr(WatchedSimulation, "append", deaf)
    sentences = [sentence for seed in SEEDS for sentence in watched(seed).violations]
    assert any("its hold is released" in sentence for sentence in sentences)
