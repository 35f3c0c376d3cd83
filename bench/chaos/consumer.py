"""The webhook consumer of a chaos run: one application for every tenant, which can be told to misbehave.

- What arrived is kept by webhook id: how often, whether a signature was ever wrong, whether the bytes ever differed.
- A call is signed if what it was last told signs it, secret and key both; what came before counts for as long as the
  rotation let it live beside.
- While it hangs it never answers the calls it has taken; while it is slow it accepts them after their sender gave up;
  while it fails it answers 500."""

import asyncio
import base64
import hashlib
import time
from collections import defaultdict
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from zentra.gateway.listening import Receive, Scope, Send, answer, read_body
from zentra.runtime.errors import Refusal
from zentra.runtime.webhooks.standard import PUBLIC_PREFIX, verify

__all__ = ["Arrived", "Consumer", "Mood"]

BODY_BYTES_MAX: Final = 1024 * 1024
TOO_LATE_SECONDS: Final = 15.5  # half a second after a sender gives up
HANG_SECONDS_MAX: Final = 60.0  # whoever has not gone away by then never will
SLACK_SECONDS: Final = (
    20.0  # from the rotation to our knowing of it, and what was signed before and is still on its way
)


class Mood(StrEnum):
    """How the consumer treats a call."""

    WELL = "well"
    HANGS = "hangs"
    SLOW = "slow"
    FAILS = "fails"


class Arrived(Struct):
    """What the consumer knows of one webhook id. `accepted` counts answers that said so."""

    calls: int = 0
    accepted: int = 0
    digest: bytes = b""
    unsigned: int = 0
    differing: int = 0


class Consumer:
    """An ASGI application; `mood` may be changed at any time."""

    def __init__(self) -> None:
        self.mood = Mood.WELL
        self._secrets: defaultdict[str, list[tuple[bytes, float]]] = defaultdict(list)
        self._keys: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self.arrived: dict[str, Arrived] = {}
        self.accepted_at: list[float] = []

    def trust_secret(self, tenant: str, secret: bytes, overlap: float) -> None:
        """Take the secret that signs now; the one before signs for `overlap` seconds more."""
        self._secrets[tenant] = [*_until(self._secrets[tenant], overlap), (secret, float("inf"))]

    def trust_keys(self, tenant: str, keys: list[str], overlap: float) -> None:
        """Take the public keys that sign now, as `whpk_` texts; those before sign for `overlap` seconds more."""
        known = [one for one in _until(self._keys[tenant], overlap) if one[0] not in keys]
        self._keys[tenant] = known + [(key, float("inf")) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call."""
        if scope["type"] != "http":
            return
        body = await read_body(receive, BODY_BYTES_MAX)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        known = self._note(scope["path"].rpartition("/")[2], headers, body)
        match self.mood:
            case Mood.HANGS:
                await _gone(receive, HANG_SECONDS_MAX)
            case Mood.SLOW:
                await asyncio.sleep(TOO_LATE_SECONDS)
            case Mood.FAILS:
                await answer(send, 500, b'{"status":"broken"}')
                return
            case Mood.WELL:
                known.accepted += 1
                self.accepted_at.append(time.time())
        await answer(send, 200, b'{"status":"taken"}')

    def _note(self, tenant: str, headers: dict[str, str], body: bytes) -> Arrived:
        identifier, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        known = self.arrived.setdefault(identifier, Arrived())
        known.calls += 1
        signatures, now = headers.get("webhook-signature", ""), time.time()
        try:
            verify(
                [one for one, until in self._secrets[tenant] if until > now], identifier, stamp, signatures, body, now
            )
            _verify_keys([one for one, until in self._keys[tenant] if until > now], identifier, stamp, signatures, body)
        except (Refusal, InvalidSignature):
            known.unsigned += 1
        digest = hashlib.sha256(body).digest()
        known.differing += bool(known.digest and known.digest != digest)
        known.digest = digest
        return known


async def _gone(receive: Receive, seconds: float) -> None:
    """Return when the caller has gone away, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        return


def _until(known: list[tuple[Any, float]], overlap: float) -> list[tuple[Any, float]]:
    ends = time.time() + overlap + SLACK_SECONDS
    return [(one, min(until, ends)) for one, until in known]


def _verify_keys(keys: list[str], identifier: str, stamp: str, signatures: str, body: bytes) -> None:
    """Return where one of the keys has made one of the `v1a` signatures; raises InvalidSignature."""
    content = b"%b.%b.%b" % (identifier.encode(), stamp.encode(), body)
    given = [base64.b64decode(part[4:]) for part in signatures.split(" ") if part.startswith("v1a,")]
    for key in keys:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix(PUBLIC_PREFIX)))
        for signature in given:
            try:
                public.verify(signature, content)
            except InvalidSignature:
                continue
            return
    raise InvalidSignature
