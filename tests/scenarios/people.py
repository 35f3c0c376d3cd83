"""Who takes part in the scenarios: somebody with an API key, and an auditor who reads the store past every door."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from zentra.gateway.installation.installation import Installation
from zentra.storage.audit import Audit, audit_installation
from zentra.storage.pool import Pool, open_pool
from zentra.streams.connection import Connection, connect

__all__ = ["Answer", "Books", "Heard", "NatsDoor", "Person", "intent_body", "nats_door", "until"]

POLL_SECONDS = 0.02
NO_HEADERS: Mapping[str, str] = {}
T = TypeVar("T")


class Answer(Struct, frozen=True):
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        return str(self.json.get("code", ""))

    @property
    def errors(self) -> dict[str, str]:
        """Codes by JSON pointer."""
        return {error["pointer"]: error["code"] for error in self.json.get("errors", ())}


class Person:
    """A principal of a tenant with the key that seeding gave them."""

    def __init__(self, installation: Installation, session: aiohttp.ClientSession, tenant: str, name: str) -> None:
        self.installation, self.session, self.tenant, self.name = installation, session, tenant, name

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wait: int | None = None,
        key: str | None = "",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """An empty `key` is a fresh one, None is none; bytes are sent as they are, `headers` win over ours."""
        given = {"authorization": f"Bearer {self.installation.keys[self.tenant][self.name]}"}
        if method == "POST":
            given["content-type"] = "application/json"
            if key is not None:
                given["x-idempotency-key"] = key or uuid.uuid4().hex
        if wait is not None:
            given["prefer"] = f"wait={wait}"
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        url = self.installation.base_url + path
        async with self.session.request(method, url, data=data, headers={**given, **headers}) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, names, await answer.read())

    async def get(self, path: str, *, wait: int | None = None) -> Answer:
        return await self.ask("GET", path, wait=wait)

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        wait: int | None = None,
        key: str | None = "",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        return await self.ask("POST", path, body, wait=wait, key=key, headers=headers)

    async def made(self, scenario: str = "success", **changes: Any) -> Any:
        """Make an intent and return it once nothing more happens by itself."""
        body = intent_body(metadata={"sandbox_scenario": scenario}, **changes)
        answer = await self.post("/runtime/intents", body, wait=20)
        assert answer.status in (200, 202), answer.body
        return answer.json

    async def packet(self, intent_id: str) -> bytes:
        """Return the audit packet once a signed head covers it."""

        async def asked() -> Answer:
            return await self.get(f"/runtime/intents/{intent_id}/evidence")

        return (await until(asked, lambda answer: answer.status == 200)).body


class Books:
    """The store, read by a superuser."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @classmethod
    @asynccontextmanager
    async def opened(cls, installation: Installation) -> AsyncIterator[Books]:
        async with await open_pool(installation.postgres_admin_url, name="test", connections_max=2) as pool:
            yield cls(pool)

    async def count(self, query: str, *values: object) -> int:
        return int(await self.pool.fetchval(query, *values))

    async def intents_of(self, key: str) -> int:
        """Return how many intents of acme a key has made."""
        return await self.count("select count(*) from intents where tenant = 'acme' and key = $1", key)

    async def postings_of(self, key: str, kind: str) -> int:
        """Return how many postings of a kind the intents of a key have."""
        return await self.count(
            "select count(*) from postings p join intents i on i.id = p.intent where i.key = $1 and p.kind = $2",
            key, kind,
        )  # fmt: skip

    async def written(self) -> dict[str, int]:
        """Return the number of rows of every table that requests write to and the engine does not."""
        tables = ("intents", "idempotency", "commands", "review_decisions", "accounts", "endpoints")
        return {table: await self.count(f"select count(*) from {table}") for table in tables}

    async def audit(self) -> Audit:
        return await audit_installation(self.pool)


class Heard(Struct, frozen=True):
    """An answer over NATS; `body` is kept as the bytes that came."""

    status: int
    replayed: bool = False
    body: msgspec.Raw = msgspec.Raw(b"")
    code: str = ""
    errors: list[dict[str, str]] = []


class NatsDoor:
    """The door for intents over a tenant's own connection; bytes are sent as they are."""

    def __init__(self, client: Connection) -> None:
        self._client = client

    async def __call__(self, body: Any) -> Heard:
        return msgspec.json.decode(await self._ask(body), type=Heard)

    async def batch(self, bodies: list[Any]) -> list[Heard]:
        return msgspec.json.decode(await self._ask(bodies), type=list[Heard])

    async def asked(self, body: Any) -> Any:
        """Return the answer to one request as it is, decoded."""
        return msgspec.json.decode(await self._ask(body))

    async def _ask(self, body: Any) -> bytes:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return bytes((await self._client.request("zentra.intents.create", data, timeout=10)).data)


@asynccontextmanager
async def nats_door(installation: Installation, tenant: str = "acme") -> AsyncIterator[NatsDoor]:
    """Yield the door while the connection is open."""
    client = await connect(installation.nats_url(tenant), name="test")
    try:
        yield NatsDoor(client)
    finally:
        await client.close()


def intent_body(**changes: Any) -> dict[str, Any]:
    """A sound transfer with an id of its own; `...` leaves a field out."""
    body = {
        "intent_id": f"int-{uuid.uuid4().hex}", "amount": 125_000, "currency": "NGN", "source": "customer-1",
        "destination": "merchant-1",
    }  # fmt: skip
    return {name: value for name, value in (body | changes).items() if value is not ...}


async def until(look: Callable[[], Awaitable[T]], fits: Callable[[T], bool]) -> T:
    """Return what is seen as soon as it fits; the test's own timeout is the bound."""
    while not fits(seen := await look()):
        await asyncio.sleep(POLL_SECONDS)
    return seen
