"""`NatsZentra`: intents over NATS instead of HTTP, and the feed of what happens; it needs the extra `nats`.

    async with NatsZentra("nats://acme:...@127.0.0.1:4222") as client:
        intent = await client.runtime.intents.create(amount=100, currency="NGN", source="a", destination="b")

- A request is answered after the commit. Whoever hears nothing asks again, and every attempt has the same key.
- Requests pipeline on one connection, which comes back by itself; nothing is sent while it is away.
- The feed brings every event that is committed while one listens, each at least once; for those before, use HTTP."""

from __future__ import annotations

import os
from asyncio import sleep, timeout
from collections.abc import AsyncGenerator, Mapping, Sequence
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from zentra.client.attempts import Addresses, Attempts
from zentra.client.bulk import BulkResult, NewIntent, bulk_body, bulk_results, intent_body
from zentra.client.core import SCHEMA_VERSION, new_key, problem_error
from zentra.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APITimeoutError,
    MissingExtraError,
    ZentraError,
)
from zentra.client.models import Intent, Record

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["NatsEvents", "NatsIntents", "NatsRuntime", "NatsZentra"]

SUBJECT: Final = "zentra.intents.create"
FEED: Final = "zentra.feed"
_HEADERS: Final = {"zentra-version": SCHEMA_VERSION}
_CONNECT_SECONDS: Final = 10.0
_RECONNECT_PAUSE_SECONDS: Final = 0.2
_PING_SECONDS: Final = 10  # a server that is gone without a word is noticed within half a minute
_FLUSH_SECONDS: Final = 2.0
_chance = SystemRandom().random

_record: Final = msgspec.json.Decoder(Record, strict=False).decode
_answers: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class NatsZentra:
    """A client of one tenant over its NATS account; an `async with`, or `connect` and `aclose`."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        timeout: float = 10.0,
        max_retries: int = 2,
        total_timeout: float = 60.0,
        nats_client: Client | None = None,
    ) -> None:
        """`url`, with the tenant's user and password, comes from ZENTRA_NATS_URL where it is not given.

        `timeout` is for one attempt, `total_timeout` for all of a call, in seconds. A connected `nats_client` of yours
        stays open when this is closed. Raises ZentraError without a URL, and ValueError for a senseless number."""
        given = url or os.environ.get("ZENTRA_NATS_URL", "")
        urls = [one.strip() for one in (given.split(",") if isinstance(given, str) else given) if one.strip()]
        if not urls and nats_client is None:
            raise ZentraError("no NATS URL: give url or set ZENTRA_NATS_URL")
        if timeout <= 0 or total_timeout <= 0 or max_retries < 0:
            raise ValueError("timeout and total_timeout are more than 0, and max_retries at least 0")
        self._door = _Door(urls, timeout, max_retries, total_timeout, nats_client)
        self.runtime = NatsRuntime(self._door)

    async def connect(self) -> None:
        """Connect. Raises APIConnectionError, and MissingExtraError without the extra `nats`."""
        await self._door.connect()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._door.aclose()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class NatsRuntime:
    """What there is over NATS."""

    def __init__(self, door: _Door) -> None:
        self.intents = NatsIntents(door)
        self.events = NatsEvents(door)


class NatsIntents:
    """Intents: make one or many. Every method may raise APIError."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    async def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str,
        kind: str = "transfer",
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fee_max: int | None = None,
        fee_quote: str | None = None,
        idempotency_key: str | None = None,
    ) -> Intent:
        """Return the intent as accepted; see `AsyncIntents.create`. What becomes of it is on the feed."""
        wanted = NewIntent(
            amount=amount, currency=currency, source=source, destination=destination, kind=kind, intent_id=intent_id,
            scope=scope, country=country, metadata=None if metadata is None else dict(metadata),
            fee_max=fee_max, fee_quote=fee_quote,
            idempotency_key=new_key() if idempotency_key is None else idempotency_key,
        )  # fmt: skip
        body = {name: value for name, value in intent_body(wanted).items() if value is not None}
        body["idempotency_key"] = wanted.idempotency_key
        answer = await self._door.ask(msgspec.json.encode(body), wanted.idempotency_key)
        return _results([wanted], [msgspec.Raw(answer)])[0].unwrap()

    async def create_many(self, intents: Sequence[NewIntent]) -> tuple[BulkResult, ...]:
        """Make up to 1,000 intents in one request; return what became of each, in order.

        Raises APIError where the whole request failed, and ValueError for too many or a key that two of them have."""
        answer = await self._door.ask(bulk_body(intents), None)
        try:
            answers = _answers(answer)
        except msgspec.MsgspecError as error:
            raise APIResponseError(f"the answer is not what was asked for: {error}") from error
        return _results(intents, answers)


