"""The HTTP border: a bare ASGI application over a small typed router.

- One pass over the headers, one look-up of the route, one await of the handler: a request costs no task of its own.
- Every answer carries `x-request-id`; the id is the client's where it is well-formed, else ours.
- Authentication comes before everything that depends on the tenant, then the limits of tenant and key, then permission,
  and only then is the body read.
- Bodies are bounded in bytes, depth and the time they take, and no object in them may name a key twice.
- How many requests are under way is bounded; beyond the bound the answer is immediate, health checks excepted. Nobody
  takes the place of those who are known: who is being asked for, and whose body only will tell, have bounds apart.
- Every refusal that is evidence is told to `on_denial`, under the route's template and never with an id.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl

import msgspec

from zentra.gateway.access.limits import Limiter
from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.gateway.http.auth import Authenticator, Permission, Principal
from zentra.gateway.http.problems import DOCUMENT_TYPE, Caller, Problem, document, of_error
from zentra.gateway.http.reading import one_key, strict_json, trace_of, tracestate_of
from zentra.gateway.http.streaming import Streamed
from zentra.gateway.http.versions import CURRENT, VERSIONS, Version, version_of
from zentra.gateway.listening import Receive, Scope, Send
from zentra.runtime.limits import RouteClass
from zentra.storage.identifiers import Uuid7

if TYPE_CHECKING:
    from zentra.gateway.spans import Span, Spans

__all__ = ["Application", "Handler", "Headers", "Reply", "Request", "Route", "json_reply"]

BODY_BYTES_MAX: Final = 256 * 1024
BODY_SECONDS_MAX: Final = 15.0  # for all of it: whoever is slower holds what others wait for
QUERY_FIELDS_MAX: Final = 32
WAIT_SECONDS_MAX: Final = 30.0
REQUESTS_MAX: Final = 10_000  # under way at once; each costs some ten kilobytes
STRANGERS_SHARE: Final = 10  # of as many requests as may be under way, one may be of somebody unknown
STRANGERS_MIN: Final = 16
RETRY_SECONDS: Final = 2

_WANTED: Final = frozenset(
    {
        b"authorization", b"content-type", b"content-length", b"if-none-match", b"x-request-id", b"traceparent",
        b"tracestate", b"prefer", b"zentra-version", b"last-event-id", b"accept",
    }
)  # fmt: skip
_KEY_HEADERS: Final = frozenset({b"x-idempotency-key", b"idempotency-key"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_WAIT: Final = re.compile(rb"(?:\A|[,;\s])wait=\"?([0-9]{1,6})\"?(?=\Z|[,;\s])")
_JSON: Final = b"application/json"
_new_id: Final = Uuid7()
_encode: Final = msgspec.json.Encoder().encode

Headers = tuple[tuple[bytes, bytes], ...]


class Reply(NamedTuple):
    """An answer: its status, its bytes, and the headers beyond content type, length and request id; or a stream."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: bytes = _JSON
    stream: Streamed | None = None


def json_reply(status: int, value: object, headers: Headers = ()) -> Reply:
    """Return `value` as a JSON answer."""
    return Reply(status, _encode(value), headers)


class Request:
    """One request as handlers see it."""

    __slots__ = (
        "_keys", "_principal", "body", "headers", "json", "limits", "params", "request_id", "scope", "span", "trace",
        "version",
    )  # fmt: skip

    def __init__(self, scope: Scope, spans: Spans | None = None) -> None:
        """With `spans`, the request begins one; whoever answers ends it."""
        self.scope = scope
        self.params: Mapping[str, str] = _NO_PARAMS
        self.body = b""
        self.json: Any = None
        self.version = CURRENT
        self._principal: Principal | None = None
        self._keys: list[bytes] = []
        self.limits: Headers = ()
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _WANTED:
                headers[name] = value if name not in headers else headers[name] + b", " + value
            elif name in _KEY_HEADERS:
                self._keys.append(value)
        self.headers = headers
        given = headers.get(b"x-request-id")
        self.request_id = given.decode() if given and _REQUEST_ID.match(given) else f"req_{_new_id()}"
        self.span: Span | None = None
        if spans is None:
            self.trace = trace_of(headers.get(b"traceparent"))
        else:
            self.span = spans.server(headers.get(b"traceparent"))
            self.trace = self.span.trace

    @property
    def principal(self) -> Principal:
        """Who is asking; only routes with a permission have somebody."""
        assert self._principal is not None, "the route is open to everybody"
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal

    @property
    def path_id(self) -> str:
        """The id in the path; raises Problem `not_found` for a text that no id can be."""
        given = self.params["id"]
        if not given.isascii() or not given.isprintable():
            raise Problem("not_found")
        return given

    @property
    def caller(self) -> Caller:
        """Who is asking, as far as is known."""
        known = self._principal
        return Caller() if known is None else Caller(known.tenant, known.id, known.role)

    @property
    def tracestate(self) -> str:
        """What others carry along the trace, behind our span where it is exported; empty where there is neither."""
        given = tracestate_of(self.headers.get(b"traceparent"), self.headers.get(b"tracestate"))
        return given if self.span is None else self.span.tracestate(given)

    @property
    def wait_seconds(self) -> float | None:
        """How long the client prefers to wait, at most 30 s; None where it does not say."""
        preference = self.headers.get(b"prefer")
        found = _WAIT.search(preference) if preference else None
        return min(float(found[1]), WAIT_SECONDS_MAX) if found else None

    def query(self) -> dict[str, str]:
        """Return the query parameters, the last one where a name comes twice; raise Problem for too many."""
        raw: bytes = self.scope.get("query_string", b"")
        if raw.count(b"&") >= QUERY_FIELDS_MAX:
            raise Problem("query_malformed", f"at most {QUERY_FIELDS_MAX} parameters")
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}

    @property
    def idempotency_keys(self) -> list[str]:
        """The idempotency keys in the headers, as they were sent."""
        return [value.decode("latin-1") for value in self._keys]

    def idempotency_key(self, in_body: str | None = None) -> str:
        """Return the request's one idempotency key.

        Raises Problem where there is none, more than one, or one that is malformed."""
        return one_key(self.idempotency_keys, in_body)


