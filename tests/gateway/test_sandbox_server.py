"""What only the sandbox server over HTTP can show: routes, control, retries, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec
import pytest

from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.rail_sandbox import SandboxRail, sign_callback, verify_sandbox_callback
from zentra.gateway.sandbox.scenarios import Order, PaymentBook, RailProfile, ReplyKind, Timings
from zentra.gateway.sandbox.server import SandboxServer
from zentra.runtime.rails.port import CallbackRejected, OutcomeStatus, RailSettings, Submission

SECRET = "rail-secret"
AT = 1_800_000_000


def order(reference: str = "ref-1", scenario: str | None = None, callback_url: str = "http://127.0.0.1:9/") -> Order:
    return Order(reference, "125000", "NGN", "0123456789", callback_url, scenario)


class Gateway:
    """Receives callbacks; the first `refusals` of them are refused."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.arrived.put_nowait(await read_body(receive, 65536) or b"")
        self.refusals -= 1
        await answer(send, 503 if self.refusals >= 0 else 200, b"{}")


class Sandbox(NamedTuple):
    server: SandboxServer
    http: OutwardHttp
    url: str
    gateway: Gateway
    gateway_url: str

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        reply = await self.http.request(method, self.url + path, body=raw)
        return reply.status, msgspec.json.decode(reply.body)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    server = SandboxServer(
        {
            "alpha": RailProfile(SECRET, timings=Timings(hang_seconds=0.05)),
            "beta": RailProfile(SECRET, scenario="silent", idempotent=False, not_found_seconds=3600.0),
        }
    )
    gateway = Gateway()
    async with AsyncExitStack() as stack:
        gateway_url = await stack.enter_async_context(listening(gateway))
        url = await stack.enter_async_context(listening(server))
        http = OutwardHttp(AddressPolicy(allow_private=True))
        stack.push_async_callback(http.aclose)
        yield Sandbox(server, http, url, gateway, gateway_url)


# fmt: off
ROUTES = [
    ("GET",    "/",                             None,                      404, "no_such_route"),
    ("GET",    "/rails/nobody/control",         None,                      404, "no_such_route"),
    ("DELETE", "/rails/alpha/payments",         None,                      404, "no_such_route"),
    ("GET",    "/rails/alpha/payments/ref-1",   None,                      404, "not_found"),
    ("POST",   "/rails/alpha/payments",         b"{",                      400, "malformed"),
    ("POST",   "/rails/alpha/payments",         b"\xff",                   400, "malformed"),
    ("POST",   "/rails/alpha/payments",         b" " * 70_000,             400, "malformed"),
    ("POST",   "/rails/alpha/payments",         order(scenario="unheard"), 400, "malformed"),
    ("POST",   "/rails/alpha/payments",         order(reference=""),       400, "malformed"),
    ("POST",   "/rails/alpha/payments",         order(scenario="silent"),  202, "pending"),
    ("POST",   "/rails/alpha/payments",         order(scenario="reject"),  200, "rejected"),
    ("POST",   "/rails/alpha/payments",         order(scenario="never_answers"), 504, "timeout"),
    ("PUT",    "/rails/alpha/control",          {"avaliable": False},      400, "malformed"),
    ("PUT",    "/rails/alpha/control",          {"scenario": "unheard"},   400, "no_such_scenario"),
]
# fmt: on


@pytest.mark.parametrize(("method", "path", "body", "status", "word"), ROUTES)
async def test_a_request_meets_its_answer(
    sandbox: Sandbox, method: str, path: str, body: object, status: int, word: str
) -> None:
    got_status, got = await sandbox.ask(method, path, body)
    assert (got_status, got["status"]) == (status, word)


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", "", "99999999999999999999"])
async def test_an_amount_that_is_no_positive_minor_unit_is_not_accepted(sandbox: Sandbox, amount: str) -> None:
    status, got = await sandbox.ask("POST", "/rails/alpha/payments", msgspec.structs.replace(order(), amount=amount))
    assert (status, got) == (400, {"status": "malformed", "accepted": False})


async def test_control_closes_one_rail_and_opens_it_again(sandbox: Sandbox) -> None:
    await sandbox.ask("PUT", "/rails/alpha/control", {"available": False, "scenario": "silent"})
    assert await sandbox.ask("POST", "/rails/alpha/payments", order()) == (
        503,
        {"status": "unavailable", "accepted": False},
    )
    assert (await sandbox.ask("POST", "/rails/beta/payments", order()))[0] == 202
    await sandbox.ask("PUT", "/rails/alpha/control", {"available": True})
    assert (await sandbox.ask("POST", "/rails/alpha/payments", order()))[0] == 202
    _, totals = await sandbox.ask("GET", "/rails/alpha/control")
    assert (totals["available"], totals["scenario"], totals["payments"], totals["submits"]) == (True, "silent", 1, 1)


