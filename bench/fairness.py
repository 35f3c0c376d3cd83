"""What one endpoint that hangs does to the others: a real worker, real sockets, a hundred receivers, runs in turns.

    python -m zentra.bench.fairness --endpoints 100 --rounds 4 --seconds 30

Every event of one tenant goes to all of its endpoints. In every second run one more endpoint takes the call and says
nothing for longer than the sender waits; in the runs between it is disabled. Printed are the quantiles of the time from
the event's own timestamp to its arrival at the other endpoints, with and without the one that hangs, and their ratio.

- Runs alternate on one installation, so that what the machine does besides falls on both alike.
- Calls that began in the other kind of run are not counted: each run has a pause before it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from zentra.gateway.installation.installation import Installation

__all__ = ["Fairness", "main", "measure", "quantile"]

HANG_SECONDS: Final = 20.0  # longer than the 15 s that the sender waits
PAUSE_SECONDS: Final = 3.0
TENANT: Final = "acme"
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class _Told(Struct):
    timestamp: datetime


class Fairness(Struct, frozen=True, kw_only=True):
    """What was measured, in milliseconds: of the endpoints that answer, without and with one that hangs."""

    endpoints: int
    counted_without: int
    counted_with: int
    p50_without: float
    p50_with: float
    p99_without: float
    p99_with: float
    hanging_calls: int

    @property
    def ratio(self) -> float:
        """The p99 with the hanging endpoint as a multiple of the one without."""
        return self.p99_with / self.p99_without


class _Receivers:
    """Endpoints on loopback, each with a port of its own; the last one hangs."""

    def __init__(self) -> None:
        self.taken: list[float] | None = None  # of the run that is counted
        self.hanging_calls = 0

    async def serve(self, opened: AsyncExitStack, hangs: bool) -> int:
        """Open one more endpoint and return its port."""
        handler = self._hang if hangs else self._answer
        server = await opened.enter_async_context(await asyncio.start_server(handler, "127.0.0.1", 0))
        return int(server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while body := await _request(reader):
                told = msgspec.json.decode(body, type=_Told)
                if self.taken is not None:
                    self.taken.append((time.time() - told.timestamp.timestamp()) * 1000)
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller hung up between two calls
        finally:
            writer.close()

    async def _hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hanging_calls += 1
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await reader.read(-1)
        except (TimeoutError, ConnectionError):
            pass  # whoever waits longer than the sender does has nothing to say
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def measure(endpoints: int, rounds: int, seconds: float, per_second: float) -> Fairness:
    """Return what `rounds` pairs of runs came to. Raises DevStackError, and RuntimeError where the gateway refuses."""
    installation = Installation(sandbox=False)
    try:
        await asyncio.to_thread(installation.start)
        async with AsyncExitStack() as opened:
            receivers = _Receivers()
            session = await opened.enter_async_context(_session(installation))
            for _ in range(endpoints - 1):
                await _set_up(session, installation, await receivers.serve(opened, hangs=False))
            hanging = await _set_up(session, installation, await receivers.serve(opened, hangs=True))
            found: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(2 * rounds):
                on = turn % 2 == 1
                await _switch(session, installation, hanging, on, turn)
                receivers.taken = None
                await _load(session, installation, PAUSE_SECONDS, per_second, f"pause-{turn}")
                receivers.taken = found[on]
                await _load(session, installation, seconds, per_second, f"run-{turn}")
                await asyncio.sleep(1.0)
            return _summed(found, endpoints, receivers.hanging_calls)
    finally:
        await asyncio.to_thread(installation.stop)


def _summed(found: dict[bool, list[float]], endpoints: int, hanging_calls: int) -> Fairness:
    without, with_ = sorted(found[False]), sorted(found[True])
    return Fairness(
        endpoints=endpoints, counted_without=len(without), counted_with=len(with_), hanging_calls=hanging_calls,
        p50_without=quantile(without, 0.5), p50_with=quantile(with_, 0.5), p99_without=quantile(without, 0.99),
        p99_with=quantile(with_, 0.99),
    )  # fmt: skip


def quantile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed. Raises ValueError where there are none."""
    if not ordered:
        raise ValueError("nothing arrived")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@asynccontextmanager
async def _session(installation: Installation) -> AsyncIterator[aiohttp.ClientSession]:
    key = installation.keys[TENANT]["dev"]
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        yield session


async def _set_up(session: aiohttp.ClientSession, installation: Installation, port: int) -> str:
    body = {"url": f"http://127.0.0.1:{port}/events", "events": ["ledger.posted"]}
    return str((await _post(session, installation, "/webhooks/endpoints", body, f"endpoint-{port}"))["id"])


async def _switch(
    session: aiohttp.ClientSession, installation: Installation, endpoint: str, on: bool, turn: int
) -> None:
    change = "enable" if on else "disable"
    await _post(session, installation, f"/webhooks/endpoints/{endpoint}/{change}", {}, f"switch-{turn}")


async def _load(
    session: aiohttp.ClientSession, installation: Installation, seconds: float, per_second: float, prefix: str
) -> None:
    """Make intents at a steady pace, whatever their answers take."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            body = {
                "intent_id": f"{prefix}-{number}", "kind": "book_transfer", "amount": 100, "currency": "NGN",
                "source": "customer-1", "destination": "merchant-1",
            }  # fmt: skip
            group.create_task(_post(session, installation, "/runtime/intents", body, f"{prefix}-{number}"))


async def _post(
    session: aiohttp.ClientSession, installation: Installation, path: str, body: dict[str, Any], key: str
) -> dict[str, Any]:
    headers = {"x-idempotency-key": key}
    async with session.post(f"{installation.base_url}{path}", json=body, headers=headers) as answer:
        if answer.status not in (200, 201, 202):
            raise RuntimeError(f"POST {path} was refused: {answer.status} {await answer.text()}")
        return dict(await answer.json())


def main() -> None:
    """Measure and print; exit with 1 where the ratio is above what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m zentra.bench.fairness", description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=100, help="how many, the hanging one included")
    parser.add_argument("--rounds", type=int, default=4, help="pairs of runs")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run")
    parser.add_argument("--per-second", type=float, default=4.0, help="events, each of which goes to every endpoint")
    parser.add_argument("--ratio-max", type=float, default=1.2)
    given = parser.parse_args()
    found = asyncio.run(measure(given.endpoints, given.rounds, given.seconds, given.per_second))
    for line in (
        f"endpoints {found.endpoints}, calls of the hanging one {found.hanging_calls}",
        f"without  p50 {found.p50_without:8.1f} ms  p99 {found.p99_without:8.1f} ms  of {found.counted_without}",
        f"with     p50 {found.p50_with:8.1f} ms  p99 {found.p99_with:8.1f} ms  of {found.counted_with}",
        f"ratio of p99 {found.ratio:.2f}, at most {given.ratio_max}",
    ):
        sys.stdout.write(line + "\n")
    raise SystemExit(0 if found.ratio <= given.ratio_max else 1)


if __name__ == "__main__":
    main()
