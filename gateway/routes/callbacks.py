"""The door for provider callbacks: the rail's signature instead of an API key.

- Nothing is stored and nothing changes before the signature over the raw bytes was verified.
- The raw bytes are committed before the provider hears "ok"; a repeat hears it too, and is counted.
- A rail that was set up a moment ago is known within two seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from zentra.gateway.doors.callbacks import CallbackIntake
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.problems import Problem
from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rails import RailBook
from zentra.runtime.instruments import Instruments
from zentra.runtime.rails.port import CallbackRejected, Rail, RailSettings, raw_digest
from zentra.storage.intake.callbacks import Callback

__all__ = ["CallbackRoutes"]

FRESH_SECONDS: Final = 2.0
_NEVER_KEPT: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class CallbackRoutes:
    """The handler and its route; `read_rails` returns the rails as they are set up now."""

    def __init__(
        self,
        read_rails: Callable[[], Awaitable[Mapping[str, RailSettings]]],
        http: OutwardHttp,
        intake: CallbackIntake,
        instruments: Instruments,
    ) -> None:
        self._read_rails, self._intake, self._instruments = read_rails, intake, instruments
        self._settings: Mapping[str, RailSettings] = {}
        self._read_at = -FRESH_SECONDS
        self._reading = asyncio.Lock()
        self._book = RailBook(lambda: self._settings, http)

    def routes(self) -> list[Route]:
        """Return what this door serves."""
        return [Route("POST", "/providers/{rail}/callbacks", self.take, None, body="raw")]

    async def take(self, request: Request) -> Reply:
        """Verify, commit, answer."""
        rail = await self._rail(request.params["rail"])
        if rail is None:
            raise Problem("not_found")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        try:
            outcome = rail.verify_callback(request.body, headers, time.time())
        except CallbackRejected as rejected:
            self._instruments.count("callbacks", {"rail": rail.settings.name, "outcome": rejected.reason})
            raise Problem(rejected.reason) from None
        kept = {name: value for name, value in headers.items() if name not in _NEVER_KEPT}
        event_id = outcome.event_id or raw_digest(request.body)
        new = await self._intake.submit(Callback(outcome, event_id, request.body, kept))
        self._instruments.count("callbacks", {"rail": rail.settings.name, "outcome": "new" if new else "repeated"})
        return json_reply(200, {"received": True, "new": new})

    async def aclose(self) -> None:
        """Close the adapters."""
        await self._book.aclose()

    async def _rail(self, name: str) -> Rail | None:
        if time.monotonic() - self._read_at >= FRESH_SECONDS:
            async with self._reading:
                if time.monotonic() - self._read_at >= FRESH_SECONDS:
                    self._settings = await self._read_rails()
                    self._read_at = time.monotonic()
        return self._book.adapter(name)
