"""What both clients share: requests are built and answers are read here, and nothing here waits or opens a socket.

- A `Call` is one logical call. Its idempotency key is chosen once, and every attempt sends the same bytes.
- A mutation always has a key, so that trying again is safe; what answers say of trying again is believed.
- The API key stands in one header and in no message, `repr` or URL."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import httpx2
import msgspec
from msgspec import Struct

from zentra.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APITimeoutError,
    ProblemDocument,
    ZentraError,
    status_error,
)

__all__ = [
    "Answer",
    "Call",
    "Settings",
    "body_call",
    "connection_error",
    "get_call",
    "json_of",
    "pause_before_retry",
    "read_answer",
    "timeout_of",
]

SCHEMA_VERSION: Final = "2026.04"
WAIT_SECONDS_MAX: Final = 30  # the server holds nobody longer
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.5, 8.0  # doubled from try to try
RETRY_AFTER_SECONDS_MAX: Final = 60.0  # whoever is told to wait longer decides that, not a library
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")
_ORIGIN: Final = re.compile(r"https?://[^/?#\s]+[^?#\s]*\Z")
# What went wrong on this side goes wrong again.
_HOPELESS: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)

T = TypeVar("T")
_decode_problem: Final = msgspec.json.Decoder(ProblemDocument).decode


class Settings:
    """How a client reaches the API."""

    __slots__ = ("base_url", "headers", "max_retries", "timeout")

    def __init__(self, api_key: str | None, base_url: str | None, timeout: float, max_retries: int) -> None:
        """What is None is taken from ZENTRA_API_KEY and ZENTRA_BASE_URL. Raises ZentraError where there is none of
        either, and ValueError for a URL, time or number that makes no sense."""
        key = (api_key or os.environ.get("ZENTRA_API_KEY", "")).strip()
        url = (base_url or os.environ.get("ZENTRA_BASE_URL", "")).strip().rstrip("/")
        if not key:
            raise ZentraError("no API key: give api_key or set ZENTRA_API_KEY")
        if not url:
            raise ZentraError("no base URL: give base_url or set ZENTRA_BASE_URL")
        if not _KEY.match(key):
            raise ValueError("an API key holds visible ASCII characters and nothing else")
        if not _ORIGIN.match(url):
            raise ValueError("a base URL begins with http:// or https:// and has no query")
        if timeout <= 0 or max_retries < 0:
            raise ValueError("timeout is more than 0, and max_retries at least 0")
        self.base_url, self.timeout, self.max_retries = url, timeout, max_retries
        self.headers = {
            "authorization": f"Bearer {key}",
            "user-agent": "zentra-python",
            "zentra-version": SCHEMA_VERSION,
        }

    def __repr__(self) -> str:
        return f"{self.base_url!r}, timeout={self.timeout}, max_retries={self.max_retries}"


class Answer(Struct, frozen=True):
    """An answer as far as it has to be read; the names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """One logical call: what is sent on every attempt, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Answer], T]
    headers: Mapping[str, str]
    body: bytes | None = None
    idempotency_key: str | None = None
    held_seconds: float = 0.0


# Building.


def get_call(
    read: Callable[[Answer], T],
    *path: str,
    wait: int | None = None,
    query: Mapping[str, object] | None = None,
) -> Call[T]:
    """Return the call that looks at `path`. Raises ValueError for an empty id or a negative wait."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    target = _path(path) + (f"?{urlencode(given)}" if given else "")
    return Call(method="GET", path=target, read=read, headers=_prefer(wait), held_seconds=_held(wait))


def body_call(
    read: Callable[[Answer], T],
    *path: str,
    body: Mapping[str, object],
    idempotency_key: str | None,
    wait: int | None = None,
    held_seconds: float = 0.0,
) -> Call[T]:
    """Return the call that posts `body`, without what is None in it, under the given key or a new one.

    Raises ValueError for an empty id, a negative wait or a malformed key, and TypeError for what is not JSON."""
    key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
    if not _KEY.match(key):
        raise ValueError("an idempotency key is 1 to 255 visible ASCII characters")
    return Call(
        method="POST",
        path=_path(path),
        read=read,
        headers={"content-type": "application/json", "x-idempotency-key": key, **_prefer(wait)},
        body=msgspec.json.encode({name: value for name, value in body.items() if value is not None}),
        idempotency_key=key,
        held_seconds=max(held_seconds, _held(wait)),
    )


def timeout_of(call: Call[Any], settings: Settings) -> httpx2.Timeout:
    """Return the limits of one attempt: what the server is asked to wait comes on top of how long we wait for it."""
    return httpx2.Timeout(settings.timeout, read=settings.timeout + call.held_seconds)


def _path(parts: tuple[str, ...]) -> str:
    """Return the parts as a path; none can reach beyond its place."""
    if not all(part.strip(".") for part in parts):
        raise ValueError("an id is not empty and not only dots")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _prefer(wait: int | None) -> dict[str, str]:
    if wait is not None and wait < 0:
        raise ValueError("wait is at least 0 seconds")
    return {} if wait is None else {"prefer": f"wait={int(wait)}"}


def _held(wait: int | None) -> float:
    return float(min(wait or 0, WAIT_SECONDS_MAX))


# Reading.


def json_of(kind: type[T]) -> Callable[[Answer], T]:
    """Return the function that reads a body as `kind`; digits in a string count as a number."""
    decode = msgspec.json.Decoder(kind, strict=False).decode

    def read(answer: Answer) -> T:
        return decode(answer.body)

    return read


def read_answer(call: Call[T], answer: Answer, now: float) -> T:
    """Return what an answer says; `now` is in seconds since 1970. Raises APIStatusError or APIResponseError."""
    request_id = answer.headers.get("x-request-id", "")
    if 200 <= answer.status < 300:
        try:
            return call.read(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise APIResponseError(
                f"{answer.status}, but the body is not what was asked for: {error}",
                status=answer.status, request_id=request_id, idempotency_key=call.idempotency_key,
            ) from error  # fmt: skip
    try:
        problem = _decode_problem(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = ProblemDocument()  # not ours: something in between has answered
    raise status_error(
        answer.status, problem, request_id=request_id, idempotency_key=call.idempotency_key,
        retry_after_seconds=_retry_after(answer.headers.get("retry-after", ""), now),
    )  # fmt: skip


def connection_error(call: Call[Any], error: httpx2.RequestError) -> APIConnectionError:
    """Return what it means to the caller that there was no answer."""
    kind = APITimeoutError if isinstance(error, httpx2.TimeoutException) else APIConnectionError
    return kind(
        f"no answer to {call.method} {call.path.partition('?')[0]}: {error or type(error).__name__}",
        idempotency_key=call.idempotency_key,
        retryable=isinstance(error, httpx2.TransportError) and not isinstance(error, _HOPELESS),
    )


def pause_before_retry(error: APIError, retries: int, retries_max: int, chance: float) -> float | None:
    """Return how many seconds to wait before the next try, or None where `error` is the answer.

    `retries` were made so far; `chance` in 0..1 keeps clients that failed together from coming back together. What
    Retry-After asks for is waited for in full, or not at all where it is more than a minute."""
    asked = error.retry_after_seconds or 0.0
    if not error.retryable or retries >= retries_max or asked > RETRY_AFTER_SECONDS_MAX:
        return None
    backoff = min(PAUSE_SECONDS_FIRST * 2.0 ** min(retries, 16), PAUSE_SECONDS_MAX)
    return asked + backoff * (0.5 + chance / 2)


def _retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or as a date."""
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
