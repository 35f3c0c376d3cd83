"""When a client sees that an intent is SUCCESSFUL: the tail of the event stream, matched with the intended send times.

The record of an intent tells when the runtime decided; this tells when somebody outside could know, with every commit,
publish and delivery on the way included. Only `ledger.posted` is read, so the watch costs one record an intent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from zentra.bench.measuring.tally import Tally
from zentra.runtime.subjects import parse_event_subject
from zentra.streams.connection import Connection, connect
from zentra.streams.feed import EventTail

__all__ = ["Watch"]

QUIET_SECONDS_MAX: Final = 5.0  # nothing seen for so long after the load: what is missing did not succeed


class _Record(Struct):
    intent_id: str


_decode: Final = msgspec.json.Decoder(list[_Record]).decode


class Watch:
    """Knows which intents are on their way."""

    def __init__(self, client: Connection, tally: Tally) -> None:
        self._client, self._tally = client, tally
        self._tails: list[EventTail] = []
        self._expected: dict[str, tuple[str, float]] = {}
        self._seen = asyncio.Event()

    @classmethod
    async def start(cls, url: str, tenants: Sequence[str], tally: Tally) -> Watch:
        """Return a watch that sees everything from now on; raise StreamUnavailable."""
        watch = cls(await connect(url, name="bench watch"), tally)
        for tenant in tenants:
            tail = EventTail(watch._client, watch._on_frames, subject_filter=f"ze.*.{tenant}.ledger-posted")
            await tail.start()
            watch._tails.append(tail)
        return watch

    def expect(self, intent_id: str, phase: str, intended: float) -> None:
        """Look out for an intent that is sent now."""
        self._expected[intent_id] = (phase, intended)

    def forget(self, intent_id: str) -> None:
        """Look out no more for an intent that was refused."""
        self._expected.pop(intent_id, None)

    async def wait_all(self) -> None:
        """Return when every intent was seen, or nothing has been for a while."""
        while self._expected:
            self._seen.clear()
            try:
                async with asyncio.timeout(QUIET_SECONDS_MAX):
                    await self._seen.wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        """Give back the connection."""
        for tail in self._tails:
            await tail.stop()
        await self._client.close()

    def _on_frames(self, frames: list[tuple[str, bytes]]) -> None:
        now = time.perf_counter()
        for subject, body in frames:
            _, tenant, _ = parse_event_subject(subject)
            for record in _decode(body):
                expected = self._expected.pop(record.intent_id, None)
                if expected is not None:
                    self._tally.seen_successful(expected[0], tenant, now - expected[1])
        self._seen.set()
