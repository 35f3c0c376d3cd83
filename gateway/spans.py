"""Spans for OpenTelemetry: one for each request that a gateway answers, and for each call that a worker makes.

- What is handed on names the span that is exported: a gateway writes its own into the tracestate of the intents that it
  takes, and a call carries the id of its own span, so that the trace hangs together across processes and days.
- A trace is sampled where whoever began it says so; without a beginning before ours, as `OTEL_TRACES_SAMPLER` says.
- Attributes are names, numbers and ids of ours: never a body, an account, a key, a path or a query.
- Ending a span appends to a bounded queue; a thread of its own sends what is there. What does not fit, or what nobody
  takes, is dropped, and closing waits for nobody longer than `CLOSE_SECONDS_MAX`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as ApiSpan

from zentra.gateway.http.reading import parent_of
from zentra.runtime.tracing import Parent, parent_in, span_id, with_parent

__all__ = ["Span", "Spans"]

CLOSE_SECONDS_MAX: Final = 3.0
SCOPE: Final = "zentra"
ERROR_FROM: Final = 500  # of a server; who calls has erred from 400 on
CALL_ERROR_FROM: Final = 400

Attributes = Mapping[str, str | int]
_NONE: Final[Attributes] = {}


class Span:
    """One span under way. As a context it ends with its block, and tells what broke the block off."""

    __slots__ = ("_context", "_span")

    def __init__(self, span: ApiSpan) -> None:
        self._span, self._context = span, span.get_span_context()

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.failed(kind.__name__)
        self._span.end()

    @property
    def trace(self) -> str:
        """The id of the trace: 32 hex digits."""
        return f"{self._context.trace_id:032x}"

    @property
    def parent(self) -> Parent:
        """This span, for those that belong under it."""
        return Parent(f"{self._context.span_id:016x}", self._context.trace_flags.sampled)

    @property
    def traceparent(self) -> str:
        """The header of what this span asks of others."""
        span, sampled = self.parent
        return f"00-{self.trace}-{span}-{sampled:02x}"

    def tracestate(self, given: str) -> str:
        """Return the tracestate of what follows from this span, wherever that happens."""
        return with_parent(given, self.parent)

    def tell(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def failed(self, why: str) -> None:
        """Mark as an error of a sort that has a short name."""
        self._span.set_attribute("error.type", why)
        self._span.set_status(Status(StatusCode.ERROR))

    def answered(self, status: int) -> None:
        """Tell the HTTP status that a call was answered with."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= CALL_ERROR_FROM:
            self.failed(str(status))

    def served(self, method: str, route: str, status: int) -> None:
        """End the span of an HTTP request; where no route was found, both `method` and `route` are empty."""
        if self._span.is_recording():
            self._span.update_name(f"{method} {route}" if route else "HTTP")
            told: dict[str, str | int] = {
                "http.request.method": method or "_OTHER",
                "http.response.status_code": status,
            }
            if route:
                told["http.route"] = route
            self._span.set_attributes(told)
            if status >= ERROR_FROM:
                self.failed(str(status))
        self._span.end()


class Spans:
    """Makes the spans of one process; `exporting` makes one that sends them as the environment says."""

    def __init__(self, service: str, instance: str, exporter: SpanExporter) -> None:
        """Raises ValueError for `OTEL_` variables that cannot be meant."""
        said = OTELResourceDetector().detect().attributes
        own = {SERVICE_NAME: service} | ({"service.instance.id": instance} if instance else {})
        resource = Resource.create({name: text for name, text in own.items() if name not in said})
        self._exporter = exporter
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SCOPE)

    @classmethod
    def exporting(cls, service: str, instance: str = "") -> Spans:
        """Return one whose spans go where the `OTEL_EXPORTER_OTLP_` variables say, over HTTP."""
        return cls(service, instance, OTLPSpanExporter())

    def server(self, traceparent: bytes | None, name: str = "HTTP", attributes: Attributes = _NONE) -> Span:
        """Begin the span of a request, under the span that its traceparent names."""
        given = parent_of(traceparent)
        context = Context() if given is None else _under(given[0], given[1])
        return Span(self._tracer.start_span(name, context, SpanKind.SERVER, attributes))

    def client(
        self, name: str, trace: str, tracestate: str, intent: str, sequence: int, url: str, attributes: Attributes
    ) -> Span:
        """Begin the span of a call that follows from a record: under the request that made its intent, where that was
        exported, and else under the record. `name` begins with the method; of `url` only the server is told."""
        parent = parent_in(tracestate) or Parent(span_id(intent, sequence), True)
        told = {
            "http.request.method": name.partition(" ")[0],
            "zentra.intent.id": intent,
            **_server_of(url),
            **attributes,
        }
        return Span(self._tracer.start_span(name, _under(trace, parent), SpanKind.CLIENT, told))

    def close(self) -> None:
        """Send what waits, as long as somebody takes it and at most `CLOSE_SECONDS_MAX`; then let go of the rest."""
        sending = threading.Thread(target=self._provider.shutdown, name="spans-close", daemon=True)
        sending.start()
        sending.join(CLOSE_SECONDS_MAX)
        if sending.is_alive():
            self._exporter.shutdown()  # ends the pause before its next try


def _server_of(url: str) -> Attributes:
    """Return the attributes that say which server a URL leads to, and nothing else of it."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return _NONE
    return {"server.address": parts.hostname, "server.port": port} if parts.hostname else _NONE


def _under(trace: str, parent: Parent) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(trace, 16), int(parent.span, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(context), Context())
