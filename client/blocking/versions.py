"""What a tenant keeps in versions. Methods may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from zentra.client.blocking.transport import Pages, Transport
from zentra.client.versions import DocumentVersion, VersionCalls

__all__ = ["Versions"]

V = TypeVar("V", bound=DocumentVersion)


class Versions(Generic[V]):
    """Write a version, check it, put it in force, go back."""

    def __init__(self, transport: Transport, calls: VersionCalls[V]) -> None:
        self._transport, self._calls = transport, calls

    def draft(
        self, document: Mapping[str, object], *, note: str | None = None, idempotency_key: str | None = None
    ) -> V:
        """Write the next version and return it; `violations` says what keeps it from being validated."""
        return self._transport.send(self._calls.draft(document, note, idempotency_key))

    def list(self, *, page_size: int | None = None) -> Pages[V]:
        """Return the versions, the newest first, without their documents."""
        return Pages(self._transport, self._calls.list(page_size))

    def get(self, version: int) -> V:
        """Return a version with its document and its events, the last first."""
        return self._transport.send(self._calls.get(version))

    def validate(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Check a draft as a whole. Raises UnprocessableEntityError naming everything that is wrong with it."""
        return self._transport.send(self._calls.move(version, "validate", idempotency_key))

    def promote(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Put a validated version in force. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(self._calls.move(version, "promote", idempotency_key))

    def roll_back(self, version: int, *, idempotency_key: str | None = None) -> V:
        """Put a version in force again. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(self._calls.move(version, "rollback", idempotency_key))
