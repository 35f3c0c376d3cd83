"""Load reports: how much waits at this worker, told some times a second, for gateways to hold back what it has no time
for yet.

Invariant. They are advice: none is repeated, nothing waits for one, and without them a worker works as before."""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from zentra.runtime.instruments import Instruments
from zentra.runtime.messages import Load
from zentra.runtime.stream_ports import LoadReports, StreamError

__all__ = ["REPORT_AT_LEAST_SECONDS", "REPORT_EVERY_SECONDS", "Reporter"]

logger = logging.getLogger(__name__)

REPORT_EVERY_SECONDS: Final = 0.05  # while it changes: some ticks, and long enough to cost nothing beside them
REPORT_AT_LEAST_SECONDS: Final = 1.0  # so that silence tells that nobody is there
FAREWELL_SECONDS: Final = 0.5  # for the last report; who stops does not stay for it


class Reporter:
    """Reports what `waiting` says under the worker's name, while `run` is running."""

    def __init__(self, worker: str, waiting: Callable[[], int], reports: LoadReports, instruments: Instruments) -> None:
        self._worker, self._waiting = worker, waiting
        self._reports, self._instruments = reports, instruments
        self._told: tuple[float, int] | None = None  # when, and what

    async def run(self) -> None:
        """Report until cancelled, and then that nothing waits here any more."""
        try:
            while True:
                await self.look(anyio.current_time())
                await anyio.sleep(REPORT_EVERY_SECONDS)
        finally:
            with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
                await self._tell(0)

    async def look(self, now: float) -> None:
        """Report what waits at `now`, where that is news or the last report is a second old."""
        waiting = self._waiting()
        if self._told is not None:
            told_at, told = self._told
            if waiting == told and now - told_at < REPORT_AT_LEAST_SECONDS - REPORT_EVERY_SECONDS / 2:
                return
        self._told = now, waiting
        await self._tell(waiting)

    async def _tell(self, waiting: int) -> None:
        self._instruments.gauge("events_waiting", waiting)
        try:
            await self._reports.report(Load(self._worker, waiting))
        except StreamError as error:
            # Meant to be ignored: the next report says more than a repetition of this one would.
            logger.debug("a load report was not sent", extra={"error": str(error)})
