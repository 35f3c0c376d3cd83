"""What a tenant keeps in versions. Methods may raise APIError and ValueError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.versions import DocumentVersion, VersionCalls

__all__ = ["AsyncVersions"]

V = TypeVar("V", bound=DocumentVersion)


class AsyncVersions(Generic[V]):
    """Write a version, check it, put it in force, go back."""

    def __init__(self, transport: AsyncTransport, calls: VersionCalls[V]) -> None:
        self._transport, self._calls = transport, calls

    async def draft(
        self, document: Mapping[str, object], *, note: str | None = None, idempotency_key: str | None = None
    ) -> V:
        """Write the next version and return it; `violations` says what keeps it from being validated."""
        return await self._transport.send(self._calls.draft(document, note, idempotency_key))

    def list(self, *, page_size: int | None = None) -> AsyncPages[V]:
        """Return the versions, the newest first, without their documents."""
        return AsyncPages(self._transport, self._calls.list(page_size))

    async def get(self, version: int) -> V:
        """Return a version with its document and its events, the last first."""
        return await self._transport.send(self._calls.get(version))

    async def validate(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Check a draft as a whole. Raises UnprocessableEntityError naming everything that is wrong with it."""
        return await self._transport.send(self._calls.move(version, "validate", idempotency_key))

    async def promote(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Put a validated version in force. Raises PermissionDeniedError `self_promotion` for its author."""
        return await self._transport.send(self._calls.move(version, "promote", idempotency_key))

    async def roll_back(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Put a version in force again. Raises PermissionDeniedError `self_promotion` for its author."""
        return await self._transport.send(self._calls.move(version, "rollback", idempotency_key))
