"""What operators and their machines ask: is it alive, is it ready, what does it count, which version is it.

None of these needs a key and none tells anything of a tenant. Without Redis it is slower, and ready; so
it is while workers cannot seal for lack of a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.versions import CURRENT
from zentra.gateway.metrics import CONTENT_TYPE, Metrics
from zentra.runtime.codes import CODES
from zentra.runtime.errors import ZentraError
from zentra.runtime.stream_ports import StreamError

__all__ = ["HealthRoutes"]

PROBE_SECONDS_MAX: Final = 2.0
REMEMBERED_SECONDS: Final = 0.5  # everybody may ask, so asking has to stay cheap
OPTIONAL: Final = frozenset({"redis", "sealing"})


class HealthRoutes:
    """The handlers and their routes; `probes` return when what they stand for answers, and raise where it does not."""

    def __init__(self, probes: Mapping[str, Callable[[], Awaitable[None]]], metrics: Metrics) -> None:
        self._probes, self._metrics = probes, metrics
        self._draining = False
        self._answer: tuple[float, Reply] | None = None
        self._probing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        return [
            Route("GET", "/livez", self.live, None),
            Route("GET", "/readyz", self.ready, None),
            Route("GET", "/metrics", self.metrics, None),
            Route("GET", "/version", self.version, None),
            Route("GET", "/problems/{code}", self.problem, None),
        ]

    def drain(self) -> None:
        """Be unready from now on."""
        self._draining, self._answer = True, None

    async def live(self, request: Request) -> Reply:
        """The process answers."""
        return json_reply(200, {"status": "live"})

    async def ready(self, request: Request) -> Reply:
        """Whether requests should be sent here, and how fast each store answered."""
        async with self._probing:
            if self._answer is None or time.monotonic() >= self._answer[0]:
                reply = await self._probe()
                self._answer = (time.monotonic() + REMEMBERED_SECONDS, reply)
            return self._answer[1]

    async def metrics(self, request: Request) -> Reply:
        """Everything that is counted."""
        return Reply(200, self._metrics.exposition(), (), CONTENT_TYPE)

    async def version(self, request: Request) -> Reply:
        """Which version runs, and which schema it speaks."""
        return json_reply(200, {"version": version("zentra"), "schema": CURRENT.name})

    async def problem(self, request: Request) -> Reply:
        """What an error code means: the page behind the `type` of a problem."""
        row = CODES.get(request.params["code"])
        if row is None:
            raise Problem("route_not_found")
        return json_reply(200, row)

    async def _probe(self) -> Reply:
        names = list(self._probes)
        checks = dict(zip(names, await asyncio.gather(*(_checked(self._probes[name]) for name in names)), strict=True))
        failed = {name for name, check in checks.items() if not check["ok"]}
        status = "unready" if failed - OPTIONAL else "degraded" if failed else "ready"
        if self._draining:
            status = "draining"
        return json_reply(503 if status in ("unready", "draining") else 200, {"status": status, "checks": checks})


async def _checked(probe: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await probe()
        ok = True
    except (ZentraError, StreamError, TimeoutError, OSError):
        ok = False  # why is in the log of whoever failed; who asks here may be anybody
    return {"ok": ok, "latency_ms": round((time.perf_counter() - began) * 1000, 2)}
