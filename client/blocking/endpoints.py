"""Where webhooks are sent, and how. Every method may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from zentra.client import endpoint_calls as calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.endpoints import Endpoint

__all__ = ["Endpoints"]


class Endpoints:
    """Where webhooks are sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        url: str,
        events: Sequence[str] | None = None,
        mode: Literal["full", "thin"] | None = None,
        api_version: str | None = None,
        fifo: bool | None = None,
        signatures: Sequence[str] | None = None,
        schedule: Sequence[int] | None = None,
        concurrency: int | None = None,
        per_second: int | None = None,
        disable_after_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Endpoint:
        """Set up an endpoint and return it with its `secret`, which is shown this once.

        `events` are topics such as `ledger.posted`, beginnings such as `ledger.*`, or `*`; what is left out is as
        `docs/webhooks.md` says."""
        said = _said(
            url=url, events=events, mode=mode, api_version=api_version, fifo=fifo, signatures=signatures,
            schedule=schedule, concurrency=concurrency, per_second=per_second,
            disable_after_seconds=disable_after_seconds,
        )  # fmt: skip
        return self._transport.send(calls.create_endpoint(said, idempotency_key))

    def list(self) -> Pages[Endpoint]:
        """Return the endpoints, without their secrets."""
        return Pages(self._transport, calls.list_endpoints())

    def get(self, id: str) -> Endpoint:
        """Return an endpoint: how it is set up, whether it is called, and how it does."""
        return self._transport.send(calls.get_endpoint(id))

    def amend(
        self,
        id: str,
        *,
        version: int | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        mode: Literal["full", "thin"] | None = None,
        api_version: str | None = None,
        fifo: bool | None = None,
        signatures: Sequence[str] | None = None,
        schedule: Sequence[int] | None = None,
        concurrency: int | None = None,
        per_second: int | None = None,
        disable_after_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Endpoint:
        """Change what is named; with `version`, only where nobody else has changed it since."""
        said = _said(
            version=version, url=url, events=events, mode=mode, api_version=api_version, fifo=fifo,
            signatures=signatures, schedule=schedule, concurrency=concurrency, per_second=per_second,
            disable_after_seconds=disable_after_seconds,
        )  # fmt: skip
        return self._transport.send(calls.amend_endpoint(id, said, idempotency_key))

    def disable(self, id: str, *, idempotency_key: str | None = None) -> Endpoint:
        """Call an endpoint no more; what is for it is kept."""
        return self._transport.send(calls.switch_endpoint(id, "disable", idempotency_key))

    def enable(self, id: str, *, idempotency_key: str | None = None) -> Endpoint:
        """Call an endpoint again; `recover` says since when it was not."""
        return self._transport.send(calls.switch_endpoint(id, "enable", idempotency_key))

    def rotate(
        self,
        id: str,
        *,
        signature: Literal["v1", "v1a"] = "v1",
        overlap_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Endpoint:
        """Give an endpoint a new secret, shown this once, or a new key; the old ones sign for a day still, or for as
        long as it says."""
        return self._transport.send(calls.rotate_endpoint(id, signature, overlap_seconds, idempotency_key))

    def delete(self, id: str) -> None:
        """Take an endpoint away for good."""
        self._transport.send(calls.delete_endpoint(id))


def _said(**values: Any) -> dict[str, Any]:
    """Return what was said of an endpoint."""
    return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items() if one is not None}
