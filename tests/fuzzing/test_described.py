"""Every operation is asked at the edges of its description; `make fuzz` asks at random beside that, and for longer."""

from __future__ import annotations

import pytest

from tests.catalogue import declared_routes
from tests.fuzzing.described import ask_at_random


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_at_the_edges_of_the_description_is_answered_in_another_way_than_described() -> None:
    found = ask_at_random(examples=1, seconds=150, phases="coverage")
    assert (found.failures, found.errors, found.server_errors_logged) == ((), (), 0), found.output[-5000:]
    assert found.operations == len(declared_routes()) - 2, (
        "all but the description itself and the stream that never ends"
    )
    assert found.cases > 500
