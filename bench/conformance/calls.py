"""The rules for asking: what an adapter sends, and what it makes of every answer, half answer and silence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Final

from zentra.bench.conformance.rule import UNREADABLE, Ground, Rule, expect, known, submission, taken
from zentra.bench.conformance.specimen import REFERENCE, Reply, Said, Word
from zentra.bench.conformance.standin import Fault
from zentra.runtime.rails.port import Cause, OutcomeStatus, RailOutcome, raw_digest

__all__ = ["CALL_RULES"]

S = OutcomeStatus
SUBMITTED: Final[dict[Word, tuple[OutcomeStatus, ...]]] = {
    "pending": (S.PENDING,),
    "succeeded": (S.SUCCEEDED,),
    "declined": (S.DECLINED,),
    "refused": (S.NOT_ACCEPTED,),
}
POLLED: Final[dict[Word, tuple[OutcomeStatus, ...]]] = {
    "pending": (S.PENDING,),
    "succeeded": (S.SUCCEEDED,),
    "declined": (S.DECLINED,),
    "refused": (S.NOT_ACCEPTED, S.DECLINED),
    "not_found": (S.NOT_FOUND,),
}
MINORS: Final = (1, 9, 10, 99, 100, 101, 125_050, 2**53 + 1, 2**63 - 1)
MISSPELT: Final = ("", "12,50", "1e3", "-5", "NaN", "0x10", " 5", "5 ", "1.2.3", "9" * 40, "١٢")
TIMEOUT_SECONDS: Final = 0.2
CROWD_SECONDS: Final = 0.1  # a third call of the same loop is here within a millisecond


async def words(ground: Ground) -> None:
    """Every word that the partner has, in either place."""
    for word, wanted in SUBMITTED.items():
        reply = ground.specimen.submitted(Said(word))
        if reply is not None:
            _stated(ground, await ground.submit(reply), reply, wanted, "direct", f"a submit answered {word}")
    for word, wanted in POLLED.items():
        reply = ground.specimen.polled(Said(word))
        if reply is not None:
            _stated(ground, await ground.poll(reply), reply, wanted, "polled", f"a poll answered {word}")


async def vocabulary(ground: Ground) -> None:
    """What a partner must be able to say at all."""
    taken = ground.specimen.submitted(Said("pending")) or ground.specimen.submitted(Said("succeeded"))
    expect(taken is not None, "a submit can be answered neither pending nor succeeded")
    for word in ("succeeded", "declined", "not_found"):
        expect(ground.specimen.polled(Said(word)) is not None, f"a poll cannot be answered {word}")


async def nonsense(ground: Ground) -> None:
    """A status that the manual does not have."""
    for ask, reply in (
        (ground.submit, ground.specimen.submitted(Said("nonsense"))),
        (ground.poll, ground.specimen.polled(Said("nonsense"))),
    ):
        if reply is not None:
            outcome = await ask(reply)
            expect(outcome.status is S.UNKNOWN, f"a status that nobody knows became {outcome.status}")


async def amounts(ground: Ground) -> None:
    """What is sent is what was asked, and what is read is what was written, to the last minor unit."""
    currencies = ground.specimen.currencies if ground.specimen.names_currency else ground.specimen.currencies[:1]
    for currency in currencies:
        for minor in MINORS:
            said = Said("succeeded", minor=minor, currency=currency)
            outcome = await ground.submit(taken(ground, said), minor=minor, currency=currency)
            sent = ground.partner.asked[-1]
            expect((sent.minor, sent.currency) == (minor, currency), f"{minor} {currency} was sent as {sent}")
            if ground.specimen.names_amounts:
                read = outcome.minor, outcome.currency
                expect(read == (minor, currency), f"{minor} {currency} was read as {read}")


async def other_amounts(ground: Ground) -> None:
    """An amount or a currency that is not ours is for the machine to judge."""
    if not ground.specimen.names_amounts:
        return
    others = [Said("succeeded", minor=125_051)]
    if ground.specimen.names_currency:
        others.append(Said("succeeded", currency=ground.specimen.currencies[-1]))
    for said in others:
        outcome = await ground.poll(known(ground, said))
        read = outcome.status, outcome.minor, outcome.currency
        expect(read == (S.SUCCEEDED, said.minor, said.currency), f"{said} was read as {read}")


async def misspelt(ground: Ground) -> None:
    """Nobody has said what was paid."""
    if not ground.specimen.names_amounts:
        return
    for text in MISSPELT:
        outcome = await ground.poll(known(ground, Said("succeeded", misspelt=text)))
        expect(outcome.status is S.UNKNOWN, f"a success over {text!r} became {outcome.status}")


async def references(ground: Ground) -> None:
    """The reference is how a payment is found again."""
    await ground.submit(taken(ground, Said("succeeded")))
    await ground.poll(known(ground, Said("succeeded")))
    sent = [(one.what, one.reference) for one in ground.partner.asked]
    expect(sent == [("submit", REFERENCE), ("poll", REFERENCE)], f"{REFERENCE} was sent as {sent}")


async def silence(ground: Ground) -> None:
    """Nobody knows whether the partner has it."""
    rail = ground.remade(submit_timeout_seconds=TIMEOUT_SECONDS)
    ground.partner.reply = lambda asked: Fault.SILENCE
    begun = time.monotonic()
    try:
        outcomes = [await rail.submit(submission(ground.settings)), await rail.poll(REFERENCE)]
    finally:
        await rail.aclose()
    took = time.monotonic() - begun
    expect({one.status for one in outcomes} == {S.UNKNOWN}, f"silence became {[str(one.status) for one in outcomes]}")
    expect(took < 2 * TIMEOUT_SECONDS + 2.0, f"two calls with {TIMEOUT_SECONDS} s each took {took:.1f} s")


async def broken_off(ground: Ground) -> None:
    """A connection that ends says nothing of the payment."""
    for fault in (Fault.DROPPED, Fault.CUT, Fault.NOT_HTTP):
        for outcome in (await ground.submit(fault), await ground.poll(fault)):
            expect(outcome.status is S.UNKNOWN, f"a connection that was {fault.name} became {outcome.status}")


async def server_errors(ground: Ground) -> None:
    """A 5xx may follow the taking, whatever its body says."""
    for status in (500, 502, 503, 504, 599):
        for body in _server_bodies(ground):
            answer = Reply(status, body)
            for outcome in (await ground.submit(answer), await ground.poll(answer)):
                expect(outcome.status is S.UNKNOWN, f"{status} with {body[:40]!r} became {outcome.status}")


async def unreadable(ground: Ground) -> None:
    """Proxies, firewalls and half deployed servers answer too."""
    half = known(ground, Said("succeeded")).body
    for status in (200, 201, 202, 204, 400, 403, 404, 409, 422, 429):
        for body in (*UNREADABLE, half[: len(half) // 2]):
            answer = Reply(status, b"" if status == 204 else body)
            for outcome in (await ground.submit(answer), await ground.poll(answer)):
                expect(outcome.status is S.UNKNOWN, f"{status} with {body[:40]!r} became {outcome.status}")


async def redirects(ground: Ground) -> None:
    """Money is not sent where an answer points."""
    location = (("location", f"{ground.partner.base_url}/elsewhere"),)
    for status in (301, 302, 307, 308):
        body = taken(ground, Said("succeeded")).body
        for outcome in (
            await ground.submit(Reply(status, body, location)),
            await ground.poll(Reply(status, b"", location)),
        ):
            expect(outcome.status is S.UNKNOWN, f"a redirect became {outcome.status}")
    expect(len(ground.partner.asked) == 8, "a redirect was followed")


async def nobody_there(ground: Ground) -> None:
    """Where no connection was made, not one byte was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    rail = ground.remade(base_url=f"http://127.0.0.1:{port}")
    try:
        submitted, polled = await rail.submit(submission(ground.settings)), await rail.poll(REFERENCE)
    finally:
        await rail.aclose()
    expect(submitted.status is S.NOT_ACCEPTED, f"a submit that reached nobody became {submitted.status}")
    expect(polled.status is S.UNKNOWN, f"a poll that reached nobody became {polled.status}")


