"""Of a capture and an expiry exactly one wins, and it is the clock of the tick that says which."""

from __future__ import annotations

import pytest

from tests.actors.racing import judged, races_on_twin


@pytest.mark.parametrize(("seed", "races", "undrafted_max"), [(1, 10_000, 16), (2, 1_000, 0)])
async def test_of_a_capture_and_an_expiry_exactly_one_wins(seed: int, races: int, undrafted_max: int) -> None:
    raced, store = await races_on_twin(seed, races, undrafted_max=undrafted_max)
    assert judged(raced, store) == []
    assert min(raced.captured, raced.expired) > races // 5
