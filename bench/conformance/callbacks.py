"""The rules for callbacks: what proves one, how far it is believed, and how its sender is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from zentra.bench.conformance.beliefs import repeated, shows
from zentra.bench.conformance.calls import MISSPELT
from zentra.bench.conformance.rule import UNREADABLE, Ground, Rule, expect
from zentra.bench.conformance.specimen import REFERENCE, Said, Word
from zentra.runtime.rails.port import (
    Ack,
    CallbackCode,
    CallbackRejected,
    CallbackUnreadable,
    OutcomeStatus,
    Rail,
    RailOutcome,
    Verdict,
    raw_digest,
    requires_requery,
)

__all__ = ["CALLBACK_RULES"]

S = OutcomeStatus
NOW: Final = 1_800_000_000.0
HOUR: Final = 3600.0
TEXT_MAX: Final = 200
TOLD: Final[dict[Word, tuple[OutcomeStatus, ...]]] = {
    "pending": (S.PENDING,),
    "succeeded": (S.SUCCEEDED,),
    "declined": (S.DECLINED,),
    "refused": (S.NOT_ACCEPTED, S.DECLINED),
    "nonsense": (S.UNKNOWN,),
}


async def told(ground: Ground) -> None:
    """Every word that a callback can bring."""
    ground.callback(Said("succeeded"))
    for word, wanted in TOLD.items():
        raw = ground.specimen.callback(Said(word))
        if raw is None:
            continue
        outcome = ground.verify(raw, NOW)
        expect(outcome.status in wanted, f"a callback that says {word} became {outcome.status}")
        whose = outcome.rail, outcome.reference
        expect(whose == (ground.settings.name, REFERENCE), f"a callback about {REFERENCE} is said of {whose}")
        expect(outcome.raw_digest == raw_digest(raw), "a callback has not the digest of its raw bytes")
        if ground.specimen.names_amounts:
            read = outcome.minor, outcome.currency
            expect(read == (125_050, "NGN"), f"a callback over 125050 NGN names {read}")


async def trusted(ground: Ground) -> None:
    """The suite finds out by itself whether the proof binds the body."""
    declared = ground.rail.declaration.callback_trust
    raw = ground.callback(Said("succeeded"))
    other = ground.callback(Said("succeeded", minor=125_051))
    expect(ground.verify(raw, NOW).trust == declared, f"an authentic callback has not the trust {declared}")
    proof = ground.specimen.prove(ground.settings, raw, NOW)
    forged = _tried(ground.rail, other, proof)
    if isinstance(forged, RailOutcome):
        expect(requires_requery(forged.trust), f"a body that its proof does not bind has the trust {forged.trust}")
    if requires_requery(declared):
        return
    for place in range(len(raw)):
        flipped = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        expect(isinstance(_tried(ground.rail, flipped, proof), CallbackCode), f"byte {place} is not bound by the proof")


async def proved(ground: Ground) -> None:
    """Without its proof a callback is a stranger's."""
    if ground.rail.declaration.callback_trust == "none":
        return
    names, raw = ground.specimen.proof_headers, ground.callback(Said("succeeded"))
    expect(bool(names), "the specimen names no header that proves a callback")
    proof = dict(ground.specimen.prove(ground.settings, raw, NOW))
    for name in names:
        without = {key: value for key, value in proof.items() if key != name}
        refused = _tried(ground.rail, raw, without)
        expect(refused is CallbackCode.SIGNATURE_MISSING, f"a callback without {name}: {_shown(refused)}")
        right = proof[name]
        for wrong in ("", "0", right[:-1], right + "0", _other(right), "é" * 8, "x" * 100_000, "\x00"):
            refused = _tried(ground.rail, raw, {**proof, name: wrong})
            expect(isinstance(refused, CallbackCode), f"a callback with {name}: {wrong[:20]!r} is believed")


async def without_secret(ground: Ground) -> None:
    """An installation where somebody forgot the secret is not an open door."""
    if ground.rail.declaration.callback_trust == "none":
        return
    raw = ground.callback(Said("succeeded"))
    bare = msgspec.structs.replace(ground.settings, secret="", secrets={})
    rail = ground.specimen.make(bare)
    refused = _tried(rail, raw, ground.specimen.prove(bare, raw, NOW))
    await rail.aclose()
    expect(isinstance(refused, CallbackCode), "a rail without a secret believes a callback that is proved with none")


