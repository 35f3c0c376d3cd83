"""Every rule of the conformance suite finds an adapter that does not keep it: one planted fault per rule, at least."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from tests.contracts.rail_specimens import Gtbank, Inline, Providus, Sandbox
from zentra.bench.conformance.suite import RULES, Asked, Broken, Reply, Request, Said, Specimen, check, rules_for
from zentra.gateway.outward.http import Answer
from zentra.gateway.outward.rail_gtbank import GtbankRail
from zentra.gateway.outward.rail_http import Call, Unanswered
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rail_providus import ProvidusRail
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    Ack,
    CallbackRejected,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Verdict,
)

S = OutcomeStatus


def changed(outcome: RailOutcome, **changes: Any) -> RailOutcome:
    return msgspec.structs.replace(outcome, **changes)


class Trusting(ProvidusRail):
    """It says of a shared secret that it binds the body."""

    declaration = msgspec.structs.replace(ProvidusRail.declaration, callback_trust="body_signed")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return changed(super().verify_callback(raw, headers, now, peer), trust="body_signed")


class Unguarded(ProvidusRail):
    """It compares with whatever it has, nothing included."""

    def require_secret(self, expected: str, shown: str | None) -> None:
        if shown and shown != expected and self.settings.secret:
            super().require_secret(expected, shown)

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return super().verify_callback(raw, headers, now, None)


class Hasty(ProvidusRail):
    """It reads first, and asks for the proof of what it could read."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        if not raw.startswith(b"{"):
            raise self.malformed()
        return super().verify_callback(raw, headers, now, peer)


class Putting(ProvidusRail):
    """Its partner's door is a PUT, which clients of HTTP like to send again."""

    def submit_call(self, submission: Submission) -> Call:
        return super().submit_call(submission)._replace(method="PUT")


class Unconfined(ProvidusRail):
    """It forgets the networks, and asks the partner while it verifies."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        free = msgspec.structs.replace(self.settings, callback_networks=())
        return ProvidusRail(free).verify_callback(raw, headers, now, peer)


class Credulous(GtbankRail):
    """It takes a callback's failure to prove itself for nothing."""

    def require_hmac(self, secret: str, signed: bytes, shown: str | None, digest: str = "sha256") -> None:
        return


class Eager(ProvidusRail):
    """It sends again what failed."""

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        first = await super().exchange(call, headers)
        if isinstance(first, Answer) and first.status < 500:
            return first
        return await super().exchange(call, headers)


class Changing(ProvidusRail):
    """It changes what is asked and what is said, as the test wants."""

    change: Callable[[RailOutcome], RailOutcome] = staticmethod(lambda outcome: outcome)
    order: Callable[[Submission], Submission] = staticmethod(lambda submission: submission)
    callbacks: Callable[[RailOutcome], RailOutcome] = staticmethod(lambda outcome: outcome)

    async def submit(self, submission: Submission) -> RailOutcome:
        return self.change(await super().submit(self.order(submission)))

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        return self.change(await super().poll(reference, cause))

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return self.callbacks(super().verify_callback(raw, headers, now, peer))


def changing(**hooks: Any) -> type[ProvidusRail]:
    return type("Changing", (Changing,), {name: staticmethod(hook) for name, hook in hooks.items()})


def when(found: OutcomeStatus, **changes: Any) -> Callable[[RailOutcome], RailOutcome]:
    return lambda outcome: changed(outcome, **changes) if outcome.status is found else outcome


def small_change_lost(outcome: RailOutcome) -> RailOutcome:
    return changed(outcome, minor=0 if outcome.minor == 1 else outcome.minor)


class Slow(ProvidusRail):
    """It has no time-out of its own."""

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        await asyncio.wait([asyncio.ensure_future(super().exchange(call, headers))], timeout=None)
        return Unanswered("timeout", sent=False)


class Crowding(ProvidusRail):
    """It lets everybody go at once."""

    def __init__(self, settings: RailSettings, *rest: Any) -> None:
        super().__init__(msgspec.structs.replace(settings, concurrency_max=99), *rest)


class Traceless(ProvidusRail):
    """It drops the trace, or sends what the test wants."""

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        return await super().exchange(call, {})


class Talkative(ProvidusRail):
    """It tells the partner what to play, and keeps what the partner repeats."""

    def believed(self, outcome: RailOutcome, answer: Answer, reference: str, trust: Any) -> RailOutcome:
        return outcome

    def submit_call(self, submission: Submission) -> Call:
        call = super().submit_call(submission)
        return call._replace(headers={**call.headers, "x-plays": submission.scenario or "nothing"})

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        return changed(super().read_submit(answer, submission), reason=answer.body.decode("latin-1"))


class Closing(ProvidusRail):
    """It can be closed once."""

    async def aclose(self) -> None:
        if self._http is None:
            raise RuntimeError("closed already")
        await super().aclose()


class Raising(ProvidusRail):
    """It has no plan for what it cannot read."""

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        await super().poll(reference, cause)
        raise ValueError("what is this")


class Following(ProvidusRail):
    """It follows where it is sent."""

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        answer = await super().exchange(call, headers)
        if isinstance(answer, Answer) and answer.status in (301, 302, 307, 308):
            return await super().exchange(call, headers)
        return answer


class Believing(ProvidusRail):
    """It reads the body whatever the status, and every 404 as the partner's word."""

    def believed(self, outcome: RailOutcome, answer: Answer, reference: str, trust: Any) -> RailOutcome:
        return outcome

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        if answer.status == 404:
            return self.outcome(reference, S.NOT_FOUND, "polled")
        return super().read_poll(answer._replace(status=200), reference)


class Quoting(ProvidusRail):
    """It hands on what the partner writes for people, in answers and in callbacks."""

    def believed(self, outcome: RailOutcome, answer: Answer, reference: str, trust: Any) -> RailOutcome:
        return outcome

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        return changed(super().read_poll(answer, reference), reason=remark(answer.body))

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return changed(super().verify_callback(raw, headers, now, peer), reason=remark(raw))


class Keen(ProvidusRail):
    """It takes every refusal for the answer to its submit."""

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        outcome = super().read_submit(answer, submission)
        refused = b'"51"' in answer.body
        return changed(outcome, status=S.NOT_ACCEPTED) if refused else outcome


class Raw(ProvidusRail):
    """It makes its request where nobody catches it."""

    async def submit(self, submission: Submission) -> RailOutcome:
        self.submit_call(submission)
        return await super().submit(submission)


class Unread(Providus):
    """A specimen that cannot read what is sent."""

    def asked(self, request: Request) -> Asked | None:
        raise LookupError("no such field")


class Single(Providus):
    """A partner that names no currency, because its account has one."""

    names_currency = False


class Finding(ProvidusRail):
    """It finds nothing wherever the words stand, and leaves the rest to the shared code."""

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        if b'"25"' in answer.body:
            return self.outcome(reference, S.NOT_FOUND, "polled")
        return super().read_poll(answer, reference)


class Fragile(ProvidusRail):
    """It leaves it to the shared code to survive what it cannot read."""

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        json.loads(answer.body)
        return super().read_poll(answer, reference)


class Deaf(ProvidusRail):
    """It tells the partner the same in every case."""

    def ack(self, verdict: Verdict) -> Ack:
        return super().ack(Verdict.TAKEN)


class Declared(ProvidusRail):
    """It demands what nobody gave it."""

    declaration = Declaration("shared_secret", secrets=("another",))


class Timeless(SandboxRail):
    """It believes a signature of any time."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return super().verify_callback(raw, headers, float(headers.get("x-sandbox-timestamp", "0")), peer)


class Open(InlineRail):
    """It believes everybody."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return RailOutcome("inline", "anything", S.SUCCEEDED)


class Stray(ProvidusRail):
    """It does not look whose payment an answer is about, nor at the amount."""

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        try:
            body = json.loads(answer.body)
            body["transactionReference"] = reference
            body["transactionAmount"] = "1.00"
        except (ValueError, TypeError):
            return super().read_poll(answer, reference)
        return super().read_poll(answer._replace(body=json.dumps(body).encode()), reference)


class Unsaid(Providus):
    """A partner that never finds anything."""

    def polled(self, said: Said) -> Reply | None:
        return None if said.word == "not_found" else super().polled(said)


class Later(ProvidusRail):
    """Its answer depends on the time."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        outcome = super().verify_callback(raw, headers, now, peer)
        return changed(outcome, event_id=f"{now}", provider_reference=peer)


class Verbatim(ProvidusRail):
    """It takes ids over as they are."""

    def stated(self, reference: str, *rest: Any, event_id: str | None = None, **told: Any) -> RailOutcome:
        return changed(super().stated("safe", *rest, event_id=None, **told), reference=reference, event_id=event_id)


class Crashing(ProvidusRail):
    """It lets the decoder's error out."""

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        try:
            return super().verify_callback(raw, headers, now, peer)
        except CallbackRejected as rejected:
            if rejected.reason == "body_malformed":
                return RailOutcome("providus", "nothing", S.UNKNOWN, trust="shared_secret")
            raise


def remark(raw: bytes) -> str | None:
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def one_more(submission: Submission) -> Submission:
    return msgspec.structs.replace(submission, minor=max(1, submission.minor - 1))


def other_reference(submission: Submission) -> Submission:
    return msgspec.structs.replace(submission, reference=submission.reference.upper())


# fmt: off
PLANTS = [
    # rule                      partner     adapter
    ("declared",                Providus,   Declared),
    ("never_raises",            Providus,   Raising),
    ("vocabulary",              Unsaid,     ProvidusRail),
    ("words",                   Providus,   changing(change=when(S.DECLINED, status=S.NOT_ACCEPTED))),
    ("words",                   Providus,   changing(change=when(S.SUCCEEDED, raw_digest=None))),
    ("words",                   Providus,   changing(change=when(S.SUCCEEDED, trust="direct"))),
    ("nonsense",                Providus,   changing(change=when(S.UNKNOWN, status=S.PENDING))),
    ("amounts",                 Providus,   changing(order=one_more)),
    ("amounts",                 Providus,   changing(change=small_change_lost)),
    ("other_amounts",           Providus,   Stray),
    ("misspelt",                Providus,   Stray),
    ("references",              Providus,   changing(order=other_reference)),
    ("other_reference",         Providus,   Stray),
    ("silence",                 Providus,   Slow),
    ("broken_off",              Providus,   changing(change=when(S.UNKNOWN, status=S.NOT_ACCEPTED))),
    ("server_errors",           Providus,   Believing),
    ("unreadable",              Providus,   Believing),
    ("redirects",               Providus,   Following),
    ("nobody_there",            Providus,   changing(change=when(S.NOT_ACCEPTED, status=S.UNKNOWN))),
    ("once",                    Providus,   Eager),
    ("client_errors",           Providus,   Believing),
    ("found_nothing",           Providus,   Finding),
    ("other_reference",         Providus,   Keen),
    ("unsendable",              Providus,   Raw),
    ("unsendable",              Single,     ProvidusRail),
    ("unreadable",              Providus,   Fragile),
    ("secrets",                 Providus,   Talkative),
    ("secrets",                 Providus,   Quoting),
    ("callback_secrets",        Providus,   Quoting),
    ("scenarios",               Providus,   Talkative),
    ("turns",                   Providus,   Crowding),
    ("traces",                  Providus,   Traceless),
    ("closing",                 Providus,   Closing),
    ("callback_told",           Providus,   changing(callbacks=when(S.UNKNOWN, status=S.DECLINED))),
    ("callback_trusted",        Providus,   Trusting),
    ("callback_trusted",        Gtbank,     Credulous),
    ("callback_proved",         Gtbank,     Credulous),
    ("callback_without_secret", Providus,   Unguarded),
    ("callback_events",         Providus,   Later),
    ("callback_events",         Providus,   changing(callbacks=lambda o: changed(o, event_id="always"))),
    ("callback_unreadable",     Providus,   Crashing),
    ("callback_rubbish",        Providus,   Hasty),
    ("callback_misspelt",       Providus,   changing(callbacks=when(S.UNKNOWN, status=S.SUCCEEDED))),
    ("callback_texts",          Providus,   Verbatim),
    ("callback_pure",           Providus,   Later),
    ("callback_timely",         Sandbox,    Timeless),
    ("callback_networks",       Providus,   Unconfined),
    ("callback_answered",       Providus,   Deaf),
    ("callback_nobody",         Inline,     Open),
]
# fmt: on


@pytest.mark.parametrize(("name", "partner", "adapter"), PLANTS)
async def test_a_rule_finds_an_adapter_that_breaks_it(name: str, partner: type[Specimen], adapter: Any) -> None:
    specimen = type("Planted", (partner,), {"make": lambda self, settings: adapter(settings)})()
    (rule,) = [rule for rule in rules_for(specimen) if rule.name == name]
    with pytest.raises((Broken, ValueError, RuntimeError)):
        await check(rule, specimen)


async def test_a_put_is_sent_once_whatever_the_client_of_http_thinks_of_it() -> None:
    (rule,) = [rule for rule in RULES if rule.name == "once"]
    await check(rule, type("Put", (Providus,), {"make": lambda self, settings: Putting(settings)})())


@pytest.mark.parametrize("name", ["words", "turns", "silence", "secrets"])
async def test_a_specimen_that_cannot_read_a_request_is_told_so_in_one_line(name: str) -> None:
    (rule,) = [rule for rule in RULES if rule.name == name]
    with pytest.raises(Broken) as broken:
        await check(rule, Unread())
    assert str(broken.value) == "the specimen cannot read POST /NIPFundTransfer: LookupError: no such field"


def test_no_rule_is_without_a_plant() -> None:
    assert {rule.name for rule in RULES} <= {name for name, _, _ in PLANTS}
