"""The banks' tables, code by code, and the tokens of the one that wants them."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from zentra.bench.conformance.suite import Reply, Request
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.http import Answer
from zentra.gateway.outward.rail_gtbank import ERRORS, NO_TOKEN_SECONDS, SIGNATURE_HEADER, WORDS, GtbankRail, Token
from zentra.gateway.outward.rail_http import Unanswered
from zentra.gateway.outward.rail_providus import CODES, ProvidusRail
from zentra.runtime.rails.health import is_bad
from zentra.runtime.rails.port import CallbackUnreadable, OutcomeStatus, RailOutcome, RailSettings, Submission

S = OutcomeStatus
REFERENCE = "ref-1"
ASKED = Submission("acme", "bank", REFERENCE, 125_050, "NGN", "0123456789")


def told(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, {}, json.dumps(body).encode(), False)


def both(rail: ProvidusRail | GtbankRail, given: Answer) -> tuple[OutcomeStatus, OutcomeStatus]:
    return rail.read_submit(given, ASKED).status, rail.read_poll(given, REFERENCE).status


def providus() -> ProvidusRail:
    return ProvidusRail(RailSettings("bank", "providus", "http://127.0.0.1:9", "s", options={"client_id": "zentra"}))


def gtbank(url: str = "http://127.0.0.1:9") -> GtbankRail:
    return GtbankRail(
        RailSettings("bank", "gtbank", url, "s", options={"client_id": "c"}, secrets={"client_secret": "s"})
    )


def statement(code: str, **changes: Any) -> dict[str, Any]:
    usual = {"transactionReference": REFERENCE, "transactionAmount": "1250.50", "currencyCode": "NGN"}
    return {"responseCode": code} | usual | changes


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_response_code_is_what_its_row_says_and_nothing_with_a_server_error(code: str) -> None:
    assert both(providus(), told(200, statement(code))) == CODES[code]
    assert both(providus(), told(500, statement(code))) == (S.UNKNOWN, S.UNKNOWN)
    assert both(providus(), told(200, statement(code, transactionReference="ref-2"))) == (S.UNKNOWN, S.UNKNOWN)


@pytest.mark.parametrize("code", sorted(CODES))
def test_without_our_reference_or_with_an_error_status_only_a_refusal_is_believed(code: str) -> None:
    believed = tuple(one if one in (S.NOT_ACCEPTED, S.NOT_FOUND) else S.UNKNOWN for one in CODES[code])
    assert both(providus(), told(200, statement(code, transactionReference=None))) == believed
    assert both(providus(), told(400, statement(code))) == (believed[0], S.UNKNOWN)


def test_no_code_lets_a_poll_allow_another_rail() -> None:
    assert S.NOT_ACCEPTED not in {polled for _, polled in CODES.values()}
    assert S.NOT_FOUND not in {submitted for submitted, _ in CODES.values()}


@pytest.mark.parametrize("code", sorted(ERRORS))
@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429, 500, 503, 200, 302])
def test_an_error_code_counts_with_a_client_error_alone(code: str, status: int) -> None:
    expected = ERRORS[code] if 400 <= status < 500 else (S.UNKNOWN, S.UNKNOWN)
    if status != 404:
        expected = expected[0], S.UNKNOWN
    assert both(gtbank(), told(status, {"code": code})) == expected


@pytest.mark.parametrize(
    ("said", "reference"),
    [
        ({"eventId": "E1", "data": {"reference": REFERENCE, "amount": 1250.5, "status": "COMPLETED"}}, REFERENCE),
        ({"eventId": "E1", "data": {"reference": REFERENCE, "transactionId": 77, "status": "COMPLETED"}}, REFERENCE),
        ({"eventId": 77, "data": {"reference": REFERENCE, "status": "COMPLETED"}}, REFERENCE),
        ({"eventId": "", "data": {"reference": REFERENCE, "status": "COMPLETED"}}, REFERENCE),
        ({"eventId": "E1", "data": {"reference": 5}}, None),
        ({"eventId": "E1", "transfer": {"reference": REFERENCE}}, None),
        (["E1"], None),
    ],
)
def test_of_a_signed_callback_in_other_words_the_reference_is_made_out(said: Any, reference: str | None) -> None:
    raw = json.dumps(said).encode()
    proof = {SIGNATURE_HEADER: hmac.digest(b"s", raw, "sha512").hex()}
    with pytest.raises(CallbackUnreadable) as unreadable:
        gtbank().verify_callback(raw, proof, 0.0)
    assert unreadable.value.reference == reference


@pytest.mark.parametrize("changes", [{"transactionAmount": 1250.5}, {"settlementId": 7}, {"settlementId": None}])
def test_of_a_callback_with_the_secret_in_other_words_the_reference_is_made_out(changes: dict[str, Any]) -> None:
    rail, said = providus(), {**statement("00", settlementId="S1"), **changes}
    with pytest.raises(CallbackUnreadable) as unreadable:
        rail.verify_callback(json.dumps(said).encode(), {"x-auth-signature": rail.signature}, 0.0)
    assert unreadable.value.reference == REFERENCE


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_word_of_a_transfer_is_what_its_row_says(word: str) -> None:
    body = {"reference": REFERENCE, "amount": "1250.50", "currency": "NGN", "status": word, "transactionId": "t-1"}
    assert both(gtbank(), told(202, body)) == (WORDS[word], WORDS[word])
    assert both(gtbank(), told(200, body | {"amount": 1250.5})) == (S.UNKNOWN, S.UNKNOWN)


class Bank:
    """Grants what the test says, and writes down what it is asked."""

    def __init__(self, granted: Reply) -> None:
        self.granted = granted
        self.asked: list[Request] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.asked.append(Request(scope["method"], scope["path"], headers, await read_body(receive, 65536) or b""))
        token = scope["path"] == "/oauth/token"
        await answer(send, *((self.granted.status, self.granted.body) if token else (404, b'{"code":"ODD"}')))


@asynccontextmanager
async def asked_of(bank: Bank) -> AsyncIterator[tuple[RailOutcome, RailOutcome]]:
    async with listening(bank) as url:
        rail = gtbank(url)
        yield await rail.submit(ASKED), await rail.poll(REFERENCE)
        await rail.aclose()


GOOD = {"access_token": "token-1", "token_type": "Bearer", "expires_in": 300}


@pytest.mark.parametrize(
    "granted",
    [
        Reply(401, b'{"code":"INVALID_CLIENT"}'),
        Reply(500, b""),
        Reply(500, json.dumps(GOOD).encode()),
        Reply(200, b"<html>"),
        Reply(200, json.dumps(GOOD | {"expires_in": 0}).encode()),
        Reply(200, json.dumps(GOOD | {"expires_in": "soon"}).encode()),
        Reply(200, json.dumps(GOOD | {"access_token": ""}).encode()),
        Reply(200, json.dumps(GOOD | {"access_token": "a\r\nx-other: b"}).encode()),
        Reply(200, json.dumps(GOOD | {"access_token": "a b"}).encode()),
        Reply(200, json.dumps(GOOD | {"access_token": "é"}).encode()),
    ],
)
async def test_without_a_token_nothing_of_a_payment_is_sent(granted: Reply) -> None:
    bank = Bank(granted)
    async with asked_of(bank) as (submitted, polled):
        assert (submitted.status, polled.status) == (S.NOT_ACCEPTED, S.UNKNOWN)
        assert (submitted.reason, polled.reason) == ("token_refused", "token_refused")
    assert {request.path for request in bank.asked} == {"/oauth/token"}


async def test_a_token_is_asked_for_with_the_clients_credentials_and_sent_as_a_bearer() -> None:
    bank = Bank(Reply(200, json.dumps(GOOD).encode()))
    async with asked_of(bank):
        pass
    token, *calls = bank.asked
    assert token.body == b"grant_type=client_credentials&client_id=c&client_secret=s"
    assert "authorization" not in token.headers
    assert [(call.path, call.headers["authorization"]) for call in calls] == [
        ("/v1/transfers", "Bearer token-1"), (f"/v1/transfers/{REFERENCE}", "Bearer token-1"),
    ]  # fmt: skip


class TokenDoor(GtbankRail):
    """A client of a bank whose token door hangs, by a clock of its own."""

    def __init__(self) -> None:
        super().__init__(gtbank().settings)
        self.now = 0.0
        self.fetched = 0

    def clock(self) -> float:
        return self.now

    async def _fetch(self) -> Token | Unanswered:
        self.fetched += 1
        await asyncio.sleep(0)
        self.now += 0.3
        return Unanswered("token_timeout", sent=False)


async def test_a_failed_fetch_of_a_token_answers_all_who_waited_and_speaks_against_the_rail() -> None:
    rail = TokenDoor()
    told = await asyncio.gather(*(rail.submit(ASKED) for _ in range(10)))
    assert {(outcome.status, outcome.reason, is_bad(outcome)) for outcome in told} == {
        (S.NOT_ACCEPTED, "token_timeout", True)
    }
    assert rail.fetched == 1
    await rail.poll(REFERENCE)
    assert rail.fetched == 1, "it was a moment ago"
    rail.now += NO_TOKEN_SECONDS
    await rail.submit(ASKED)
    assert rail.fetched == 2
