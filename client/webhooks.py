"""Webhooks that Zentra sends: verified first, then read (Standard Webhooks, `v1` signatures).

- What is verified is the body as it came, before anybody decoded or encoded it.
- Nothing in the time taken tells which signature came close, and no error repeats what was signed."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from zentra.client.errors import WebhookVerificationError
from zentra.client.models import WebhookEvent

__all__ = ["TOLERANCE_SECONDS", "WebhookVerifier", "verify_webhook"]

TOLERANCE_SECONDS: Final = 300  # what every Standard Webhooks library allows
_PREFIX: Final = "whsec_"
_SECRET_BYTES_MIN, _SECRET_BYTES_MAX = 24, 64  # the bounds of Standard Webhooks
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


def verify_webhook(body: bytes, headers: Mapping[str, str], secret: str, now: float | None = None) -> WebhookEvent:
    """Return the event in `body`, the request's raw bytes, once its signature fits `secret` (`whsec_...`).

    `headers` are those of the request, in whatever case; `now` is in seconds since 1970 and by default the clock's.
    Raises WebhookVerificationError, whose `code` is `header_missing`, `timestamp_malformed`,
    `timestamp_out_of_tolerance`, `signature_invalid` or `body_malformed`, and ValueError for what is no secret."""
    key = _key(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        id, timestamp, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError:
        raise WebhookVerificationError("header_missing") from None
    if not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookVerificationError("timestamp_malformed")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_SECONDS:
        raise WebhookVerificationError("timestamp_out_of_tolerance")
    if not id or "." in id or " " in id:
        raise WebhookVerificationError("signature_invalid")
    signed = b"%b.%d.%b" % (id.encode("utf-8", "replace"), int(timestamp), body)
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    hits = [hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in signatures.split(" ")]
    if not any(hits):
        raise WebhookVerificationError("signature_invalid")
    try:
        return msgspec.convert({**msgspec.json.decode(body, type=dict), "id": id}, WebhookEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise WebhookVerificationError("body_malformed") from None


class WebhookVerifier:
    """What clients have under `webhooks`; it needs neither a key nor a connection."""

    @staticmethod
    def verify(body: bytes, headers: Mapping[str, str], secret: str, now: float | None = None) -> WebhookEvent:
        """See `verify_webhook`."""
        return verify_webhook(body, headers, secret, now)


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX:
        raise ValueError("a webhook secret is whsec_ and the base64 of 24 to 64 bytes")
    return key
