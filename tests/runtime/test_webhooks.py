"""Signatures against the reference library in both directions, the schedule, the filters, the verdicts."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from zentra.runtime.webhooks.standard import (
    ATTEMPTS_MAX,
    AttemptError,
    AttemptResult,
    SignatureRejected,
    Verdict,
    filter_is_valid,
    generate_secret,
    matches,
    next_delay,
    parse_secret,
    sign,
    signature_header,
    verdict,
    verify,
)

OLD, NEW, STRANGE = b"o" * 32, b"n" * 32, b"s" * 32
AT = 1_800_000_000
BODY = b'{"type":"ledger.posted","data":{"amount":"125000"}}'


def test_the_signature_is_that_of_the_published_example() -> None:
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(
    secret=st.binary(min_size=24, max_size=64),
    body=st.text(alphabet=st.characters(codec="utf-8")),
    id=st.from_regex(r"[A-Za-z0-9_]{1,40}", fullmatch=True),
    at=st.integers(min_value=0, max_value=4_000_000_000),
)
def test_we_sign_as_the_reference_library_does(secret: bytes, body: str, id: str, at: int) -> None:
    theirs = Webhook(secret).sign(id, datetime.fromtimestamp(at, UTC), body)
    assert sign(secret, id, at, body.encode()) == theirs
    verify([secret], id, str(at), theirs, body.encode(), now=at)


def test_the_reference_library_verifies_what_we_sign_with_either_secret_of_a_rotation() -> None:
    at = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature_header([NEW, OLD], "msg_1", at, BODY),
    }
    for secret in (OLD, NEW):
        Webhook(generate_secret(secret)).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(STRANGE).verify(BODY, headers)


SIGNED = signature_header([NEW, OLD], "msg_1", AT, BODY)


FAR = "timestamp_out_of_tolerance"

# fmt: off
DELIVERIES = [
    # secrets    id       timestamp header                            body         now       reason
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT,       None),
    ([OLD],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT,       None),
    ([STRANGE, OLD], "msg_1", f"{AT}", f"v1a,xyz v1, {SIGNED}",       BODY,        AT,       None),
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT + 300, None),
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT - 300, None),
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT + 301, FAR),
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY,        AT - 301, FAR),
    ([NEW],      "msg_1", "",       SIGNED,                           BODY,        AT,       "timestamp_malformed"),
    ([NEW],      "msg_1", f"{AT}.", SIGNED,                           BODY,        AT,       "timestamp_malformed"),
    ([NEW],      "msg_1", "9" * 13, SIGNED,                           BODY,        AT,       "timestamp_malformed"),
    ([NEW],      "msg_1", f"{AT+1}", SIGNED,                          BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_2", f"{AT}",  SIGNED,                           BODY,        AT,       "signature_invalid"),
    ([NEW],      "a.b",   f"{AT}",  SIGNED,                           BODY,        AT,       "signature_invalid"),
    ([NEW],      "",      f"{AT}",  SIGNED,                           BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_1", f"{AT}",  SIGNED,                           BODY + b" ", AT,       "signature_invalid"),
    ([STRANGE],  "msg_1", f"{AT}",  SIGNED,                           BODY,        AT,       "signature_invalid"),
    ([],         "msg_1", f"{AT}",  SIGNED,                           BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_1", f"{AT}",  "",                               BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_1", f"{AT}",  "v1,",                            BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_1", f"{AT}",  SIGNED.replace("v1,", "v1a,"),    BODY,        AT,       "signature_invalid"),
    ([NEW],      "msg_1", f"{AT}",  SIGNED.replace("v1,", "v1,\xff"), BODY,        AT,       "signature_invalid"),
]
# fmt: on


@pytest.mark.parametrize(("secrets", "id", "timestamp", "header", "body", "now", "reason"), DELIVERIES)
def test_a_webhook_is_authentic_only_as_it_was_signed(
    secrets: list[bytes], id: str, timestamp: str, header: str, body: bytes, now: float, reason: str | None
) -> None:
    if reason is None:
        verify(secrets, id, timestamp, header, body, now)
        return
    with pytest.raises(SignatureRejected) as caught:
        verify(secrets, id, timestamp, header, body, now)
    assert caught.value.reason == reason


@pytest.mark.parametrize("id", ["", "a.b", "a b"])
def test_an_id_that_would_blur_the_signed_content_is_not_signed(id: str) -> None:
    with pytest.raises(ValueError, match="webhook id"):
        sign(NEW, id, AT, BODY)


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        signature_header([], "msg_1", AT, BODY)
    with pytest.raises(ValueError, match="not empty"):
        sign(b"", "msg_1", AT, BODY)


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_reads_back_as_its_bytes_with_or_without_padding(random_bytes: bytes) -> None:
    text = generate_secret(random_bytes)
    assert text.startswith("whsec_")
    assert parse_secret(text) == parse_secret(text.rstrip("=")) == random_bytes


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsk_" + "A" * 32, "A" * 32, "whsec_" + "A" * 28, "whsec_" + "A" * 100, "whsec_!!!!", "whsec_A\n"],
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="webhook secret"):
        parse_secret(text)


@pytest.mark.parametrize("length", [0, 23, 65])
def test_a_secret_has_the_length_the_standard_asks_for(length: int) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        generate_secret(b"r" * length)


def test_a_secret_is_plain_base64_of_the_randomness_given() -> None:
    assert generate_secret(NEW) == "whsec_" + base64.b64encode(NEW).decode()


@pytest.mark.parametrize(
    ("attempt", "fraction", "retry_after", "delay"),
    [
        (0, 0.5, None, 0.0),
        (1, 0.5, None, 5.0),
        (2, 0.5, None, 300.0),
        (3, 0.5, None, 1_800.0),
        (4, 0.5, None, 7_200.0),
        (5, 0.5, None, 18_000.0),
        (6, 0.5, None, 36_000.0),
        (7, 0.5, None, 50_400.0),
        (8, 0.5, None, 72_000.0),
        (9, 0.5, None, 86_400.0),
        (10, 0.5, None, None),
        (10, 0.5, 60, None),
        (2, 0.0, None, 240.0),
        (2, 1.0, None, 360.0),
        (1, 0.5, 120, 120.0),
        (2, 0.5, 120, 300.0),
        (1, 0.5, 10**9, 86_400.0),
        (1, 0.5, -5, 5.0),
    ],
)
def test_the_schedule_is_its_table(attempt: int, fraction: float, retry_after: int | None, delay: float | None) -> None:
    assert next_delay(attempt, fraction, retry_after) == (None if delay is None else pytest.approx(delay))


def test_the_schedule_lasts_three_days_and_ends() -> None:
    delays = [next_delay(attempt, 0.5) for attempt in range(ATTEMPTS_MAX)]
    assert 3 * 86_400 < sum(delay or 0.0 for delay in delays) < 3.5 * 86_400
    assert next_delay(ATTEMPTS_MAX, 0.5) is None


@pytest.mark.parametrize(("attempt", "fraction"), [(-1, 0.5), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_the_schedule_refuses_what_is_outside_it(attempt: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="attempts count from 0"):
        next_delay(attempt, fraction)


@pytest.mark.parametrize(
    ("filters", "topic", "wanted"),
    [
        ([], "ledger.posted", False),
        (["*"], "ledger.posted", True),
        (["ledger.*"], "ledger.posted", True),
        (["ledger.*"], "ledger.posted.twice", True),
        (["ledger.*"], "ledger", False),
        (["ledger.*"], "ledgers.posted", False),
        (["ledger.posted"], "ledger.posted", True),
        (["ledger.posted"], "ledger.posted.twice", False),
        (["ledger"], "ledger.posted", False),
        (["policy.*", "ledger.posted"], "ledger.posted", True),
        (["policy.*", "webhook.*"], "ledger.posted", False),
    ],
)
def test_an_endpoint_gets_what_it_asked_for(filters: list[str], topic: str, wanted: bool) -> None:
    assert matches(filters, topic) is wanted


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("*", True),
        ("ledger.*", True),
        ("ledger.posted", True),
        ("money_runtime.synchronized", True),
        ("", False),
        (".*", False),
        ("ledger.", False),
        ("ledger*", False),
        ("*.posted", False),
        ("ledger.*.posted", False),
        ("Ledger.posted", False),
        ("ledger.posted\n", False),
    ],
)
def test_a_filter_is_a_topic_or_the_beginning_of_one(text: str, valid: bool) -> None:
    assert filter_is_valid(text) is valid


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, None, Verdict.DELIVERED),
        (204, None, Verdict.DELIVERED),
        (299, None, Verdict.DELIVERED),
        (301, None, Verdict.RETRY),
        (307, None, Verdict.RETRY),
        (400, None, Verdict.RETRY),
        (404, None, Verdict.RETRY),
        (410, None, Verdict.DISABLE),
        (429, None, Verdict.RETRY),
        (500, None, Verdict.RETRY),
        (199, None, Verdict.RETRY),
        *((None, error, Verdict.RETRY) for error in AttemptError),
    ],
)
def test_only_2xx_delivers_and_only_410_disables(
    status: int | None, error: AttemptError | None, expected: Verdict
) -> None:
    assert verdict(AttemptResult(delivery="d", attempt=1, status=status, error=error)) is expected
