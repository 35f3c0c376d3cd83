"""Webhooks are verified as the runtime signs them and as the reference library does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks import WebhookVerificationError as ReferenceRefused

from zentra.client.api import WebhookVerificationError, Zentra, verify_webhook
from zentra.runtime.webhooks.standard import SignatureRejected, generate_secret, sign, signature_header, verify

OLD, NEW, STRANGE = b"o" * 32, b"n" * 32, b"s" * 32
AT = 1_800_000_000
BODY = b'{"data":{"amount":"125000"},"timestamp":"2026-11-21T02:41:59.000000Z","type":"ledger.posted","newer":1}'
SIGNED = signature_header([NEW, OLD], "msg_1", AT, BODY)
FAR = "timestamp_out_of_tolerance"


def headers(**changes: str) -> dict[str, str]:
    """Return the headers of the webhook; `...` in a name's place is a dash."""
    given = {"Webhook-Id": "msg_1", "webhook-timestamp": str(AT), "WEBHOOK-SIGNATURE": SIGNED, "host": "x"}
    by_part = {name.lower().rpartition("-")[2]: name for name in given}
    return given | {by_part[part]: value for part, value in changes.items()}


# fmt: off
DELIVERIES: list[tuple[bytes, dict[str, str], bytes, int, str | None]] = [
    # secret   headers                                                    body         now       code
    (NEW,      headers(),                                                 BODY,        AT,       None),
    (OLD,      headers(),                                                 BODY,        AT,       None),
    (NEW,      headers(),                                                 BODY,        AT + 300, None),
    (NEW,      headers(),                                                 BODY,        AT - 300, None),
    (NEW,      headers(),                                                 BODY,        AT + 301, FAR),
    (NEW,      headers(),                                                 BODY,        AT - 301, FAR),
    (NEW,      headers(signature="v1, v1a,x ü " + SIGNED),                BODY,        AT,       None),
    (STRANGE,  headers(),                                                 BODY,        AT,       "signature_invalid"),
    (NEW,      headers(),                                                 BODY + b" ", AT,       "signature_invalid"),
    (NEW,      headers(id="msg_2"),                                       BODY,        AT,       "signature_invalid"),
    (NEW,      headers(id=""),                                            BODY,        AT,       "signature_invalid"),
    (NEW,      headers(id="msg.1"),                                       BODY,        AT,       "signature_invalid"),
    (NEW,      headers(timestamp=str(AT + 1)),                            BODY,        AT,       "signature_invalid"),
    (NEW,      headers(signature=""),                                     BODY,        AT,       "signature_invalid"),
    (NEW,      headers(signature=SIGNED.replace("v1,", "v2,")),           BODY,        AT,       "signature_invalid"),
    (NEW,      headers(timestamp="soon"),                                 BODY,        AT,       "timestamp_malformed"),
    (NEW,      headers(timestamp="-1"),                                   BODY,        AT,       "timestamp_malformed"),
    (NEW,      {"webhook-id": "msg_1", "webhook-signature": SIGNED},      BODY,        AT,       "header_missing"),
    (NEW,      headers(signature=sign(NEW, "msg_1", AT, b"[]")),          b"[]",       AT,       "body_malformed"),
    (NEW,      headers(signature=sign(NEW, "msg_1", AT, b"\xff")),        b"\xff",     AT,       "body_malformed"),
    (NEW,      headers(signature=sign(NEW, "msg_1", AT, b"{}")),          b"{}",       AT,       "body_malformed"),
]
# fmt: on


@pytest.mark.parametrize(("secret", "sent", "body", "now", "code"), DELIVERIES)
def test_a_webhook_is_an_event_or_a_code(
    secret: bytes, sent: dict[str, str], body: bytes, now: int, code: str | None
) -> None:
    if code is None:
        event = verify_webhook(body, sent, generate_secret(secret), now)
        assert (event.id, event.type, event.data) == ("msg_1", "ledger.posted", {"amount": "125000"})
        assert event.timestamp == datetime(2026, 11, 21, 2, 41, 59, tzinfo=UTC)
    else:
        with pytest.raises(WebhookVerificationError) as caught:
            verify_webhook(body, sent, generate_secret(secret), now)
        assert caught.value.code == code


