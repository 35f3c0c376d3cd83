"""Supervision: failures are rationed, the last one is told, and stopping is no failure."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import anyio
import pytest
from trio.testing import MockClock

from zentra.actors.supervisor import RESTARTS_MAX, WINDOW_SECONDS, Supervisor

P = ParamSpec("P")


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test under Trio's jumping clock: pauses take no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        options = {"clock": MockClock(autojump_threshold=0)}
        anyio.run(functools.partial(test, *args, **kwargs), backend="trio", backend_options=options)

    return run


class Failing:
    """A service that fails so often and then waits for ever."""

    def __init__(self, failures: int, pause: float = 0.0) -> None:
        self.failures, self.pause, self.starts = failures, pause, 0
        self.running = anyio.Event()

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            await anyio.sleep(self.pause)
            raise OSError("broken")
        self.running.set()
        await anyio.sleep_forever()


@pytest.mark.parametrize("failures", [0, 1, RESTARTS_MAX])
@in_virtual_time
async def test_a_service_that_fails_within_its_ration_is_started_again(failures: int) -> None:
    supervisor, service = Supervisor(), Failing(failures)
    supervisor.add("service", service.run)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await service.running.wait()
        supervisor.stop()
    assert (service.starts, supervisor.restarts) == (failures + 1, failures)


@in_virtual_time
async def test_a_service_that_uses_up_its_ration_ends_all_with_its_own_error() -> None:
    supervisor, service, other = Supervisor(), Failing(RESTARTS_MAX + 1), Failing(0)
    supervisor.add("service", service.run)
    supervisor.add("other", other.run)
    with pytest.RaisesGroup(OSError):
        await supervisor.run()
    assert service.starts == RESTARTS_MAX + 1


@in_virtual_time
async def test_failures_far_apart_are_never_too_many() -> None:
    supervisor, service = Supervisor(), Failing(20, pause=WINDOW_SECONDS)
    supervisor.add("service", service.run)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await service.running.wait()
        supervisor.stop()
    assert supervisor.restarts == 20


@in_virtual_time
async def test_a_service_that_returns_is_done_and_the_others_go_on() -> None:
    supervisor, other = Supervisor(), Failing(0)
    done = anyio.Event()

    async def short() -> None:
        done.set()

    supervisor.add("short", short)
    supervisor.add("other", other.run)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await done.wait()
        await other.running.wait()
        supervisor.stop()
    assert supervisor.restarts == 0
