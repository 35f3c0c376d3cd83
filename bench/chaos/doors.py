"""Both doors of an installation as a client of a chaos run uses them: one request, one answer, or none in time.

- An answer is what the runtime said. Whatever else happens (a socket that breaks, a server that is away, silence) is
  `Unanswered`: the client does not know what became of its request, and nothing is tried again here.
- A door outlives the servers behind it; it connects again by itself.
- A recorded door writes a history that `zentra.bench.histories` can check."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import aiohttp
import msgspec
from msgspec import Struct

from zentra.bench.histories.recording import Create, Recorder
from zentra.runtime.stream_ports import StreamError
from zentra.streams.connection import Connection, connect

__all__ = ["Answer", "Creates", "HttpDoor", "NatsDoor", "RecordedDoor", "Unanswered"]

ANSWER_SECONDS_MAX: Final = 10.0  # a client that waits longer only holds more requests open
CONNECTIONS_MAX: Final = 64

_encode: Final = msgspec.json.Encoder().encode


class Unanswered(Exception):
    """Raised where no answer came: the outcome of the request is unknown."""


class Answer(Struct, frozen=True):
    """What a door said. `code` is that of a problem; `body` the bytes of an accepted intent or of what was read."""

    status: int
    body: bytes
    code: str = ""
    replayed: bool = False


class _Problem(Struct):
    code: str = ""


class HttpDoor:
    """The HTTP API with the keys of everybody; an async context manager."""

    def __init__(self, base_url: str, keys: Mapping[str, Mapping[str, str]]) -> None:
        self._base_url, self._keys = base_url, keys
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX), timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def create(self, tenant: str, key: str, body: Mapping[str, Any]) -> Answer:
        """Ask for an intent; raises Unanswered."""
        return await self.ask("POST", "/runtime/intents", tenant, "dev", key=key, body=body)

    async def ask(
        self, method: str, path: str, tenant: str, who: str, *, key: str = "", body: Mapping[str, Any] | None = None
    ) -> Answer:
        """Return the answer to one request as a principal of a tenant; raises Unanswered."""
        assert self._session is not None, "the door is opened with `async with`"
        headers = {"authorization": f"Bearer {self._keys[tenant][who]}"}
        if key:
            headers["x-idempotency-key"] = key
        if body is not None:
            headers["content-type"] = "application/json"
        data = None if body is None else _encode(body)
        try:
            async with self._session.request(method, self._base_url + path, data=data, headers=headers) as response:
                said = await response.read()
                replayed = response.headers.get("idempotent-replayed") == "true"
                return Answer(response.status, said, _code_of(response.status, said), replayed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unanswered(type(error).__name__) from error


class _Heard(Struct):
    status: int
    replayed: bool = False
    body: msgspec.Raw = msgspec.Raw(b"")
    code: str = ""


class NatsDoor:
    """The NATS door with a connection per tenant; an async context manager."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls
        self._connections: dict[str, Connection] = {}

    async def __aenter__(self) -> Self:
        for tenant, url in self._urls.items():
            self._connections[tenant] = await connect(url, name=f"chaos {tenant}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    async def create(self, tenant: str, key: str, body: Mapping[str, Any]) -> Answer:
        """Ask for an intent; raises Unanswered."""
        data = _encode({**body, "idempotency_key": key})
        try:
            message = await self._connections[tenant].ask("zentra.intents.create", data, deadline_s=ANSWER_SECONDS_MAX)
        except StreamError as error:
            raise Unanswered(str(error)) from error
        heard = msgspec.json.decode(message.data, type=_Heard)
        said = bytes(heard.body) if heard.status < 400 else message.data
        return Answer(heard.status, said, heard.code, heard.replayed)


class Creates(Protocol):
    """A door through which intents are asked for."""

    async def create(self, tenant: str, key: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer; raise Unanswered."""
        ...


class RecordedDoor:
    """A door whose every request and answer stands in a history."""

    def __init__(self, name: str, door: Creates, recorder: Recorder) -> None:
        self._name, self._door, self._recorder = name, door, recorder
        self._idle: list[int] = []

    async def create(self, tenant: str, key: str, body: Mapping[str, Any]) -> Answer:
        """Ask for an intent; raises Unanswered."""
        process = self._idle.pop() if self._idle else self._recorder.new_process()
        with self._recorder.call(process, Create(tenant=tenant, key=key, body=dict(body), door=self._name)) as call:
            answer = await self._door.create(tenant, key, body)
            call.answer(answer.status, answer.body, replayed=answer.replayed)
        self._idle.append(process)  # one whose answer never came is not used again
        return answer


def _code_of(status: int, body: bytes) -> str:
    if status < 400:
        return ""
    try:
        return msgspec.json.decode(body, type=_Problem).code
    except msgspec.MsgspecError:
        return ""
