"""The rules for believing: which HTTP status goes with which word, whose reference is named, and what is told on.

The partner is played at its most misleading: its own bodies stand under statuses that speak of something else, its
answers name another payment, and what it writes for people repeats our keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

import msgspec

from zentra.bench.conformance.rule import Broken, Ground, Rule, expect, submission
from zentra.bench.conformance.specimen import REFERENCE, Reply, Said, Word
from zentra.bench.conformance.standin import Fault
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome

__all__ = ["BELIEF_RULES", "repeated", "shows"]

S = OutcomeStatus
WORDS: Final[tuple[Word, ...]] = get_args(Word)
CLIENT_ERRORS: Final = (400, 401, 402, 403, 404, 405, 409, 410, 422, 429)
ABOUT_US: Final = (401, 403, 429)
BARE: Final = (b'{"status":"rejected"}', b'{"status":"declined"}', b'{"status":"failed"}', b'{"accepted":false}')
READ_BY_PEOPLE: Final = ("message", "reason", "description", "detail", "error", "remarks", "responseMessage")
CREDENTIAL: Final = re.compile(r"auth|token|secret|signature|api-?key|cookie|password")


async def client_errors(ground: Ground) -> None:
    """A 4xx is about the question and who asks it; what became of a payment is told with a 2xx."""
    refused, missing = ground.specimen.submitted(Said("refused")), ground.specimen.polled(Said("not_found"))
    for word in ("pending", "succeeded", "declined", "nonsense"):
        reply = ground.specimen.submitted(Said(word))
        if reply is None or (refused is not None and reply.body == refused.body):
            continue
        for status in CLIENT_ERRORS:
            outcome = await ground.submit(Reply(status, reply.body))
            expect(outcome.status is S.UNKNOWN, f"a submit answered {status} with {word} became {outcome.status}")
    told = (ground.specimen.polled(Said(word)) for word in WORDS if word != "not_found")
    bodies = {*BARE, *(reply.body for reply in (*told, refused) if reply is not None)}
    for body in sorted(bodies - {missing.body if missing is not None else b""}):
        for status in CLIENT_ERRORS:
            outcome = await ground.poll(Reply(status, body))
            expect(outcome.status is S.UNKNOWN, f"a poll answered {status} with {body!r} became {outcome.status}")


async def found_nothing(ground: Ground) -> None:
    """That there is no payment is said in the partner's words, with its status, in answer to a poll."""
    missing = ground.specimen.polled(Said("not_found"))
    if missing is None:
        raise Broken("a poll cannot be answered not_found")
    others = (200, 201, 202) if missing.status >= 300 else (400, 404, 422)
    for status in (*ABOUT_US, *others, 302, 500, 503):
        outcome = await ground.poll(Reply(status, missing.body))
        expect(outcome.status is S.UNKNOWN, f"a not-found with {status}, not {missing.status}, became {outcome.status}")
    submitted = await ground.submit(missing)
    expect(submitted.status is S.UNKNOWN, f"a submit answered with a not-found became {submitted.status}")


async def other_reference(ground: Ground) -> None:
    """An answer about another payment is no answer, a refusal least of all."""
    if not ground.specimen.echoes_reference:
        return
    other = REFERENCE[:-2] + "02"
    for word in WORDS:
        for ask, say in ((ground.submit, ground.specimen.submitted), (ground.poll, ground.specimen.polled)):
            stray = say(Said(word, reference=other))
            if stray is None or stray == say(Said(word)):
                continue  # the partner has no such word there, or names no reference with it
            outcome = await ask(stray)
            seen = outcome.status, outcome.reference
            expect(seen == (S.UNKNOWN, REFERENCE), f"an answer that says {word} of {other} became {seen}")