async def events(ground: Ground) -> None:
    """Repeats are told from news by the partner's own id."""
    raw = ground.callback(Said("succeeded"))
    first, again = ground.verify(raw, NOW), ground.verify(raw, NOW + 1)
    expect(first.event_id == again.event_id, "the same callback has two event ids")
    news = ground.verify(ground.callback(Said("succeeded", event_id="evt-2")), NOW)
    expect(news.event_id is None or news.event_id != first.event_id, "two events have one id")


async def unreadable(ground: Ground) -> None:
    """Who has the secret may write rubbish, or a new version of the old words: it is kept, so it is told apart."""
    for raw in UNREADABLE:
        try:
            seen = _shown(ground.rail.verify_callback(raw, ground.specimen.prove(ground.settings, raw, NOW), NOW))
        except CallbackUnreadable:
            continue
        except CallbackRejected as rejected:
            seen = f"refused as {rejected.reason}"
        expect(False, f"an authentic callback of {raw[:30]!r}: {seen}")


async def rubbish(ground: Ground) -> None:
    """What nobody has proved is never said to be authentic, or strangers could fill the store."""
    if ground.rail.declaration.callback_trust == "none":
        return
    for raw in (*UNREADABLE, ground.callback(Said("succeeded", reference="a\x00b"))):
        try:
            seen = _shown(ground.rail.verify_callback(raw, {}, NOW))
        except CallbackUnreadable:
            seen = "said to be authentic"
        except CallbackRejected:
            continue
        expect(False, f"a callback of {raw[:30]!r} without a proof is {seen}")


async def misspelt(ground: Ground) -> None:
    """Nobody has said what was paid."""
    if not ground.specimen.names_amounts:
        return
    for text in MISSPELT:
        raw = ground.callback(Said("succeeded", misspelt=text))
        seen = _tried(ground.rail, raw, ground.specimen.prove(ground.settings, raw, NOW))
        believed = isinstance(seen, RailOutcome) and seen.status is S.SUCCEEDED
        expect(not believed, f"a callback about a success over {text!r} is believed")


async def texts(ground: Ground) -> None:
    """Ids of a partner end in rows, logs and headers of ours."""
    for odd in ("a\x00b", "a\nb", "\ud800", "e" * 10_000):
        for said in (Said("succeeded", event_id=odd), Said("succeeded", reference=odd)):
            raw = ground.callback(said)
            seen = _tried(ground.rail, raw, ground.specimen.prove(ground.settings, raw, NOW))
            if isinstance(seen, RailOutcome):
                kept = seen.reference, seen.event_id or "-"
                sound = all(text.isprintable() and len(text) <= TEXT_MAX for text in kept)
                expect(sound, f"a callback that names {odd[:20]!r} is believed as it stands")


async def secrets(ground: Ground) -> None:
    """A partner that repeats our secret in a callback does not tell it to the tenant."""
    known = [text for text in (ground.settings.secret, *ground.settings.secrets.values()) if text]
    for text in known:
        for word in TOLD:
            told = ground.specimen.callback(Said(word, remark=f"no: {text}"))
            for raw in () if told is None else repeated(told, text):
                seen = _tried(ground.rail, raw, ground.specimen.prove(ground.settings, raw, NOW))
                leaks = isinstance(seen, RailOutcome) and shows(seen, text)
                expect(not leaks, f"an outcome holds a secret that the callback {raw[:200]!r} repeats")


async def pure(ground: Ground) -> None:
    """Verification stands before everything, so it may not wait, and it can be done again for evidence."""
    raw = ground.callback(Said("succeeded"))
    first = ground.verify(raw, NOW)
    expect(ground.verify(raw, NOW, **{"x-forwarded-for": "1.2.3.4", "a": "b"}) == first, "another header changes it")
    proof = ground.specimen.prove(ground.settings, raw, NOW)
    elsewhere = ground.rail.verify_callback(raw, proof, NOW, "192.0.2.7")
    expect(elsewhere == first, "a peer changes it where no networks are set")
    expect(not ground.partner.asked, "verifying a callback asked the partner")


