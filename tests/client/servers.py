"""A server that answers from a list, and both clients behind one face, so that every rule is shown on each."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import msgspec
import pytest

from zentra.client.api import APIError, AsyncZentra, Zentra
from zentra.client.asynchronous import money as async_money
from zentra.client.asynchronous import transport as async_transport
from zentra.client.asynchronous import work as async_work
from zentra.client.blocking import money, transport, work

__all__ = [
    "ACCEPTED",
    "BASE_URL",
    "KEY",
    "Ask",
    "Script",
    "Step",
    "awaiting",
    "blocking",
    "no_pauses",
    "problem",
    "shown",
]

BASE_URL, KEY = "http://zentra.test", "zk_test_key_secret"
ACCEPTED: dict[str, Any] = {
    "intent_id": "order-1", "id": "0" * 32, "status": "ACCEPTED", "kind": "transfer", "amount": 125_000,
    "currency": "NGN", "created_at": "2026-11-21T02:41:59.000000Z",
    "links": {"self": "/runtime/intents/order-1", "evidence": "/runtime/intents/order-1/evidence"},
}  # fmt: skip

Step = tuple[int, Any, dict[str, str]] | type[httpx2.RequestError]


def shown(**changes: Any) -> dict[str, Any]:
    """Return an intent as the server shows it."""
    return ACCEPTED | changes


def problem(status: int, code: str, retryable: bool | None = None, **more: Any) -> Step:
    """Return an answer that is an error, `retry_after` being a header."""
    headers = {"retry-after": more.pop("retry_after")} if "retry_after" in more else {}
    body = {"code": code, "title": "title", "status": status, "request_id": "req_1", **more}
    return status, body if retryable is None else body | {"retryable": retryable}, headers


class Script:
    """Answers each request with the next step and keeps it; the last step is for all that follow."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, type):
            raise step("broken", request=request)
        status, body, headers = step
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return httpx2.Response(status, content=content, headers=headers)

    @property
    def keys(self) -> Sequence[str]:
        """The idempotency keys of the requests."""
        return [request.headers["x-idempotency-key"] for request in self.requests]

    def blocking(self, base_url: Any = BASE_URL, **options: Any) -> Zentra:
        return Zentra(KEY, base_url, http_client=httpx2.Client(transport=httpx2.MockTransport(self)), **options)

    def awaiting(self, base_url: Any = BASE_URL, **options: Any) -> AsyncZentra:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return AsyncZentra(KEY, base_url, http_client=http, **options)


Ask = Callable[[Any], Any]
FEW = 20  # of what comes one by one


def blocking(script: Script, ask: Ask, **options: Any) -> Any:
    """Return what `ask` gets from the client that blocks: a value, the first of what comes one by one, or the error."""
    try:
        got = ask(script.blocking(**options))
        return list(itertools.islice(got, FEW)) if isinstance(got, transport.Pages | transport.EventStream) else got
    except APIError as error:
        return error


def awaiting(script: Script, ask: Ask, **options: Any) -> Any:
    """Return what `ask` gets from the client that awaits."""

    async def few(got: Any) -> list[Any]:
        taken: list[Any] = []
        async for one in got:
            taken.append(one)
            if len(taken) == FEW:
                break
        return taken

    async def run() -> Any:
        try:
            got = ask(script.awaiting(**options))
            return await few(got) if hasattr(got, "__aiter__") else await got
        except APIError as error:
            return error

    return asyncio.run(run())


def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of every pause that a client makes from now on; none takes time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    for module in (transport, money, work):
        monkeypatch.setattr(module, "sleep", made.append)
    for module in (async_transport, async_money, async_work):
        monkeypatch.setattr(module, "sleep", pause)
    return made
