"""When a client sees that an intent is SUCCESSFUL: the tail of the event stream, matched with the intended send times.

The record of an intent tells when the runtime decided; this tells when somebody outside could know, with every commit,
publish and delivery on the way included. Only `ledger.posted` is read, so the watch costs one record an intent.

- Whatever was accepted is in the figures: what is not seen in the end counts with the time that it was waited for, and
  is counted as unseen besides, so that nothing gets faster by getting stuck.
- Whether an intent is waited for is for all answers to its key to say: a repeat that was refused hides no first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from zentra.bench.measuring.tally import Tally
from zentra.runtime.subjects import parse_event_subject
from zentra.streams.connection import Connection, connect
from zentra.streams.feed import EventTail

__all__ = ["Watch"]


class _Expected(NamedTuple):
    number: int
    phase: str
    tenant: str
    intended: float


class _Record(Struct):
    intent_id: str


_decode: Final = msgspec.json.Decoder(list[_Record]).decode


class Watch:
    """Knows which intents are on their way."""

    def __init__(self, client: Connection, tally: Tally) -> None:
        self._client, self._tally = client, tally
        self._tails: list[EventTail] = []
        self._expected: dict[str, _Expected] = {}
        self._seen = asyncio.Event()

    @classmethod
    async def start(cls, url: str, tenants: Sequence[str], tally: Tally) -> Watch:
        """Return a watch that sees everything from now on; raise StreamUnavailable."""
        watch = cls(await connect(url, name="bench watch"), tally)
        for tenant in tenants:
            tail = EventTail(watch._client, watch.saw, subject_filter=f"ze.*.{tenant}.ledger-posted")
            await tail.start()
            watch._tails.append(tail)
        return watch

    def expect(self, number: int, intent_id: str, phase: str, tenant: str, intended: float) -> None:
        """Look out for an intent that is sent now; `number` is the one that the tally knows it by."""
        self._expected[intent_id] = _Expected(number, phase, tenant, intended)

    async def wait_all(self, until: float) -> None:
        """Return when every intent that was accepted was seen, at the latest at `until` of the monotonic clock; what is
        missing then is recorded with its wait so far. All answers have to be in."""
        missing = self._missing()
        try:
            async with asyncio.timeout(max(0.0, until - time.perf_counter())):
                while missing := {name for name in missing if name in self._expected}:
                    self._seen.clear()
                    await self._seen.wait()
        except TimeoutError:
            now = time.perf_counter()
            for name in sorted(missing & self._expected.keys()):
                each = self._expected.pop(name)
                self._tally.never_seen(each.phase, each.tenant, now - each.intended)

    async def close(self) -> None:
        """Give back the connection."""
        for tail in self._tails:
            await tail.stop()
        await self._client.close()

    def saw(self, frames: list[tuple[str, bytes]]) -> None:
        """Take frames of the feed, each a subject and a body, that have come now."""
        now = time.perf_counter()
        for subject, body in frames:
            _, tenant, _ = parse_event_subject(subject)
            for record in _decode(body):
                expected = self._expected.pop(record.intent_id, None)
                if expected is not None:
                    self._tally.seen_successful(expected.phase, tenant, now - expected.intended)
        self._seen.set()

    def _missing(self) -> set[str]:
        acknowledged = self._tally.acknowledged
        return {name for name, each in self._expected.items() if each.number in acknowledged}