Handler = Callable[[Request], Awaitable[Reply]]


class Route:
    """One door: a method, a path with `{names}`, who may use it (None: everybody), and whether it takes a body."""

    __slots__ = (
        "action", "body", "body_bytes_max", "handler", "method", "permission", "rate", "segments", "template", "weigh",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        template: str,
        handler: Handler,
        permission: Permission | None,
        *,
        body: str = "",
        body_bytes_max: int = BODY_BYTES_MAX,
        weigh: Callable[[Any], int] | None = None,
    ) -> None:
        """`body` is "json" (checked and decoded), "json or nothing" (nothing counts as `{}`), "raw", or empty.

        `weigh` says how many requests a decoded body counts as."""
        self.method, self.template, self.handler = method, template, handler
        self.permission, self.body, self.body_bytes_max, self.weigh = permission, body, body_bytes_max, weigh
        self.rate = RouteClass.READ if method == "GET" else _RATES.get(permission, RouteClass.WRITE)
        self.action = f"{method} {template}"
        self.segments = template.strip("/").split("/")


_RATES: Final[Mapping[Permission | None, RouteClass]] = dict.fromkeys(
    (
        Permission.INTENTS_CREATE,
        Permission.INTENTS_CANCEL,
        Permission.INTENTS_REVERSE,
        Permission.HOLDS_CAPTURE,
        Permission.HOLDS_VOID,
        Permission.DEPOSITS_CREATE,
    ),
    RouteClass.MONEY,
)


