"""The delivery machine: the whole grid against expectations written by hand."""

import pytest

from zentra.runtime.errors import IllegalFact
from zentra.runtime.webhooks.delivery import OPEN, DeliveryFact, DeliveryState, move

GRID = [(state, fact) for state in DeliveryState for fact in DeliveryFact]

# fmt: off
EXPECTED = {
    ("pending",    "started"):      "delivering",
    ("pending",    "replayed"):     "pending",
    ("delivering", "started"):      "delivering",   # sent again: the result of the attempt before was lost
    ("delivering", "acknowledged"): "delivered",
    ("delivering", "failed"):       "retrying",
    ("delivering", "given_up"):     "exhausted",
    ("retrying",   "started"):      "delivering",
    ("retrying",   "replayed"):     "pending",
    ("delivered",  "replayed"):     "pending",
    ("exhausted",  "replayed"):     "pending",
}
# fmt: on


@pytest.mark.parametrize(("state", "fact"), GRID)
def test_every_pair_moves_as_written_or_is_refused(state: DeliveryState, fact: DeliveryFact) -> None:
    expected = EXPECTED.get((state, fact))
    if expected is None:
        with pytest.raises(IllegalFact):
            move(state, fact)
    else:
        assert move(state, fact) == expected


def test_an_ended_delivery_starts_again_only_by_a_replay() -> None:
    for state in set(DeliveryState) - OPEN:
        assert {fact for start, fact in EXPECTED if start == state} == {DeliveryFact.REPLAYED}


def test_a_result_belongs_to_an_attempt_that_was_started() -> None:
    results = {DeliveryFact.ACKNOWLEDGED, DeliveryFact.FAILED, DeliveryFact.GIVEN_UP}
    assert {state for state, fact in EXPECTED if fact in results} == {DeliveryState.DELIVERING}


def test_every_open_delivery_can_end() -> None:
    for state in OPEN:
        under_way = state if state is DeliveryState.DELIVERING else move(state, DeliveryFact.STARTED)
        assert move(under_way, DeliveryFact.ACKNOWLEDGED) not in OPEN
        assert move(under_way, DeliveryFact.GIVEN_UP) not in OPEN
