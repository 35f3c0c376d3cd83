"""The generator: a process of its own that asks an installation for intents, by a schedule or at full speed.

- By a schedule the load is open: sending does not wait for answers, latency counts from the intended time, so a slow
  server cannot hide behind a slow client; sends that leave late are counted.
- At full speed as many intents are unanswered as were allowed; this finds a rate and is no latency measurement.
- Who is turned away for now comes back, where the load says so, with the same key, when it was told to and not before.
  Each time is counted, its place stays taken, and the latency of the answer counts from the first time.
- Several processes take turns through one schedule and start together. Each reads its load from standard input, says
  that it is ready, waits to be told when to start, and prints its progress and its report, one JSON document a line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import uvloop

from zentra.bench.measuring.load import FULL_SPEED, Load, Request, requests_of
from zentra.bench.measuring.tally import LoadReport, Tally
from zentra.bench.measuring.transports import (
    HTTP_CONNECTIONS_MAX,
    RouteMissing,
    Target,
    Transport,
    is_accepted,
    open_transport,
)
from zentra.bench.measuring.watching import Watch
from zentra.bench.measuring.workload import Drawn
from zentra.runtime.stream_ports import StreamError

__all__ = ["FAULT_EXIT", "FULL_SPEED", "Load", "LoadReport", "main", "run_load"]

PROGRESS_SECONDS: Final = 0.25
RETURNS_MAX: Final = 100  # minutes of a closed door; whoever still is turned away then was refused
FAULT_EXIT: Final = 3


class _Sender:
    """Sends requests and counts their answers; `transports` has those of each tenant, one per door."""

    def __init__(
        self, load: Load, transports: Sequence[Sequence[Transport]], tally: Tally, watch: Watch | None
    ) -> None:
        self._load, self._transports, self._tally, self._watch = load, transports, tally, watch
        self._slots = [asyncio.Semaphore(_slots_of(load, door)) for door in load.doors]
        self._open: dict[int, int] = {}  # numbers that wait for an answer, and how often
        self._waiting: set[asyncio.Task[None]] = set()
        self._fault: Exception | None = None

    async def run(self) -> None:
        """Send everything and return when all is answered; raises what sending raised."""
        scheduled = bool(self._load.scheduled())
        if not scheduled and len(self._load.doors) == 1:
            await self._in_lanes()
            return
        for request in requests_of(self._load):
            if self._fault is not None:
                break
            if scheduled:
                intended = self._tally.started + request.second
                if (pause := intended - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
            else:
                await self._slots[request.door].acquire()
                intended = time.perf_counter()
            self._start(request, intended)
        while self._waiting:
            await asyncio.wait(self._waiting)
        if self._fault is not None:
            raise self._fault

    async def _in_lanes(self) -> None:
        """Send at full speed through one door: as many lanes as may be unanswered, each with one request at a time,
        which costs less than a task for every request."""
        requests = requests_of(self._load)

        async def lane() -> None:
            for request in requests:
                if self._fault is not None:
                    return
                intended = time.perf_counter()
                self._note(request, intended)
                await self._send(request, intended)

        await asyncio.gather(*(lane() for _ in range(_slots_of(self._load, self._load.doors[0]))))
        if self._fault is not None:
            raise self._fault

    def _start(self, request: Request, intended: float) -> None:
        self._note(request, intended)
        task = asyncio.create_task(self._send(request, intended, slot=self._slots[request.door]))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def _note(self, request: Request, intended: float) -> None:
        """Count a request that leaves now."""
        for drawn in request.drawn:
            if drawn.repeated:
                elsewhere = self._load.door_of(drawn.number) != request.door
                self._tally.repeat(elsewhere=elsewhere, early=drawn.number in self._open)
            elif self._watch is not None:
                tenant = self._load.tenants[drawn.tenant]
                self._watch.expect(drawn.number, drawn.body["intent_id"], request.phase, tenant, intended)
        waiting = self._open
        for drawn in request.drawn:
            waiting[drawn.number] = waiting.get(drawn.number, 0) + 1
        self._tally.sent(request.phase, intended, time.perf_counter(), len(request.drawn))

    async def _send(self, request: Request, intended: float, slot: asyncio.Semaphore | None = None) -> None:
        try:
            for tenant, doors in enumerate(self._transports):
                mine = request.drawn
                if len(self._transports) > 1:
                    mine = [drawn for drawn in mine if drawn.tenant == tenant]
                if mine:
                    await self._until_answered(doors[request.door], mine, request.phase, intended)
        except Exception as error:
            # A load that cannot be sent ends at once, and the caller of `run` hears why.
            self._fault = self._fault or error
        finally:
            for drawn in request.drawn:
                self._open[drawn.number] -= 1
                if not self._open[drawn.number]:
                    del self._open[drawn.number]
            if slot is not None:
                slot.release()

    async def _until_answered(self, transport: Transport, mine: list[Drawn], phase: str, intended: float) -> None:
        """Send these, and again those that were turned away for now, until each has an answer that is to be kept."""
        for returned in count():
            sent = time.perf_counter()
            answers = await transport.send([drawn.body for drawn in mine])
            now = time.perf_counter()
            again: list[Drawn] = []
            seconds = 0.0
            for drawn, (outcome, retry_after) in zip(mine, answers, strict=True):
                if retry_after is not None and self._load.comes_back and returned < RETURNS_MAX:
                    self._tally.turned_away(transport.route, outcome)
                    again.append(drawn)
                    seconds = max(seconds, retry_after)
                    continue
                self._tally.answered(transport.route, outcome, phase, intended, sent, now)
                if is_accepted(outcome):
                    self._tally.acknowledged.add(drawn.number)
            if not again:
                return
            await asyncio.sleep(seconds)
            mine = again


def _slots_of(load: Load, door: str) -> int:
    """Return how many requests may be unanswered at full speed."""
    in_flight = (
        min(load.in_flight, HTTP_CONNECTIONS_MAX) if load.transport == "both" and door == "http" else load.in_flight
    )
    return max(1, in_flight // load.batch_of(door))


async def run_load(
    load: Load,
    ready: Callable[[], Any] | None = None,
    progress: Callable[[int], None] = lambda answered: None,
) -> LoadReport:
    """Send the load and return what came back. `ready` is awaited once everything is connected, and returns the unix
    time of the start.

    Raises RouteMissing, ValueError for a server that is not on this machine, and StreamUnavailable."""
    targets = [Target(load.url, load.key, load.nats_url), *([] if load.second is None else [load.second])]
    transports = [[await _open(load, door, target) for door in load.doors] for target in targets]
    tally = Tally(0.0)
    watch = await Watch.start(load.watch_url, load.tenants, tally) if load.watch_url else None
    starts_at = time.time() if ready is None else await ready()
    tally.started = time.perf_counter() + max(0.0, starts_at - time.time())
    await asyncio.sleep(tally.started - time.perf_counter())
    cpu = time.process_time()
    telling = asyncio.create_task(_tell(tally, progress))
    try:
        await _Sender(load, transports, tally, watch).run()
        seconds = time.perf_counter() - tally.started
        if watch is not None:
            await watch.wait_all(tally.started + load.watch_seconds)
    finally:
        telling.cancel()
        for doors in transports:
            for transport in doors:
                await transport.close()
        if watch is not None:
            await watch.close()
    return tally.report(seconds=seconds, started_at=starts_at, cpu_seconds=time.process_time() - cpu)


async def _open(load: Load, door: str, target: Target) -> Transport:
    return await open_transport(door, target, in_flight=load.in_flight, wait_seconds=load.wait_seconds)


async def _tell(tally: Tally, progress: Callable[[int], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        progress(tally.accepted + tally.refused)


def main() -> None:
    """Run the load that standard input describes; every line that is printed is one JSON document."""
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)

    async def ready() -> float:
        _say({"ready": True})
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        if not line:
            raise EOFError("nobody told the generator when to start")
        return float(line)

    try:
        report = uvloop.run(run_load(load, ready, lambda answered: _say({"answered": answered})))
    except (RouteMissing, StreamError, ValueError, EOFError) as error:
        _say({"fault": str(error)})
        sys.exit(FAULT_EXIT)
    _say({"report": report})


def _say(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
