"""Supervision: services that run side by side, are started again when they fail, and not without end.

A service ends in one of three ways: it was asked to stop, it failed and is started again, or it failed more often than
its ration allows. The last ends the whole group with the service's own error: a process that cannot keep its promises
is better replaced than limping. A server that is away is weather: it is waited for and uses up nothing, because a
process that was replaced would meet the same."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from zentra.runtime.errors import Unavailable
from zentra.runtime.stream_ports import StreamError

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

RESTARTS_MAX: Final = 5  # in WINDOW_SECONDS; a sixth failure is no hiccup
WINDOW_SECONDS: Final = 30.0
PAUSE_SECONDS_MAX: Final = 2.0


class Supervisor:
    """Runs named services in one task group until `stop`, restarting the ones that fail within their ration."""

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self._services: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._scope = anyio.CancelScope()
        self._clock = clock
        self.restarts = 0

    def add(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Add a service; it runs from `run` on."""
        self._services.append((name, service))

    def stop(self) -> None:
        """Cancel every service and let `run` return."""
        self._scope.cancel()

    async def run(self) -> None:
        """Run the services until `stop`; raise the error of a service that used up its ration."""
        with self._scope:
            async with anyio.create_task_group() as group:
                for name, service in self._services:
                    group.start_soon(self._supervise, name, service)

    async def _supervise(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        failures: deque[float] = deque()
        away = 0
        while True:
            try:
                await service()
            except (Unavailable, StreamError) as error:
                away += 1
                self.restarts += 1
                logger.warning(
                    "a service waits for a server that is away", extra={"service": name, "error": str(error)}
                )
                await anyio.sleep(min(PAUSE_SECONDS_MAX, 0.1 * 2 ** min(away, 10)))
            except Exception as error:
                now = self._clock()
                failures.append(now)
                while failures[0] < now - WINDOW_SECONDS:
                    failures.popleft()
                if len(failures) > RESTARTS_MAX:
                    logger.critical("a service has used up its restarts", extra={"service": name})
                    raise
                self.restarts += 1
                logger.error("a service failed and is started again", extra={"service": name}, exc_info=error)
                await anyio.sleep(min(PAUSE_SECONDS_MAX, 0.1 * 2 ** len(failures)))
            else:
                return
