"""DSSE envelopes: bytes, what they are, and who vouches for both (secure-systems-lab/dsse, version 1.0.0).

- What is signed is the type and the payload together, each behind its length, so neither can be taken for another.
- As the protocol asks, a key id only says which key to try, unknown members are ignored, and both alphabets of base64
  are read. So the envelope itself has slack; what it carries has none.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.keyring import KeyRing

__all__ = [
    "MANIFEST_TYPE",
    "PACKET_TYPE",
    "Envelope",
    "EnvelopeSignature",
    "envelope_flaw",
    "envelope_of",
    "envelope_signers",
    "open_envelope",
    "pae",
    "sign_payload",
]

PACKET_TYPE: Final = "application/vnd.zentra.audit-packet+json"
MANIFEST_TYPE: Final = "application/vnd.zentra.evidence-manifest+json"


class EnvelopeSignature(msgspec.Struct, frozen=True):
    """Who vouches: base64 of the signature over the payload's PAE, and a hint at the key."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """The JSON envelope of the specification; `payload` is base64."""

    payload: str
    payload_type: str
    signatures: list[EnvelopeSignature]

    def body(self) -> bytes:
        """Return what the envelope carries; raise ValueError where it is not base64 of either alphabet."""
        return _bytes_of(self.payload)


def pae(payload_type: str, body: bytes) -> bytes:
    """Return the pre-authentication encoding, which is what gets signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def sign_payload(key: Ed25519PrivateKey, payload_type: str, body: bytes) -> EnvelopeSignature:
    """Return the signature of `body` as `payload_type`; the same for ever, because Ed25519 draws no random numbers."""
    signed = base64.b64encode(key.sign(pae(payload_type, body))).decode()
    return EnvelopeSignature(signed, key_id(key.public_key()))


def envelope_of(payload_type: str, body: bytes, signatures: Sequence[EnvelopeSignature]) -> bytes:
    """Return the envelope as JSON: sorted members, no spaces. Equal arguments give equal bytes."""
    return canonical.encode(Envelope(base64.b64encode(body).decode(), payload_type, list(signatures)))


def open_envelope(data: bytes) -> Envelope:
    """Return the envelope that `data` spells, unverified; raise ValueError for anything else."""
    try:
        read = msgspec.json.decode(data, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not an envelope: {error}") from error
    read.body()
    return read


def envelope_flaw(
    ring: KeyRing, payload_type: str, body: bytes, signatures: Sequence[EnvelopeSignature]
) -> tuple[str, str] | None:
    """Return why no key of `ring` vouches for `body` as `payload_type`, as (stable code, sentence), or None.

    One good signature is enough, whatever stands beside it; which one it is no key id decides."""
    if envelope_signers(ring, payload_type, body, signatures):
        return None
    named = [one.keyid for one in signatures]
    if not any(one in ring for one in named):
        return "key_differs", f"it names keys {', '.join(map(repr, named)) or 'none'}, the keys given are others"
    return "signature_invalid", "no signature is one of the given keys' over this payload and its type"


def envelope_signers(
    ring: KeyRing, payload_type: str, body: bytes, signatures: Sequence[EnvelopeSignature]
) -> list[str]:
    """Return the ids of the keys of `ring` that have signed `body` as `payload_type`, found by their signatures: the
    key ids beside these are anybody's word."""
    message = pae(payload_type, body)
    found = []
    for signature in signatures:
        for kid, known in ring.items():
            try:
                known.public.verify(_bytes_of(signature.sig), message)
            except (InvalidSignature, ValueError):
                continue
            found.append(kid)
    return found


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from error
