"""The export of spans: what a collector hears over a real socket, and what happens where there is none."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Exported
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.gateway.asgi import call
from zentra.gateway.doors.intents import IntentDoor
from zentra.gateway.doors.nats import SPAN, NatsDoor
from zentra.gateway.http.app import Application, Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Authenticator, Permission, StoredApiKey
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.gateway.settings import Settings, SettingsError
from zentra.gateway.spans import Span, Spans
from zentra.gateway.tracing import open_tracing
from zentra.runtime.keys import make_key, parse_key
from zentra.runtime.rails.port import Cause, RailSettings, Submission
from zentra.runtime.rails.routing import reference_of
from zentra.runtime.tracing import span_id
from zentra.runtime.webhooks.standard import WebhookCall
from zentra.streams.connection import Connection
from zentra.streams.service import ServiceRequest

INTENT = "0195f3e2a1b27c3d8e4f5061728394a5"
REFERENCE = reference_of(INTENT, 2)
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEY_ID, KEY = make_key(bytes(range(29)))
ACCOUNT, SECRET, QUERY = "0123456789", "s3cr3t" * 6, "token=hidden"
SECRETS = (ACCOUNT, SECRET, QUERY, KEY, "idem-key", "customer-7")
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0([01])")


async def live(receive: Receive, send: Send) -> None:
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


class Collector:
    """An OTLP collector: everything that was exported to it, and the raw bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.services: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await live(receive, send)
        body = await read_body(receive, 1 << 20)
        assert body is not None
        self.bodies.append(body)
        self.paths.add(scope["path"])
        return await answer(send, 200, b"{}")

    def spans(self) -> list[Exported]:
        """Return what was exported, in the order of its beginning."""
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                said = {one.key: one.value.string_value for one in resource.resource.attributes}
                self.services.add((said["service.name"], said["service.instance.id"]))
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def assert_discreet(self) -> None:
        for body in self.bodies:
            assert not [secret for secret in SECRETS if secret.encode() in body]


