"""The NATS door: the same intake behind `zentra.intents.create`, for one intent or an array of up to a thousand.

- A request holds one JSON object, or an array of them in which each has its own `idempotency_key`.
- The answer to an object is `{"status", "replayed", "body"}` or problem details; to an array, one of these per intent,
  in order. An intent that is refused harms no other.
- Where new intents are sent away, the whole request has one answer, `overloaded` with `retry_after_seconds`.
- The tenant was written by the server; the principal is `nats`, a developer of that tenant.
- Requests count against the tenant's limits like those over HTTP, as money requests of the key `nats`.
- Requests pipeline: each has a task of its own and nobody waits for the one before. How many are unanswered is bounded
  by the service in front, how many intents are waiting by the intake behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from zentra.gateway.access.limits import Limiter
from zentra.gateway.doors.intents import Asker, BatchAnswer, IntentDoor
from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.gateway.http.problems import Caller, Problem, document, of_error
from zentra.gateway.http.reading import one_key, strict_json, trace_of, tracestate_of
from zentra.gateway.http.versions import version_of
from zentra.runtime.limits import RouteClass
from zentra.runtime.reviews import NATS_PRINCIPAL
from zentra.runtime.stream_ports import StreamError
from zentra.storage.identifiers import Uuid7
from zentra.streams.connection import Connection
from zentra.streams.service import IntentService, ServiceRequest

if TYPE_CHECKING:
    from zentra.gateway.spans import Span, Spans

__all__ = ["NATS_CODES", "VERB", "NatsDoor", "overloaded_answer"]

_log = logging.getLogger(__name__)

PRINCIPAL: Final = NATS_PRINCIPAL
ROLE: Final = "developer"
SOURCE: Final = "nats"
ACTION: Final = "REQUEST zentra.intents.create"
VERB: Final = "create"
SPAN: Final = "process zentra.intents.create"
SPAN_ATTRIBUTES: Final = {
    "messaging.system": "nats",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": "zentra.intents.create",
}
NATS_CODES: Final = frozenset(
    {
        "batch_too_large", "body_key_repeated", "body_malformed", "body_too_deep", "idempotency_in_flight",
        "idempotency_key_ambiguous", "idempotency_key_malformed", "idempotency_key_missing", "idempotency_key_reused",
        "intent_id_conflict", "internal", "overloaded", "rate_limited", "unavailable", "validation_failed",
        "verb_unknown", "version_unknown",
    }
)  # fmt: skip
"""Every code that this door answers with."""
RETRY_SECONDS: Final = 2
_encode: Final = msgspec.json.Encoder().encode
_new_id: Final = Uuid7()


def overloaded_answer() -> bytes:
    """Return what a request is answered with that cannot even be looked at."""
    overloaded = of_error(Overloaded(Cause.REQUESTS, RETRY_SECONDS))
    return document(overloaded, f"req_{_new_id()}", trace_of(None))


class NatsDoor:
    """Serves the requests of one service subscription; `start` opens it, `aclose` answers what is left."""

    def __init__(
        self,
        client: Connection,
        door: IntentDoor,
        limiter: Limiter | None = None,
        on_denial: Callable[[Caller, str, str, str], None] = lambda caller, action, reason, request_id: None,
        spans: Spans | None = None,
    ) -> None:
        """`on_denial` is told caller, action, reason and request id; `spans` makes one for every request."""
        self._limiter, self._on_denial, self._spans = limiter, on_denial, spans
        self._service = IntentService(client, overloaded_answer=overloaded_answer())
        self._door = door
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unanswered(self) -> int:
        """How many requests are being worked on."""
        return len(self._tasks)

    async def start(self) -> None:
        """Take requests from now on; raises StreamUnavailable without a connection."""
        await self._service.start(self._take)

    async def aclose(self) -> None:
        """Take no more requests and return when those taken are answered."""
        await self._service.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self, requests: list[ServiceRequest]) -> None:
        for request in requests:
            task = asyncio.create_task(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: ServiceRequest) -> None:
        if self._spans is None:
            await self._answer_in(None, request)
            return
        with self._spans.server(request.headers.get("traceparent", "").encode(), SPAN, SPAN_ATTRIBUTES) as span:
            await self._answer_in(span, request)

    async def _answer_in(self, span: Span | None, request: ServiceRequest) -> None:
        request_id = f"req_{_new_id()}"
        trace = trace_of(request.headers.get("traceparent", "").encode()) if span is None else span.trace
        try:
            body = await self._work(request, request_id, trace, span)
        except Exception as error:
            problem = of_error(error)
            if problem.denied and problem.caller is not None:
                self._on_denial(problem.caller, ACTION, problem.row.code, request_id)
            body = document(problem, request_id, trace)
            if span is not None and problem.row.status >= 500:
                span.failed(problem.row.code)
        try:
            await self._service.respond(request, body)
        except StreamError as error:
            # The tenant hears nothing, asks again with the same key, and gets the same answer.
            _log.warning("answer was not sent", extra={"tenant": request.tenant, "error": str(error)})

    async def _work(self, request: ServiceRequest, request_id: str, trace: str, span: Span | None) -> bytes:
        if request.verb != VERB:
            raise Problem("verb_unknown", f"there is no verb {request.verb[:64]!r}")
        if "zentra-version" in request.headers:
            version_of(request.headers["zentra-version"].encode("utf-8", "replace"))
        self._door.check(SOURCE)  # before the body is looked at: refusing has to be cheap
        given = strict_json(request.body)
        if self._limiter is not None:
            tenant, weight = request.tenant, len(given) if isinstance(given, list) else 1
            await self._limiter.spend(
                Caller(tenant, PRINCIPAL, ROLE), f"{tenant}/{PRINCIPAL}", RouteClass.MONEY, weight
            )
        keys = [request.headers["idempotency-key"]] if "idempotency-key" in request.headers else []
        state = tracestate_of(
            request.headers.get("traceparent", "").encode(), request.headers.get("tracestate", "").encode()
        )
        if span is not None:
            state = span.tracestate(state)
        asker = Asker(
            tenant=request.tenant, principal=PRINCIPAL, role=ROLE, trace=trace, source=SOURCE, tracestate=state
        )
        if isinstance(given, list):
            if keys:
                raise Problem("idempotency_key_ambiguous", "in an array every intent has a key of its own, in its body")
            return _encode(await self._door.create_many(given, asker, request_id))
        created = await self._door.create(given, lambda in_body: one_key(keys, in_body), asker, request_id)
        answer = created.answer
        return _encode(BatchAnswer(answer.status, answer.replayed, msgspec.Raw(answer.body)))
