"""Fixtures of the engine tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.actors.world import ACCOUNTS, MakeFleet, audited, configuration
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.ports import Configuration


@pytest.fixture
def make_fleet() -> Iterator[MakeFleet]:
    """Return a function that makes a funded fleet; every fleet is audited when the test is over."""
    made: list[Fleet] = []

    def make(config: Configuration | None = None, *, funds: int = 5_000_000, **options: Any) -> Fleet:
        fleet = Fleet(config or configuration(), **options)
        refs = {ref.account_id: fleet.store.open_account(ref) for ref in ACCOUNTS}
        fleet.store.book(refs["liquidity-ngn"], refs["customer"], funds)
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        audited(fleet)