class Outside:
    """A rail and an endpoint; the headers that they were called with."""

    def __init__(self, status: int = 202) -> None:
        self.status = status
        self.heard: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await live(receive, send)
        await read_body(receive, 1 << 20)
        self.heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        body = {"status": "pending", "reference": REFERENCE, "amount": "100", "currency": "NGN"}
        return await answer(send, self.status, msgspec.json.encode(body))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACES_SAMPLER", "TRACES_EXPORTER", "SDK_DISABLED", "SERVICE_NAME", "EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    collector = Collector()
    async with listening(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield collector


async def closed(spans: Spans) -> None:
    """Close without holding up the loop that the collector runs in."""
    await asyncio.to_thread(spans.close)


def opened(service: str, instance: str = "") -> Spans:
    spans = open_tracing(Settings(), service, instance)
    assert spans is not None
    return spans


class Gateway:
    """An application with a route that keeps what it would hand on."""

    def __init__(self, spans: Spans | None) -> None:
        self.kept: list[tuple[str, str]] = []
        routes = [
            Route("POST", "/accounts/{id}/payments", self.take, Permission.INTENTS_CREATE, body="json"),
            Route("GET", "/fails", self.fail, None),
        ]
        self.app = Application(
            routes, Authenticator(self.find), on_denial=lambda *_: None, observer=self, spans=spans
        )  # fmt: skip

    async def find(self, key_id: str) -> StoredApiKey | None:
        parsed = parse_key(KEY)
        assert parsed is not None
        return StoredApiKey("acme", "developer-1", "developer", parsed[1], None, None)

    async def take(self, request: Request) -> Reply:
        self.kept.append((request.trace, request.tracestate))
        return json_reply(202, {"trace_id": request.trace})

    async def fail(self, request: Request) -> Reply:
        raise RuntimeError(f"account {ACCOUNT}")

    def http(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0

    async def pay(self, **headers: str) -> int:
        given = {"authorization": f"Bearer {KEY}", "x-idempotency-key": "idem-key", **headers}
        target = f"/accounts/{ACCOUNT}/payments?{QUERY}"
        return (await call(self.app, "POST", target, {"destination": ACCOUNT, "who": "customer-7"}, given)).status


def submission(trace: str, tracestate: str) -> Submission:
    return Submission(
        "acme", "alpha", REFERENCE, 100, "NGN", ACCOUNT, trace=trace, tracestate=tracestate, sequence=5
    )  # fmt: skip


def webhook(url: str, trace: str, tracestate: str) -> WebhookCall:
    data = {"id": INTENT, "object_version": 9, "trace_id": trace, "source": ACCOUNT, "metadata": {"m": "customer-7"}}
    body = msgspec.json.encode({"type": "ledger.posted", "data": data | {"tracestate": tracestate}})
    return WebhookCall(f"{url}/hook/{SECRET}?{QUERY}", "msg_d1", body, (SECRET.encode(),), 3, "d1", "we_1")


async def work(spans: Spans | None, url: str, trace: str, tracestate: str) -> None:
    """Make one call of each sort, as a worker does."""
    http = OutwardHttp(AddressPolicy(allow_private=True))
    rail = SandboxRail(RailSettings("alpha", "sandbox", url, SECRET), http, spans)
    await rail.submit(submission(trace, tracestate))
    await rail.poll(REFERENCE, Cause(trace, tracestate, 6))
    await WebhookSender(http, spans=spans).send(webhook(url, trace, tracestate))
    await http.aclose()


def attributes(span: Exported) -> dict[str, str | int]:
    return {
        one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
        for one in span.attributes
    }


async def test_one_trace_leads_from_the_request_to_every_call_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = Outside()
    async with collecting(monkeypatch) as collector, listening(outside) as url:
        front, back = opened("zentra-gateway"), opened("zentra-worker", "worker-7")
        gateway = Gateway(front)
        status = await gateway.pay(traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="rojo=1")
        assert status == 202
        [(trace, state)] = gateway.kept
        await work(back, url, trace, state)
        await closed(front)
        await closed(back)
    served, submitted, polled, called = collector.spans()
    port = int(url.rpartition(":")[2])
    assert collector.paths == {"/v1/traces"}
    assert ("zentra-worker", "worker-7") in collector.services
    assert {service for service, _ in collector.services} == {"zentra-gateway", "zentra-worker"}
    assert {span.trace_id.hex() for span in (served, submitted, polled, called)} == {TRACE} == {trace}
    assert (served.name, served.kind, served.parent_span_id.hex()) == (
        "POST /accounts/{id}/payments", Exported.SPAN_KIND_SERVER, CALLER,
    )  # fmt: skip
    assert attributes(served) == {
        "http.request.method": "POST", "http.route": "/accounts/{id}/payments", "http.response.status_code": 202,
    }  # fmt: skip
    assert state == f"zentra={served.span_id.hex()}-01,rojo=1"
    answered: dict[str, str | int] = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 202,
    }
    asked: dict[str, str | int] = {"zentra.intent.id": INTENT, "zentra.rail": "alpha", "zentra.rail.attempt": 2}
    expected: list[tuple[Exported, str, dict[str, str | int]]] = [
        (submitted, "POST /payments", asked | {"url.template": "/payments", "zentra.rail.outcome": "pending"}),
        (polled, "GET /payments/{reference}",
         asked | {"url.template": "/payments/{reference}", "zentra.rail.outcome": "pending"}),
        (called, "POST", {"zentra.intent.id": INTENT, "zentra.webhook.endpoint": "we_1",
                          "zentra.webhook.delivery": "d1", "zentra.webhook.attempt": 3}),
    ]  # fmt: skip
    for (span, name, told), headers in zip(expected, outside.heard, strict=True):
        assert (span.name, span.kind, span.parent_span_id) == (name, Exported.SPAN_KIND_CLIENT, served.span_id)
        assert attributes(span) == told | answered | {"http.request.method": name.split()[0]}
        assert headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert headers["tracestate"] == state
    collector.assert_discreet()


async def test_a_trace_that_begins_here_is_the_one_that_is_told_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting(monkeypatch) as collector:
        spans = opened("zentra-gateway")
        gateway = Gateway(spans)
        await gateway.pay()
        await closed(spans)
    [served] = collector.spans()
    assert gateway.kept == [(served.trace_id.hex(), f"zentra={served.span_id.hex()}-01")]
    assert served.parent_span_id == b""


async def test_what_is_not_sampled_is_exported_nowhere_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = Outside()
    async with collecting(monkeypatch) as collector, listening(outside) as url:
        spans = opened("zentra")
        gateway = Gateway(spans)
        await gateway.pay(traceparent=f"00-{TRACE}-{CALLER}-00")
        [(trace, state)] = gateway.kept
        assert trace == TRACE
        await work(spans, url, trace, state)
        await closed(spans)
    assert collector.spans() == []
    assert {TRACEPARENT.fullmatch(one["traceparent"])[3] for one in outside.heard} == {"0"}  # type: ignore[index]


async def test_without_the_span_of_a_request_a_call_belongs_under_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting(monkeypatch) as collector, listening(Outside()) as url:
        spans = opened("zentra-worker")
        await work(spans, url, TRACE, "rojo=1")
        await closed(spans)
    parents = [span.parent_span_id.hex() for span in collector.spans()]
    assert parents == [span_id(INTENT, sequence) for sequence in (5, 6, 9)]


async def test_failures_are_errors_with_short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting(monkeypatch) as collector:
        spans = opened("zentra")
        gateway = Gateway(spans)
        assert (await call(gateway.app, "GET", "/fails")).status == 500
        assert (await call(gateway.app, "INVENTED", f"/nowhere/{ACCOUNT}")).status == 404
        async with listening(Outside(503)) as url:
            await work(spans, url, TRACE, "")
        await work(spans, url, TRACE, "")  # nobody listens there any more
        await closed(spans)
    told = [
        (span.name, span.status.code == Status.STATUS_CODE_ERROR, attributes(span).get("error.type"))
        for span in collector.spans()
    ]
    rail = ("POST /payments", "GET /payments/{reference}")
    assert told == [
        ("GET /fails", True, "500"),
        ("HTTP", False, None),
        *((name, True, "503") for name in (*rail, "POST")),
        *((name, True, "connect_failed") for name in (*rail, "POST")),
    ]
    assert attributes(collector.spans()[1]) == {"http.request.method": "_OTHER", "http.response.status_code": 404}
    collector.assert_discreet()


async def test_a_call_that_is_broken_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin(spans: Spans) -> Span:
        with spans.client("POST", TRACE, "", INTENT, 1, "http://[broken", {}) as span:
            raise asyncio.CancelledError
        return span

    async with collecting(monkeypatch) as collector:
        spans = opened("zentra")
        with pytest.raises(asyncio.CancelledError):
            await begin(spans)
        await closed(spans)
    [span] = collector.spans()
    assert attributes(span)["error.type"] == "CancelledError"
    assert "server.address" not in attributes(span)


class Refuses(IntentDoor):
    """A door whose check fails, and a service that keeps what it is answered."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def check(self, source: str) -> None:
        raise RuntimeError(source)

    async def respond(self, request: ServiceRequest, body: bytes) -> None:
        self.kept.append(body)


async def test_a_request_over_nats_has_a_span_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = Refuses()
    async with collecting(monkeypatch) as collector:
        spans = opened("zentra-gateway")
        door = NatsDoor(Connection(), refuses, spans=spans)
        monkeypatch.setattr(door, "_service", refuses)
        request: Any = SimpleNamespace(
            verb="create", tenant="acme", body=b"{}", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"}
        )
        await door._answer(request)
        await closed(spans)
    [span] = collector.spans()
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (SPAN, TRACE, CALLER)
    assert attributes(span)["error.type"] == "internal"
    assert [msgspec.json.decode(body)["trace_id"] for body in refuses.kept] == [TRACE]


async def test_off_by_default_and_then_the_exporter_is_not_even_loaded() -> None:
    outside = Outside()
    gateway = Gateway(None)
    async with listening(outside) as url:
        await gateway.pay(traceparent=f"00-{TRACE}-{CALLER}-00", tracestate="rojo=1")
        await work(None, url, TRACE, "rojo=1")
    assert gateway.kept == [(TRACE, "rojo=1")]
    sent = [f"00-{TRACE}-{span_id(INTENT, sequence)}-01" for sequence in (5, 6, 9)]
    assert [one["traceparent"] for one in outside.heard] == sent
    program = (
        "import sys; from zentra.gateway.tracing import open_tracing; from zentra.gateway.settings import Settings;"
        "import zentra.gateway.http.server, zentra.gateway.worker_process;"
        "assert open_tracing(Settings(), 'x') is None;"
        "names = ('opentelemetry.exporter', 'opentelemetry.sdk.trace', 'zentra.gateway.spans');"
        "sys.exit(any(name in sys.modules for name in names))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_collector_that_is_away_slows_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    spans = opened("zentra")
    began = time.perf_counter()
    for _ in range(100):
        spans.server(None).served("GET", "/fails", 200)
    assert time.perf_counter() - began < 1.0
    spans.close()
    assert time.perf_counter() - began < 5.0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, None),
        ({"EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "SDK_DISABLED": "true"}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "none"}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER: console"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4317", "EXPORTER_OTLP_PROTOCOL": "grpc"}, "it is http/protobuf"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "BSP_MAX_QUEUE_SIZE": "-1"}, "the OTEL_ variables"),
    ],
)
def test_the_environment_switches_it_on_or_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    if said is None:
        assert open_tracing(Settings(), "zentra") is None
    else:
        with pytest.raises(SettingsError, match=said):
            open_tracing(Settings(), "zentra")


@pytest.mark.parametrize(
    ("endpoint", "plain_loopback", "refused"),
    [
        ("http://collector:4318", False, True),
        ("http://127.0.0.1:4318", False, True),
        ("http://collector:4318", True, True),
        ("http://127.0.0.1:4318", True, False),
        ("https://collector:4318", False, False),
    ],
)
def test_in_production_spans_go_over_tls(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, plain_loopback: bool, refused: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    settings = Settings(profile="production", plain_loopback=plain_loopback)
    if refused:
        with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: .*https://"):
            open_tracing(settings, "zentra")
    else:
        spans = open_tracing(settings, "zentra")
        assert spans is not None
        spans.close()


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "zentra.gateway.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'zentra[otel]'")):
        open_tracing(Settings(), "zentra")


async def test_the_service_has_the_name_that_the_operator_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "till")
    async with collecting(monkeypatch) as collector:
        spans = opened("zentra-gateway")
        spans.server(None).served("GET", "/", 200)
        await closed(spans)
    assert collector.spans()
    assert {service for service, _ in collector.services} == {"till"}