async def once(ground: Ground) -> None:
    """Whether to ask again is the machine's decision."""
    answers: tuple[Reply | Fault, ...] = (Fault.DROPPED, Fault.CUT, Reply(500, b""), Reply(503, b""), Reply(429, b""))
    for number, answer in enumerate(answers, start=1):
        await ground.poll(known(ground, Said("succeeded")))  # so that the submit goes over a connection that was kept
        await ground.submit(answer)
        sent = sum(one.what == "submit" for one in ground.partner.asked)
        expect(sent == number, f"one submit that met {answer} was sent {sent - number + 1} times")


async def scenarios(ground: Ground) -> None:
    """What a sandbox shall play is nobody else's business."""
    rail = ground.remade(options={name: one for name, one in ground.settings.options.items() if name != "simulator"})
    ground.partner.reply = lambda asked: Reply(500, b"")
    await rail.submit(submission(ground.settings, scenario="contradictory-scenario"))
    await rail.aclose()
    sent = ground.partner.requests[-1]
    told = "contradictory-scenario" in f"{sent.path} {sent.headers} {sent.body!r}"
    expect(told is ground.specimen.plays_scenarios, "the scenario was sent" if told else "the scenario was not sent")


async def turns(ground: Ground) -> None:
    """A partner that allows so many calls at once gets no more."""
    rail = ground.remade(concurrency_max=2)
    ground.partner.reply = lambda asked: Reply(500, b"")
    ground.partner.hold()
    calls = [asyncio.ensure_future(rail.submit(submission(ground.settings))) for _ in range(6)]
    await ground.partner.wait_asked(2)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ground.partner.wait_asked(3), CROWD_SECONDS)
    ground.partner.release()
    await asyncio.gather(*calls)
    await rail.aclose()
    most = ground.partner.together_max
    expect(most <= 2, f"{most} calls at once, where 2 are allowed")


