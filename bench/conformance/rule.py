"""What a rule is, and the ground that it is tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

import msgspec

from zentra.bench.conformance.specimen import REFERENCE, Reply, Said, Specimen
from zentra.bench.conformance.standin import Fault, StandIn
from zentra.gateway.outward.rail_http import ADAPTER_FAILED
from zentra.runtime.rails.port import Rail, RailOutcome, RailSettings, Submission

__all__ = ["UNREADABLE", "Broken", "Ground", "Need", "Rule", "expect", "ground", "known", "submission", "taken"]

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
        """Return what the adapter makes of an answer to a submit. Raises Broken where it raised itself."""
        self.partner.reply = lambda asked: answer
        return _sound(await self.rail.submit(submission(self.settings, **changes)), answer)

    async def poll(self, answer: Reply | Fault) -> RailOutcome:
        """Return what the adapter makes of an answer to a poll. Raises Broken where it raised itself."""
        self.partner.reply = lambda asked: answer
        return _sound(await self.rail.poll(REFERENCE), answer)

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


def _sound(outcome: RailOutcome, answer: Reply | Fault) -> RailOutcome:
    """`HttpRail` turns what an adapter raises into an outcome; in an adapter that is a fault all the same."""
    if outcome.reason == ADAPTER_FAILED:
        raise Broken(f"the adapter raised when it met {str(answer)[:200]}; the log says where: rail adapter failed")
    return outcome


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


def taken(ground: Ground, said: Said) -> Reply:
    """Return the partner's answer to a submit that it took. Raises Broken where it has none."""
    reply = ground.specimen.submitted(said) or ground.specimen.submitted(said._replace(word="pending"))
    if reply is None:
        raise Broken("a submit can be answered neither pending nor succeeded")
    return reply


def known(ground: Ground, said: Said) -> Reply:
    """Return the partner's answer to a poll. Raises Broken where it has none."""
    reply = ground.specimen.polled(said)
    if reply is None:
        raise Broken(f"a poll cannot be answered {said.word}")
    return reply
