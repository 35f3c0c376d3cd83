"""The doors that a load goes through: requests over NATS, one intent per HTTP request, and many in one.

Each transport sends a batch and says, per intent, how it was answered: `202`, `200 replayed`, `429 overloaded`,
`no_answer`. An answer is given on as the client saw it; whether to come back is for the sender to say, and to count.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from zentra.bench.measuring.wire import ConnectionLost, HttpPool, Response
from zentra.streams.connection import Connection, connect

__all__ = [
    "ANSWER_SECONDS_MAX",
    "BOTH",
    "BULK_ROUTE",
    "HTTP_CONNECTIONS_MAX",
    "Answered",
    "RouteMissing",
    "Target",
    "Transport",
    "is_accepted",
    "open_transport",
]

ANSWER_SECONDS_MAX: Final = 30.0
HTTP_CONNECTIONS_MAX: Final = 256
BOTH: Final = ("http", "nats")  # the doors of the transport `both`
RETRY_SECONDS: Final = 1.0  # where an answer does not say when to come back
ROUTE: Final = "/runtime/intents"
BULK_ROUTE: Final = "/runtime/intents/bulk"
NATS_SUBJECT: Final = "zentra.intents.create"

Intents = Sequence[dict[str, Any]]
_encode: Final = msgspec.json.Encoder().encode


class RouteMissing(Exception):
    """Raised where the gateway does not have the door that the load was to go through."""


class Target(Struct, frozen=True):
    """Where a tenant's intents go. Over HTTP `key` is an API key; over NATS the URL carries user and password; it is
    `nats_url` where intents go through both doors."""

    url: str
    key: str = ""
    nats_url: str = ""


class Answered(NamedTuple):
    """How an intent was answered, and where it was turned away for now, in how many seconds it may come back."""

    outcome: str
    retry_after: float | None = None


class Transport(Protocol):
    """One tenant's way to the gateway."""

    route: str

    async def send(self, intents: Intents) -> list[Answered]:
        """Return how each intent was answered, in order; raise RouteMissing."""
        ...

    async def close(self) -> None:
        """Give back the connections."""
        ...


def is_accepted(outcome: str) -> bool:
    """Return whether an answer says that the intent exists."""
    return outcome.startswith(("200", "202"))


async def open_transport(name: str, target: Target, *, in_flight: int, wait_seconds: int = 0) -> Transport:
    """Return the transport `nats`, `http` or `bulk`, connected.

    With `wait_seconds` an HTTP request is answered when nothing more happens to its intent by itself. Raises
    StreamUnavailable without NATS, ValueError for another name or a server elsewhere."""
    if name == "nats":
        client = await connect(target.nats_url or target.url, name="bench")
        transport = _OverNats(client)
        await transport.start()
        return transport
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    connections = max(1, min(in_flight, HTTP_CONNECTIONS_MAX))
    pool = HttpPool(target.url, headers, connections_max=connections)
    if name == "http":
        return _OverHttp(pool, wait_seconds)
    if name == "bulk":
        return _OverBulk(pool)
    raise ValueError(f"no transport {name!r}: nats, http or bulk")


class _OverNats:
    """Requests over one connection of the tenant, all answers to one inbox."""

    def __init__(self, client: Connection) -> None:
        self.route = NATS_SUBJECT
        self._client = client
        self._inbox = client.new_inbox()
        self._pending: dict[str, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    async def start(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0)

    async def send(self, intents: Intents) -> list[Answered]:
        number = str(next(self._numbers))
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        body = _encode(intents[0] if len(intents) == 1 else intents)
        await self._client.publish(NATS_SUBJECT, body, f"{self._inbox}.{number}")
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = msgspec.json.decode(await future)
        except TimeoutError:
            self._pending.pop(number, None)
            return [Answered("no_answer")] * len(intents)
        if isinstance(answer, list):
            return [_answered(item) for item in answer]
        return [_answered(answer)] * len(intents)

    async def close(self) -> None:
        await self._client.close()

    async def _answered(self, message: Any) -> None:
        future = self._pending.pop(message.subject.rpartition(".")[2], None)
        if future is not None and not future.done():
            unheard = message.headers and message.headers.get("Status") == "503"
            future.set_result(b'{"status":503}' if unheard else message.data)


class _OverHttp:
    """One request per intent over kept-alive connections."""

    def __init__(self, pool: HttpPool, wait_seconds: int) -> None:
        self.route = f"POST {ROUTE}"
        self._pool, self._waits = pool, wait_seconds > 0
        self._prefer = f"prefer: wait={wait_seconds}\r\n" if wait_seconds else ""

    async def send(self, intents: Intents) -> list[Answered]:
        return [await self._one(intent) for intent in intents]

    async def _one(self, intent: dict[str, Any]) -> Answered:
        key = intent["idempotency_key"]
        body = _encode({name: value for name, value in intent.items() if name != "idempotency_key"})
        headers = f"x-idempotency-key: {key}\r\n{self._prefer}".encode()
        answer = await _ask(self._pool, ROUTE, body, headers)
        if isinstance(answer, str):
            return Answered(answer)
        if answer.status not in (200, 202):
            return _refused(answer)
        if self._waits:
            return Answered(f"{answer.status} {_decode(answer.body).get('status', '')}".strip())
        return Answered(f"{answer.status} replayed" if answer.replayed else str(answer.status))

    async def close(self) -> None:
        await self._pool.close()


class _OverBulk:
    """Up to a thousand intents in one request; each has its own key and its own answer."""

    def __init__(self, pool: HttpPool) -> None:
        self.route = f"POST {BULK_ROUTE}"
        self._pool = pool

    async def send(self, intents: Intents) -> list[Answered]:
        answer = await _ask(self._pool, BULK_ROUTE, _encode(list(intents)), b"")
        if isinstance(answer, str):
            return [Answered(answer)] * len(intents)
        if answer.status in (404, 405):
            raise RouteMissing(f"this gateway has no POST {BULK_ROUTE}: use the transport http or nats")
        decoded = msgspec.json.decode(answer.body or b"{}")
        items = decoded.get("results") if isinstance(decoded, dict) else decoded
        if not isinstance(items, list) or len(items) != len(intents):
            return [_refused(answer)] * len(intents)
        return [_answered(item) for item in items]

    async def close(self) -> None:
        await self._pool.close()


async def _ask(pool: HttpPool, path: str, body: bytes, headers: bytes) -> Response | str:
    """Return the answer, or the outcome of having none."""
    try:
        return await pool.request("POST", path, body, headers, ANSWER_SECONDS_MAX)
    except TimeoutError:
        return "no_answer"
    except (ConnectionLost, OSError) as error:
        return type(error).__name__


def _answered(item: dict[str, Any]) -> Answered:
    """Return how one element of an answer was answered: an answer with its status, or problem details."""
    status = item.get("status", 0)
    if status in (200, 202):
        return Answered(f"{status} replayed" if item.get("replayed") else str(status))
    problem = item.get("problem") or item.get("body") or item
    return _turned_away(status, problem, "")


def _refused(answer: Response) -> Answered:
    """Return how a whole request was refused."""
    return _turned_away(answer.status, _decode(answer.body), answer.retry_after)


def _turned_away(status: int, problem: dict[str, Any], retry_after: str) -> Answered:
    outcome = f"{status} {problem.get('code', '')}".strip()
    if not problem.get("retryable"):
        return Answered(outcome)
    said = retry_after or problem.get("retry_after_seconds", RETRY_SECONDS)
    return Answered(outcome, float(said))


def _decode(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
