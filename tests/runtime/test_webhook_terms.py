"""What an endpoint has said of itself: when it is given up, which secrets sign, how wide it is; keys of its own."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zentra.gateway.http.versions import VERSIONS
from zentra.runtime.webhooks.standard import (
    DELAYS_SECONDS,
    AttemptResult,
    next_delay,
    public_key_text,
    signature_header,
    verdict,
    verify,
)
from zentra.runtime.webhooks.terms import (
    HEALTHY,
    PUBLIC_VERSIONS,
    TERMS,
    EndpointTerms,
    Health,
    failed_once_more,
    is_given_up,
    live,
    rotated,
    width_of,
)

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = 86_400

# fmt: off
STREAKS = [
    # hours of the failures since the last success      after      given up
    ((0, 1, 2, 3, 4),                                   4 * 3_600, True),
    ((0, 1, 2, 3, 3.9),                                 4 * 3_600, False),
    ((0, 0, 0, 4),                                      4 * 3_600, False),   # four
    ((0, 0, 0, 0, 0, 0, 0),                             4 * 3_600, False),   # all at once
    ((0, 1, 2, 3, 40, 41),                              4 * 3_600, False),   # a gap: the count begins anew
    ((0, 1, 2, 3, 40, 41, 42, 43, 44),                  4 * 3_600, True),
    ((0, 24, 48, 72, 96, 120),                          5 * DAY,   True),
    ((0, 35, 70, 105, 119),                             5 * DAY,   False),
    ((0, 1, 2, 3, 4, 900),                              0,         False),
    ((),                                                3_600,     False),
]
# fmt: on


@pytest.mark.parametrize(("hours", "after", "given_up"), STREAKS)
def test_an_endpoint_is_given_up_after_enough_failures_over_enough_time(
    hours: tuple[float, ...], after: int, given_up: bool
) -> None:
    health = HEALTHY
    for hour in hours:
        health = failed_once_more(health, NOW + hour * HOUR)
    assert is_given_up(health, after) is given_up
    assert health == HEALTHY or isinstance(health, Health)


# fmt: off
ROTATIONS = [
    # before                                     overlap   after
    ([(b"a", None)],                             24,       [(b"n", None), (b"a", 24)]),
    ([(b"a", None)],                             0,        [(b"n", None)]),
    ([(b"b", None), (b"a", 3)],                  24,       [(b"n", None), (b"b", 24), (b"a", 3)]),
    ([(b"b", None), (b"a", 3)],                  1,        [(b"n", None), (b"b", 1), (b"a", 1)]),
    ([(b"b", None), (b"a", 0)],                  1,        [(b"n", None), (b"b", 1)]),
    ([],                                         1,        [(b"n", None)]),
]
# fmt: on


@pytest.mark.parametrize(("before", "overlap", "after"), ROTATIONS)
def test_a_new_secret_stands_first_and_old_ones_end(
    before: list[tuple[bytes, int | None]], overlap: int, after: list[tuple[bytes, int | None]]
) -> None:
    def ends(rows: list[tuple[bytes, int | None]]) -> tuple[datetime | None, ...]:
        return tuple(None if hours is None else NOW + hours * HOUR for _, hours in rows)

    found = rotated(tuple(s for s, _ in before), ends(before), b"n", NOW, overlap * HOUR)
    assert found == (tuple(s for s, _ in after), ends(after))


def test_a_secret_signs_until_its_end_and_one_without_an_end_for_ever() -> None:
    secrets, until = (b"c", b"b", b"a"), (None, NOW, NOW + HOUR)
    assert live(secrets, until, NOW - HOUR) == secrets
    assert live(secrets, until, NOW) == (b"c", b"a")
    assert live(secrets, until, NOW + HOUR) == (b"c",)
    assert live(secrets, (), NOW) == secrets
    assert live(secrets, (None, NOW), NOW) == (b"c", b"a")


@pytest.mark.parametrize(("terms", "width"), [
    (TERMS, 40), (EndpointTerms(concurrency=3), 3), (EndpointTerms(concurrency=99), 40),
    (EndpointTerms(per_second=2), 4), (EndpointTerms(fifo=True, concurrency=3), 1),
])  # fmt: skip
def test_an_endpoint_can_only_narrow_its_lane(terms: EndpointTerms, width: int) -> None:
    assert width_of(terms, 40) == width


def test_terms_that_are_the_defaults_are_not_stored_and_versions_are_those_of_the_api() -> None:
    assert msgspec.json.encode(TERMS) == b"{}"
    assert msgspec.json.decode(b"{}", type=EndpointTerms) == TERMS
    assert set(PUBLIC_VERSIONS) == set(VERSIONS)
    assert TERMS.delays == DELAYS_SECONDS


def test_a_schedule_of_ones_own_ends_where_it_ends() -> None:
    assert [next_delay(n, 0.5, None, (0, 10)) for n in range(3)] == [0, 10, None]
    assert next_delay(1, 0.5, 999, (0, 10)) == 999


@pytest.mark.parametrize(("status", "aborted", "follows"), [
    (500, True, "abort"), (500, False, "retry"), (200, True, "delivered"), (410, True, "disable"),
    (302, False, "retry"),
])  # fmt: skip
def test_an_endpoint_may_refuse_an_event_for_ever(status: int, aborted: bool, follows: str) -> None:
    assert verdict(AttemptResult("d", 1, status=status, aborted=aborted)) == follows


def test_a_key_of_its_own_signs_beside_the_secret_and_verifies_with_its_public_half() -> None:
    seed, other, body = b"s" * 32, b"o" * 32, b'{"a":1}'
    header = signature_header([b"k" * 32], "msg_1", 7, body, [seed])
    verify([b"k" * 32], "msg_1", "7", header, body, 7)
    _, signed = header.split(" ")
    signature = base64.b64decode(signed.removeprefix("v1a,"))
    text = public_key_text(seed)
    assert text.startswith("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix("whpk_")))
    key.verify(signature, b"msg_1.7." + body)
    stranger = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key_text(other).removeprefix("whpk_")))
    for verifier, content in ((key, b"msg_1.8." + body), (stranger, b"msg_1.7." + body)):
        with pytest.raises(InvalidSignature):
            verifier.verify(signature, content)
    with pytest.raises(ValueError, match="webhook id"):
        signature_header([b"k" * 32], "a.b", 7, body, [seed])
