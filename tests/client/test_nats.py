"""Intents over NATS: one key for every attempt, and the same errors as over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import nats.errors
import pytest

from tests.client.servers import ACCEPTED
from zentra.client import api as client
from zentra.client import natsdoor
from zentra.client.api import NatsZentra, NewIntent
from zentra.client.errors import APIError

BODY: dict[str, Any] = {"amount": 5, "currency": "NGN", "source": "a", "destination": "b"}
MADE = {"status": 202, "replayed": False, "body": ACCEPTED}
OVERLOADED = {"code": "overloaded", "status": 503, "retryable": True, "retry_after_seconds": 2}
REUSED = {"code": "idempotency_key_reused", "status": 422, "retryable": False, "title": "t", "request_id": "r"}


class Message:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Server:
    """A connection that answers from a list; the last answer is for all that follow."""

    is_closed = False

    def __init__(self, *answers: Any, connected: bool = True) -> None:
        self._answers, self.is_connected = list(answers), connected
        self.asked: list[Any] = []

    async def request(self, subject: str, body: bytes, *, timeout: float, headers: dict[str, str]) -> Message:
        self.asked.append((subject, headers, msgspec.json.decode(body)))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, type):
            raise answer
        return Message(answer if isinstance(answer, bytes) else msgspec.json.encode(answer))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that the client makes; none takes time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(natsdoor, "sleep", pause)
    return made


def door(server: Any, **options: Any) -> NatsZentra:
    return NatsZentra(nats_client=server, **options)


async def test_every_attempt_has_the_one_key_in_its_body(pauses: list[float]) -> None:
    server = Server(nats.errors.TimeoutError, nats.errors.NoRespondersError, MADE)
    made = await door(server).runtime.intents.create(**BODY, metadata={"a": "b"})
    assert made.intent_id == "order-1"
    assert len({body["idempotency_key"] for _, _, body in server.asked}) == 1
    subject, headers, body = server.asked[0]
    assert (subject, headers) == ("zentra.intents.create", {"zentra-version": "2026.04"})
    assert {name: value for name, value in body.items() if name != "idempotency_key"} == {
        "kind": "transfer", "amount": "5", "currency": "NGN", "source": "a", "destination": "b", "metadata": {"a": "b"},
    }  # fmt: skip
    assert len(pauses) == 2


# fmt: off
FAILURES: list[tuple[Any, type[APIError], int]] = [
    # every answer                        what is raised                    requests
    (REUSED,                              client.IdempotencyMismatchError,  1),
    (OVERLOADED,                          client.InternalServerError,       3),
    (nats.errors.TimeoutError,            client.APITimeoutError,           3),
    (nats.errors.NoRespondersError,       client.APIConnectionError,        3),
    (nats.errors.ConnectionClosedError,   client.APIConnectionError,        3),
    (b"\xff",                             client.APIResponseError,          1),
    (b"[]",                               client.APIResponseError,          1),
]
# fmt: on


@pytest.mark.parametrize(("answer", "kind", "requests"), FAILURES)
async def test_each_failure_has_its_class(answer: Any, kind: type[APIError], requests: int) -> None:
    server = Server(answer)
    with pytest.raises(APIError) as caught:
        await door(server).runtime.intents.create(**BODY, idempotency_key="k")
    assert (type(caught.value), len(server.asked)) == (kind, requests)
    assert caught.value.idempotency_key == "k"


async def test_a_server_that_asks_for_time_gets_it(pauses: list[float]) -> None:
    await door(Server(OVERLOADED, MADE)).runtime.intents.create(**BODY)
    assert pauses[0] >= 2.0


async def test_nothing_is_sent_while_the_connection_is_away() -> None:
    server = Server(MADE, connected=False)
    with pytest.raises(client.APIConnectionError, match="away"):
        await door(server).runtime.intents.create(**BODY)
    assert server.asked == []


async def test_many_have_their_answers_in_order() -> None:
    wanted = [NewIntent(**BODY), NewIntent(**BODY)]
    first, second = await door(Server([MADE, REUSED])).runtime.intents.create_many(wanted)
    assert first.unwrap().status == "ACCEPTED"
    assert type(second.error) is client.IdempotencyMismatchError


@pytest.mark.parametrize("answer", [[MADE], MADE, {"a": 1}])
async def test_an_answer_to_something_else_is_an_error(answer: Any) -> None:
    with pytest.raises(client.APIResponseError):
        await door(Server(answer)).runtime.intents.create_many([NewIntent(**BODY), NewIntent(**BODY)])


async def test_an_overloaded_door_refuses_many_at_once() -> None:
    with pytest.raises(client.InternalServerError):
        await door(Server(OVERLOADED), max_retries=0).runtime.intents.create_many([NewIntent(**BODY)])


def test_there_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZENTRA_NATS_URL", raising=False)
    with pytest.raises(client.ZentraError, match="ZENTRA_NATS_URL"):
        NatsZentra()
    monkeypatch.setenv("ZENTRA_NATS_URL", "nats://x.test")
    NatsZentra()


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"max_retries": -1}, {"total_timeout": 0}])
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        NatsZentra("nats://x.test", **wrong)


async def test_whoever_is_not_connected_is_told() -> None:
    with pytest.raises(client.APIConnectionError, match="connect"):
        await NatsZentra("nats://x.test", max_retries=0).runtime.intents.create(**BODY)


async def test_a_server_that_there_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natsdoor, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(client.APIConnectionError, match="answer"):
        await NatsZentra("nats://127.0.0.1:1").connect()
