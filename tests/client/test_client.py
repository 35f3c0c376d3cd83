"""What the clients promise, on a server that answers from a list; every rule is shown on both of them."""

# A table is read down its columns.
# ruff: noqa: E501

from __future__ import annotations

import email.utils
import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest

from tests.client import servers
from tests.client.servers import ACCEPTED, BASE_URL, KEY, Script, Step, problem, shown
from zentra.client import api as client
from zentra.client import core, errors
from zentra.client.answers import Answer, RateLimit
from zentra.client.errors import APIError

Run = Callable[..., Any]
OK: Step = (202, ACCEPTED, {})
BODY: dict[str, Any] = {"amount": 125_000, "currency": "NGN", "source": "customer-1", "destination": "merchant-1"}
DONE = {"command": "1" * 32, "status": "done", "kind": "reverse", "intent_id": "order-1", "intent": "0" * 32,
        "outcome": "done", "detail": {"reversed": "1"}, "links": {"self": "/c", "subject": "/s"}}  # fmt: skip
ACCOUNT = {"account_id": "a", "owner": "o", "type": "customer", "currency": "NGN", "status": "open", "created_by": "d",
           "links": {"self": "/accounts/a"}}  # fmt: skip
ENTRY = {"entry_id": "0/1", "intent": "0" * 32, "ordinal": 1, "at": "2026-11-21T02:41:59Z", "posting": "book",
         "side": "debit", "other": "b", "currency": "NGN", "pending": "0", "posted": "5", "hash": "00"}  # fmt: skip
PAGE = {"data": [ENTRY]}


