"""The door for provider callbacks: the rail's proof instead of an API key.

- Nothing is stored and nothing changes before the proof over the raw bytes was verified.
- The raw bytes are committed before the provider hears "ok"; a repeat hears it too, and is counted. So are those of an
  authentic callback that cannot be read: what a partner said is not lost because it says it in another way than before.
- The provider is answered in its own words, within two seconds: where the store takes longer it is to send the callback
  again, and a repeat of what was kept meanwhile does no harm.
- A rail that was set up a moment ago is known within two seconds. While the rails cannot be read those known before are
  served, and of another nobody hears that there is no such rail: it is to send the callback again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from zentra.gateway.doors.callbacks import CallbackIntake
from zentra.gateway.doors.headers import kept_headers
from zentra.gateway.doors.pressure import Overloaded
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.problems import Problem
from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rails import RailBook
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.rails.port import (
    CallbackRejected,
    CallbackUnreadable,
    OutcomeStatus,
    Rail,
    RailOutcome,
    RailSettings,
    Verdict,
    plain_text,
    raw_digest,
)
from zentra.storage.intake.callbacks import Callback, Taken

__all__ = ["CALLBACK_BYTES_MAX", "CallbackRoutes"]

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0
ANSWER_SECONDS_MAX: Final = 1.8  # partners give up after two to five seconds, and some count that against us
PATIENCE_SECONDS: Final = 0.4  # from the start of a reading of the rails, until those known before are served
READING_SECONDS_MAX: Final = 10.0  # then another one is begun
CALLBACK_BYTES_MAX: Final = 64 * 1024  # thirty times what any partner sends
UNREADABLE: Final = "callback_unreadable"  # why nothing is known from a callback, and how such ones are counted
NAME_CHARACTERS_MAX: Final = 255  # of event ids and references: they are keys of rows


class CallbackRoutes:
    """The handler and its route; `read_rails` returns the rails as they are set up now, `opened` opens the secrets."""

    def __init__(
        self,
        read_rails: Callable[[], Awaitable[Mapping[str, RailSettings]]],
        http: OutwardHttp,
        intake: CallbackIntake,
        instruments: Instruments,
        opened: Callable[[RailSettings], RailSettings],
    ) -> None:
        self._read_rails, self._intake, self._instruments = read_rails, intake, instruments
        self._settings: Mapping[str, RailSettings] = {}
        self._known = self._current = False  # whether the rails were ever read, and by the last reading
        self._read_at = -FRESH_SECONDS  # when the last reading began
        self._reading: asyncio.Task[None] | None = None
        self._book = RailBook(lambda: self._settings, http, opened=opened)

    def routes(self) -> list[Route]:
        """Return what this door serves."""
        path = "/providers/{rail}/callbacks"
        return [Route("POST", path, self.take, None, body="raw", body_bytes_max=CALLBACK_BYTES_MAX)]

    async def take(self, request: Request) -> Reply:
        """Verify, commit, answer."""
        until = asyncio.get_running_loop().time() + ANSWER_SECONDS_MAX
        rail = await self._rail(request.params["rail"], until)
        if rail is None:
            raise Problem("not_found")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        client = request.scope.get("client")
        peer = client[0] if client else None
        try:
            outcome = _verified(rail, request.body, headers, peer)
        except CallbackRejected as rejected:
            self._count(rail, rejected.reason)
            logger.warning(
                "a callback was refused",
                extra={"rail": rail.settings.name, "reason": str(rejected.reason), "peer": peer or ""},
            )
            return _answered(rail, Verdict.REJECTED, Problem(rejected.reason))
        kept = kept_headers(headers, rail.settings, outcome.trust)
        event_id = outcome.event_id or raw_digest(request.body)
        try:
            async with asyncio.timeout_at(until):
                taken = await self._intake.submit(Callback(outcome, event_id, request.body, kept, peer))
        except (TimeoutError, Overloaded, Unavailable) as error:
            self._count(rail, "put_off")
            late = Unavailable("the store takes too long") if isinstance(error, TimeoutError) else error
            return _answered(rail, Verdict.TRY_AGAIN, late)
        self._count(rail, UNREADABLE if outcome.reason == UNREADABLE else str(taken))
        new = taken is Taken.NEW
        verdict = Verdict.TAKEN if new else Verdict.DUPLICATE
        return _answered(rail, verdict, json_reply(200, {"received": True, "new": new}))

    async def aclose(self) -> None:
        """Close the adapters."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._book.aclose()

    def _count(self, rail: Rail, outcome: str) -> None:
        self._instruments.count("callbacks", {"rail": rail.settings.name, "outcome": outcome})

    async def _rail(self, name: str, until: float) -> Rail | None:
        """Return a rail by name, or None where there is none. Raises Unavailable where nobody can tell by `until`."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at >= FRESH_SECONDS and (self._reading is None or self._reading.done()):
            self._read_at = now
            self._reading = asyncio.create_task(self._read(), name="rails")
        if self._reading is not None and not self._reading.done():
            patient = min(until, self._read_at + PATIENCE_SECONDS) if self._known else until
            await asyncio.wait([self._reading], timeout=max(0.0, patient - now))
        rail = self._book.adapter(name)
        if rail is None and not (self._current and self._reading is not None and self._reading.done()):
            raise Unavailable("the rails cannot be read")
        return rail

    async def _read(self) -> None:
        self._current = False
        try:
            async with asyncio.timeout(READING_SECONDS_MAX):
                self._settings = await self._read_rails()
        except Exception:  # whatever it is, callbacks of the rails that are known can be taken
            logger.exception("the rails cannot be read")
        else:
            self._known = self._current = True


def _verified(rail: Rail, body: bytes, headers: Mapping[str, str], peer: str | None) -> RailOutcome:
    """Return what an authentic callback says; one that cannot be read says that its rail has to be asked, and no more.

    Raises CallbackRejected for one that is not authentic; where nothing stands behind a rail's callbacks, that is every
    one that cannot be read."""
    try:
        outcome = rail.verify_callback(body, headers, time.time(), peer)
        for name in (outcome.event_id, outcome.reference, outcome.provider_reference, outcome.currency, outcome.reason):
            if name is not None and (len(name) > NAME_CHARACTERS_MAX or "\x00" in name):
                raise CallbackUnreadable(outcome.rail, plain_text(outcome.reference))
    except CallbackUnreadable as unreadable:
        name, trust, digest = rail.settings.name, rail.declaration.callback_trust, raw_digest(body)
        if trust == "none":
            raise
        logger.warning("a callback cannot be read", extra={"rail": name, "digest": digest, "peer": peer or ""})
        about = unreadable.reference or f"unreadable-{digest[:32]}"
        return RailOutcome(
            name, about, OutcomeStatus.UNKNOWN, reason=UNREADABLE, trust=trust, raw_digest=digest
        )  # fmt: skip
    return outcome


def _answered(rail: Rail, verdict: Verdict, otherwise: Reply | Exception) -> Reply:
    """Return the answer in the words of the rail; where it reads the status alone, `otherwise`, raised or returned."""
    ack = rail.ack(verdict)
    if ack is not None:
        return Reply(ack.status, ack.body, content_type=ack.content_type.encode())
    if isinstance(otherwise, Exception):
        raise otherwise
    return otherwise
