"""Answers as they came: status, headers and bytes, beside the value that was read from them.

- The names of headers are in small letters.
- Whoever wants to see the answer of a call gets the last one of that call, and of no other call beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Generic, TypeVar

from msgspec import Struct

__all__ = ["SEEN", "Answer", "RateLimit", "RawResponse", "note", "raw_response"]

T = TypeVar("T")

SEEN: Final[ContextVar[list[Answer] | None]] = ContextVar("zentra_answers", default=None)
"""The answers to the call that somebody wants to see raw; None where nobody does."""

_LIMIT: Final = re.compile(r'\s*"?([^";,]*)"?\s*;\s*r=(\d{1,15})(?:\s*;\s*t=(\d{1,15}))?')


class RateLimit(Struct, frozen=True):
    """What is left of a limit: its name, so many units, and the seconds until it is full again where that was said."""

    name: str
    remaining: int
    reset_seconds: int | None = None


class Answer(Struct, frozen=True):
    """An answer as far as it has to be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id to name when asking the operators; empty where something in between has answered."""
        return self.headers.get("x-request-id", "")

    @property
    def replayed(self) -> bool:
        """Whether this is the answer of an earlier request with the same idempotency key."""
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit that is nearest (`RateLimit`, draft-ietf-httpapi-ratelimit-headers-11), or None."""
        found = _LIMIT.match(self.headers.get("ratelimit", ""))
        return None if found is None else RateLimit(found[1], int(found[2]), int(found[3]) if found[3] else None)


class RawResponse(Struct, Generic[T], frozen=True):
    """What a method returned, and the answer that it was read from."""

    value: T
    answer: Answer

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names in small letters."""
        return self.answer.headers

    @property
    def request_id(self) -> str:
        """See `Answer`."""
        return self.answer.request_id

    @property
    def replayed(self) -> bool:
        """See `Answer`."""
        return self.answer.replayed

    @property
    def rate_limit(self) -> RateLimit | None:
        """See `Answer`."""
        return self.answer.rate_limit


def note(answer: Answer) -> None:
    """Keep an answer for whoever wants to see it."""
    seen = SEEN.get()
    if seen is not None:
        seen.append(answer)


def raw_response(value: T, seen: list[Answer]) -> RawResponse[T]:
    """Return the value with the last answer. Raises TypeError where there was none: an iterator asks later."""
    if not seen:
        raise TypeError("the method made no request; of a list, ask for a page: with_raw_response(pages.page)")
    return RawResponse(value, seen[-1])
