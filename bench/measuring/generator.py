"""The generator: a process of its own that asks an installation for intents, at full speed or at a fixed rate.

At a fixed rate the schedule does not wait for answers, and latency counts from the intended send time, so a slow server
cannot hide behind a slow client; late sends are counted. It prints one JSON line when every request was answered."""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import aiohttp
import msgspec
import uvloop
from msgspec import Struct

from zentra.streams.connection import connect

__all__ = ["Load", "LoadReport", "main", "run_load"]

LATE_SECONDS: Final = 0.01
ANSWER_SECONDS_MAX: Final = 30.0


class Load(Struct, frozen=True, kw_only=True):
    """What to send: `rate` 0 is full speed, with at most `in_flight` intents unanswered."""

    transport: str  # nats, http
    url: str
    key: str = ""  # the API key over HTTP; over NATS the URL carries user and password
    intents: int = 1_000
    rate: float = 0.0
    in_flight: int = 1_024
    batch: int = 1  # intents per request, over NATS
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    prefix: str = "bench"
    seed: int = 7
    minor_max: int = 100_000
    minor_fixed: int = 0  # the amount of every intent; 0: drawn
    each_destination: bool = False  # in turn, rather than drawn
    kind: str = "transfer"
    currency: str = "NGN"


class LoadReport(Struct, frozen=True, kw_only=True):
    """What came back: accepted and refused intents, seconds, and latencies of the answers in milliseconds."""

    accepted: int
    refused: int
    seconds: float
    sent_late: int
    started_at: float
    p50_ms: float
    p99_ms: float
    refusals: dict[str, int] = {}


class _Tally:
    def __init__(self) -> None:
        self.accepted = self.refused = self.late = 0
        self.latencies: list[float] = []
        self.refusals: dict[str, int] = {}

    def refuse(self, why: str, count: int) -> None:
        self.refused += count
        self.refusals[why] = self.refusals.get(why, 0) + count


Send = Callable[[list[dict[str, Any]], float], Awaitable[None]]


async def run_load(load: Load) -> LoadReport:
    """Send the load and return what came back."""
    tally = _Tally()
    opener = {"nats": _over_nats, "http": _over_http}[load.transport]
    started_at = time.time()
    send, close = await opener(load, tally)
    started = time.perf_counter()
    try:
        await _drive(load, tally, send, started)
    finally:
        await close()
    seconds = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return LoadReport(
        accepted=tally.accepted,
        refused=tally.refused,
        seconds=round(seconds, 3),
        sent_late=tally.late,
        started_at=started_at,
        p50_ms=round(ordered[len(ordered) // 2] * 1000, 2),
        p99_ms=round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000, 2),
        refusals=tally.refusals,
    )


async def _drive(load: Load, tally: _Tally, send: Send, started: float) -> None:
    """Send every batch: by the schedule, or whenever one of the slots is free."""
    slots = asyncio.Semaphore(max(1, load.in_flight // load.batch))
    waiting: set[asyncio.Task[None]] = set()
    sent = 0
    for batch in _batches(load):
        intended = time.perf_counter()
        if load.rate:
            intended = started + sent / load.rate
            pause = intended - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            elif pause < -LATE_SECONDS:
                tally.late += len(batch)
        else:
            await slots.acquire()
        task = asyncio.create_task(_one(send, batch, intended, slots))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        sent += len(batch)
    while waiting:
        await asyncio.wait(waiting)


async def _one(send: Send, batch: list[dict[str, Any]], intended: float, slots: asyncio.Semaphore) -> None:
    try:
        await send(batch, intended)
    finally:
        slots.release()


def _batches(load: Load) -> Iterator[list[dict[str, Any]]]:
    draw = random.Random(load.seed)  # noqa: S311  # a load, not a secret
    numbers = iter(range(load.intents))
    while chunk := list(itertools.islice(numbers, load.batch)):
        yield [
            {
                "kind": load.kind,
                "amount": load.minor_fixed or draw.randrange(1, load.minor_max),
                "currency": load.currency,
                "source": draw.choice(load.sources),
                "destination": (
                    load.destinations[number % len(load.destinations)]
                    if load.each_destination
                    else draw.choice(load.destinations)
                ),
                "idempotency_key": f"{load.prefix}-{number}",
            }
            for number in chunk
        ]


async def _over_nats(load: Load, tally: _Tally) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """Send requests over one connection of the tenant, all answers to one inbox."""
    client = await connect(load.url, name="bench")
    inbox = client.new_inbox()
    pending: dict[str, asyncio.Future[bytes]] = {}
    encode = msgspec.json.Encoder().encode
    numbers = itertools.count()

    async def answered(message: Any) -> None:
        future = pending.pop(message.subject.rpartition(".")[2], None)
        if future is not None and not future.done():
            unheard = message.headers and message.headers.get("Status") == "503"
            future.set_result(b'{"status":503}' if unheard else message.data)

    await client.subscribe(f"{inbox}.*", cb=answered, pending_msgs_limit=0, pending_bytes_limit=0)

    async def send(batch: list[dict[str, Any]], intended: float) -> None:
        number = str(next(numbers))
        future = pending[number] = asyncio.get_running_loop().create_future()
        body = encode(batch if load.batch > 1 else batch[0])
        await client.publish("zentra.intents.create", body, f"{inbox}.{number}")
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                data = await future
        except TimeoutError:
            tally.refuse("no_answer", len(batch))
            return
        answer = msgspec.json.decode(data)
        for item in answer if isinstance(answer, list) else [answer] * (1 if load.batch == 1 else len(batch)):
            _count(tally, item.get("status", 0), item, intended)

    return send, client.close


async def _over_http(load: Load, tally: _Tally) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """Send one request per intent over a pool of kept-alive connections."""
    connector = aiohttp.TCPConnector(limit=min(load.in_flight, 256))
    session = aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {load.key}"})
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    encode = msgspec.json.Encoder().encode

    async def send(batch: list[dict[str, Any]], intended: float) -> None:
        for intent in batch:
            key = intent.pop("idempotency_key")
            headers = {"x-idempotency-key": key, "content-type": "application/json"}
            try:
                async with session.post(
                    f"{load.url}/runtime/intents", data=encode(intent), headers=headers, timeout=timeout
                ) as response:
                    body = await response.read()
                    _count(tally, response.status, body, intended)
            except (aiohttp.ClientError, TimeoutError) as error:
                tally.refuse(type(error).__name__, 1)

    return send, session.close


def _count(tally: _Tally, status: int, answer: Any, intended: float) -> None:
    if status in (200, 202):
        tally.accepted += 1
        tally.latencies.append(time.perf_counter() - intended)
        return
    problem = answer if isinstance(answer, dict) else msgspec.json.decode(answer or b"{}")
    problem = problem.get("problem") or problem.get("body") or problem
    tally.refuse(f"{status} {problem.get('code', '')}".strip(), 1)


def main() -> None:
    """Run the load that standard input describes and print the report as one JSON line."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    report = uvloop.run(run_load(load))
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    main()