async def timely(ground: Ground) -> None:
    """A proof that has a time is good near that time."""
    raw = ground.callback(Said("succeeded"))
    proof = ground.specimen.prove(ground.settings, raw, NOW)
    if ground.specimen.prove(ground.settings, raw, NOW + 1) == proof:
        return
    for now in (NOW - HOUR, NOW + HOUR):
        refused = _tried(ground.rail, raw, proof, now)
        expect(refused is CallbackCode.TIMESTAMP_OUT_OF_TOLERANCE, f"a callback of an hour away: {_shown(refused)}")


async def networks(ground: Ground) -> None:
    """Where the partner's addresses are known, nobody else may call."""
    raw = ground.callback(Said("succeeded"))
    proof = ground.specimen.prove(ground.settings, raw, NOW)
    rail = ground.remade(callback_networks=("192.0.2.0/24", "2001:db8::/32"))
    for peer, allowed in (
        ("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("2001:db8::1", True), ("198.51.100.1", False), ("", False),
        (None, False), ("192.0.2.7.example", False),
    ):  # fmt: skip
        seen = _tried(rail, raw, proof, NOW, peer)
        wanted = isinstance(seen, RailOutcome) if allowed else seen is CallbackCode.NETWORK_REFUSED
        expect(wanted, f"a callback from {peer}: {_shown(seen)}")
    await rail.aclose()


async def answered(ground: Ground) -> None:
    """The partner rests when we have it, and comes back when we have not."""
    for verdict in Verdict:
        ack = ground.rail.ack(verdict)
        if ack is None:
            continue
        sound = isinstance(ack, Ack) and 200 <= ack.status < 600 and isinstance(ack.body, bytes)
        expect(sound, f"the answer to {verdict} is no answer: {ack}")
        if verdict is not Verdict.REJECTED:
            rests = ground.specimen.rests(ack)
            expect(
                rests is (verdict is not Verdict.TRY_AGAIN),
                f"told {verdict}, the partner {'rests' if rests else 'repeats'}",
            )


async def nobody(ground: Ground) -> None:
    """A rail that never calls back has no callbacks."""
    for raw in (b"{}", b""):
        expect(
            isinstance(_tried(ground.rail, raw, {}), CallbackCode), "a callback is believed of a rail that makes none"
        )


def _tried(
    rail: Rail, raw: bytes, headers: Mapping[str, str], now: float = NOW, peer: str | None = None
) -> RailOutcome | CallbackCode:
    try:
        return rail.verify_callback(raw, headers, now, peer)
    except CallbackRejected as rejected:
        return CallbackCode(rejected.reason)


def _other(text: str) -> str:
    return ("0" if text[:1] != "0" else "1") + text[1:]


def _shown(seen: RailOutcome | CallbackCode) -> str:
    return f"refused as {seen}" if isinstance(seen, CallbackCode) else f"believed as {seen.status}"


CALLBACK_RULES: Final = tuple(
    Rule(f"callback_{run.__name__}", source, says, "calls_back", run)
    for run, source, says in (
        (told, "E2.11", "each word of a callback is the one status that it means; a word nobody knows is unknown"),
        (trusted, "E2.11, E2.12", "a callback is trusted as declared, and no further than its proof binds its bytes"),
        (proved, "E2.11", "a callback without its proof, or with a wrong one, is refused"),
        (without_secret, "E2.11", "a rail without a secret believes nobody"),
        (events, "E2.11", "one event has one id, another event another"),
        (unreadable, "E2.11", "an authentic callback that cannot be read is CallbackUnreadable, and no error of ours"),
        (rubbish, "E2.11", "without a proof nothing is told of what can be read"),
        (misspelt, "E2.12", "a success whose amount cannot be read is not believed"),
        (texts, "E2.11", "an id that is no printable text of at most 200 characters is refused, or not taken over"),
        (secrets, "E2.11", "no secret is in what a callback is taken to say, wherever the partner repeats it"),
        (pure, "E2.11", "verifying asks nobody and depends on nothing but the callback"),
        (timely, "E2.1", "a proof that has a time is good for minutes"),
        (networks, "E2.11", "callbacks may be confined to the partner's networks; whoever has no address is refused"),
        (answered, "E2.11", "the answer is the partner's own: it rests when we have the callback, else it repeats"),
    )
)  # fmt: skip