class HttpObserver(Protocol):
    """Whoever counts requests."""

    def http(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        ...


class Application:
    """The ASGI callable; `routes` is what it serves."""

    def __init__(
        self,
        routes: Sequence[Route],
        authenticator: Authenticator,
        limiter: Limiter | None = None,
        *,
        on_denial: Callable[[Caller, str, str, str], None],
        observer: HttpObserver,
        requests_max: int = REQUESTS_MAX,
        versions: Mapping[str, Version] = VERSIONS,
        spans: Spans | None = None,
    ) -> None:
        """`on_denial` is told caller, action, reason and request id; `spans` makes one for every request.

        Raises ValueError where two routes collide."""
        self._limiter, self.routes = limiter, tuple(routes)
        strangers_max = max(requests_max // STRANGERS_SHARE, STRANGERS_MIN)
        self._known, self._asking, self._open = _Places(requests_max), _Places(strangers_max), _Places(strangers_max)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[list[str], dict[str, Route]]]] = {}
        self._authenticator = authenticator
        self._on_denial = on_denial
        self._observer, self._spans = observer, spans
        self._versions = versions
        for route in routes:
            self._add(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, self._spans)
        route: Route | None = None
        try:
            route = self._find(scope["path"], scope["method"], request)
            if b"zentra-version" in request.headers:
                request.version = version_of(request.headers[b"zentra-version"], self._versions)
            reply = await self._reply(request, route, receive)
        except Exception as error:
            reply = self._refusal(request, route, error)
        if reply.stream is not None:
            await self._stream(request, reply.stream, scope, receive, send, began)
            return
        version = request.version
        if version.answer is not None:
            action = "-" if route is None else route.action
            reply = reply._replace(body=version.answer(action, reply.status, reply.body))
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", request.request_id.encode()),
            (b"zentra-version", version.name.encode()),
            *request.limits,
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        label = "-" if route is None else route.template
        method = scope["method"] if route is not None else "-"  # anybody may invent methods
        self._observer.http(label, method, reply.status, time.perf_counter() - began)
        if request.span is not None:
            request.span.served("" if route is None else method, "" if route is None else label, reply.status)

    async def _stream(
        self, request: Request, stream: Streamed, scope: Scope, receive: Receive, send: Send, began: float
    ) -> None:
        """Hold a stream open; it is counted as answered when it begins."""
        route = self._find(scope["path"], scope["method"], request)
        self._observer.http(route.template, route.method, 200, time.perf_counter() - began)
        if request.span is not None:
            request.span.served(route.method, route.template, 200)
        headers = (
            (b"x-request-id", request.request_id.encode()),
            (b"zentra-version", request.version.name.encode()),
            *request.limits,
        )
        given = request.headers.get(b"authorization")

        async def check() -> None:
            principal = await self._authenticator.authenticate(given, scope)
            if route.permission not in principal.permissions:
                raise Problem("permission_denied")

        await stream.run(receive, send, headers, check)

    async def _reply(self, request: Request, route: Route, receive: Receive) -> Reply:
        if route.permission is None:
            if not route.body:
                return await route.handler(request)
            with self._open:
                await _read(request, receive, route)
                return await route.handler(request)
        with self._asking:
            request.principal = principal = await self._authenticator.authenticate(
                request.headers.get(b"authorization"), request.scope
            )
        limiter, credential = self._limiter, principal.credential
        with self._known:
            if limiter is not None:
                at_hand = limiter.spend_nowait(credential, route.rate)
                request.limits = at_hand or await limiter.spend(request.caller, credential, route.rate)
            if route.permission not in principal.permissions:
                raise Problem("permission_denied", f"the role {principal.role} has no {route.permission}")
            if route.body:
                await _read(request, receive, route)
            if limiter is not None and route.weigh is not None and (more := route.weigh(request.json) - 1) > 0:
                request.limits = await limiter.spend(request.caller, credential, route.rate, more)
            return await route.handler(request)

    def _refusal(self, request: Request, route: Route | None, error: Exception) -> Reply:
        problem = of_error(error)
        if problem.row.code == "rate_limited":
            request.limits = ()  # the refusal says them as they are now
        if problem.denied and route is not None:
            self._on_denial(problem.caller or request.caller, route.action, problem.row.code, request.request_id)
        body = document(problem, request.request_id, request.trace)
        return Reply(problem.row.status, body, tuple(problem.headers), DOCUMENT_TYPE)

    def _find(self, path: str, method: str, request: Request) -> Route:
        """Return the route and set the request's parameters; raise Problem where there is none."""
        methods = self._exact.get(path)
        if methods is None:
            segments = path.strip("/").split("/") if len(path) < 4096 else []
            for pattern, candidates in self._patterns.get(len(segments), ()):
                params = _match(pattern, segments)
                if params is not None:
                    methods, request.params = candidates, params
                    break
            else:
                raise Problem("route_not_found")
        route = methods.get(method)
        if route is None:
            raise Problem("method_not_allowed", headers=[(b"allow", ", ".join(sorted(methods)).encode())])
        return route

    def _add(self, route: Route) -> None:
        if "{" in route.template:
            patterns = self._patterns.setdefault(len(route.segments), [])
            methods = next((known for pattern, known in patterns if pattern == route.segments), None)
            if methods is None:
                methods = {}
                patterns.append((route.segments, methods))
        else:
            methods = self._exact.setdefault(route.template, {})
        if route.method in methods:
            raise ValueError(f"two routes for {route.action}")
        methods[route.method] = route

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


class _Places:
    """So many of one sort may be under way at once; entering raises Overloaded where there is no place left."""

    __slots__ = ("_most", "_taken")

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0

    def __enter__(self) -> None:
        if self._taken >= self._most:
            raise Overloaded(Cause.REQUESTS, RETRY_SECONDS)
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1


_NO_PARAMS: Final[Mapping[str, str]] = {}


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    params = {}
    for wanted, given in zip(pattern, segments, strict=True):
        if wanted[0] == "{":
            if not given:
                return None
            params[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return params


async def _read(request: Request, receive: Receive, route: Route) -> None:
    """Read the body; raise Problem for one that is too large, too slow, of another type, or not JSON."""
    headers, wanted, bytes_max = request.headers, route.body, route.body_bytes_max
    length = headers.get(b"content-length")
    if length is not None and len(length) < 20 and length.isdigit() and int(length) > bytes_max:
        raise Problem("body_too_large", f"send at most {bytes_max // 1024} KiB", headers=_CLOSE)
    if wanted == "json" and headers.get(b"content-type") != _JSON:
        _check_type(headers)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            message = await receive()
            body: bytes = message.get("body", b"")
            while message.get("more_body") and len(body) <= bytes_max:
                message = await receive()
                body += message.get("body", b"")
    except TimeoutError:
        raise Problem("body_too_slow", f"send it within {BODY_SECONDS_MAX:g} s", headers=_CLOSE) from None
    if len(body) > bytes_max:
        raise Problem("body_too_large", f"send at most {bytes_max // 1024} KiB", headers=_CLOSE)
    if message["type"] != "http.request":
        raise Problem("body_malformed", "the request was broken off")
    request.body = body
    if wanted == "json":
        request.json = strict_json(body)
    elif wanted == "json or nothing":
        if body:
            _check_type(headers)
        request.json = strict_json(body) if body else {}
    if request.version.request is not None and wanted != "raw":
        request.json = request.version.request(route.action, request.json)


def _check_type(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _JSON:
        raise Problem("content_type_unsupported")


_CLOSE: Final = ((b"connection", b"close"),)  # what is left of the body is not worth reading
