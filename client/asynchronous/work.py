"""What people decide, which endpoints there are, and what proves it. Every method may raise APIError and ValueError."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Sequence
from time import monotonic

from zentra.client import calls
from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.calls import Time
from zentra.client.errors import ConflictError
from zentra.client.evidence import Verdict, verify_packet
from zentra.client.models import Case, Command, Denial, Endpoint, ErrorPage, Version

__all__ = [
    "AsyncCases",
    "AsyncDenials",
    "AsyncEndpoints",
    "AsyncEvidence",
    "AsyncMeta",
]

NOT_SEALED = "evidence_not_sealed"
SEAL_PAUSE_SECONDS = 1.0


class AsyncCases:
    """Cases that somebody has to look into."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: str | None = None,
        intent_id: str | None = None,
        kind: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Case]:
        """Return the cases that fit, the last opened first."""
        filters = {
            "status": status, "intent_id": intent_id, "kind": kind,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return AsyncPages(self._transport, calls.list_cases(page_size, filters))

    async def get(self, id: str) -> Case:
        """Return a case."""
        return await self._transport.send(calls.get_case(id))

    async def resolve(
        self, id: str, resolution: str, *, reason: str, idempotency_key: str | None = None, wait: int | None = None
    ) -> Command:
        """End a case with a fact: `succeeded`, `declined`, `retry` or `dismissed`; one of a possible match with
        `true_match` or `false_positive`."""
        return await self._transport.send(calls.resolve_case(id, resolution, reason, idempotency_key, wait))


class AsyncDenials:
    """What the tenant's people were refused."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        reason: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Denial]:
        """Return the refusals that fit, the latest minute first."""
        filters = {
            "actor": actor, "action": action, "reason": reason,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return AsyncPages(self._transport, calls.list_denials(page_size, filters))


class AsyncEndpoints:
    """Where webhooks are sent."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, *, url: str, events: Sequence[str] | None = None, idempotency_key: str | None = None
    ) -> Endpoint:
        """Set up an endpoint and return it with its `secret`, which is shown this once.

        `events` are topics such as `ledger.posted`, beginnings such as `ledger.*`, or `*`."""
        return await self._transport.send(calls.create_endpoint(url, events, idempotency_key))

    def list(self) -> AsyncPages[Endpoint]:
        """Return the endpoints, without their secrets."""
        return AsyncPages(self._transport, calls.list_endpoints())


class AsyncEvidence:
    """Audit packets."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, id: str) -> bytes:
        """Return the sealed packet of an intent.

        Raises APIError (ConflictError `evidence_not_sealed` until it is sealed) and ValueError."""
        return await self._transport.send(calls.get_evidence(id))

    async def wait(self, id: str, timeout: float) -> bytes:  # noqa: ASYNC109 - tells how long to ask
        """Return the packet once it is sealed, at most a minute after the intent has settled.

        Raises ConflictError `evidence_not_sealed` where it is not after `timeout` seconds, any other APIError at once,
        and ValueError."""
        end = monotonic() + timeout
        while True:
            try:
                return await self._transport.send(calls.get_evidence(id), max_retries=0)
            except ConflictError as error:
                left = end - monotonic()
                if error.code != NOT_SEALED or left <= 0:
                    raise
                pause = min(error.retry_after_seconds or SEAL_PAUSE_SECONDS, left)
            await sleep(pause)

    @staticmethod
    def verify(packet: bytes, public_key: bytes) -> Verdict:
        """See `zentra.client.evidence.verify_packet`."""
        return verify_packet(packet, public_key)


class AsyncMeta:
    """The API itself; these need no key."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def version(self) -> Version:
        """Return which version runs, and which schema it speaks."""
        return await self._transport.send(calls.get_version())

    async def error(self, code: str) -> ErrorPage:
        """Return what an error code means and what to do about it."""
        return await self._transport.send(calls.get_error(code))
