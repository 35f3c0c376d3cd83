"""When a call is tried again and where: the next address at once, a pause when all were tried, an end in any case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.client import servers
from tests.client.servers import ACCEPTED, Script, Step, problem
from zentra.client.attempts import Addresses, Attempts
from zentra.client.errors import APIConnectionError, APIError, APIStatusError, IdempotencyInFlightError

Run = Callable[..., Any]
A, B, C = "http://a.test", "http://b.test", "http://c.test"
LOST = APIConnectionError("lost", retryable=True)
BROKEN = APIStatusError("502", status=502, retryable=True)
BUSY = APIStatusError("503", status=503, retryable=True, retry_after_seconds=3.0)
FLIGHT = APIStatusError("409", status=409, retryable=True, retry_after_seconds=1.0)
OWN = IdempotencyInFlightError("409", status=409, retryable=True, retry_after_seconds=1.0)
LIMITED = APIStatusError("429", status=429, retryable=True)
FINAL = APIStatusError("422", status=422, retryable=False)


def attempts(urls: list[str], retries: int = 2, seconds: float = 100.0) -> Attempts:
    return Attempts(Addresses(urls), retries=retries, now=0.0, seconds=seconds)


# fmt: off
COURSES: list[tuple[list[str], list[APIError], list[float | None], list[str]]] = [
    # addresses  errors                      pauses, jitter at its most   where the next attempts go
    ([A],        [LOST, LOST, LOST],         [0.5, 1.0, None],            [A, A, A]),
    ([A, B],     [LOST, LOST, LOST],         [0.0, 0.5, 0.0],             [B, A, B]),
    ([A, B, C],  [LOST, BROKEN, LOST, LOST], [0.0, 0.0, 0.5, 0.0],        [B, C, A, B]),
    ([A, B],     [LOST] * 6,                 [0.0, 0.5, 0.0, 1.0, 0.0, None], [B, A, B, A, B, A]),
    ([A, B],     [BUSY, BUSY],               [3.5, 4.0],                  [B, A]),
    ([A, B],     [FLIGHT, LIMITED],          [1.5, 1.0],                  [A, A]),
    ([A, B],     [FINAL],                    [None],                      [A]),
    ([A],        [OWN, OWN, OWN],            [1.5, 2.0, None],            [A, A, A]),
    ([A, B],     [LOST, *[OWN] * 4],         [0.0, 1.5, 2.0, 3.0, 5.0],   [B] * 5),
]
# fmt: on


@pytest.mark.parametrize(("urls", "failures", "pauses", "places"), COURSES)
def test_a_call_takes_its_course(
    urls: list[str], failures: list[APIError], pauses: list[float | None], places: list[str]
) -> None:
    course = attempts(urls)
    assert course.url == A
    for error, pause, place in zip(failures, pauses, places, strict=True):
        assert course.pause(error, now=1.0, chance=1.0) == pause
        assert course.url == place


def test_the_longest_pause_is_bounded() -> None:
    course = attempts([A], retries=1000, seconds=1e9)
    pauses = [course.pause(LOST, 0.0, 1.0) for _ in range(100)]
    assert max(pause for pause in pauses if pause is not None) == 8.0


@pytest.mark.parametrize(("now", "pause"), [(9.0, 0.5), (9.5, None), (99.0, None)])
def test_no_pause_goes_beyond_the_end(now: float, pause: float | None) -> None:
    assert attempts([A], retries=9, seconds=10.0).pause(LOST, now, chance=1.0) == pause


def test_no_address_is_tried_after_the_end() -> None:
    assert attempts([A, B], seconds=10.0).pause(LOST, now=10.0, chance=1.0) is None


def test_the_address_that_answered_last_is_where_calls_begin() -> None:
    addresses = Addresses([A, B])
    for _ in range(3):  # calls that were under way together find the same address silent
        course = Attempts(addresses, retries=0, now=0.0, seconds=9.0)
        course._place = 0
        course.pause(LOST, 0.0, 1.0)
    assert addresses.urls[addresses.current] == B


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


OK: Step = (202, ACCEPTED, {})


def create(api: Any) -> Any:
    return api.runtime.intents.create(amount=1, currency="NGN", source="a", destination="b")


def hosts(script: Script) -> list[str]:
    return [f"http://{request.url.host}" for request in script.requests]


@pytest.mark.parametrize(
    "step", [httpx2.ConnectError, httpx2.ReadTimeout, (502, b"", {}), problem(503, "internal", True)]
)
def test_another_address_is_asked_at_once_with_the_same_key(run: Run, pauses: list[float], step: Step) -> None:
    script = Script(step, OK)
    assert run(script, create, base_url=[A, B]).status == "ACCEPTED"
    assert (hosts(script), pauses, len(set(script.keys))) == ([A, B], [], 1)


def test_calls_stay_where_one_was_answered(pauses: list[float]) -> None:
    script = Script(httpx2.ConnectError, OK, OK, httpx2.ReadError, OK)
    api = script.blocking(base_url=[A, B])
    for _ in range(3):
        create(api)
    assert (hosts(script), pauses) == ([A, B, B, B, A], [])


def test_a_server_that_asks_for_time_gets_it_from_all(run: Run, pauses: list[float]) -> None:
    script = Script(problem(503, "overloaded", True, retry_after="1"), OK)
    run(script, create, base_url=[A, B])
    assert len(pauses) == 1
    assert pauses[0] >= 1.0


def test_the_last_attempt_has_no_more_time_than_is_left(run: Run) -> None:
    script = Script(OK)
    run(script, create, timeout=30, total_timeout=5)
    assert script.requests[0].extensions["timeout"]["read"] <= 5
