"""Callbacks that wait for a store: bounded in number and in bytes, and nobody's once their provider has gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zentra.gateway.doors import callbacks as module
from zentra.gateway.doors.callbacks import GROUP_MAX, QUEUE_BYTES_MAX, CallbackIntake
from zentra.gateway.doors.pressure import Overloaded
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.storage.intake.callbacks import Callback, Callbacks, Taken

OUTCOME = RailOutcome("alpha", "r", OutcomeStatus.SUCCEEDED)


class Nobody:
    def send_nowait(self, messages: Any) -> None:
        assert not messages


class Store:
    """A store that answers when it is let go; `groups` are the event ids of what it was given."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.groups: list[list[str]] = []

    async def register(self, pool: Any, group: list[Callback], *, partitions: int) -> Callbacks:
        self.groups.append([callback.event_id for callback in group])
        await self.go.wait()
        return Callbacks([Taken.NEW] * len(group), [])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(module, "register_callbacks", made.register)
    return made


def intake() -> CallbackIntake:
    return CallbackIntake(None, Nobody(), partitions=8)  # type: ignore[arg-type]  # the store is the test's


async def test_what_its_provider_has_given_up_is_not_stored(store: Store) -> None:
    door = intake()
    waiting = [asyncio.create_task(door.submit(Callback(OUTCOME, f"e{n}", b"", {}))) for n in range(4)]
    while not store.groups:
        await asyncio.sleep(0)
    late = [asyncio.create_task(door.submit(Callback(OUTCOME, f"late{n}", b"", {}))) for n in range(3)]
    await asyncio.sleep(0)
    late[1].cancel()
    await asyncio.gather(late[1], return_exceptions=True)
    store.go.set()
    assert await asyncio.gather(*waiting, late[0], late[2]) == [Taken.NEW] * 6
    assert store.groups == [["e0", "e1", "e2", "e3"], ["late0", "late2"]]


async def test_a_store_that_hangs_costs_so_much_memory_and_no_more(store: Store) -> None:
    door, body = intake(), bytes(64 * 1024)
    taken = [
        asyncio.create_task(door.submit(Callback(OUTCOME, f"e{n}", body, {}))) for n in range(QUEUE_BYTES_MAX >> 16)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await door.submit(Callback(OUTCOME, "one more", b"x", {}))
    for task in taken[GROUP_MAX:]:
        task.cancel()
    await asyncio.gather(*taken[GROUP_MAX:], return_exceptions=True)
    again = asyncio.create_task(door.submit(Callback(OUTCOME, "again", body, {})))
    await asyncio.sleep(0)
    store.go.set()
    assert await again is Taken.NEW
    await asyncio.gather(*taken[:GROUP_MAX])
