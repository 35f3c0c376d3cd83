"""How the streams fail, and the one map from what nats-py and the server report to that.

    StreamError
    +-- StreamFull           the stream is at its limit; back-pressure, nothing was stored
    +-- StreamUnavailable    no server, no leader, no answer in time; whether it was stored is unknown
    +-- StreamRefused        the request itself is wrong and stays wrong

A message that failed with the first two may be sent again under the same id; the dedupe window absorbs a double.
"""

from __future__ import annotations

import nats.errors

from zentra.runtime.stream_ports import StreamError

__all__ = [
    "STREAM_CONSUMER_NOT_FOUND",
    "STREAM_NAME_IN_USE",
    "STREAM_NOT_FOUND",
    "StreamFull",
    "StreamRefused",
    "StreamUnavailable",
    "failure_of_answer",
    "failure_of_exception",
]

STREAM_NAME_IN_USE = 10058
STREAM_NOT_FOUND = 10059
STREAM_CONSUMER_NOT_FOUND = 10014

# 10077 is the store's own refusal, `maximum bytes exceeded` above all; the others are account and server limits.
_FULL = frozenset({10002, 10023, 10028, 10047, 10077})
# 10059: a stream that is not there yet, or not there any more, is the operator's to repair, not the caller's.
_AWAY = frozenset({STREAM_NOT_FOUND, 10167})
# The server says 500 both for elections and disks and for these, which no repetition changes: configuring
# (10052) or updating (10069) a stream in a way it cannot be, deleting (10057) or purging (10110) where the stream
# forbids it, more replicas than servers (10074).
_NEVER = frozenset({10052, 10057, 10069, 10074, 10110})


class StreamFull(StreamError):
    """The stream holds as much as it may; it accepts again once it was purged."""

    def __init__(self, description: str) -> None:
        super().__init__(f"stream is full: {description}", retryable=True)
        self.description = description


class StreamUnavailable(StreamError):
    """Nobody answered who could have said yes."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"stream is unavailable: {reason}", retryable=True)
        self.reason = reason


class StreamRefused(StreamError):
    """The server understood and said no; `code` is its own number for the reason, 0 when this side refused."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"stream refused the request: {description} ({code})", retryable=False)
        self.code = code
        self.description = description


def failure_of_answer(status: int, code: int, description: str) -> StreamError:
    """The failure an error answer of the JetStream API stands for, by HTTP-like status and error code."""
    if code in _FULL:
        return StreamFull(description)
    if code in _AWAY or status == 429 or (status >= 500 and code not in _NEVER):
        return StreamUnavailable(f"{description} ({code})")
    return StreamRefused(code, description)


def failure_of_exception(error: Exception) -> StreamError:
    """The failure an exception of nats-py or of the socket stands for.

    Raises the exception itself when it is neither, because then it is a mistake of ours.
    """
    match error:
        case StreamError():
            return error
        case nats.errors.MaxPayloadError() | nats.errors.BadSubjectError() | nats.errors.BadHeaderError():
            return StreamRefused(0, type(error).__name__)
        case nats.errors.NoRespondersError():
            return StreamUnavailable("no responders")
        case nats.errors.Error() | TimeoutError() | OSError():
            return StreamUnavailable(type(error).__name__)
    raise error
