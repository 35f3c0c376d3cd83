"""Personal data behind salted commitments: the record has a digest, and what opens it can be erased.

- Metadata whose name begins with `personal.` is personal; `personal.subject` says whose it is. Of each value the
  record, and so the leaf, has SHA-256(opening), where the opening is the JSON of name, salt and value: nothing else.
- Salts come from a random key of the subject and from name and value: the same request makes the same commitments, so
  keys of idempotency and digests of commands work as ever; without the key nobody can tell or try out what it was.
- With openings and key gone, every hash, proof and signature still holds. A packet has the openings as attachments,
  which any verifier holds to the digests in the record, and which may be left out.
- Whether two requests have the same personal data can be told without either: by a proof under the installation's
  secret, which no two intents have in common.
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

import msgspec

from zentra.runtime.evidence import canonical

__all__ = [
    "ERASURE_TYPE",
    "PERSONAL",
    "SUBJECT",
    "SUBJECT_KEY_BYTES",
    "Opening",
    "committed",
    "is_personal",
    "nearly_personal",
    "opening_of",
    "personal_in",
    "proof_of",
    "proves",
]

PERSONAL: Final = "personal."
ERASURE_TYPE: Final = "application/vnd.zentra.erasure+json"
"""What a signed statement of an erasure is, as an envelope says it."""
SUBJECT: Final = "personal.subject"
SUBJECT_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 16
# The word in any case, alone or before what is no letter, or with a hump behind it.
_NEARLY: Final = re.compile(r"[\W_]*(?:(?i:personal)(?![^\W\d_])|(?:[Pp]ersonal)(?=[A-Z]))")
_PURPOSE: Final = b"zentra sameness of personal data\n"


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What opens a commitment; `salt` is hex."""

    name: str
    salt: str
    value: str


def is_personal(metadata: Mapping[str, str]) -> bool:
    """Return whether any of it is personal."""
    return any(name.startswith(PERSONAL) for name in metadata)


def nearly_personal(metadata: Mapping[str, str]) -> str | None:
    """Return a name that somebody may take for personal, and that is not: `Personal.name`, `personal_name`,
    `personalName`; what follows such a name would be sealed for ever. None where there is none.

    `personality` and other words are their own."""
    for name in metadata:
        if not name.startswith(PERSONAL) and _NEARLY.match(unicodedata.normalize("NFKC", name)):
            return name
    return None


def personal_in(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return the commitments in the metadata of a record, by name."""
    return {
        name: digest
        for name, digest in metadata.items()
        if name.startswith(PERSONAL) and isinstance(digest, str) and len(digest) == 64
    }


def committed(metadata: Mapping[str, str], subject_key: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the metadata with commitments in the place of what is personal, and the openings by their digests.

    Equal arguments give equal commitments and openings."""
    kept: dict[str, str] = {}
    openings: dict[str, bytes] = {}
    for name, value in metadata.items():
        if not name.startswith(PERSONAL):
            kept[name] = value
            continue
        salt = hmac.digest(subject_key, name.encode() + b"\0" + value.encode(), "sha256")
        opening = canonical.encode(Opening(name, salt.hex(), value))
        kept[name] = hashlib.sha256(opening).hexdigest()
        openings[kept[name]] = opening
    return kept, openings


def opening_of(content: bytes) -> Opening | None:
    """Return the opening that bytes spell, or None for anything else."""
    try:
        return msgspec.json.decode(content, type=Opening)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def proof_of(secret: bytes, tenant: str, metadata: Mapping[str, str], nonce: bytes) -> bytes:
    """Return the nonce (16 bytes) and the HMAC-SHA256 of what is personal in the metadata, under a secret."""
    personal = {name: value for name, value in metadata.items() if name.startswith(PERSONAL)}
    return nonce + hmac.digest(secret, _PURPOSE + nonce + canonical.encode([tenant, personal]), "sha256")


def proves(proof: bytes, secret: bytes, tenant: str, metadata: Mapping[str, str]) -> bool:
    """Return whether a proof was made of the same personal data under the same secret."""
    return hmac.compare_digest(proof, proof_of(secret, tenant, metadata, proof[:_NONCE_BYTES]))