async def test_a_lookup_counts_submits_and_payouts(sandbox: Sandbox) -> None:
    for _ in range(3):
        await sandbox.ask("POST", "/rails/alpha/payments", order(callback_url=sandbox.gateway_url))
    await sandbox.gateway.arrived.get()
    status, got = await sandbox.ask("GET", "/rails/alpha/payments/ref-1")
    assert (status, got["submits"], got["paid"], got["amount"], got["status"]) == (200, 3, 1, "125000", "succeeded")


async def test_a_rail_whose_lookups_lie_denies_what_it_took(sandbox: Sandbox) -> None:
    await sandbox.ask("POST", "/rails/beta/payments", order())
    assert (await sandbox.ask("GET", "/rails/beta/payments/ref-1"))[0] == 404


async def test_a_refused_callback_comes_again_with_the_same_bytes(sandbox: Sandbox) -> None:
    sandbox.gateway.refusals = 1
    await sandbox.ask("POST", "/rails/alpha/payments", order(callback_url=sandbox.gateway_url))
    first, second = await sandbox.gateway.arrived.get(), await sandbox.gateway.arrived.get()
    assert first == second
    assert msgspec.json.decode(first)["status"] == "succeeded"


async def test_a_callback_to_nobody_harms_no_other(sandbox: Sandbox) -> None:
    for reference, url in (
        ("ref-1", "no url at all"),
        ("ref-2", "http://127.0.0.1:9/"),
        ("ref-3", sandbox.gateway_url),
    ):
        status, _ = await sandbox.ask("POST", "/rails/alpha/payments", order(reference, callback_url=url))
        assert status == 202
    assert msgspec.json.decode(await sandbox.gateway.arrived.get())["reference"] == "ref-3"


def test_a_rail_without_idempotent_references_pays_twice_when_asked_twice() -> None:
    book = PaymentBook("beta", RailProfile(SECRET, idempotent=False))
    for _ in range(2):
        reply = book.submit(order(), AT)
    assert reply.payment is not None
    assert (reply.payment.paid(AT), reply.payment.paid(AT + 1)) == (0, 2)


def test_a_full_book_drops_the_oldest_finished_payment_and_never_an_open_one() -> None:
    book = PaymentBook("alpha", RailProfile(SECRET), payments_max=2)
    open_one, done = book.submit(order("open"), AT).payment, book.submit(order("done"), AT).payment
    assert open_one is not None
    assert done is not None
    assert book.submit(order("third"), AT).kind is ReplyKind.UNAVAILABLE
    book.finish(done)
    assert book.submit(order("third"), AT).kind is ReplyKind.TAKEN
    assert (book.look_up("done", AT), book.look_up("open", AT)) == (None, open_one)


def test_a_scenario_that_does_not_exist_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="no scenario 'unheard'"):
        SandboxServer({"alpha": RailProfile(SECRET, scenario="unheard")})


FAR = "timestamp_out_of_tolerance"

# fmt: off
BODY = b'{"event_id":"e","reference":"r","provider_reference":"p","status":"succeeded","amount":"5","currency":"NGN",' \
       b'"occurred_at":"2026-04-01T00:00:00Z"}'
CALLBACKS = [
    # body                                      timestamp     signed with  signature kept  answer
    (BODY,                                      f"{AT}",      SECRET,      True,           "succeeded"),
    (BODY,                                      f"{AT - 300}", SECRET,     True,           "succeeded"),
    (BODY.replace(b"succeeded", b"odd"),        f"{AT}",      SECRET,      True,           "unknown"),
    (BODY,                                      f"{AT}",      SECRET,      False,          "signature_missing"),
    (BODY,                                      "",           SECRET,      True,           "signature_missing"),
    (BODY,                                      f"{AT}",      "other",     True,           "signature_invalid"),
    (BODY,                                      "yesterday",  SECRET,      True,           "signature_invalid"),
    (BODY,                                      "9" * 5000,   SECRET,      True,           "signature_invalid"),
    (BODY,                                      f"{AT - 301}", SECRET,     True,           FAR),
    (BODY,                                      f"{AT + 301}", SECRET,     True,           FAR),
    (b"{",                                      f"{AT}",      SECRET,      True,           "body_malformed"),
    (BODY.replace(b"NGN", b"\xff"),             f"{AT}",      SECRET,      True,           "body_malformed"),
    (BODY.replace(b'"5"', b"5"),                f"{AT}",      SECRET,      True,           "body_malformed"),
    (BODY.replace(b'"5"', b'"5.0"'),            f"{AT}",      SECRET,      True,           "body_malformed"),
    (BODY.replace(b'"e"', b'""'),               f"{AT}",      SECRET,      True,           "body_malformed"),
    (BODY.replace(b'"r"', b'""'),               f"{AT}",      SECRET,      True,           "body_malformed"),
]
# fmt: on


