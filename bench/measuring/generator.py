"""The generator: a process of its own that asks an installation for intents, by a schedule or at full speed.

- By a schedule the load is open: sending does not wait for answers, latency counts from the intended time, so a slow
  server cannot hide behind a slow client; sends that leave late are counted.
- At full speed as many intents are unanswered as were allowed; this finds a rate and is no latency measurement.
- Several processes take turns through one schedule and start together. Each reads its load from standard input, says
  that it is ready, waits to be told when to start, and prints its progress and its report, one JSON document a line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from zentra.bench.measuring.schedule import Phase, arrivals, total_of
from zentra.bench.measuring.tally import LoadReport, Tally
from zentra.bench.measuring.transports import RouteMissing, Target, Transport, is_accepted, open_transport
from zentra.bench.measuring.watching import Watch
from zentra.bench.measuring.workload import Drawn, Mix, Workload
from zentra.runtime.stream_ports import StreamError

__all__ = ["FAULT_EXIT", "FULL_SPEED", "Load", "LoadReport", "distinct_keys", "main", "run_load"]

FULL_SPEED: Final = "full speed"
PROGRESS_SECONDS: Final = 0.25
FAULT_EXIT: Final = 3


class Load(Struct, frozen=True, kw_only=True):
    """What to send: by `phases`; without them `intents` at `rate`, and `rate` 0 is full speed with at most
    `in_flight` intents unanswered."""

    transport: str  # nats, http, bulk
    url: str
    key: str = ""  # the API key over HTTP; over NATS the URL carries user and password
    intents: int = 1_000
    rate: float = 0.0
    phases: tuple[Phase, ...] = ()
    poisson_seed: int | None = None
    in_flight: int = 1_024
    batch: int = 1  # intents per request, over NATS and in bulk
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    prefix: str = "bench"
    seed: int = 7
    minor_max: int = 100_000
    minor_fixed: int = 0  # the amount of every intent; 0: drawn
    each_destination: bool = False  # in turn, rather than drawn
    kind: str = "transfer"
    currency: str = "NGN"
    mix: Mix = Mix()
    second: Target | None = None  # the second tenant, where the mix has one
    tenants: tuple[str, ...] = ("acme",)
    wait_seconds: int = 0  # over HTTP: be answered when the intent has ended
    watch_url: str = ""  # NATS as the runtime: see on the feed when an intent is SUCCESSFUL
    share: int = 0
    shares: int = 1

    def scheduled(self) -> tuple[Phase, ...]:
        """Return the phases; none at full speed."""
        if self.phases or not self.rate:
            return self.phases
        return (Phase("steady", self.intents / self.rate, self.rate),)


class _Request(Struct):
    """Intents that go in one request, when, and in which phase."""

    phase: str
    second: float
    drawn: list[Drawn]


class _Sender:
    """Sends requests and counts their answers."""

    def __init__(self, load: Load, transports: Sequence[Transport], tally: Tally, watch: Watch | None) -> None:
        self._load, self._transports, self._tally, self._watch = load, transports, tally, watch
        self._slots = asyncio.Semaphore(max(1, load.in_flight // load.batch))
        self._waiting: set[asyncio.Task[None]] = set()
        self._fault: Exception | None = None

    async def run(self) -> None:
        """Send everything and return when all is answered; raises what sending raised."""
        phases = self._load.scheduled()
        requests = _scheduled(self._load, phases) if phases else _at_full_speed(self._load)
        for request in requests:
            if self._fault is not None:
                break
            intended = time.perf_counter()
            if phases:
                intended = self._tally.started + request.second
                if (pause := intended - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
            else:
                await self._slots.acquire()
                intended = time.perf_counter()
            self._start(request, intended)
        while self._waiting:
            await asyncio.wait(self._waiting)
        if self._fault is not None:
            raise self._fault

    def _start(self, request: _Request, intended: float) -> None:
        repeated = 0
        for drawn in request.drawn:
            repeated += drawn.repeated
            if self._watch is not None and not drawn.repeated:
                self._watch.expect(drawn.body["intent_id"], request.phase, intended)
        self._tally.sent(request.phase, intended, time.perf_counter(), len(request.drawn), repeated)
        task = asyncio.create_task(self._send(request, intended))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _send(self, request: _Request, intended: float) -> None:
        sent = time.perf_counter()
        try:
            for tenant, transport in enumerate(self._transports):
                mine = [drawn.body for drawn in request.drawn if drawn.tenant == tenant]
                if not mine:
                    continue
                outcomes = await transport.send(mine)
                now = time.perf_counter()
                for body, outcome in zip(mine, outcomes, strict=True):
                    self._tally.answered(transport.route, outcome, request.phase, intended, sent, now)
                    if self._watch is not None and not is_accepted(outcome):
                        self._watch.forget(body["intent_id"])
        except Exception as error:
            # A load that cannot be sent ends at once, and the caller of `run` hears why.
            self._fault = self._fault or error
        finally:
            self._slots.release()


async def run_load(
    load: Load,
    ready: Callable[[], Any] | None = None,
    progress: Callable[[int], None] = lambda answered: None,
) -> LoadReport:
    """Send the load and return what came back. `ready` is awaited once everything is connected, and returns the unix
    time of the start.

    Raises RouteMissing, ValueError for a server that is not on this machine, and StreamUnavailable."""
    transports = [await _open(load, Target(load.url, load.key))]
    if load.second is not None:
        transports.append(await _open(load, load.second))
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
            await watch.wait_all()
    finally:
        telling.cancel()
        for transport in transports:
            await transport.close()
        if watch is not None:
            await watch.close()
    return tally.report(seconds=seconds, started_at=starts_at, cpu_seconds=time.process_time() - cpu)


async def _open(load: Load, target: Target) -> Transport:
    return await open_transport(load.transport, target, in_flight=load.in_flight, wait_seconds=load.wait_seconds)


async def _tell(tally: Tally, progress: Callable[[int], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        progress(tally.accepted + tally.refused)


def _workload(load: Load) -> Workload:
    return Workload(
        load.sources,
        load.destinations,
        mix=load.mix,
        seed=load.seed,
        prefix=load.prefix,
        minor_max=load.minor_max,
        minor_fixed=load.minor_fixed,
        each_destination=load.each_destination,
        kind=load.kind,
        currency=load.currency,
    )


def _at_full_speed(load: Load) -> Iterator[_Request]:
    workload = _workload(load)
    mine = range(load.share, load.intents, load.shares)
    for first in range(0, len(mine), load.batch):
        yield _Request(FULL_SPEED, 0.0, [workload.draw(number) for number in mine[first : first + load.batch]])


def _scheduled(load: Load, phases: Sequence[Phase]) -> Iterator[_Request]:
    """Yield requests at the time of their first intent; a batch never crosses from one phase into the next."""
    workload = _workload(load)
    waiting: _Request | None = None
    for number, second, place in arrivals(phases, share=load.share, shares=load.shares, poisson_seed=load.poisson_seed):
        name = phases[place].name
        if waiting is not None and (len(waiting.drawn) == load.batch or waiting.phase != name):
            yield waiting
            waiting = None
        if waiting is None:
            waiting = _Request(name, second, [])
        waiting.drawn.append(workload.draw(number))
    if waiting is not None:
        yield waiting


def distinct_keys(load: Load) -> int:
    """Return how many different keys a load sends, over all shares."""
    phases = load.scheduled()
    sends = total_of(phases) if phases else load.intents
    if not load.mix.repeats:
        return sends
    workload = _workload(load)
    return len({workload.draw(number).number for number in range(sends)})


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
