"""A few thousand malformed requests at a gateway, and proof that the verdict would notice; `make fuzz` throws more."""

from __future__ import annotations

import pytest

from zentra.bench.fuzzing.malformed import KINDS, SOUND, SOUND_EVERY, Thrown, requests
from zentra.bench.fuzzing.throwing import _faults_of_rows, _Tally, throw_at_installation
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.reading import strict_json
from zentra.runtime.intents.command import parse_intent

NOTHING_NEW = {"intents": 5, "idempotency": 5, "accounts": 0, "endpoints": 0, "commands": 0, "callbacks": 0}


def test_a_seed_gives_the_same_bytes_and_every_kind_comes() -> None:
    one, other = (list(requests(7, 2_000, "zk_test_x", "run")) for _ in range(2))
    assert one == other
    assert {thrown.kind for thrown in one} == {SOUND, *KINDS}
    assert [thrown for thrown in one if thrown.kind == SOUND] == one[::SOUND_EVERY]
    assert one != list(requests(8, 2_000, "zk_test_x", "run"))


def test_what_is_thrown_is_broken_and_what_is_sound_is_not() -> None:
    for thrown in requests(3, 6_000, "zk_test_x", "run"):
        body = thrown.data.partition(b"\r\n\r\n")[2]
        if thrown.kind == SOUND:
            assert parse_intent(strict_json(body))[2] == []
        elif thrown.kind == "broken json":
            with pytest.raises(Problem):
                strict_json(body)
        elif thrown.kind in ("mutated", "wrong type") and thrown.data.startswith(b"POST /runtime/intents HTTP"):
            assert not _sound(body), thrown.data


def _sound(body: bytes) -> bool:
    try:
        return parse_intent(strict_json(body))[2] == []
    except Problem:
        return False


BAD, READ, SOUND_ONE = Thrown("mutated", b"POST /x"), Thrown("headers", b"GET /x"), Thrown(SOUND, b"POST /x", key="k")


@pytest.mark.parametrize(
    ("thrown", "status", "body", "faulty"),
    [
        (BAD, 422, b"", False),
        (BAD, 202, b"", True),
        (BAD, 500, b"", True),
        (BAD, 503, b'{"code":"unavailable"}', True),
        (BAD, 503, b'{"code":"overloaded"}', False),
        (BAD, None, b"", True),
        (READ, 200, b"", False),
        (READ, 500, b"", True),
        (SOUND_ONE, 202, b"", False),
        (SOUND_ONE, 422, b"", True),
        (Thrown("wire", b"x", alone=True), None, b"", False),
        (Thrown("wire", b"x", alone=True), 500, b"", True),
    ],
)
def test_the_verdict_notices_an_answer_that_may_not_be(
    thrown: Thrown, status: int | None, body: bytes, faulty: bool
) -> None:
    tally = _Tally()
    tally.add(thrown, status, body)
    assert bool(tally.faults) is faulty


@pytest.mark.parametrize(
    ("rows", "foreign", "postings", "faults"),
    [
        (NOTHING_NEW, 0, 5, 0),
        (NOTHING_NEW, 1, 5, 1),
        (NOTHING_NEW, 0, 6, 1),
        (NOTHING_NEW | {"intents": 6}, 0, 5, 1),
        (NOTHING_NEW | {"idempotency": 4, "commands": 1}, 0, 5, 2),
    ],
)
def test_the_verdict_notices_a_row_that_may_not_be(
    rows: dict[str, int], foreign: int, postings: int, faults: int
) -> None:
    assert len(_faults_of_rows(rows, 5, foreign, postings)) == faults


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_malformed_requests_change_nothing_and_break_nothing() -> None:
    verdict = throw_at_installation(count=4_000, seed=2)
    assert verdict.faults == []
    assert verdict.requests == 4_000
    assert verdict.by_kind[SOUND] == {"202": 4_000 // SOUND_EVERY}