@pytest.mark.parametrize(("body", "timestamp", "secret", "kept", "expected"), CALLBACKS)
def test_a_callback_is_believed_only_when_it_is_signed_near_and_readable(
    body: bytes, timestamp: str, secret: str, kept: bool, expected: str
) -> None:
    headers = {"x-sandbox-timestamp": timestamp}
    if kept:
        headers["x-sandbox-signature"] = sign_callback(secret, timestamp, body)
    try:
        answered: str = verify_sandbox_callback("alpha", SECRET, body, headers, AT).status
    except CallbackRejected as refused:
        answered = refused.reason
    assert answered == expected


def test_a_rail_without_a_secret_believes_nobody() -> None:
    headers = {"x-sandbox-timestamp": f"{AT}", "x-sandbox-signature": sign_callback("", f"{AT}", BODY)}
    with pytest.raises(CallbackRejected, match="signature_invalid"):
        verify_sandbox_callback("alpha", "", BODY, headers, AT)


S = OutcomeStatus

PAID = b'{"status":"succeeded","reference":"ref-1","amount":"5","currency":"NGN"}'
# fmt: off
ANSWERS = [
    # http, body                                                     submit           poll
    (200, PAID,                                                      S.SUCCEEDED,     S.SUCCEEDED),
    (200, b'{"status":"succeeded","reference":"ref-1"}',             S.UNKNOWN,       S.UNKNOWN),
    (200, b'{"status":"odd","reference":"ref-1"}',                   S.UNKNOWN,       S.UNKNOWN),
    (200, b'{"status":"succeeded","reference":"ref-2"}',             S.UNKNOWN,       S.UNKNOWN),
    (200, b'',                                                       S.UNKNOWN,       S.UNKNOWN),
    (200, b'<html>',                                                 S.UNKNOWN,       S.UNKNOWN),
    (302, b'{"status":"succeeded","reference":"ref-1"}',             S.UNKNOWN,       S.UNKNOWN),
    (400, b'{"status":"malformed"}',                                 S.UNKNOWN,       S.UNKNOWN),
    (400, b'{"status":"malformed","accepted":false}',                S.NOT_ACCEPTED,  S.UNKNOWN),
    (404, b'{"status":"not_found"}',                                 S.UNKNOWN,       S.NOT_FOUND),
    (404, b'<html>no such page</html>',                              S.UNKNOWN,       S.UNKNOWN),
    (500, b'{"status":"declined","reference":"ref-1"}',              S.UNKNOWN,       S.UNKNOWN),
    (503, b'{"status":"unavailable"}',                               S.UNKNOWN,       S.UNKNOWN),
    (503, b'{"status":"unavailable","accepted":false}',              S.NOT_ACCEPTED,  S.UNKNOWN),
]
# fmt: on


@pytest.mark.parametrize(("status", "body", "submitted", "polled"), ANSWERS)
async def test_only_the_rails_own_word_is_more_than_unknown(
    status: int, body: bytes, submitted: OutcomeStatus, polled: OutcomeStatus
) -> None:
    async def canned(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        await answer(send, status, body)

    async with listening(canned) as url:
        rail = SandboxRail(RailSettings(name="alpha", kind="sandbox", base_url=url))
        asked = await rail.submit(Submission("acme", "alpha", "ref-1", 5, "NGN", "0123456789"))
        found = await rail.poll("ref-1")
        await rail.aclose()
    assert (asked.status, found.status) == (submitted, polled)


@pytest.mark.parametrize(
    ("url", "submitted", "reason"),
    [
        ("http://127.0.0.1:1", OutcomeStatus.NOT_ACCEPTED, "connect_failed"),
        ("http://169.254.169.254", OutcomeStatus.NOT_ACCEPTED, "address_refused"),
    ],
)
async def test_a_rail_that_was_never_reached_accepted_nothing(url: str, submitted: OutcomeStatus, reason: str) -> None:
    rail = SandboxRail(RailSettings(name="alpha", kind="sandbox", base_url=url))
    asked = await rail.submit(Submission("acme", "alpha", "ref-1", 5, "NGN", "0123456789"))
    found = await rail.poll("ref-1")
    await rail.aclose()
    assert (asked.status, asked.reason) == (submitted, reason)
    assert found.status is OutcomeStatus.UNKNOWN


async def test_a_connection_dropped_after_the_request_is_unknown() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        rail = SandboxRail(RailSettings(name="alpha", kind="sandbox", base_url=f"http://127.0.0.1:{port}"))
        asked = await rail.submit(Submission("acme", "alpha", "ref-1", 5, "NGN", "0123456789"))
        await rail.aclose()
    assert (asked.status, asked.reason) == (OutcomeStatus.UNKNOWN, "connection_dropped")
