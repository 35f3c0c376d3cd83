"""What `HttpRail` makes of an adapter that believes, repeats or breaks: the outcome is careful all the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from zentra.gateway.outward.http import Answer
from zentra.gateway.outward.rail_http import ADAPTER_FAILED, Call, HttpRail, NotSent, Unanswered, without_secrets
from zentra.runtime.rails.port import Declaration, OutcomeStatus, RailOutcome, RailSettings, Submission

S = OutcomeStatus
REFERENCE = "ref-1"
ASKED = Submission("acme", "open", REFERENCE, 125_050, "NGN", "0123456789")
SETTINGS = RailSettings(
    "open", "open", "http://127.0.0.1:9", "hook-secret-1", secrets={"api_key": "sk_live_12345", "pin": "77"}
)


class Believing(HttpRail):
    """It takes every word for what it says, whatever stands around it."""

    declaration = Declaration("none")
    answer: Answer | Unanswered | Exception = Answer(200, {}, b"{}", False)

    def submit_call(self, submission: Submission) -> Call:
        return Call("POST", "/pay", "/pay", b"{}")

    def poll_call(self, reference: str) -> Call:
        return Call("GET", "/pay", "/pay")

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        return self._read(answer, "direct")

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        return self._read(answer, "polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        return self._read(Answer(200, {}, raw, False), "none")

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        self.note_credentials({**headers, "authorization": "Bearer fresh-token-9"})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _read(self, answer: Answer, trust: Any) -> RailOutcome:
        said = json.loads(answer.body)
        return RailOutcome(
            "open", said.get("reference", REFERENCE), S(said["status"]), 125_050, "NGN", said.get("id"), None,
            said.get("message"), trust,
        )  # fmt: skip


def answering(code: int, cut: bool = False, **body: str) -> Believing:
    rail = Believing(SETTINGS)
    rail.answer = Answer(code, {}, json.dumps(body).encode(), cut)
    return rail


def asked(what: str) -> Callable[[HttpRail], Any]:
    return (lambda rail: rail.submit(ASKED)) if what == "submit" else (lambda rail: rail.poll(REFERENCE))


EVERY = (200, 202, 302, 400, 401, 403, 404, 408, 409, 422, 429, 500, 503)
# fmt: off
BELIEVED = [
    # asked     said              with
    ("submit",  "pending",        (200, 202)),
    ("submit",  "succeeded",      (200, 202)),
    ("submit",  "declined",       (200, 202)),
    ("submit",  "not_accepted",   (200, 202, 400, 401, 403, 404, 408, 409, 422, 429)),
    ("submit",  "not_found",      ()),
    ("submit",  "unknown",        EVERY),
    ("poll",    "pending",        (200, 202)),
    ("poll",    "succeeded",      (200, 202)),
    ("poll",    "declined",       (200, 202)),
    ("poll",    "not_accepted",   (200, 202)),
    ("poll",    "not_found",      (200, 202, 400, 404, 409, 422)),
    ("poll",    "unknown",        EVERY),
]
# fmt: on


@pytest.mark.parametrize("status", EVERY)
@pytest.mark.parametrize(("what", "said", "believed"), BELIEVED)
async def test_a_word_is_believed_with_the_http_status_that_fits_it(
    what: str, said: str, believed: tuple[int, ...], status: int
) -> None:
    outcome = await asked(what)(answering(status, status=said))
    assert outcome.status == (said if status in believed else S.UNKNOWN)
    assert outcome.reference == REFERENCE
    assert outcome.trust == ("direct" if what == "submit" else "polled")


@pytest.mark.parametrize("what", ["submit", "poll"])
@pytest.mark.parametrize("said", ["pending", "succeeded", "declined", "not_accepted", "not_found", "unknown"])
async def test_an_answer_about_another_reference_or_half_an_answer_says_nothing(what: str, said: str) -> None:
    for rail in (answering(200, status=said, reference="ref-2"), answering(200, cut=True, status=said)):
        outcome = await asked(what)(rail)
        assert (outcome.status, outcome.reference) == (S.UNKNOWN, REFERENCE)


SECRETS = ("hook-secret-1", "sk_live_12345", "77", "fresh-token-9", "Bearer fresh-token-9", "SK_LIVE_12345")


@pytest.mark.parametrize("what", ["submit", "poll"])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_no_secret_is_in_what_the_partner_says_to_people(what: str, secret: str, status: int) -> None:
    told = f"the key {secret} is wrong"
    outcome = await asked(what)(answering(status, status="unknown", message=told, id=secret))
    assert secret not in f"{outcome.reason} {outcome.provider_reference}"
    assert outcome.reason == "the key [redacted] is wrong"


def test_a_short_secret_is_found_as_a_word_and_not_inside_of_others() -> None:
    assert without_secrets("response_77 of 1775", ("77",)) == "response_[redacted] of 1775"
    assert without_secrets("nothing here", ("", "77")) == "nothing here"
    assert without_secrets(None, ("77",)) is None


@pytest.mark.parametrize(("place", "secret"), [("reference", SECRETS[0]), ("event_id", SECRETS[1])])
def test_a_callback_does_not_carry_a_secret_in_an_id(place: str, secret: str) -> None:
    rail = Believing(SETTINGS)
    told: dict[str, Any] = {"reference": REFERENCE, "event_id": "evt-1", place: secret}
    if place == "reference":
        with pytest.raises(Exception, match="callback"):
            rail.stated(told["reference"], S.PENDING, "none", b"", minor=1, currency="NGN", event_id=told["event_id"])
        return
    outcome = rail.stated(REFERENCE, S.PENDING, "none", b"", minor=1, currency="NGN", event_id=told["event_id"])
    assert outcome.event_id is None


class Refusing(Believing):
    """It refuses or breaks before anything is sent."""

    error: Exception = KeyError("sk_live_12345")

    def submit_call(self, submission: Submission) -> Call:
        raise self.error

    def poll_call(self, reference: str) -> Call:
        raise self.error


async def test_an_adapter_that_breaks_before_it_asks_has_sent_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rail = Refusing(SETTINGS)
    with caplog.at_level(logging.ERROR):
        submitted, polled = await rail.submit(ASKED), await rail.poll(REFERENCE)
    assert (submitted.status, submitted.reason, submitted.trust) == (S.NOT_ACCEPTED, ADAPTER_FAILED, "direct")
    assert (polled.status, polled.reason, polled.trust) == (S.UNKNOWN, ADAPTER_FAILED, "polled")
    told = [f"{record.message} {record.__dict__}" for record in caplog.records]
    assert len(told) == 2
    assert all("adapter failed" in one and "KeyError" in one and "sk_live_12345" not in one for one in told)


async def test_an_adapter_may_refuse_a_payment_in_its_own_word(caplog: pytest.LogCaptureFixture) -> None:
    rail = Refusing(SETTINGS)
    rail.error = NotSent("currency_unsupported")
    outcome = await rail.submit(ASKED)
    assert (outcome.status, outcome.reason) == (S.NOT_ACCEPTED, "currency_unsupported")
    assert not caplog.records


@pytest.mark.parametrize("what", ["submit", "poll"])
async def test_an_adapter_that_breaks_once_it_asked_knows_nothing(what: str, caplog: pytest.LogCaptureFixture) -> None:
    rail = answering(200)  # without a status the adapter's reading breaks
    read = await asked(what)(rail)
    assert (read.status, read.reason, read.raw_digest is None) == (S.UNKNOWN, ADAPTER_FAILED, False)
    rail.answer = ValueError("what is this")
    sent = await asked(what)(rail)
    assert (sent.status, sent.reason) == (S.UNKNOWN, ADAPTER_FAILED)
    assert [record.message for record in caplog.records] == ["rail adapter failed"] * 2