@given(
    secret=st.binary(min_size=24, max_size=64),
    note=st.text(alphabet=st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=["Cc", "Cs"])),
    id=st.from_regex(r"[A-Za-z0-9_]{1,40}", fullmatch=True),
)
def test_what_the_reference_library_signs_is_verified_by_the_clock(secret: bytes, note: str, id: str) -> None:
    now = datetime.now(UTC)
    body = f'{{"type":"t","timestamp":"2026-11-21T02:41:59Z","data":{{"note":"{note}"}}}}'
    sent = {
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, now, body),
    }
    with Zentra("zk", "http://zentra.test") as api:
        assert api.webhooks.verify(body.encode(), sent, generate_secret(secret)).data == {"note": note}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", generate_secret(NEW)[6:], "whsec_ü"])
def test_what_is_no_secret_is_a_fault_of_the_caller(secret: Any) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(BODY, headers(), secret, AT)


# Both ways with the reference library: what one signs the other verifies, and what one refuses the other does too.

Verify = Callable[[bytes, dict[str, str], bytes], object]


def _ours(body: bytes, sent: dict[str, str], secret: bytes) -> object:
    return verify_webhook(body, sent, generate_secret(secret))


def _runtime(body: bytes, sent: dict[str, str], secret: bytes) -> object:
    verify([secret], sent["webhook-id"], sent["webhook-timestamp"], sent["webhook-signature"], body, time.time())
    return None


def _theirs(body: bytes, sent: dict[str, str], secret: bytes) -> object:
    return Webhook(generate_secret(secret)).verify(body, sent)


def _signed_by_us(at: int) -> str:
    return signature_header([NEW, OLD], "msg_1", at, BODY)


def _signed_by_them(at: int) -> str:
    when = datetime.fromtimestamp(at, UTC)
    return " ".join(Webhook(secret).sign("msg_1", when, BODY.decode()) for secret in (NEW, OLD))


@pytest.mark.parametrize("signed", [_signed_by_us, _signed_by_them], ids=["signed by us", "signed by them"])
@pytest.mark.parametrize("verified", [_ours, _runtime, _theirs], ids=["client", "runtime", "reference"])
@pytest.mark.parametrize(
    ("secret", "body", "changes", "late", "authentic"),
    [
        # secret  body                changes                            late  authentic
        (NEW,     BODY,               {},                                0,    True),
        (OLD,     BODY,               {},                                0,    True),
        (NEW,     BODY,               {},                                250,  True),
        (STRANGE, BODY,               {},                                0,    False),
        (NEW,     BODY + b" ",        {},                                0,    False),
        (NEW,     BODY[:-1] + b",1}", {},                                0,    False),
        (NEW,     BODY,               {"webhook-id": "msg_2"},           0,    False),
        (NEW,     BODY,               {"webhook-signature": "v1,AAAA"},  0,    False),
        (NEW,     BODY,               {"webhook-signature": "v1a,AAAA"}, 0,    False),
        (NEW,     BODY,               {},                                400,  False),
        (NEW,     BODY,               {},                                -400, False),
    ],
)  # fmt: skip
def test_what_one_side_signs_the_other_takes_or_refuses_alike(
    signed: Callable[[int], str], verified: Verify, secret: bytes, body: bytes, changes: dict[str, str], late: int,
    authentic: bool,
) -> None:  # fmt: skip
    at = int(time.time()) - late
    sent = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signed(at), **changes}
    if authentic:
        verified(body, sent, secret)
        verified(body, sent | {"webhook-signature": "v1a,x v2,y " + sent["webhook-signature"]}, secret)
        return
    with pytest.raises((WebhookVerificationError, SignatureRejected, ReferenceRefused)):
        verified(body, sent, secret)
