"""Webhooks: the Standard Webhooks signature, the retry schedule, topic filters, and the port that sends.

The invariants kept here:

- The signed content is `{id}.{timestamp}.{body}`: the id is the same on every attempt and replay, the timestamp is the
  attempt's, the body is the bytes that are sent. An id holds no full stop.
- While a secret rotates every live secret signs; a receiver that knows one of them verifies. `v1` is always there;
  `v1a` (Ed25519) stands beside it where the endpoint wants it.
- The schedule is a table. An attempt outside it is not made, and jitter only scales what the table says.
- No filter means no event: an endpoint gets what it asked for and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from zentra.runtime.errors import Refusal

__all__ = [
    "ATTEMPTS_MAX",
    "BODY_BYTES_MAX",
    "DELAYS_SECONDS",
    "FILTER",
    "OURS",
    "RETRY_AFTER_SECONDS_MAX",
    "AttemptError",
    "AttemptResult",
    "SignatureRejected",
    "Verdict",
    "WebhookCall",
    "WebhookTransport",
    "filter_is_valid",
    "generate_secret",
    "is_throttled",
    "matches",
    "next_delay",
    "parse_secret",
    "public_key_text",
    "sign",
    "sign_asymmetric",
    "signature_header",
    "verdict",
    "verify",
]

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix, not a secret
PUBLIC_PREFIX = "whpk_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64  # the bounds of Standard Webhooks
TOLERANCE_SECONDS = 300  # what every Standard Webhooks library allows
TIMESTAMP = re.compile(r"[0-9]{1,12}")
FILTER = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?")

# The pause before each attempt, in seconds: 0 s, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. Together a bit
# more than three days, so that an endpoint that fails on a Friday evening is still tried on Monday.
DELAYS_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS_MAX = len(DELAYS_SECONDS)
JITTER = 0.2  # of the pause, to either side: endpoints that failed together do not come back together
BODY_BYTES_MAX = 256 * 1024  # a larger event is told in short, with where to fetch it
THROTTLED = frozenset({429, 502, 504})  # the endpoint, or what stands before it, cannot take so many at once
RETRY_AFTER_SECONDS_MAX = 86_400  # no endpoint may ask for more than the longest pause


class SignatureRejected(Refusal):
    """Raised for a webhook that is not authentic; `reason` is `timestamp_malformed`, `timestamp_out_of_tolerance` or
    `signature_invalid`."""

    code = "signature_rejected"


class Verdict(StrEnum):
    """What follows from one attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DISABLE = "disable"  # 410: the endpoint said that it is gone
    ABORT = "abort"  # the endpoint does not want this one, ever


class AttemptError(StrEnum):
    """Why an attempt got no answer."""

    URL_REFUSED = "url_refused"  # the URL itself may not be called
    ADDRESS_REFUSED = "address_refused"  # an address behind the name may not be dialled
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_FAILED = "tls_failed"
    PROXY_REFUSED = "proxy_refused"  # the proxy that webhooks go through does not let it pass, or cannot get there
    TIMEOUT = "timeout"
    CONNECTION_DROPPED = "connection_dropped"
    ANSWER_MALFORMED = "answer_malformed"
    LOOKUPS_BUSY = "lookups_busy"  # too many names of its tenant are being looked up, and none of them is answered
    INTERNAL = "internal"  # a fault of ours, which says nothing of the endpoint


OURS = frozenset({AttemptError.LOOKUPS_BUSY, AttemptError.INTERNAL})
"""What is held against no endpoint."""


class WebhookCall(msgspec.Struct, frozen=True):
    """One attempt to be made. `secrets` are raw bytes, the newest first, and so are `keys`, seeds of Ed25519.

    `per_second` is how many attempts the endpoint lets begin in a second, 0 where it does not say; `tenant` is whose
    endpoint it is."""

    url: str
    id: str
    body: bytes
    secrets: tuple[bytes, ...]
    attempt: int
    delivery: str
    endpoint: str = ""
    keys: tuple[bytes, ...] = ()
    version: str = ""
    sequence: int = 0
    per_second: int = 0
    tenant: str = ""


class AttemptResult(msgspec.Struct, frozen=True, array_like=True):
    """What one attempt met: either a status or an error."""

    delivery: str
    attempt: int
    status: int | None = None
    error: AttemptError | None = None
    latency_ms: int = 0
    retry_after_seconds: int | None = None
    response_excerpt: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()  # as sent, the signatures too; nothing in them is secret
    aborted: bool = False  # the answer asked for this event not to be sent again


class WebhookTransport(Protocol):
    """The port that delivers webhooks."""

    async def send(self, call: WebhookCall) -> AttemptResult:
        """Make one attempt and return what it met. Never raises for what the endpoint does."""
        ...


