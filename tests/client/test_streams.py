"""Streams of events: read in pieces of any size, opened again behind the last id, and ended where there is no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client import servers
from tests.client.servers import Script, Step, problem
from zentra.client.errors import APIError, APIResponseError
from zentra.client.events import EVENT_BYTES_MAX, EventParser, ServerEvent

Run = Callable[..., Any]

# fmt: off
TEXTS: list[tuple[bytes, list[ServerEvent]]] = [
    # what comes                                    what is told
    (b"id: 1\nevent: a\ndata: x\n\n",               [ServerEvent("1", "a", b"x")]),
    (b"id:1\ndata:x\ndata: y\n\n",                  [ServerEvent("1", "", b"x\ny")]),
    (b"\xef\xbb\xbfdata: x\r\n\r\ndata: y\r\r",     [ServerEvent("", "", b"x")]),  # the end of the last is not sure
    (b": still here\n\ndata\n\n",                   [ServerEvent("", "", b"")]),
    (b"id: 7\n\nid: 7\n\n",                         [ServerEvent("7", "", b"")]),
    (b"id: 1\ndata: x\n\ndata: y\n\n",              [ServerEvent("1", "", b"x"), ServerEvent("1", "", b"y")]),
    (b"id: a\0b\ndata: x\n\n",                      [ServerEvent("", "", b"x")]),
    (b"newer: 1\nretry: soon\ndata: x\n\n",         [ServerEvent("", "", b"x")]),
    (b"data: broken off\n",                         []),
]
# fmt: on


@pytest.mark.parametrize(("text", "told"), TEXTS)
def test_events_are_read(text: bytes, told: list[ServerEvent]) -> None:
    assert EventParser(None).feed(text) == told


@given(st.sampled_from(TEXTS), st.data())
def test_where_a_text_is_cut_makes_no_difference(case: tuple[bytes, list[ServerEvent]], data: st.DataObject) -> None:
    text, told = case
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    parser, heard = EventParser(None), list[ServerEvent]()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        heard += parser.feed(text[start:end])
    assert heard == told


@pytest.mark.parametrize(("text", "seconds"), [(b"retry: 500\n", 0.5), (b"retry: 999999999\n", 60.0), (b"x\n", 2.0)])
def test_how_long_to_stay_away_is_the_servers_word_up_to_a_minute(text: bytes, seconds: float) -> None:
    parser = EventParser(None)
    parser.feed(text)
    assert parser.retry_seconds == seconds


@pytest.mark.parametrize("text", [b"x" * (EVENT_BYTES_MAX + 1), b"data: 12345678\n" * (EVENT_BYTES_MAX // 14 + 1)])
def test_an_event_without_end_is_refused(text: bytes) -> None:
    with pytest.raises(APIResponseError, match="end"):
        EventParser(None).feed(text)


# Both clients.


@pytest.fixture(params=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Run:
    """One of the two clients."""
    chosen: Run = getattr(servers, request.param)
    return chosen


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that a client makes; none takes time."""
    return servers.no_pauses(monkeypatch)


RECORD = {
    "intent": "0" * 32, "intent_id": "order-1", "sequence": 1, "event": "ledger.posted", "from": "PROCESSING",
    "to": "SUCCESSFUL", "step": None, "at": "2026-11-21T02:41:59.000000Z", "actor": "svc", "cause": "c", "facts": {},
    "scope": "default", "tenant": "acme", "trace": "t", "newer": 1,
}  # fmt: skip
GONE = problem(410, "events_gone", False)


def told(*sequences: int) -> bytes:
    records = (msgspec.json.encode(RECORD | {"sequence": sequence}) for sequence in sequences)
    lines = (
        b"id: %d\nevent: ledger.posted\ndata: %b\n\n" % (sequence, record)
        for sequence, record in zip(sequences, records, strict=True)
    )
    return b"retry: 500\n\n" + b"".join(lines)


def test_a_stream_goes_on_behind_the_last_that_was_told(run: Run, pauses: list[float]) -> None:
    steps: list[Step] = [(200, told(1, 2), {}), (200, b"id: 5\n\n", {}), httpx2.ConnectError, (200, told(6), {}), GONE]
    script = Script(*steps)
    assert run(script, lambda api: api.runtime.events.stream(last_id="0")).code == "events_gone"
    assert [request.headers["last-event-id"] for request in script.requests] == ["0", "2", "5", "5", "6"]
    assert all(request.headers["accept"] == "text/event-stream" for request in script.requests)
    assert 0.25 <= pauses[0] <= 0.5, "as long as the server said"


def test_the_records_of_an_intent_are_told(run: Run) -> None:
    script = Script((200, told(*range(1, servers.FEW + 1)), {}))
    events = run(script, lambda api: api.runtime.intents.events("order-1"))
    assert [(one.id, one.record.sequence) for one in events] == [(str(n), n) for n in range(1, servers.FEW + 1)]
    assert (events[0].event, events[0].record.from_, events[0].record.to) == (
        "ledger.posted",
        "PROCESSING",
        "SUCCESSFUL",
    )
    [request] = script.requests
    assert request.url.path == "/runtime/intents/order-1/events"
    assert "last-event-id" not in request.headers


def test_a_stream_that_there_is_not_is_an_error(run: Run) -> None:
    assert (
        run(Script(problem(404, "not_found", False)), lambda api: api.runtime.intents.events("x")).code == "not_found"
    )


def test_a_stream_begins_where_its_block_does() -> None:
    script = Script((200, told(1), {}), GONE)
    with script.blocking().runtime.events.stream():
        assert len(script.requests) == 1
    with pytest.raises(APIError), script.blocking().runtime.events.stream():
        raise AssertionError("there is no such stream")


def test_what_is_no_record_is_an_error(run: Run) -> None:
    error = run(Script((200, b"data: {}\n\n", {})), lambda api: api.runtime.events.stream())
    assert type(error) is APIResponseError


def test_a_stream_that_was_open_is_asked_for_longer_than_a_call(run: Run) -> None:
    script = Script((200, told(1), {}), *[httpx2.ConnectError] * 9, GONE)
    assert run(script, lambda api: api.runtime.events.stream(), max_retries=0).code == "events_gone"
    assert len(script.requests) == 11


def test_a_stream_ends_when_it_is_closed() -> None:
    with Script((200, told(1, 2), {})).blocking().runtime.events.stream() as stream:
        assert next(stream).record.sequence == 1
        assert stream.last_id == "1"
    assert [event.record.sequence for event in stream] == [2], "what came is told"


async def test_an_asynchronous_stream_ends_when_it_is_closed() -> None:
    async with Script((200, told(1), {})).awaiting().runtime.events.stream() as stream:
        assert (await anext(stream)).id == "1"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
