"""The one map from what the server and nats-py report to our own failures."""

from __future__ import annotations

import nats.errors
import pytest

from zentra.runtime.stream_ports import StreamError
from zentra.streams.errors import (
    StreamFull,
    StreamRefused,
    StreamUnavailable,
    failure_of_answer,
    failure_of_exception,
)


@pytest.mark.parametrize(
    ("status", "code", "description", "failure", "retryable"),
    [
        (503, 10077, "maximum bytes exceeded", StreamFull, True),
        (503, 10023, "insufficient resources", StreamFull, True),
        (500, 10047, "insufficient storage resources available", StreamFull, True),
        (503, 10008, "JetStream system temporarily unavailable", StreamUnavailable, True),
        (500, 10118, "stream is offline", StreamUnavailable, True),
        (500, 10049, "error creating store for stream", StreamUnavailable, True),  # the old one is still being removed
        (500, 10041, "general RAFT error", StreamUnavailable, True),
        (429, 10167, "too many requests", StreamUnavailable, True),
        (404, 10059, "stream not found", StreamUnavailable, True),
        (500, 10057, "message delete not permitted", StreamRefused, False),
        (500, 10052, "stream configuration cannot be changed", StreamRefused, False),
        (400, 10054, "message size exceeds maximum allowed", StreamRefused, False),
        (400, 10071, "wrong last sequence", StreamRefused, False),
        (400, 10058, "stream name already in use", StreamRefused, False),
    ],
)
def test_an_error_answer_is_one_failure(
    status: int, code: int, description: str, failure: type[StreamError], retryable: bool
) -> None:
    found = failure_of_answer(status, code, description)
    assert type(found) is failure
    assert found.retryable is retryable
    assert description in str(found)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (nats.errors.NoRespondersError(), StreamUnavailable),
        (nats.errors.TimeoutError(), StreamUnavailable),
        (nats.errors.ConnectionClosedError(), StreamUnavailable),
        (nats.errors.OutboundBufferLimitError(), StreamUnavailable),
        (TimeoutError(), StreamUnavailable),
        (ConnectionResetError(), StreamUnavailable),
        (nats.errors.MaxPayloadError(), StreamRefused),
        (nats.errors.BadSubjectError(), StreamRefused),
    ],
)
def test_an_exception_of_the_driver_is_one_failure(error: Exception, failure: type[StreamError]) -> None:
    assert type(failure_of_exception(error)) is failure


def test_a_failure_stays_itself_and_a_bug_stays_a_bug() -> None:
    full = StreamFull("maximum bytes exceeded")
    assert failure_of_exception(full) is full
    with pytest.raises(KeyError):
        failure_of_exception(KeyError("a bug"))