def sign(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return the `v1` signature of one attempt.

    Raises ValueError for an id with a full stop or a space, and for a secret without bytes.
    """
    if not id or "." in id or " " in id:
        raise ValueError("a webhook id is not empty and holds no full stop and no space")
    if not secret:
        raise ValueError("a webhook secret is not empty")
    content = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret, content, "sha256")).decode("ascii")


def sign_asymmetric(seed: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return the `v1a` signature of one attempt. Raises ValueError where `sign` does, and for a seed that has not 32
    bytes."""
    if not id or "." in id or " " in id:
        raise ValueError("a webhook id is not empty and holds no full stop and no space")
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(b"%b.%d.%b" % (id.encode(), timestamp, body))
    return "v1a," + base64.b64encode(signature).decode("ascii")


def signature_header(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes, keys: Sequence[bytes] = ()) -> str:
    """Return the value of `webhook-signature`: one signature per live secret, then one per live key. Raises ValueError
    where `sign` and `sign_asymmetric` do, and when there is no secret."""
    if not secrets:
        raise ValueError("a webhook is signed by at least one secret")
    made = [sign(secret, id, timestamp, body) for secret in secrets]
    return " ".join(made + [sign_asymmetric(seed, id, timestamp, body) for seed in keys])


def public_key_text(seed: bytes) -> str:
    """Return the public key that belongs to an Ed25519 seed: 32 bytes in base64 behind `whpk_`. Raises ValueError for
    a seed that has not 32 bytes."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PUBLIC_PREFIX + base64.b64encode(public).decode("ascii")


def verify(
    secrets: Sequence[bytes],
    id: str,
    timestamp: str,
    signature_header: str,
    body: bytes,
    now: float,
    tolerance: float = TOLERANCE_SECONDS,
) -> None:
    """Return when one of `secrets` made one of the signatures and the timestamp is near `now`.

    Raises `SignatureRejected`; an unsigned or unknown scheme counts as no signature.
    """
    if not TIMESTAMP.fullmatch(timestamp):
        raise SignatureRejected("timestamp_malformed")
    if abs(now - int(timestamp)) > tolerance:
        raise SignatureRejected("timestamp_out_of_tolerance")
    if not id or "." in id or " " in id:
        raise SignatureRejected("signature_invalid")
    given = [part.encode("utf-8", "replace") for part in signature_header.split(" ") if part.startswith("v1,")]
    expected = [sign(secret, id, int(timestamp), body).encode() for secret in secrets]
    # Every pair is compared, so that the time taken does not tell which secret or signature came close.
    hits = [hmac.compare_digest(one, other) for one in given for other in expected]
    if not any(hits):
        raise SignatureRejected("signature_invalid")


def generate_secret(random_bytes: bytes) -> str:
    """Return `random_bytes` as a secret to show once. Raises ValueError outside 24 to 64 bytes."""
    if not SECRET_BYTES_MIN <= len(random_bytes) <= SECRET_BYTES_MAX:
        raise ValueError(f"a webhook secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Return the bytes of a `whsec_` secret. Raises ValueError for another prefix, bad base64 or a wrong length."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError("a webhook secret begins with whsec_")
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is base64 after whsec_") from None
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"a webhook secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")
    return secret


def next_delay(
    attempt: int,
    jitter_fraction: float,
    retry_after_seconds: int | None = None,
    delays: Sequence[int] = DELAYS_SECONDS,
) -> float | None:
    """Return how long to wait after `attempt` attempts before the next, or None when the schedule is at its end.

    `jitter_fraction` in 0..1 moves the pause through the jitter's whole width, 0.5 leaving it as it is. An endpoint's
    wish to wait longer is granted up to a day; its wish to wait less is not. Raises ValueError for a negative attempt
    or a fraction outside 0..1.
    """
    if attempt < 0 or not 0.0 <= jitter_fraction <= 1.0:
        raise ValueError("attempts count from 0 and the jitter fraction lies in 0..1")
    if attempt >= len(delays):
        return None
    delay = delays[attempt] * (1.0 - JITTER + 2.0 * JITTER * jitter_fraction)
    return max(delay, float(min(retry_after_seconds or 0, RETRY_AFTER_SECONDS_MAX)))


def filter_is_valid(text: str) -> bool:
    """Whether `text` is a filter: `*`, a topic, or a topic's beginning followed by `.*`."""
    return FILTER.fullmatch(text) is not None


def matches(filters: Sequence[str], topic: str) -> bool:
    """Whether one of `filters` wants `topic`; `ledger.*` wants everything below `ledger`, not `ledger` itself."""
    return any(
        wanted in ("*", topic) or (wanted.endswith(".*") and topic.startswith(wanted[:-1])) for wanted in filters
    )


def verdict(result: AttemptResult) -> Verdict:
    """Return what follows from an attempt: 2xx is delivered, 410 disables the endpoint, what the endpoint has aborted
    is given up, all else is tried again."""
    if result.status is None:
        return Verdict.RETRY
    if 200 <= result.status < 300:
        return Verdict.DELIVERED
    if result.status == 410:
        return Verdict.DISABLE
    return Verdict.ABORT if result.aborted else Verdict.RETRY


def is_throttled(result: AttemptResult) -> bool:
    """Whether the answer says that fewer calls at once would be taken."""
    return result.status in THROTTLED
