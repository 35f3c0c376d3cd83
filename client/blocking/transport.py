"""How calls are sent: again and again where that may help, to whichever address answers.

- Every call goes through `Transport.send`, which never changes what is sent.
- Pages and streams are calls as well, and are tried again like them.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from random import SystemRandom
from time import monotonic, sleep, time
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2

from zentra.client.answers import Answer, note
from zentra.client.attempts import Addresses, Attempts
from zentra.client.calls import PageCall
from zentra.client.core import Call, Settings, connection_error, read_answer, response_error, timeout_of
from zentra.client.errors import APIError
from zentra.client.events import EventParser, ServerEvent, stream_event
from zentra.client.models import Page, StreamEvent

__all__ = ["EventStream", "Pages", "Transport"]

T = TypeVar("T")
_chance = SystemRandom().random
_PERSISTENT = 1_000  # retries of a stream that was open before: the time is its bound


class Transport:
    """Sends calls over one pool of connections."""

    def __init__(self, settings: Settings, http_client: httpx2.Client | None) -> None:
        self.settings, self.addresses = settings, Addresses(settings.base_urls)
        self._http = httpx2.Client() if http_client is None else http_client
        self._owned = http_client is None

    def changed(self, settings: Settings) -> Transport:
        """Return a transport with other settings over the same connections, which stay this one's to close."""
        other = Transport(settings, self._http)
        other.addresses = self.addresses
        return other

    def send(self, call: Call[T], max_retries: int | None = None) -> T:
        """Return what the answer to a call says. Raises APIError."""
        attempts = self._attempts(call, max_retries)
        while True:
            try:
                answer = self._ask(call, attempts)
                note(answer)
                return read_answer(call, answer, time())
            except APIError as error:
                pause = attempts.pause(error, monotonic(), _chance())
                if pause is None:
                    raise
            if pause:
                sleep(pause)

    def open(self, call: Call[Any], max_retries: int | None = None) -> httpx2.Response:
        """Return the answer to a call while it still comes; close it. Raises APIError."""
        attempts = self._attempts(call, max_retries)
        while True:
            try:
                return self._begin(call, attempts)
            except APIError as error:
                pause = attempts.pause(error, monotonic(), _chance())
                if pause is None:
                    raise
            if pause:
                sleep(pause)

    def close(self) -> None:
        """Close the connections that were opened here."""
        if self._owned:
            self._http.close()

    def _attempts(self, call: Call[Any], max_retries: int | None) -> Attempts:
        settings = self.settings
        retries = settings.max_retries if max_retries is None else max_retries
        seconds = settings.total_timeout + call.held_seconds
        return Attempts(self.addresses, retries=retries, now=monotonic(), seconds=seconds)

    def _ask(self, call: Call[Any], attempts: Attempts) -> Answer:
        try:
            response = self._http.send(self._request(call, attempts), follow_redirects=False)
        except httpx2.RequestError as error:
            raise connection_error(call, error) from error
        return Answer(response.status_code, response.headers, response.content)

    def _begin(self, call: Call[Any], attempts: Attempts) -> httpx2.Response:
        try:
            response = self._http.send(self._request(call, attempts), follow_redirects=False, stream=True)
            if response.status_code == 200:
                note(Answer(200, response.headers, b""))
                return response
            try:
                body = response.read()
            finally:
                response.close()
        except httpx2.RequestError as error:
            raise connection_error(call, error) from error
        raise response_error(call, Answer(response.status_code, response.headers, body), time())

    def _request(self, call: Call[Any], attempts: Attempts) -> httpx2.Request:
        return self._http.build_request(
            call.method,
            attempts.url + call.path,
            content=call.body,
            headers={**self.settings.headers, **call.headers},
            timeout=timeout_of(call, self.settings, attempts.seconds_left(monotonic())),
        )


class Pages(Generic[T]):
    """A list: iterate over it for every item, newest first; the next page is fetched when it is needed.

    Whatever asks for a page raises APIError."""

    def __init__(self, transport: Transport, call_of: PageCall[T]) -> None:
        self._transport, self._call_of = transport, call_of

    def page(self, cursor: str | None = None) -> Page[T]:
        """Return the first page, or the one that a `next_cursor` leads to."""
        return self._transport.send(self._call_of(cursor))

    def pages(self) -> Iterator[Page[T]]:
        """Yield every page."""
        cursor: str | None = None
        while True:
            page = self.page(cursor)
            yield page
            cursor = page.next_cursor
            if cursor is None or not page.has_more:
                return

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.data


class EventStream:
    """Events as they happen, in order and none twice: iterate, in an `with` or until `close`.

    It begins where the `with` does, or else with the first iteration; that raises APIError where there is no such
    stream. One that breaks off is opened again behind `last_id`, at another address where there is one; iterating
    raises APIConnectionError where that takes too long, and APIStatusError where it may not be. Whoever keeps `last_id`
    goes on later with a new stream."""

    def __init__(self, transport: Transport, call_of: Callable[[str | None], Call[bytes]], last_id: str | None) -> None:
        self.last_id = last_id
        self._transport, self._call_of = transport, call_of
        self._parser = EventParser(last_id)
        self._ready: deque[ServerEvent] = deque()
        self._response: httpx2.Response | None = None
        self._pieces: Iterator[bytes] | None = None
        self._begun = self._closed = False

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        self._leave()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        while True:
            while not self._ready:
                if self._closed:
                    raise StopIteration
                self._read()
            event = self._ready.popleft()
            self.last_id = event.id or self.last_id
            if event.data:
                return stream_event(event)

    def _open(self) -> Iterator[bytes]:
        """Return the pieces of the stream, which is opened where it is not."""
        if self._pieces is None:
            call = self._call_of(self.last_id)
            self._response = self._transport.open(call, _PERSISTENT if self._begun else None)
            self._parser = EventParser(self.last_id)
            self._pieces = self._response.iter_bytes()
            self._begun = True
        return self._pieces

    def _read(self) -> None:
        """Take the next piece, of a stream that is opened again where it broke off."""
        pieces = self._open()
        try:
            piece = next(pieces, None)
        except httpx2.RequestError:
            piece = None  # whatever broke it, the place to go on at is known
        if piece is not None:
            self._ready.extend(self._parser.feed(piece))
            return
        self._leave()
        sleep(self._parser.retry_seconds * (0.5 + _chance() / 2))

    def _leave(self) -> None:
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            response.close()
