"""Refusals on their way to the store: aggregated, bounded, never lost to a store that is away for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from zentra.gateway.http.denials import Collected, Denials
from zentra.gateway.http.problems import Caller
from zentra.gateway.metrics import Metrics
from zentra.runtime.errors import Unavailable

DEV = Caller("acme", "dev", "developer")


class Store:
    """Takes what is written, unless it is away."""

    def __init__(self) -> None:
        self.written: list[Collected] = []
        self.away = False

    async def write(self, collected: Sequence[Collected]) -> None:
        if self.away:
            raise Unavailable("away")
        self.written += collected

    def shown(self) -> list[tuple[str, str, str, str, str, int]]:
        return [
            (
                one.first.tenant,
                one.first.actor,
                one.first.action,
                one.first.request_id,
                one.latest.request_id,
                one.times,
            )
            for one in self.written
        ]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def denials(store: Store) -> Denials:
    return Denials(store.write, Metrics(), flush_seconds=0.01, rows_max=2)


async def test_repeats_are_one_row_with_its_first_and_latest(store: Store, denials: Denials) -> None:
    for number in range(3):
        denials.add(DEV, "GET /x", "not_found", f"r{number}")
    await denials.aclose()
    assert store.shown() == [("acme", "dev", "GET /x", "r0", "r2", 3)]


async def test_they_are_written_without_anybody_asking(store: Store, denials: Denials) -> None:
    denials.add(DEV, "GET /x", "not_found", "r")
    while not store.written:
        await asyncio.sleep(0)
    denials.add(DEV, "GET /y", "not_found", "r")
    while len(store.written) < 2:
        await asyncio.sleep(0)


async def test_beyond_the_bound_the_number_is_kept(store: Store, denials: Denials) -> None:
    for number in range(10):
        denials.add(Caller("acme", f"dev-{number}", "developer"), "GET /x", "not_found", "r")
    await denials.aclose()
    assert [row[1:3] + row[5:] for row in store.shown()] == [
        ("dev-0", "GET /x", 1), ("dev-1", "GET /x", 1), ("many", "-", 8),
    ]  # fmt: skip


async def test_a_flood_of_one_tenant_hides_nothing_of_another(store: Store, denials: Denials) -> None:
    for number in range(10):
        denials.add(Caller("globex", f"dev-{number}", "developer"), "GET /x", "not_found", "r")
    denials.add(DEV, "GET /x", "not_found", "r")
    await denials.aclose()
    assert [(row[0], row[1], row[5]) for row in store.shown()] == [
        ("globex", "dev-0", 1), ("globex", "dev-1", 1), ("globex", "many", 8), ("acme", "dev", 1),
    ]  # fmt: skip


async def test_a_store_that_was_away_gets_all_of_them(store: Store, denials: Denials) -> None:
    store.away = True
    denials.add(DEV, "GET /x", "not_found", "r0")
    await denials.flush()
    denials.add(DEV, "GET /x", "not_found", "r1")
    store.away = False
    await denials.aclose()
    assert store.shown() == [("acme", "dev", "GET /x", "r0", "r1", 2)]