async def traces(ground: Ground) -> None:
    """The partner's logs can be joined with ours."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    ground.partner.reply = lambda asked: Reply(500, b"")
    await ground.rail.submit(submission(ground.settings, trace=trace, sequence=3))
    await ground.rail.poll(REFERENCE, Cause(trace, "", 4))
    for request in ground.partner.requests:
        expect(trace in request.headers.get("traceparent", ""), f"a {request.method} has no traceparent of the trace")


async def closing(ground: Ground) -> None:
    """Rails are closed by whoever comes first."""
    await ground.submit(taken(ground, Said("succeeded")))
    await ground.rail.aclose()
    await ground.rail.aclose()


def _server_bodies(ground: Ground) -> Iterator[bytes]:
    yield b""
    yield b"<html>"
    for word in ("succeeded", "declined", "pending", "not_found"):
        for reply in (ground.specimen.submitted(Said(word)), ground.specimen.polled(Said(word))):
            if reply is not None:
                yield reply.body


def _stated(
    ground: Ground, outcome: RailOutcome, reply: Reply, wanted: tuple[OutcomeStatus, ...], trust: str, where: str
) -> None:
    expect(outcome.status in wanted, f"{where} became {outcome.status}")
    whose = outcome.rail, outcome.reference, outcome.trust
    expect(whose == (ground.settings.name, REFERENCE, trust), f"{where} is said of {whose}")
    expect(outcome.event_id is None, f"{where} has the id of a callback's event")
    expect(outcome.raw_digest == raw_digest(reply.body), f"{where} has not the digest of the bytes it was read from")
    if outcome.status is S.SUCCEEDED and ground.specimen.names_amounts:
        read = outcome.minor, outcome.currency
        expect(read == (125_050, "NGN"), f"{where} names {read}")


CALL_RULES: Final = tuple(
    Rule(run.__name__, source, says, "calls_out", run)
    for run, source, says in (
        (vocabulary, "DOMAIN 5", "a submit can be taken; a poll can find success, decline and nothing"),
        (words, "DOMAIN 5", "each word of the partner is the one status that it means, with its trust and digest"),
        (nonsense, "DOMAIN 10 N", "a status that is not in the table is unknown"),
        (amounts, "DOMAIN 2", "amounts cross the border exactly, in every number of minor digits, up to 2**63 - 1"),
        (other_amounts, "E2.12", "an amount or currency that differs from ours is reported as it was said"),
        (misspelt, "E2.12", "a success whose amount cannot be read is unknown"),
        (references, "DOMAIN 5", "our reference reaches the partner unchanged, in the submit and in the poll"),
        (silence, "DOMAIN 5", "no answer within the time-out is unknown, and the time-out is kept"),
        (broken_off, "DOMAIN 5", "a connection that breaks after the request is unknown"),
        (server_errors, "DOMAIN 5", "a 5xx is unknown, whatever its body says of success"),
        (unreadable, "DOMAIN 5", "an answer that is not in the partner's words is unknown, also where it is a 404"),
        (redirects, "E2.8", "a redirect is not followed and is unknown"),
        (nobody_there, "DOMAIN 5", "a submit that could not connect is not accepted, a poll is unknown"),
        (once, "DOMAIN 10 O", "one submit is one request; nothing is sent again behind the machine's back"),
        (scenarios, "DOMAIN 5", "what a sandbox shall play is sent to sandboxes only"),
        (turns, "DOMAIN 5", "no more calls at once than `concurrency_max`"),
        (traces, "DOMAIN 1", "submits and polls carry the trace of the record that they follow from"),
        (closing, "port", "closing twice does no harm"),
    )
)  # fmt: skip
