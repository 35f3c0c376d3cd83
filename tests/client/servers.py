"""A server that answers from a list, and both clients behind one face, so that every rule is shown on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import msgspec

from zentra.client.api import APIError, AsyncZentra, Zentra

__all__ = ["ACCEPTED", "BASE_URL", "KEY", "Script", "problem", "shown"]

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

    def blocking(self, **options: Any) -> Zentra:
        return Zentra(KEY, BASE_URL, http_client=httpx2.Client(transport=httpx2.MockTransport(self)), **options)

    def awaiting(self, **options: Any) -> AsyncZentra:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return AsyncZentra(KEY, BASE_URL, http_client=http, **options)


Ask = Callable[[Any], Any]


def blocking(script: Script, ask: Ask, **options: Any) -> Any:
    """Return what `ask` gets from the client that blocks: a value, a list, or the error."""
    try:
        got = ask(script.blocking(**options))
        return list(got) if isinstance(got, Iterator) else got
    except APIError as error:
        return error


def awaiting(script: Script, ask: Ask, **options: Any) -> Any:
    """Return what `ask` gets from the client that awaits."""

    async def run() -> Any:
        try:
            got = ask(script.awaiting(**options))
            return [entry async for entry in got] if hasattr(got, "__aiter__") else await got
        except APIError as error:
            return error

    return asyncio.run(run())
