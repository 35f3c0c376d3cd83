"""The test stand: when partitions have come to rest."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from zentra.bench.measuring.stand import is_shared

# fmt: off
SHARES = [
    ({"a": 8},                  1, True),
    ({"a": 4, "b": 4},          2, True),
    ({"a": 3, "b": 3, "c": 2},  3, True),
    ({"a": 1, "b": 1},          3, True),   # there are no more
    ({"a": 8},                  2, False),
    ({"a": 5, "b": 3},          2, False),
    ({"a": 4, None: 4},         2, False),
    ({"a": 4, "b": 3, None: 1}, 2, False),
    ({None: 8},                 1, False),
]
# fmt: on


@pytest.mark.parametrize(("owned", "workers", "shared"), SHARES)
def test_partitions_are_at_rest_when_every_worker_has_an_even_share(
    owned: Mapping[str | None, int], workers: int, shared: bool
) -> None:
    assert is_shared(owned, workers) is shared
