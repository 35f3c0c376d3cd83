"""What a tenant keeps in versions, policies and routes: what the API answers about them, and the calls, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

from zentra.client.answers import Answer
from zentra.client.calls import PageCall, pages
from zentra.client.core import Call, body_call, get_call
from zentra.client.models import Page

__all__ = ["DocumentEvent", "DocumentVersion", "DocumentViolation", "VersionCalls"]


class DocumentViolation(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a document: where (a JSON pointer), a code, and what was expected."""

    pointer: str
    code: str
    detail: str


class DocumentEvent(Struct, frozen=True, kw_only=True):
    """Who did what with a version, when."""

    version: int
    action: str
    principal: str
    at: datetime
    detail: Any = None


class DocumentVersion(Struct, frozen=True, kw_only=True):
    """A version; lists leave out its document, and only `get` brings its events."""

    version: int
    state: str
    digest: str
    note: str
    created_by: str
    created_at: datetime
    document: dict[str, Any] | None = None
    violations: tuple[DocumentViolation, ...] = ()
    links: dict[str, str] = {}
    events: tuple[DocumentEvent, ...] = ()


V = TypeVar("V", bound=DocumentVersion)


class VersionCalls(Generic[V]):
    """The calls of one kind of document, which is served below `path`."""

    def __init__(self, path: str, one: Callable[[Answer], V], page: Callable[[Answer], Page[V]]) -> None:
        self._path, self._one, self._page = path, one, page

    def draft(self, document: Mapping[str, object], note: str | None, idempotency_key: str | None) -> Call[V]:
        """Write the next version."""
        body = {"document": document, "note": note}
        return body_call(self._one, self._path, body=body, idempotency_key=idempotency_key)

    def list(self, page_size: int | None) -> PageCall[V]:
        """List versions, the newest first."""
        return pages(self._page, self._path, page_size=page_size, filters={})

    def get(self, version: int) -> Call[V]:
        """Look at a version."""
        return get_call(self._one, self._path, str(version))

    def move(
        self, version: int, step: Literal["validate", "promote", "rollback"], idempotency_key: str | None
    ) -> Call[V]:
        """Take a version one step on."""
        return body_call(self._one, self._path, str(version), step, body={}, idempotency_key=idempotency_key)
