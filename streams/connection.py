"""One connection to NATS, with the settings a long-lived process needs.

It reconnects for ever, notices a dead server within half a minute, tells everyone who asked about losing and
regaining the server, and gives each API request a deadline. Nothing is ever written while it is disconnected:
what nats-py buffers then is sent long after the caller gave up.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from zentra.streams.errors import StreamUnavailable, failure_of_answer, failure_of_exception

__all__ = ["Connection", "connect"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Hook = Callable[[], None]

# nats-py defaults in brackets: 2 s between attempts (0.2 finds a restarted server at once), 120 s between pings
# (two missed ones must not take four minutes), 2 MB of unflushed output (less than one full publish window).
_RECONNECT_WAIT_S = 0.2
_PING_INTERVAL_S = 10
_PINGS_UNANSWERED_MAX = 2
_PENDING_BYTES_MAX = 64 * 1024 * 1024
_FLUSH_DEADLINE_S = 2.0
_CONNECT_DEADLINE_S = 10.0
_REQUEST_DEADLINE_S = 2.0


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _ApiAnswer(msgspec.Struct):
    error: _ApiError | None = None


_decode_answer = msgspec.json.Decoder(_ApiAnswer).decode


class Connection(Client):
    """A nats-py client with hooks for as many listeners as there are, and the JetStream API as plain requests."""

    def __init__(self) -> None:
        super().__init__()
        self._disconnect_hooks: list[Hook] = []
        self._reconnect_hooks: list[Hook] = []

    def add_hooks(self, *, on_disconnect: Hook | None = None, on_reconnect: Hook | None = None) -> Hook:
        """Calls the hooks whenever the server is lost or regained; returns the function that removes them."""
        if on_disconnect is not None:
            self._disconnect_hooks.append(on_disconnect)
        if on_reconnect is not None:
            self._reconnect_hooks.append(on_reconnect)

        def remove() -> None:
            if on_disconnect in self._disconnect_hooks:
                self._disconnect_hooks.remove(on_disconnect)
            if on_reconnect in self._reconnect_hooks:
                self._reconnect_hooks.remove(on_reconnect)

        return remove

    async def ask(self, subject: str, body: bytes = b"", *, deadline_s: float = _REQUEST_DEADLINE_S) -> Msg:
        """The answer to one request, whatever it says. Raises StreamUnavailable without one."""
        if not self.is_connected:
            raise StreamUnavailable("disconnected")
        try:
            return await self.request(subject, body, timeout=deadline_s)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error

    async def call(
        self, subject: str, request: object, answer: type[T], *, deadline_s: float = _REQUEST_DEADLINE_S
    ) -> T:
        """The decoded answer of the JetStream API to one JSON request.

        Raises StreamUnavailable without an answer, and the failure an error answer stands for.
        """
        body = b"" if request is None else msgspec.json.encode(request)
        message = await self.ask(f"$JS.API.{subject}", body, deadline_s=deadline_s)
        error = _decode_answer(message.data).error
        if error is not None:
            raise failure_of_answer(error.code, error.err_code, error.description)
        return msgspec.json.decode(message.data, type=answer)

    async def _lost(self) -> None:
        if not self.is_closed:
            _log.warning("nats connection lost")
        for hook in tuple(self._disconnect_hooks):
            hook()

    async def _regained(self) -> None:
        _log.info("nats connection regained")
        for hook in tuple(self._reconnect_hooks):
            hook()


async def _report(error: Exception) -> None:
    # A refused socket is reported once per attempt, five times a second; losing the server was already said aloud.
    level = logging.DEBUG if isinstance(error, OSError) else logging.WARNING
    _log.log(level, "nats reported an error", extra={"error": type(error).__name__, "detail": str(error)})


async def connect(
    url: str,
    *,
    name: str,
    on_disconnect: Hook | None = None,
    on_reconnect: Hook | None = None,
    tls: ssl.SSLContext | None = None,
    inbox_prefix: str = "_INBOX",
    deadline_s: float = _CONNECT_DEADLINE_S,
) -> Connection:
    """A connected client; `url` is one server or several behind commas, and may carry user:password.

    Raises StreamUnavailable when no server accepts it before the deadline.
    """
    connection = Connection()
    connection.add_hooks(on_disconnect=on_disconnect, on_reconnect=on_reconnect)
    try:
        async with asyncio.timeout(deadline_s):
            await connection.connect(
                url.split(","),
                name=name,
                error_cb=_report,
                disconnected_cb=connection._lost,
                reconnected_cb=connection._regained,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # annotated int, used as seconds
                ping_interval=_PING_INTERVAL_S,
                max_outstanding_pings=_PINGS_UNANSWERED_MAX,
                pending_size=_PENDING_BYTES_MAX,
                # Without it a publisher that waits for a flush waits for ever when the flusher dies with the server.
                flush_timeout=_FLUSH_DEADLINE_S,
                inbox_prefix=inbox_prefix,
                tls=tls,
            )
    except (nats.errors.Error, TimeoutError, OSError) as error:
        await connection.close()
        raise StreamUnavailable(f"cannot connect: {type(error).__name__}") from error
    return connection