async def unsendable(ground: Ground) -> None:
    """What cannot be written down as a request has not been asked."""
    odd = "\ud800"  # no text: UTF-8 has no such character
    asked: list[dict[str, Any]] = [{"destination": odd}]
    if not ground.specimen.names_currency:
        asked.append({"currency": "JPY" if ground.specimen.currencies[0] != "JPY" else "NGN"})
    ground.partner.reply = lambda asked: Reply(500, b"")
    for changes in asked:
        try:
            outcome = await ground.rail.submit(submission(ground.settings, **changes))
        except Exception as error:
            raise Broken(f"a submit with {changes} raised {error!r}") from error
        wanted = S.UNKNOWN if ground.partner.asked else S.NOT_ACCEPTED
        expect(outcome.status is wanted, f"a submit with {changes} became {outcome.status}, not {wanted}")
    if not ground.specimen.names_currency:
        expect(not ground.partner.asked, "a partner that names no currency was asked for another one than its own")
    try:
        outcome = await ground.rail.poll(f"{REFERENCE}{odd}")
    except Exception as error:
        raise Broken(f"a poll of a reference that is no text raised {error!r}") from error
    expect(outcome.status is S.UNKNOWN, f"a poll of a reference that is no text became {outcome.status}")


async def secrets(ground: Ground) -> None:
    """Outcomes are shown to tenants, and kept as evidence for years."""
    await ground.submit(Fault.DROPPED)
    request = ground.partner.requests[-1]
    known = [text for text in (ground.settings.secret, *ground.settings.secrets.values()) if text]
    for text in dict.fromkeys((*known, *_credentials(request.headers))):
        heads = msgspec.json.encode({"headers": request.headers, "body": request.body.decode("latin-1"), "s": text})
        for ask, say in ((ground.submit, ground.specimen.submitted), (ground.poll, ground.specimen.polled)):
            said = (reply for word in WORDS if (reply := say(Said(word, remark=f"no: {text}"))) is not None)
            told = ((reply.status, body) for reply in said for body in repeated(reply.body, text))
            misled = dict.fromkeys(Reply(one, body) for status, body in told for one in (status, 401))
            for answer in (*(Reply(one, heads) for one in (200, 400, 401, 500)), *misled):
                outcome = await ask(answer)
                expect(not shows(outcome, text), f"an outcome holds a secret that {answer.body[:200]!r} repeats")


def repeated(raw: bytes, secret: str) -> Iterator[bytes]:
    """Yield an answer as it stands and, where it is JSON, with a secret in each of its places for texts by turns."""
    yield raw
    try:
        said = msgspec.json.decode(raw)
    except ValueError:
        return
    for text in (secret, f"no: {secret} is wrong"):
        yield from (msgspec.json.encode(one) for one in _written(said, text))


def shows(outcome: RailOutcome, secret: str) -> bool:
    """Return whether a secret is in any text of an outcome."""
    texts = (outcome.reference, outcome.currency, outcome.provider_reference, outcome.event_id, outcome.reason)
    return any(secret.lower() in text.lower() for text in texts if text)


def _written(said: Any, text: str) -> Iterator[Any]:
    if isinstance(said, dict):
        yield said | dict.fromkeys((name for name in READ_BY_PEOPLE if name not in said), text)
        for name, value in said.items():
            yield from (said | {name: one} for one in _written(value, text))
    elif isinstance(said, list):
        for place, value in enumerate(said):
            yield from ([*said[:place], one, *said[place + 1 :]] for one in _written(value, text))
    elif said is None or isinstance(said, str):
        yield text


def _credentials(headers: Mapping[str, str]) -> Iterable[str]:
    for name, value in headers.items():
        if CREDENTIAL.search(name):
            yield from (text for text in (value, value.partition(" ")[2]) if text)


BELIEF_RULES: Final = tuple(
    Rule(run.__name__, source, says, "calls_out", run)
    for run, source, says in (
        (client_errors, "DOMAIN 5", "a 4xx is unknown, whatever it says, but for a refused submit and a not-found"),
        (found_nothing, "DOMAIN 5", "a not-found is one only with its own status and in answer to a poll"),
        (other_reference, "E2.12", "an answer that names another reference is unknown, whatever it says of it"),
        (unsendable, "DOMAIN 5", "what cannot be sent is not accepted, a poll that cannot be sent is unknown"),
        (secrets, "E2.11", "no secret is in an outcome, wherever the partner repeats it to us"),
    )
)  # fmt: skip
