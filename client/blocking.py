"""The client that blocks: `Zentra`. It may be shared by threads.

- Every call goes through `_Transport.send`, which tries again where that is safe and never changes what is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import SystemRandom
from time import monotonic, sleep, time
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2

from zentra.client import calls
from zentra.client.core import (
    Answer,
    Call,
    Settings,
    connection_error,
    pause_before_retry,
    read_answer,
    timeout_of,
)
from zentra.client.errors import APIError
from zentra.client.models import Account, AccountEntry, Command, Intent
from zentra.client.webhooks import Webhooks

__all__ = ["Accounts", "Intents", "Runtime", "Zentra"]

T = TypeVar("T")
_chance = SystemRandom().random


class Zentra:
    """A client of one tenant's API; a context manager, or `close` it yourself."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        http_client: httpx2.Client | None = None,
    ) -> None:
        """`api_key` and `base_url` come from ZENTRA_API_KEY and ZENTRA_BASE_URL where they are not given.

        `timeout` is for one attempt, in seconds, without what the server is asked to wait. An `http_client` of yours
        stays open when this is closed. Raises ZentraError without a key or URL, and ValueError for a senseless one."""
        transport = _Transport(Settings(api_key, base_url, timeout, max_retries), http_client)
        self._transport = transport
        self.runtime = Runtime(transport)
        self.accounts = Accounts(transport)
        self.webhooks = Webhooks()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Zentra({self._transport.settings!r})"


class Runtime:
    """What is below `/runtime`."""

    def __init__(self, transport: _Transport) -> None:
        self.intents = Intents(transport)


class Intents:
    """Intents: make, look, wait, cancel, reverse, export the evidence. Every method may raise APIError."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str,
        kind: str = "transfer",
        intent_id: str | None = None,
        scope: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Intent:
        """Return the intent as accepted or, after up to `wait` seconds (the server allows 30), as it then is.

        `amount` is in minor units. Without an `idempotency_key` one is made for this call and all its attempts; give
        one of yours, kept with the order that it is for, to be safe against a crash of your own process as well.
        Raises APIError and ValueError."""
        return self._transport.send(
            calls.create_intent(
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind=kind,
                intent_id=intent_id,
                scope=scope,
                metadata=metadata,
                idempotency_key=idempotency_key,
                wait=wait,
            )
        )

    def get(self, id: str, wait: int | None = None) -> Intent:
        """Return the intent with this intent_id or uuid, after up to `wait` seconds if it is not stable before.

        Raises APIError and ValueError."""
        return self._transport.send(calls.get_intent(id, wait))

    def wait(self, id: str, timeout: float) -> Intent:
        """Return the intent once it is `stable`, or after `timeout` seconds as it then is.

        Raises APIError and ValueError."""
        end = monotonic() + timeout
        while True:
            left = end - monotonic()
            intent = self.get(id, wait=calls.look_seconds(left))
            left = end - monotonic()
            if intent.stable or left <= 0:
                return intent
            sleep(min(calls.LOOK_PAUSE_SECONDS, left))

    def cancel(self, id: str, *, reason: str | None = None, idempotency_key: str | None = None) -> Command:
        """Cancel an intent before anything was sent to a rail; return where the command stands.

        Raises APIError (ConflictError `not_cancellable` where it is too late) and ValueError."""
        return self._transport.send(calls.cancel_intent(id, reason, idempotency_key))

    def reverse(
        self, id: str, amount: int | Literal["full"] = "full", *, reason: str, idempotency_key: str | None = None
    ) -> Command:
        """Give back all that is left, or a part in minor units; return where the command stands.

        The reason becomes part of the evidence. Raises APIError and ValueError."""
        return self._transport.send(calls.reverse_intent(id, amount, reason, idempotency_key))

    def evidence(self, id: str) -> bytes:
        """Return the sealed audit packet, for `zentra evidence verify`.

        Raises APIError (ConflictError `evidence_not_sealed` until it is sealed) and ValueError."""
        return self._transport.send(calls.get_evidence(id))


class Accounts:
    """Accounts: open, look, page through entries. Every method may raise APIError."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def create(
        self, *, account_id: str, owner: str, type: str, currency: str, idempotency_key: str | None = None
    ) -> Account:
        """Open an account and return it, without balances. Raises APIError and ValueError."""
        return self._transport.send(
            calls.create_account(
                account_id=account_id, owner=owner, type=type, currency=currency, idempotency_key=idempotency_key
            )
        )

    def get(self, id: str) -> Account:
        """Return an account with its balances. Raises APIError and ValueError."""
        return self._transport.send(calls.get_account(id))

    def entries(self, id: str, *, page_size: int | None = None) -> Iterator[AccountEntry]:
        """Yield every entry of an account, newest first; the next page is fetched when it is needed.

        Raises APIError and ValueError, on the first entry or at the turn of a page."""
        cursor: str | None = None
        while True:
            page = self._transport.send(calls.get_entries(id, cursor, page_size))
            yield from page.data
            cursor = page.next_cursor
            if cursor is None or not page.has_more:
                return


class _Transport:
    """Sends calls, again and again where that may help."""

    def __init__(self, settings: Settings, http_client: httpx2.Client | None) -> None:
        self.settings = settings
        self._http = httpx2.Client() if http_client is None else http_client
        self._owned = http_client is None

    def send(self, call: Call[T]) -> T:
        """Return what the answer to a call says. Raises APIError."""
        retries = 0
        while True:
            try:
                return read_answer(call, self._ask(call), time())
            except APIError as error:
                pause = pause_before_retry(error, retries, self.settings.max_retries, _chance())
                if pause is None:
                    raise
            sleep(pause)
            retries += 1

    def close(self) -> None:
        """Close the connections that were opened here."""
        if self._owned:
            self._http.close()

    def _ask(self, call: Call[Any]) -> Answer:
        settings = self.settings
        try:
            response = self._http.request(
                call.method,
                settings.base_url + call.path,
                content=call.body,
                headers={**settings.headers, **call.headers},
                timeout=timeout_of(call, settings),
                follow_redirects=False,
            )
        except httpx2.RequestError as error:
            raise connection_error(call, error) from error
        return Answer(response.status_code, response.headers, response.content)