@pytest.fixture(params=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Run:
    """One of the two clients."""
    chosen: Run = getattr(servers, request.param)
    return chosen


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that a client makes; none takes time."""
    return servers.no_pauses(monkeypatch)


def create(api: Any) -> Any:
    return api.runtime.intents.create(**BODY)


# What is sent.

ALL = {"kind": "payment", "intent_id": "order-1", "scope": "eu", "metadata": {"a": "b"}}
NAMED = {"account_id": "a", "owner": "o", "type": "customer", "currency": "NGN"}
WHY = {"reason": "late"}
MADE = BODY | {"amount": "125000"}
ONE = "/runtime/intents/order-1"
# fmt: off
REQUESTS: list[tuple[Callable[[Any], Any], Any, str, Any]] = [
    # call                                                      answer    method and target              body
    (lambda api: api.runtime.intents.create(**BODY),            ACCEPTED, "POST /runtime/intents",       MADE | {"kind": "transfer"}),
    (lambda api: api.runtime.intents.create(**BODY, **ALL),     ACCEPTED, "POST /runtime/intents",       MADE | ALL),
    (lambda api: api.runtime.intents.get("order-1"),            ACCEPTED, f"GET {ONE}",                  None),
    (lambda api: api.runtime.intents.get("a/../b?c#d"),         ACCEPTED, "GET /runtime/intents/a%2F..%2Fb%3Fc%23d", None),
    (lambda api: api.runtime.intents.cancel("order-1"),         DONE,     f"POST {ONE}/cancel",          {}),
    (lambda api: api.runtime.intents.cancel("order-1", **WHY),  DONE,     f"POST {ONE}/cancel",          WHY),
    (lambda api: api.runtime.intents.reverse("order-1", **WHY), DONE,     f"POST {ONE}/reversals",       {"amount": "full"} | WHY),
    (lambda api: api.runtime.intents.reverse("order-1", 5, **WHY), DONE,  f"POST {ONE}/reversals",       {"amount": "5"} | WHY),
    (lambda api: api.runtime.intents.evidence("order-1"),       {"a": 1}, f"GET {ONE}/evidence",         None),
    (lambda api: api.accounts.create(**NAMED),                  ACCOUNT,  "POST /accounts",              NAMED),
    (lambda api: api.accounts.get("a"),                         ACCOUNT,  "GET /accounts/a",             None),
    (lambda api: api.accounts.entries("a", page_size=2),        PAGE,     "GET /accounts/a/entries?limit=2", None),
]
# fmt: on


@pytest.mark.parametrize(("ask", "answer", "line", "body"), REQUESTS)
def test_a_call_is_one_request(run: Run, ask: Any, answer: Any, line: str, body: Any) -> None:
    script = Script((200, answer, {}))
    got = run(script, ask)
    [request] = script.requests
    assert not isinstance(got, APIError), got
    assert f"{request.method} {request.url.raw_path.decode()}" == line
    assert (msgspec.json.decode(request.content) if request.content else None) == body
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert ("x-idempotency-key" in request.headers) == (request.method == "POST")


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_cannot_lead_elsewhere(run: Run, id: str) -> None:
    with pytest.raises(ValueError, match="id"):
        run(Script(OK), lambda api: api.accounts.get(id))


@pytest.mark.parametrize(("wait", "prefer", "read"), [(None, None, 30.0), (0, "wait=0", 30.0), (9, "wait=9", 39.0)])
def test_waiting_is_asked_for_and_allowed_for(run: Run, wait: int | None, prefer: str | None, read: float) -> None:
    script = Script(OK)
    run(script, lambda api: api.runtime.intents.create(**BODY, wait=wait))
    assert script.requests[0].headers.get("prefer") == prefer
    assert script.requests[0].extensions["timeout"]["read"] == read


# Idempotency and retries.


def test_every_attempt_of_a_call_has_its_one_key_and_another_call_another(run: Run) -> None:
    script = Script(httpx2.ConnectError, problem(503, "unavailable", True), OK, httpx2.ReadTimeout, OK)
    run(script, create)
    run(script, create)
    first, again, third, other, last = script.keys
    assert first == again == third != other == last
    assert {uuid.UUID(key).version for key in script.keys} == {4}


def test_a_given_key_is_never_replaced(run: Run) -> None:
    script = Script(httpx2.ReadError, OK)
    run(script, lambda api: api.runtime.intents.create(**BODY, idempotency_key="order-1:pay"))
    assert script.keys == ["order-1:pay"] * 2


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "ü", "k" * 256])
def test_a_malformed_key_is_refused_before_anything_is_sent(run: Run, key: str) -> None:
    script = Script(OK)
    with pytest.raises(ValueError, match="idempotency key"):
        run(script, lambda api: api.runtime.intents.create(**BODY, idempotency_key=key))
    assert script.requests == []


# fmt: off
STEPS: list[tuple[Step, int]] = [
    # first answer                                      requests
    (httpx2.ConnectError,                               3),
    (httpx2.ConnectTimeout,                             3),
    (httpx2.ReadTimeout,                                3),
    (httpx2.RemoteProtocolError,                        3),
    (httpx2.LocalProtocolError,                         1),
    (httpx2.UnsupportedProtocol,                        1),
    ((408, b"", {}),                                    3),
    ((429, b"", {}),                                    3),
    (problem(429, "rate_limited", True),                3),
    (problem(429, "streams_too_many", True),            3),
    ((500, b"<html>", {}),                              3),
    ((502, b"", {}),                                    3),
    ((503, b"", {"retry-after": "60"}),                 3),
    ((503, b"", {"retry-after": "61"}),                 1),
    (problem(409, "idempotency_in_flight", True),       3),
    (problem(409, "evidence_not_sealed", True),         3),
    (problem(500, "internal", False),                   1),
    (problem(409, "intent_id_conflict", False),         1),
    ((409, b"", {}),                                    1),
    ((400, b"", {}),                                    1),
    ((404, b"", {}),                                    1),
    ((302, b"", {"location": "http://elsewhere.test"}), 1),
]
# fmt: on


@pytest.mark.parametrize(("step", "requests"), STEPS)
def test_only_what_may_go_better_is_tried_again(run: Run, step: Step, requests: int) -> None:
    script = Script(step)
    assert isinstance(run(script, create), APIError)
    assert len(script.requests) == requests
    assert len({request.content for request in script.requests}) == 1


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_number_of_retries_is_the_callers(run: Run, retries: int) -> None:
    script = Script(httpx2.ConnectError)
    run(script, create, max_retries=retries)
    assert len(script.requests) == retries + 1


def test_pauses_double_and_the_server_may_ask_for_more(run: Run, pauses: list[float]) -> None:
    script = Script(httpx2.ConnectError, (429, b"", {"retry-after": "7"}), OK)
    run(script, create)
    assert 0.25 <= pauses[0] <= 0.5
    assert 7.5 <= pauses[1] <= 8.0


# fmt: off
RETRY_AFTER = [
    ("", None), ("3", 3.0), ("soon", None), ("-1", None), (email.utils.formatdate(1_000_010, usegmt=True), 10.0),
    (email.utils.formatdate(999_000, usegmt=True), 0.0),
]
# fmt: on


@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float | None) -> None:
    call = core.get_call(core.json_of(dict), "x")
    with pytest.raises(client.APIStatusError) as caught:
        core.read_answer(call, Answer(503, {"retry-after": header}, b""), now=1_000_000)
    assert caught.value.retry_after_seconds == seconds


# Errors.

# fmt: off
ERRORS: list[tuple[Step, type[APIError]]] = [
    (problem(400, "body_malformed"),          client.BadRequestError),
    (problem(401, "key_invalid"),             client.AuthenticationError),
    (problem(403, "permission_denied"),       client.PermissionDeniedError),
    (problem(404, "not_found"),               client.NotFoundError),
    (problem(409, "intent_id_conflict"),      client.ConflictError),
    (problem(409, "idempotency_in_flight"),   client.IdempotencyInFlightError),
    (problem(422, "idempotency_key_reused"),  client.IdempotencyMismatchError),
    (problem(422, "validation_failed"),       client.UnprocessableEntityError),
    (problem(429, "rate_limited"),            client.RateLimitError),
    (problem(429, "streams_too_many"),        client.RateLimitError),
    (problem(500, "internal"),                client.InternalServerError),
    (problem(503, "overloaded"),              client.InternalServerError),
    (problem(413, "body_too_large"),          client.APIStatusError),
    ((202, b"<html>", {}),                    client.APIResponseError),
    ((200, {"intent_id": 1}, {}),             client.APIResponseError),
    (httpx2.ConnectError,                     client.APIConnectionError),
    (httpx2.PoolTimeout,                      client.APITimeoutError),
]
# fmt: on


@pytest.mark.parametrize(("step", "kind"), ERRORS)
def test_each_failure_has_its_class(run: Run, step: Step, kind: type[APIError]) -> None:
    error = run(Script(step), create, max_retries=0)
    assert type(error) is kind
    assert uuid.UUID(error.idempotency_key).version == 4, "whoever goes on needs the key"
    assert KEY not in str(error)


def test_an_error_has_the_answer(run: Run) -> None:
    error = run(Script((404, b"{}", {"x-request-id": "req_9"})), create)
    assert (error.request_id, error.response.status, error.response.body) == ("req_9", 404, b"{}")


def test_an_error_tells_what_the_problem_says(run: Run) -> None:
    fields = [{"pointer": "/amount", "code": "amount_zero", "detail": "d", "newer": 1}]
    error = run(Script(problem(422, "validation_failed", False, errors=fields, detail="one rule")), create)
    assert (error.status, error.code, error.request_id, error.retryable) == (422, "validation_failed", "req_1", False)
    assert [(field.pointer, field.code) for field in error.errors] == [("/amount", "amount_zero")]
    assert "one rule (/amount amount_zero: d)" in str(error)


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, client.ZentraError):
            assert name in drawn
            assert getattr(client, name) is kind


# Answers.


def test_what_is_newer_than_the_client_is_no_error(run: Run) -> None:
    intent = run(Script((200, shown(status="PARKED", newer=[1], links={"self": "/", "newer": "/"}), {})), create)
    assert (intent.status, intent.settled, intent.stable) == ("PARKED", False, False)


# fmt: off
STABLE = [
    ({"status": "ACCEPTED"}, False), ({"status": "AWAITING_PROVIDER"}, False), ({"status": "SUCCESSFUL"}, True),
    ({"status": "FAILED"}, True), ({"status": "REVIEW"}, True), ({"status": "REVERSED"}, True),
]
# fmt: on
CASE = {"id": "c", "kind": "outcome_unknown", "opened_at": "2026-11-21T02:41:59Z"}


@pytest.mark.parametrize(
    ("changes", "stable"),
    [
        *STABLE,
        ({"status": "AWAITING_PROVIDER", "cases": [CASE | {"status": "open"}]}, True),
        ({"status": "AWAITING_PROVIDER", "cases": [CASE | {"status": "resolved"}]}, False),
    ],
)
def test_an_intent_is_stable_when_nothing_more_happens_by_itself(run: Run, changes: Any, stable: bool) -> None:
    assert run(Script((200, shown(**changes), {})), create).stable is stable


def test_balances_are_integers_of_any_width(run: Run) -> None:
    wide = ACCOUNT | {"posted": str(10**30), "available": "-5", "counters": {"debits_posted": "7"}}
    account = run(Script((200, wide, {})), lambda api: api.accounts.get("a"))
    assert (account.posted, account.available, account.counters) == (10**30, -5, {"debits_posted": 7})


def test_evidence_is_bytes_as_they_came(run: Run) -> None:
    packet = b'{"z":1, "a" : 2}'
    assert run(Script((200, packet, {})), lambda api: api.runtime.intents.evidence("order-1")) == packet


def test_pages_turn_by_themselves_and_each_is_tried_again(run: Run) -> None:
    first = {"data": [ENTRY, ENTRY], "has_more": True, "next_cursor": "c=1&x"}
    last = {"data": [ENTRY], "has_more": False, "next_cursor": None}
    script = Script((200, first, {}), httpx2.ReadError, (200, last, {}))
    entries = run(script, lambda api: api.accounts.entries("a"))
    assert [entry.posted for entry in entries] == [5, 5, 5]
    assert [request.url.query for request in script.requests] == [b"", *[b"cursor=c%3D1%26x"] * 2]


def test_waiting_ends_when_the_intent_is_stable(run: Run, pauses: list[float]) -> None:
    script = Script((200, ACCEPTED, {}), (200, ACCEPTED, {}), (200, shown(status="FAILED"), {}))
    assert run(script, lambda api: api.runtime.intents.wait("order-1", timeout=60)).status == "FAILED"
    assert [request.headers["prefer"] for request in script.requests] == ["wait=25"] * 3
    assert len(pauses) == 2, "a server that does not wait is not flooded"


def test_waiting_ends_with_the_state_as_it_is(run: Run) -> None:
    script = Script((200, ACCEPTED, {}))
    assert run(script, lambda api: api.runtime.intents.wait("order-1", timeout=0)).status == "ACCEPTED"
    assert len(script.requests) == 1


def test_waiting_for_evidence_asks_until_it_is_sealed(run: Run, pauses: list[float]) -> None:
    script = Script(problem(409, "evidence_not_sealed", True, retry_after="2"), (200, b"{}", {}))
    assert run(script, lambda api: api.evidence.wait("order-1", timeout=60)) == b"{}"
    assert pauses == [2.0]


@pytest.mark.parametrize("code", ["evidence_not_sealed", "intent_id_conflict"])
def test_waiting_for_evidence_ends(run: Run, pauses: list[float], code: str) -> None:
    error = run(Script(problem(409, code, True)), lambda api: api.evidence.wait("order-1", timeout=0))
    assert (error.code, pauses) == (code, [])


# Seeing the answer.

HEADERS = {"x-request-id": "req_7", "idempotent-replayed": "true", "ratelimit": '"write-tenant";r=41;t=7'}


def test_the_answer_behind_a_value_can_be_seen(run: Run) -> None:
    script = Script(httpx2.ReadError, (202, ACCEPTED, HEADERS))
    raw = run(script, lambda api: api.with_raw_response(api.runtime.intents.create, **BODY))
    assert (raw.value.intent_id, raw.status, raw.request_id, raw.replayed) == ("order-1", 202, "req_7", True)
    assert raw.rate_limit == RateLimit("write-tenant", 41, 7)
    assert raw.headers["Idempotent-Replayed"] == "true"


def test_the_answer_behind_a_page_can_be_seen(run: Run) -> None:
    raw = run(Script((200, PAGE, {})), lambda api: api.with_raw_response(api.accounts.entries("a").page))
    assert (len(raw.value.data), raw.rate_limit, raw.request_id) == (1, None, "")


def test_there_is_no_answer_to_see_where_nothing_was_asked() -> None:
    with pytest.raises(TypeError, match="page"):
        Script(OK).blocking().with_raw_response(lambda: 1)


@pytest.mark.parametrize(
    ("header", "limit"),
    [
        ('"a-key";r=0', RateLimit("a-key", 0)), ("default;r=5;t=30", RateLimit("default", 5, 30)),
        ('"b" ; r=1 ; t=2', RateLimit("b", 1, 2)), ("", None), ("r=5", None), ('"a";t=3', None),
    ],
)  # fmt: skip
def test_what_is_left_of_a_limit_is_read(header: str, limit: RateLimit | None) -> None:
    assert Answer(200, {"ratelimit": header}, b"").rate_limit == limit


# Setting up.


def test_options_are_for_a_client_of_their_own(run: Run) -> None:
    script = Script(httpx2.ConnectError)
    run(script, lambda api: create(api.with_options(max_retries=0, timeout=3)))
    assert len(script.requests) == 1
    assert script.requests[0].extensions["timeout"]["read"] == 3


def test_several_urls_come_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENTRA_BASE_URL", "http://a.test, http://b.test/")
    assert client.Zentra(KEY)._transport.settings.base_urls == ("http://a.test", "http://b.test")


@pytest.mark.parametrize("kind", [client.Zentra, client.AsyncZentra])
def test_key_and_url_come_from_the_environment(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZENTRA_API_KEY", raising=False)
    monkeypatch.delenv("ZENTRA_BASE_URL", raising=False)
    with pytest.raises(client.ZentraError, match="ZENTRA_API_KEY"):
        kind(base_url=BASE_URL)
    monkeypatch.setenv("ZENTRA_API_KEY", KEY)
    with pytest.raises(client.ZentraError, match="ZENTRA_BASE_URL"):
        kind()
    monkeypatch.setenv("ZENTRA_BASE_URL", BASE_URL + "/")
    assert f"{BASE_URL}'" in repr(kind())
    assert KEY not in repr(kind())


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://x"},
        {"base_url": "http://x?y"},
        {"base_url": ["http://x", "y"]},
        {"timeout": 0},
        {"max_retries": -1},
        {"total_timeout": 0},
        {"api_key": "ü"},
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        client.Zentra(**{"api_key": KEY, "base_url": BASE_URL, **wrong})


def test_a_client_closes_its_connections_and_leaves_yours_open() -> None:
    yours = httpx2.Client()
    with client.Zentra(KEY, BASE_URL, http_client=yours), client.Zentra(KEY, BASE_URL) as own:
        pass
    assert not yours.is_closed
    assert own._transport._http.is_closed
    yours.close()


async def test_an_asynchronous_client_closes_its_connections_and_leaves_yours_open() -> None:
    async with httpx2.AsyncClient() as yours:
        async with client.AsyncZentra(KEY, BASE_URL, http_client=yours), client.AsyncZentra(KEY, BASE_URL) as own:
            pass
        assert not yours.is_closed
        assert own._transport._http.is_closed