class NatsEvents:
    """What happens to the tenant's intents."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    async def listen(self, topic: str = "*.*", intent: str = "*") -> AsyncGenerator[Record, None]:
        """Yield the records of events from now on: all, or those of a topic such as `ledger.posted`, or of an intent.

        The feed begins about a second after the first of the tenant listens, and an event may come twice; `intent` and
        `sequence` tell. Raises APIConnectionError where it cannot listen, and APIResponseError for what is no record.
        """
        from nats.errors import Error

        client = self._door.client
        try:
            subscription = await client.subscribe(f"{FEED}.{topic}.{intent}")
            await client.flush()
        except (Error, OSError, TimeoutError) as error:
            raise APIConnectionError(f"cannot listen: {error or type(error).__name__}") from error
        try:
            async for message in subscription.messages:
                yield _read_record(message.data)
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()


class _Door:
    """One connection, and how it is asked."""

    def __init__(
        self, urls: list[str], timeout: float, max_retries: int, total_timeout: float, client: Client | None
    ) -> None:
        self._urls, self._client, self._owned = urls, client, client is None
        self._timeout, self._max_retries, self._total_timeout = timeout, max_retries, total_timeout
        self._addresses = Addresses(("nats",))

    @property
    def client(self) -> Client:
        """The connection. Raises APIConnectionError where there is none."""
        if self._client is None:
            raise APIConnectionError("not connected: use `async with`, or connect")
        return self._client

    async def connect(self) -> None:
        """See `NatsZentra`."""
        if self._client is not None:
            return
        try:
            from nats.aio.client import Client
            from nats.errors import Error
        except ImportError as error:
            raise MissingExtraError("NATS", "nats") from error
        client = Client()
        try:
            async with timeout(_CONNECT_SECONDS):  # it would try for ever
                await client.connect(
                    servers=self._urls, name="zentra-python", error_cb=_ignore, max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_PAUSE_SECONDS,  # type: ignore[arg-type]  # annotated int
                    ping_interval=_PING_SECONDS, max_outstanding_pings=2, flush_timeout=_FLUSH_SECONDS,
                )  # fmt: skip
        except (Error, OSError, TimeoutError) as error:
            await client.close()
            raise APIConnectionError(f"NATS does not answer: {error or type(error).__name__}") from error
        self._client = client

    async def aclose(self) -> None:
        """Close the connection that was opened here."""
        client, self._client = self._client, None
        if client is not None and self._owned:
            await client.close()

    async def ask(self, body: bytes, idempotency_key: str | None) -> bytes:
        """Return the answer to a request. Raises APIError."""
        now = monotonic()
        attempts = Attempts(self._addresses, retries=self._max_retries, now=now, seconds=self._total_timeout)
        while True:
            try:
                return await self._ask(body, idempotency_key, min(self._timeout, attempts.seconds_left(monotonic())))
            except APIError as error:
                pause = attempts.pause(error, monotonic(), _chance())
                if pause is None:
                    raise
            await sleep(pause)

    async def _ask(self, body: bytes, idempotency_key: str | None, seconds: float) -> bytes:
        from nats.errors import Error

        client = self.client
        if not client.is_connected:
            raise APIConnectionError("NATS is away", idempotency_key=idempotency_key, retryable=not client.is_closed)
        try:
            message = await client.request(SUBJECT, body, timeout=seconds, headers=_HEADERS)
        except TimeoutError as error:
            raise APITimeoutError("no answer in time", idempotency_key=idempotency_key, retryable=True) from error
        except (Error, OSError) as error:
            said = f"no answer over NATS: {error or type(error).__name__}"
            raise APIConnectionError(said, idempotency_key=idempotency_key, retryable=True) from error
        answer = bytes(message.data)
        try:
            refused = not answer.startswith(b"[") and _code(answer).code
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            said = f"the answer is not what was asked for: {error}"
            raise APIResponseError(said, idempotency_key=idempotency_key) from error
        if refused:
            raise problem_error(answer, idempotency_key)
        return answer


class _Code(msgspec.Struct):
    code: str = ""


_code: Final = msgspec.json.Decoder(_Code).decode


def _read_record(data: bytes) -> Record:
    try:
        return _record(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise APIResponseError(f"what the feed brought is not a record: {error}") from error


def _results(wanted: Sequence[NewIntent], answers: Sequence[msgspec.Raw]) -> tuple[BulkResult, ...]:
    try:
        return bulk_results(wanted, answers)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        key = wanted[0].idempotency_key if len(wanted) == 1 else None
        raise APIResponseError(f"the answer is not what was asked for: {error}", idempotency_key=key) from error


async def _ignore(error: Exception) -> None:
    """Say nothing: whoever asks hears it, and nobody else has to."""
