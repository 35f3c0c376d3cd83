"""The clients of a workload: one request, one answer, written down before and after; nothing is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from zentra.bench.histories.recording import (
    Create,
    OpenCall,
    Operation,
    Place,
    ReadAccount,
    ReadEntries,
    ReadIntent,
    Recorder,
)
from zentra.gateway.http.lists import Cursors
from zentra.gateway.installation.installation import Installation
from zentra.runtime.stream_ports import StreamError
from zentra.storage.reads.entries import EntryPlace
from zentra.streams.connection import Connection, connect

__all__ = ["Clients", "Heard", "Target"]

ANSWER_SECONDS_MAX: Final = 10.0
CONNECTIONS_MAX: Final = 64
_encode: Final = msgspec.json.Encoder().encode


class Target(Struct, frozen=True, kw_only=True):
    """Where to find an installation: its API, the keys of its people by tenant, its NATS and its store."""

    base_url: str
    keys: Mapping[str, Mapping[str, str]]
    nats_urls: Mapping[str, str]
    postgres_url: str
    secret: bytes  # of the installation: it makes the cursors

    @classmethod
    def of(cls, installation: Installation) -> Target:
        """Return where a running installation is found."""
        return cls(
            base_url=installation.base_url,
            keys=installation.keys,
            nats_urls={tenant: installation.nats_url(tenant) for tenant in installation.keys},
            postgres_url=installation.postgres_admin_url,
            secret=installation.settings.secret_bytes(),
        )


class Heard(Struct, frozen=True):
    """An answer; status 0 is none."""

    status: int = 0
    body: bytes = b""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body or b"null")


class _Envelope(Struct):
    status: int
    replayed: bool = False
    body: msgspec.Raw = msgspec.Raw(b"")


class Clients:
    """Connections over both doors that many clients share; an async context manager."""

    def __init__(self, target: Target, recorder: Recorder, *, doors: tuple[str, ...] = ("http",)) -> None:
        self._target, self._recorder, self._doors = target, recorder, doors
        self._stack = AsyncExitStack()
        self._nats: dict[str, Connection] = {}
        self._session: aiohttp.ClientSession | None = None
        self._cursors = Cursors(target.secret)

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout)
        )
        if "nats" in self._doors:
            for tenant, url in self._target.nats_urls.items():
                connection = self._nats[tenant] = await connect(url, name="zentra histories")
                self._stack.push_async_callback(connection.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def process(self) -> int:
        """Return a number for a client."""
        return self._recorder.new_process()

    async def ask(self, process: int, operation: Operation) -> Heard:
        """Ask, write down what was heard, and return it; status 0 where no answer came."""
        try:
            with self._recorder.call(process, operation) as call:
                if isinstance(operation, Create) and operation.door == "nats":
                    return await self._over_nats(call, operation)
                return await self._over_http(call, operation)
        except (aiohttp.ClientError, TimeoutError, OSError, StreamError):
            return Heard()  # the recording says that nobody knows

    async def send(
        self, method: str, path: str, tenant: str, *, who: str = "dev", key: str = "", body: Any = None, wait: int = 0
    ) -> tuple[Heard, Mapping[str, str]]:
        """Send one request that is not written down; return the answer and its headers. Raises as aiohttp does."""
        assert self._session is not None, "clients are opened with `async with`"
        headers = {"authorization": f"Bearer {self._target.keys[tenant][who]}"}
        if key:
            headers |= {"x-idempotency-key": key, "content-type": "application/json"}
        if wait:
            headers["prefer"] = f"wait={wait}"
        data = _encode(body) if body is not None else None
        async with self._session.request(method, self._target.base_url + path, data=data, headers=headers) as response:
            return Heard(response.status, await response.read()), response.headers

    async def _over_http(self, call: OpenCall, operation: Operation) -> Heard:
        if isinstance(operation, Create):
            heard, headers = await self.send(
                "POST", "/runtime/intents", operation.tenant, key=operation.key, body=operation.body,
                wait=operation.wait,
            )  # fmt: skip
        else:
            heard, headers = await self.send("GET", self._path(operation), operation.tenant)
        call.answer(heard.status, heard.body, headers)
        return heard

    async def _over_nats(self, call: OpenCall, operation: Create) -> Heard:
        data = _encode({**operation.body, "idempotency_key": operation.key})
        connection = self._nats[operation.tenant]
        message = await connection.ask("zentra.intents.create", data, deadline_s=ANSWER_SECONDS_MAX)
        said = msgspec.json.decode(message.data, type=_Envelope)
        body = bytes(said.body) or message.data  # a problem is its own envelope
        call.answer(said.status, body, replayed=said.replayed)
        return Heard(said.status, body)

    def _path(self, operation: ReadIntent | ReadAccount | ReadEntries) -> str:
        if isinstance(operation, ReadIntent):
            return f"/runtime/intents/{quote(operation.intent_id, safe='')}"
        account = f"/accounts/{quote(operation.account_id, safe='')}"
        if isinstance(operation, ReadAccount):
            return account
        cursor = "" if operation.after is None else f"&cursor={self._cursor(operation, operation.after)}"
        return f"{account}/entries?limit={operation.limit}{cursor}"

    def _cursor(self, operation: ReadEntries, place: Place) -> str:
        """Return the cursor that says a place; clients get it whole, but a page may begin anywhere."""
        path = f"/accounts/{operation.account_id}/entries"
        where = EntryPlace(datetime.fromisoformat(place.at), place.intent, place.ordinal)
        return self._cursors.seal(operation.tenant, path, {}, where)
