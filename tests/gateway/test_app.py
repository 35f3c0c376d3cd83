"""The border: what is read, what is refused and how, before any handler runs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest

from tests.gateway.asgi import Answer, call
from zentra.gateway.http import app as module
from zentra.gateway.http.app import Application, Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Authenticator, Permission, StoredApiKey
from zentra.gateway.http.problems import Caller, Problem
from zentra.gateway.http.reading import one_key, strict_json
from zentra.gateway.http.versions import CURRENT, Version
from zentra.gateway.listening import Message
from zentra.runtime.errors import Unavailable
from zentra.runtime.keys import make_key, parse_key

KEY_ID, KEY = make_key(bytes(range(29)))
AUDITOR_ID, AUDITOR = make_key(bytes(range(1, 30)))


class Border:
    """An application with one route of each sort, and everything that it told."""

    def __init__(self) -> None:
        self.denials: list[tuple[Caller, str, str]] = []
        self.observed: list[tuple[str, str, int]] = []
        P = Permission
        self.routes = routes = [
            Route("POST", "/things", self.echo, P.INTENTS_CREATE, body="json"),
            Route("GET", "/things", self.show, P.INTENTS_READ),
            Route("GET", "/things/{id}", self.show, P.INTENTS_READ),
            Route("POST", "/things/{id}/raw", self.raw, None, body="raw"),
            Route("GET", "/things/special/raw", self.raw, None),
            Route("GET", "/open", self.raw, None),
            Route("GET", "/fails/{how}", self.fail, None),
        ]
        self.app = Application(
            routes, Authenticator(self.find), on_denial=lambda c, a, r, _: self.denials.append((c, a, r)), observer=self
        )

    async def find(self, key_id: str) -> StoredApiKey | None:
        for known, text, role in ((KEY_ID, KEY, "developer"), (AUDITOR_ID, AUDITOR, "auditor")):
            if key_id == known:
                parsed = parse_key(text)
                assert parsed is not None
                return StoredApiKey("acme", f"{role}-1", role, parsed[1], None, None)
        return None

    async def echo(self, request: Request) -> Reply:
        key = request.idempotency_key()
        return json_reply(200, {"json": request.json, "who": request.principal.id, "key": key, "trace": request.trace})

    async def show(self, request: Request) -> Reply:
        return json_reply(200, {"params": request.params, "query": request.query(), "wait": request.wait_seconds})

    async def raw(self, request: Request) -> Reply:
        return Reply(200, request.body, ((b"x-extra", b"1"),), b"text/plain")

    async def fail(self, request: Request) -> Reply:
        if request.params["how"] == "unavailable":
            raise Unavailable("host db.internal does not answer")
        if request.params["how"] == "foreign":
            raise Problem("not_found")
        raise RuntimeError("secret path /etc/zentra")

    def http(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((route, method, status))

    async def post(self, body: object, **headers: str) -> Answer:
        given = {"authorization": f"Bearer {KEY}", "x-idempotency-key": "k"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await call(self.app, "POST", "/things", body, given)

    async def get(self, target: str, **headers: str) -> Answer:
        given = {"authorization": f"Bearer {KEY}"} | headers
        return await call(self.app, "GET", target, headers=given)


@pytest.fixture
def border() -> Border:
    return Border()


async def test_a_handler_sees_who_asks_and_what(border: Border) -> None:
    answer = await border.post({"a": 1, "b": {"c": ["x:y"]}})
    assert answer.status == 200
    assert answer.json["json"] == {"a": 1, "b": {"c": ["x:y"]}}
    assert (answer.json["who"], answer.json["key"]) == ("developer-1", "k")
    assert border.observed == [("/things", "POST", 200)]
    assert border.denials == []


@pytest.mark.parametrize(
    ("method", "target", "code", "status", "allow"),
    [
        ("GET", "/nowhere", "route_not_found", 404, None),
        ("GET", "/things/1/2/3", "route_not_found", 404, None),
        ("GET", "/things//raw", "route_not_found", 404, None),
        ("GET", "/" + "x" * 5000, "route_not_found", 404, None),
        ("DELETE", "/things", "method_not_allowed", 405, "GET, POST"),
        ("BREW", "/things/1", "method_not_allowed", 405, "GET"),
        ("GET", "/things/1/raw", "method_not_allowed", 405, "POST"),
    ],
)
async def test_a_wrong_door_is_no_denial(
    border: Border, method: str, target: str, code: str, status: int, allow: str | None
) -> None:
    answer = await call(border.app, method, target)
    assert (answer.status, answer.code, answer.headers.get("allow")) == (status, code, allow)
    assert border.denials == []
    assert border.observed == [("-", "-", status)]


async def test_an_exact_path_wins_over_a_pattern(border: Border) -> None:
    assert (await call(border.app, "GET", "/things/special/raw")).status == 200


async def test_parameters_come_from_the_path_and_the_query(border: Border) -> None:
    answer = await border.get("/things/a.b?limit=3&x=%20y&limit=4")
    assert answer.json == {"params": {"id": "a.b"}, "query": {"limit": "4", "x": " y"}, "wait": None}


async def test_a_query_has_so_many_parameters(border: Border) -> None:
    assert (await border.get("/things?" + "&".join("a=1" for _ in range(32)))).status == 200
    assert (await border.get("/things?" + "&".join("a=1" for _ in range(33)))).code == "query_malformed"


@pytest.mark.parametrize(
    ("authorization", "code", "caller"),
    [
        (None, "authentication_required", Caller()),
        ("Basic abc", "key_invalid", Caller()),
        (f"Bearer {KEY}x", "key_invalid", Caller()),
        (f"Bearer {KEY[:-1]}", "key_invalid", Caller()),
        ("Bearer " + make_key(bytes(29))[1], "key_invalid", Caller()),
        (f"Bearer {AUDITOR}", "permission_denied", Caller("acme", "auditor-1", "auditor")),
    ],
)
async def test_who_may_not_is_told_so_and_remembered(
    border: Border, authorization: str | None, code: str, caller: Caller
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    answer = await call(border.app, "POST", "/things", b"not even json", headers)
    assert (answer.status, answer.code) == (403 if code == "permission_denied" else 401, code)
    assert border.denials == [(caller, "POST /things", code)]
    assert ("www-authenticate" in answer.headers) is (answer.status == 401)


async def test_an_unknown_id_is_a_denial_under_the_template(border: Border) -> None:
    assert (await call(border.app, "GET", "/fails/foreign")).code == "not_found"
    assert border.denials == [(Caller(), "GET /fails/{how}", "not_found")]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "body_malformed"),
        (b"", "application/json", 400, "body_malformed"),
        (b'{"a":NaN}', "application/json", 400, "body_malformed"),
        (b'{"a":"\xff"}', "application/json", 400, "body_malformed"),
        (b"[" * 200_000, "application/json", 400, "body_malformed"),
        (b'{"a":"\\ud800"}', "application/json", 400, "body_malformed"),
        (b'{"a":1,"a":1}', "application/json", 400, "body_key_repeated"),
        (b'{"a":"x:y","b":{"c":1,"c":2}}', "application/json", 400, "body_key_repeated"),
        (b'{"a":1,"\\u0061":2}', "application/json", 400, "body_key_repeated"),
        (b'{"a":":","b":' + b"1" * 5000 + b"}", "application/json", 400, "body_malformed"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "application/json", 400, "body_too_deep"),
        (b"[" * 9 + b"]" * 9, "application/json", 400, "body_too_deep"),
        (b'"' + b"x" * module.BODY_BYTES_MAX + b'"', "application/json", 413, "body_too_large"),
        (b"{}", "text/plain", 415, "content_type_unsupported"),
        (b"{}", "", 415, "content_type_unsupported"),
        (b'{"a":"b\\u003ac:d"}', "Application/JSON ; charset=utf-8", 200, ""),
    ],
)  # fmt: skip
async def test_only_sound_json_is_read(border: Border, body: bytes, content_type: str, status: int, code: str) -> None:
    answer = await border.post(body, content_type=content_type)
    assert answer.status == status
    assert code == "" or answer.code == code


async def test_a_large_body_is_refused_by_its_length_and_in_parts(border: Border) -> None:
    declared = await border.post(b"{}", content_length=str(module.BODY_BYTES_MAX + 1))
    assert declared.code == "body_too_large"
    body = b" " * (module.BODY_BYTES_MAX + 1)
    streamed = await call(border.app, "POST", "/things/1/raw", body, parts=7)
    assert (streamed.code, streamed.headers["connection"]) == ("body_too_large", "close")


async def test_a_body_in_parts_is_one_body(border: Border) -> None:
    assert (await call(border.app, "POST", "/things/1/raw", b"abcdefg", parts=3)).body == b"abcdefg"


@pytest.mark.parametrize(
    ("how", "status", "code", "retryable"),
    [("bug", 500, "internal", False), ("unavailable", 503, "unavailable", True)],
)
async def test_what_goes_wrong_inside_leaks_nothing(
    border: Border, how: str, status: int, code: str, retryable: bool
) -> None:
    answer = await call(border.app, "GET", f"/fails/{how}")
    assert (answer.status, answer.code, answer.json["retryable"]) == (status, code, retryable)
    assert b"secret" not in answer.body
    assert b"db.internal" not in answer.body


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("req-1.A:b_", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ('a"', False), ("", False)],
)
async def test_a_request_id_is_the_clients_or_ours(border: Border, given: str, echoed: bool) -> None:
    answer = await call(border.app, "GET", "/open", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is echoed
    assert echoed or re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("traceparent", "taken"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", True),
        (f"01-{TRACE}-b7ad6b7169203331-01-future", True),
        (f"ff-{TRACE}-b7ad6b7169203331-01", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", False),
        ("garbage", False),
    ],
)
async def test_the_trace_is_the_callers_where_it_has_one(border: Border, traceparent: str, taken: bool) -> None:
    trace = (await border.post({}, traceparent=traceparent)).json["trace"]
    assert (trace == TRACE) is taken
    assert re.fullmatch(r"[0-9a-f]{32}", trace)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [("wait=5", 5.0), ("respond-async, wait=12", 12.0), ('wait="3"', 3.0), ("wait=99999", 30.0), ("wait=0", 0.0),
     ("await=5", None), ("wait=-1", None), ("wait=x", None), ("return=minimal", None)],
)  # fmt: skip
async def test_a_preference_to_wait_is_bounded(border: Border, prefer: str, seconds: float | None) -> None:
    assert (await border.get("/things", prefer=prefer)).json["wait"] == seconds


@pytest.mark.parametrize(
    ("given", "in_body", "expected"),
    [
        (["k-1"], None, "k-1"),
        (['"k-1"'], None, "k-1"),
        ([" k-1 ", '"k-1"'], "k-1", "k-1"),
        ([], "k-1", "k-1"),
        (["x" * 255], None, "x" * 255),
        ([], None, "idempotency_key_missing"),
        (["a", "b"], None, "idempotency_key_ambiguous"),
        (["a"], "b", "idempotency_key_ambiguous"),
        (["x" * 256], None, "idempotency_key_malformed"),
        ([""], None, "idempotency_key_malformed"),
        (["a b"], None, "idempotency_key_malformed"),
        (["caf\xe9"], None, "idempotency_key_malformed"),
    ],
)
def test_a_request_has_one_key(given: list[str], in_body: str | None, expected: str) -> None:
    if expected.startswith("idempotency"):
        with pytest.raises(Problem, match=expected):
            one_key(given, in_body)
    else:
        assert one_key(given, in_body) == expected


def test_colons_in_texts_do_not_hide_a_repeated_key() -> None:
    value: Any = strict_json(b'{"a":"::::","b":[{"c":"d:e"}]}')
    assert value == {"a": "::::", "b": [{"c": "d:e"}]}


OLDER = Version(
    "2025.01",
    request=lambda action, body: {"renamed": body, "by": action},
    answer=lambda action, status, body: b"%b|%d|%b" % (action.encode(), status, body),
)
VERSIONS = {version.name: version for version in (CURRENT, OLDER)}


@pytest.mark.parametrize(
    ("version", "method", "target", "status", "begins"),
    [
        ("2026.04", "POST", "/things", 200, b'{"json":{"a":1}'),
        ("2025.01", "POST", "/things", 200, b'POST /things|200|{"json":{"renamed":{"a":1},"by":"POST /things"}'),
        ("2025.01", "POST", "/things/1/raw", 200, b'POST /things/{id}/raw|200|{"a":1}'),
        ("2025.01", "GET", "/fails/bug", 500, b'GET /fails/{how}|500|{"type":"/problems/internal"'),
        ("2024.01", "POST", "/things", 400, b'{"type":"/problems/version_unknown"'),
    ],
)
async def test_an_older_version_is_translated_at_the_border(
    border: Border, version: str, method: str, target: str, status: int, begins: bytes
) -> None:
    app = Application(
        border.routes, Authenticator(border.find), on_denial=lambda *_: None, observer=border, versions=VERSIONS
    )
    headers = {"authorization": f"Bearer {KEY}", "x-idempotency-key": "k", "zentra-version": version}
    answer = await call(app, method, target, {"a": 1} if method == "POST" else None, headers)
    assert (answer.status, answer.body[: len(begins)]) == (status, begins)
    assert answer.headers["zentra-version"] == (version if version in VERSIONS else CURRENT.name)
    assert answer.headers["content-length"] == str(len(answer.body))
    if status == 400:
        assert answer.json["known"] == sorted(VERSIONS)


async def test_two_routes_for_one_door_are_a_mistake(border: Border) -> None:
    routes = [Route("GET", "/a/{id}", border.raw, None), Route("GET", "/a/{id}", border.raw, None)]
    with pytest.raises(ValueError, match="two routes"):
        Application(routes, Authenticator(border.find), on_denial=lambda *_: None, observer=border)


async def test_beyond_the_bound_an_answer_is_immediate_and_health_is_still_told(border: Border) -> None:
    release = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await release.wait()
        return Reply(200, b"{}")

    routes = [Route("GET", "/slow", slow, Permission.INTENTS_READ), Route("GET", "/open", border.raw, None)]
    app = Application(
        routes, Authenticator(border.find), on_denial=lambda *_: None, observer=border, requests_max=3
    )  # fmt: skip
    headers = {"authorization": f"Bearer {KEY}"}
    under_way = [asyncio.create_task(call(app, "GET", "/slow", headers=headers)) for _ in range(3)]
    await asyncio.sleep(0)
    refused = await call(app, "GET", "/slow", headers=headers)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "2")
    assert refused.json["cause"] == "requests"
    assert (await call(app, "GET", "/open")).status == 200
    release.set()
    assert {(await one).status for one in under_way} == {200}
    assert (await call(app, "GET", "/slow", headers=headers)).status == 200, "the bound is on what is under way"


SLOW: tuple[tuple[str, str, dict[str, str], tuple[int, str]], ...] = (
    ("without a key", "/things", {}, (401, "authentication_required")),
    ("with a wrong key", "/things", {"authorization": "Bearer zk_test_wrong"}, (401, "key_invalid")),
    ("where everybody may", "/things/1/raw", {}, (408, "body_too_slow")),
)


@pytest.mark.parametrize(("path", "headers", "answer"), [row[1:] for row in SLOW], ids=[row[0] for row in SLOW])
async def test_slow_bodies_of_strangers_close_no_door_of_those_who_are_known(
    border: Border,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    headers: dict[str, str],
    answer: tuple[int, str],
) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS_MAX", 0.05)
    strangers = [asyncio.create_task(_slow(border.app, path, headers)) for _ in range(module.REQUESTS_MAX)]
    await asyncio.sleep(0)
    known = await border.post({"a": 1})
    answers = {await one for one in strangers}
    assert known.status == 200
    assert answer in answers
    assert answers <= {answer, (503, "overloaded")}
    assert (await call(border.app, "POST", "/things/1/raw", b"x")).status == 200, "places are given back"


async def test_a_body_that_takes_too_long_is_answered_and_gives_its_place_back(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS_MAX", 0.05)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    assert await _slow(border.app, "/things", headers) == (408, "body_too_slow")
    assert (await border.post({"a": 1})).status == 200


async def _slow(app: Application, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return how a request is answered whose body begins and never ends."""
    parts: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop() if parts else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw}, receive, send)
    return sent[0]["status"], str(msgspec.json.decode(sent[1]["body"])["code"])
