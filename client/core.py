"""What both clients share: requests are built and answers are read here, and nothing here waits or opens a socket.

- A `Call` is one logical call. Its idempotency key is chosen once, and every attempt sends the same bytes.
- A mutation always has a key, so that trying again is safe; what answers say of trying again is believed.
- The API key stands in one header and in no message, `repr` or URL."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import httpx2
import msgspec
from msgspec import Struct

from zentra.client.answers import Answer
from zentra.client.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ProblemDocument,
    ZentraError,
    status_error,
)

__all__ = [
    "SCHEMA_VERSION",
    "Call",
    "Settings",
    "body_call",
    "check_key",
    "connection_error",
    "get_call",
    "json_of",
    "new_key",
    "problem_error",
    "read_answer",
    "response_error",
    "timeout_of",
]

SCHEMA_VERSION: Final = "2026.04"
WAIT_SECONDS_MAX: Final = 30  # the server holds nobody longer
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")
_CREDENTIAL: Final = re.compile(r"[\x21-\x7e]{1,8192}\Z")
_ORIGIN: Final = re.compile(r"https?://[^/?#\s,]+[^?#\s,]*\Z")
# What went wrong on this side goes wrong again.
_HOPELESS: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)

T = TypeVar("T")
_decode_problem: Final = msgspec.json.Decoder(ProblemDocument).decode


class Settings:
    """How a client reaches the API."""

    __slots__ = ("base_urls", "headers", "max_retries", "timeout", "total_timeout")

    def __init__(
        self,
        api_key: str | None,
        base_url: str | Sequence[str] | None,
        timeout: float,
        max_retries: int,
        total_timeout: float,
    ) -> None:
        """What is None is taken from ZENTRA_API_KEY and ZENTRA_BASE_URL; several URLs have commas between them. Raises
        ZentraError where there is none of either, and ValueError for a URL, time or number that makes no sense."""
        key = (api_key or os.environ.get("ZENTRA_API_KEY", "")).strip()
        given = base_url or os.environ.get("ZENTRA_BASE_URL", "")
        listed = given.split(",") if isinstance(given, str) else given
        urls = tuple(url.strip().rstrip("/") for url in listed if url.strip())
        if not key:
            raise ZentraError("no API key: give api_key or set ZENTRA_API_KEY")
        if not urls:
            raise ZentraError("no base URL: give base_url or set ZENTRA_BASE_URL")
        if not _CREDENTIAL.match(key):
            raise ValueError("an API key holds visible ASCII characters and nothing else")
        if not all(map(_ORIGIN.match, urls)):
            raise ValueError("a base URL begins with http:// or https:// and has no query")
        self.base_urls = urls
        self.timeout, self.max_retries, self.total_timeout = _sensible(timeout, max_retries, total_timeout)
        self.headers = {
            "authorization": f"Bearer {key}",
            "user-agent": "zentra-python",
            "zentra-version": SCHEMA_VERSION,
        }

    def changed(self, timeout: float | None, max_retries: int | None, total_timeout: float | None) -> Settings:
        """Return the same settings but for what is given. Raises ValueError for what makes no sense."""
        other = object.__new__(Settings)
        other.base_urls, other.headers = self.base_urls, self.headers
        other.timeout, other.max_retries, other.total_timeout = _sensible(
            self.timeout if timeout is None else timeout,
            self.max_retries if max_retries is None else max_retries,
            self.total_timeout if total_timeout is None else total_timeout,
        )
        return other

    def __repr__(self) -> str:
        shown = ", ".join(self.base_urls)
        return f"{shown!r}, timeout={self.timeout}, max_retries={self.max_retries}, total_timeout={self.total_timeout}"


def _sensible(timeout: float, max_retries: int, total_timeout: float) -> tuple[float, int, float]:
    if timeout <= 0 or total_timeout <= 0 or max_retries < 0:
        raise ValueError("timeout and total_timeout are more than 0, and max_retries at least 0")
    return timeout, max_retries, total_timeout


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
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    """Return the call that looks at `path`. Raises ValueError for an empty id or a negative wait."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    target = _path(path) + (f"?{urlencode(given)}" if given else "")
    return Call(
        method="GET", path=target, read=read, headers={**_prefer(wait), **(headers or {})}, held_seconds=_held(wait)
    )


def body_call(
    read: Callable[[Answer], T],
    *path: str,
    body: Mapping[str, object],
    idempotency_key: str | None,
    wait: int | None = None,
    held_seconds: float = 0.0,
) -> Call[T]:
    """Return the call that posts `body`, without what is None in it, under the given key or a new one.

    `held_seconds` is how long the server holds the caller where `wait` does not say. Raises ValueError for an empty id,
    a negative wait or a malformed key, and TypeError for what is not JSON."""
    key = check_key(new_key() if idempotency_key is None else idempotency_key)
    return Call(
        method="POST",
        path=_path(path),
        read=read,
        headers={"content-type": "application/json", "x-idempotency-key": key, **_prefer(wait)},
        body=msgspec.json.encode({name: value for name, value in body.items() if value is not None}),
        idempotency_key=key,
        held_seconds=held_seconds if wait is None else _held(wait),
    )


def new_key() -> str:
    """Return an idempotency key that nobody has used."""
    return str(uuid.uuid4())


def check_key(key: str) -> str:
    """Return an idempotency key. Raises ValueError for what is none."""
    if not _KEY.match(key):
        raise ValueError("an idempotency key is 1 to 255 visible ASCII characters")
    return key


def timeout_of(call: Call[Any], settings: Settings, seconds_left: float) -> httpx2.Timeout:
    """Return the limits of one attempt: what the server is asked to wait comes on top of how long we wait for it."""
    return httpx2.Timeout(
        min(settings.timeout, seconds_left), read=min(settings.timeout + call.held_seconds, seconds_left)
    )


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
    if not 200 <= answer.status < 300:
        raise response_error(call, answer, now)
    try:
        return call.read(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise APIResponseError(
            f"{answer.status}, but the body is not what was asked for: {error}",
            status=answer.status, request_id=answer.request_id, idempotency_key=call.idempotency_key, response=answer,
        ) from error  # fmt: skip


def response_error(call: Call[Any], answer: Answer, now: float) -> APIStatusError:
    """Return the error that an answer is; `now` is in seconds since 1970."""
    problem = _problem(answer.body)
    asked = _retry_after(answer.headers.get("retry-after", ""), now)
    return status_error(
        answer.status, problem, request_id=answer.request_id, idempotency_key=call.idempotency_key,
        retry_after_seconds=problem.retry_after_seconds if asked is None else asked, response=answer,
    )  # fmt: skip


def problem_error(body: bytes, idempotency_key: str | None) -> APIStatusError:
    """Return the error of a problem document that came without a status line or headers of its own."""
    problem = _problem(body)
    return status_error(
        problem.status, problem, idempotency_key=idempotency_key, retry_after_seconds=problem.retry_after_seconds
    )


def connection_error(call: Call[Any], error: httpx2.RequestError) -> APIConnectionError:
    """Return what it means to the caller that there was no answer."""
    kind = APITimeoutError if isinstance(error, httpx2.TimeoutException) else APIConnectionError
    return kind(
        f"no answer to {call.method} {call.path.partition('?')[0]}: {error or type(error).__name__}",
        idempotency_key=call.idempotency_key,
        retryable=isinstance(error, httpx2.TransportError) and not isinstance(error, _HOPELESS),
    )


def _problem(body: bytes) -> ProblemDocument:
    try:
        return _decode_problem(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ProblemDocument()  # not ours: something in between has answered


def _retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or as a date."""
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
