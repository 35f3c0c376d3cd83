"""What a rule is, and the ground that it is tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

import msgspec

from zentra.bench.conformance.specimen import REFERENCE, Reply, Said, Specimen
from zentra.bench.conformance.standin import Fault, StandIn
from zentra.runtime.rails.port import Rail, RailOutcome, RailSettings, Submission

__all__ = ["UNREADABLE", "Broken", "Ground", "Need", "Rule", "expect", "ground", "submission"]

Need = Literal["anything", "calls_out", "calls_back"]

UNREADABLE: Final = (
    b"",
    b"<html><body>Bad Gateway</body></html>",
    b"null",
    b"[]",
    b"{}",
    b'"00"',
    b"17",
    b'{"status":',
    b"\xff\xfe{}",
    b"[" * 12_000,
    b'{"a":"' + b"x" * 40_000 + b'"}',
)
"""Bodies that say nothing, whatever dialect they are read in."""


class Broken(AssertionError):
    """Raised where an adapter does not keep a rule; the sentence says what it did instead."""


class Rule(NamedTuple):
    """One thing that every adapter keeps; `source` is the expectation that it comes from."""

    name: str
    source: str
    says: str
    needs: Need
    run: Callable[[Ground], Awaitable[None]]

    def __str__(self) -> str:
        return self.name


class Ground(NamedTuple):
    """An adapter, ready to be asked, and what stands on its other side."""

    specimen: Specimen
    partner: StandIn
    settings: RailSettings
    rail: Rail

    async def submit(self, answer: Reply | Fault, **changes: Any) -> RailOutcome:
        """Return what the adapter makes of an answer to a submit."""
        self.partner.reply = lambda asked: answer
        return await self.rail.submit(submission(self.settings, **changes))

    async def poll(self, answer: Reply | Fault) -> RailOutcome:
        """Return what the adapter makes of an answer to a poll."""
        self.partner.reply = lambda asked: answer
        return await self.rail.poll(REFERENCE)

    def verify(self, raw: bytes, now: float, **headers: str) -> RailOutcome:
        """Return what the adapter reads in a callback that proves itself."""
        proof = self.specimen.prove(self.settings, raw, now)
        return self.rail.verify_callback(raw, {"content-type": "application/json", **proof, **headers}, now)

    def callback(self, said: Said) -> bytes:
        """Return the body of a callback that the partner is known to have. Raises Broken where it has it not."""
        raw = self.specimen.callback(said)
        if raw is None:
            raise Broken(f"the specimen has no callback for {said.word}, which every partner has")
        return raw

    def remade(self, **changes: Any) -> Rail:
        """Return the adapter with other settings; whoever asks for it closes it."""
        return self.specimen.make(msgspec.structs.replace(self.settings, **changes))


@asynccontextmanager
async def ground(specimen: Specimen) -> AsyncIterator[Ground]:
    """Yield a ground of its own for one rule."""
    async with StandIn(specimen) as partner:
        settings = msgspec.structs.replace(specimen.settings(partner.base_url), submit_timeout_seconds=5.0)
        rail = specimen.make(settings)
        try:
            yield Ground(specimen, partner, settings, rail)
        finally:
            await rail.aclose()


def submission(settings: RailSettings, **changes: Any) -> Submission:
    """Return a submission to a rail."""
    usual: dict[str, Any] = {"reference": REFERENCE, "minor": 125_050, "currency": "NGN", "destination": "0123456789"}
    return Submission("acme", settings.name, **(usual | changes))


def expect(holds: bool, sentence: str) -> None:
    """Raise Broken unless `holds`."""
    if not holds:
        raise Broken(sentence)
