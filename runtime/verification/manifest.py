"""The manifest of an archive: which files belong to it, what they add up to, and whose word that is.

- It is canonical JSON and signed by the installation's key, over a title and its own bytes without the signature; the
  digest of each file is in it, so one signature covers the whole archive.
- Archives of a book follow one another: each names the digest of the manifest before it.
- Between its two heads the log is there leaf by leaf, so that what was sealed can be seen to be in it offline.
"""

from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.heads import TreeHead, key_id

__all__ = ["FORMAT", "KINDS", "ArchiveFile", "ArchiveFlaw", "LogEdge", "Manifest", "read_manifest", "signed_manifest"]

FORMAT: Final = "zentra.archive/1"
_TITLE: Final = b"zentra.archive-manifest/1\n"

# fmt: off
KINDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "accounts": (
        ("id", "integer"), ("account_id", "text"), ("owner", "text"), ("type", "text"), ("currency", "text"),
        ("normal_side", "text"),
        ("opening_debits_pending", "number"), ("opening_credits_pending", "number"),
        ("opening_debits_posted", "number"), ("opening_credits_posted", "number"),
        ("closing_debits_pending", "number"), ("closing_credits_pending", "number"),
        ("closing_debits_posted", "number"), ("closing_credits_posted", "number"),
    ),
    "intents": (
        ("id", "text"), ("intent_id", "text"), ("digest", "bytes"), ("principal", "text"), ("role", "text"),
        ("key", "text"), ("trace", "text"), ("created_at", "time"),
    ),
    "postings": (
        ("intent", "text"), ("ordinal", "integer"), ("kind", "text"), ("debit", "integer"), ("credit", "integer"),
        ("currency", "text"), ("pending", "integer"), ("posted", "integer"), ("at", "time"), ("hash", "bytes"),
        ("effective_at", "time"),
    ),
    "records": (
        ("intent", "text"), ("sequence", "integer"), ("at", "time"), ("state", "text"), ("event", "text"),
        ("record", "json"), ("hash", "bytes"), ("leaf_place", "integer"), ("leaf_data", "json"),
    ),
    "log": (("place", "integer"), ("hash", "bytes")),
}
# fmt: on
"""The files of an archive: their columns, each with its type. Numbers have any size; what is not there is null. A
record that seals has its leaf beside it."""


class ArchiveFlaw(ValueError):
    """Raised where something is no archive that this installation has signed."""


class ArchiveFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: its name, what is in it, how many rows and bytes, and its digest."""

    bytes: int
    kind: str
    name: str
    rows: int
    sha256: str


class LogEdge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed head of the log, and the roots of the complete subtrees below it, as hex, the largest first."""

    frontier: list[str]
    head: TreeHead


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive is. Sums are digits; `start` is where the period before it ended, None for the first; the log is
    there from the head `log_from` (None: from its beginning) to the head `log_to` (None: nothing of it). `kind` is the
    format of the files."""

    book: str
    files: list[ArchiveFile]
    format: str
    installation: str
    intents: int
    key_id: str
    kind: str
    log_from: LogEdge | None
    log_to: LogEdge | None
    made_at: str
    pending: str
    posted: str
    postings: int
    previous: str | None
    records: int
    signature: str
    start: str | None
    tenant: str
    until: str


def signed_manifest(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """Return the bytes of a manifest, signed; what it says of key and signature is set anew."""
    unsigned = msgspec.structs.replace(manifest, key_id=key_id(key.public_key()), signature="")
    signature = key.sign(_TITLE + canonical.encode(unsigned))
    return canonical.encode(msgspec.structs.replace(unsigned, signature=signature.hex()))


def read_manifest(data: bytes, keys: dict[str, Ed25519PublicKey]) -> tuple[Manifest, str]:
    """Return the manifest in these bytes and its digest, as hex; raise ArchiveFlaw for one that cannot be trusted."""
    try:
        manifest = msgspec.convert(canonical.decode(data), Manifest)
    except (ValueError, msgspec.ValidationError) as error:
        raise ArchiveFlaw(f"not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveFlaw(f"not a manifest of a format that is known: {manifest.format!r}")
    key = keys.get(manifest.key_id)
    if key is None:
        raise ArchiveFlaw(f"the manifest is signed by key {manifest.key_id}, given {', '.join(sorted(keys)) or 'none'}")
    unsigned = canonical.encode(msgspec.structs.replace(manifest, signature=""))
    try:
        key.verify(bytes.fromhex(manifest.signature), _TITLE + unsigned)
    except (InvalidSignature, ValueError) as error:
        raise ArchiveFlaw("the signature of the manifest is not over its content: somebody changed it") from error
    return manifest, sha256(data).hexdigest()
